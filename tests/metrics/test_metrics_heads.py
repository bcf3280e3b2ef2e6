"""Which layer `measure` takes for the classifier: heads as people build them."""

import contextlib
from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_samples import D, K, samples, values
from torch import nn
from torch.nn.functional import linear, normalize

from lsnc_core.errors import UsageError
from lsnc_core.metrics import calibration_scores, measure, neural_collapse, predict


def loader(seed=0):
    x, y = samples(seed)
    return list(zip(x.split(25), y.split(25), strict=True))


class Net(nn.Module):
    """A body, a linear head, and a function that makes the output of both."""

    def __init__(self, ending):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.fc, self.other = nn.Linear(D, 6), nn.Linear(6, K), nn.Linear(6, K)
        self.ending = ending

    def features(self, x):
        return self.body(x).relu()

    def forward(self, x):
        return self.ending(self, self.features(x))


Named = namedtuple("Named", "features logits")


class Convolution(nn.Module):
    """Features on a grid, averaged before the classifier or after it."""

    def __init__(self, pool_last):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.fc, self.pool_last = nn.Conv2d(2, 6, 1), nn.Conv2d(6, K, 1), pool_last

    def features(self, x):
        return self.body(x.reshape(-1, 2, 2, 2)).relu().mean((2, 3))

    def forward(self, x):
        h = self.body(x.reshape(-1, 2, 2, 2)).relu()
        if self.pool_last:
            return self.fc(h).mean((2, 3))
        return self.fc(h.mean((2, 3), keepdim=True))


class Fixed(nn.Module):
    """A classifier without parameters, as neural collapse inspired heads have."""

    def __init__(self):
        super().__init__()
        self.register_buffer("M", torch.randn(6, K, generator=torch.Generator().manual_seed(0)))

    def forward(self, h):
        return 3 * (h @ self.M) + 1


class Adapter(nn.Module):
    """A linear layer with a low-rank change beside it."""

    def __init__(self, base):
        super().__init__()
        torch.manual_seed(1)
        self.base, self.down, self.up = base, nn.Linear(6, 2, bias=False), nn.Linear(2, K)

    def forward(self, h):
        return self.base(h) + self.up(self.down(h))

    @property
    def weight(self):
        return self.base.weight + self.up.weight @ self.down.weight

    @property
    def bias(self):
        return self.base.bias + self.up.bias


def with_head(head):
    net = Net(lambda net, h: net.fc(h))
    net.fc = head(net.fc)
    return net


def wide_first(net, h):
    """The head of another width is called last."""
    z = net.fc(h)
    net.other(h).sum()
    return z


def overwriting(net, h):
    """The features are overwritten once the head has been called."""
    z = net.fc(h)
    h.mul_(0)
    return z


RIGHT = {
    "plain": Net(lambda net, h: net.fc(h)),
    "called by keyword": Net(lambda net, h: net.fc(input=h)),
    "softmax after it": Net(lambda net, h: net.fc(h).softmax(1)),
    "log-softmax after it": Net(lambda net, h: net.fc(h).log_softmax(1)),
    "another head called last": Net(wide_first),
    "an output object": Net(lambda net, h: SimpleNamespace(loss=None, logits=net.fc(h))),
    "a mapping": Net(lambda net, h: {"features": h, "logits": net.fc(h)}),
    "a named tuple": Net(lambda net, h: Named(h, net.fc(h))),
    "features, then logits": Net(lambda net, h: (h, net.fc(h))),
    "features overwritten after it": Net(overwriting),
    "the first of two heads": Net(lambda net, h: (net.fc(h), net.other(h))),
    "called twice": Net(lambda net, h: (net.fc(h), net.fc(2 * h))),
    "called twice, the last counts": Net(lambda net, h: (net.fc(2 * h), net.fc(h))[1]),
    "not trained": with_head(lambda fc: fc.requires_grad_(False)),
    "an adapter": with_head(Adapter),
    "a sequence": with_head(lambda fc: nn.Sequential(nn.Dropout(), fc, nn.Identity())),
    "a convolution": Convolution(pool_last=False),
    "averages of a convolution": Convolution(pool_last=True),
}


def classifier_of(net):
    fc = net.fc[1] if isinstance(net.fc, nn.Sequential) else net.fc
    return fc.weight.detach().flatten(1), fc.bias.detach()


@pytest.mark.parametrize("net", RIGHT.values(), ids=RIGHT)
def test_the_layer_behind_the_output_is_measured(net):
    x, y = samples()
    W, b = classifier_of(net)
    net.eval()
    with torch.no_grad():
        features = net.features(x)
    expected = neural_collapse(features, y, W, b).values
    expected |= calibration_scores(linear(features, W, b), y)
    found = values(measure(net, loader()))
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("scaled", [lambda z: z / 0.05, lambda z: z.div_(0.05)])
def test_a_scaled_output_is_that_of_the_model(scaled):
    net, (x, y) = Net(lambda net, h: scaled(net.fc(h))), samples()
    with torch.no_grad():
        expected = calibration_scores(net(x), y)
    found = values(measure(net, loader()))
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    norm = net.fc.weight.detach().norm(dim=1).mean().item()
    assert found["W_norm"] == pytest.approx(norm, rel=1e-6)


def test_of_several_outputs_the_named_layer_s_is_taken():
    """Features as wide as there are classes; the first output would fit the labels, too."""

    def ending(net, h):
        narrow = net.narrow(h)
        return narrow, net.fc(narrow), net.other(h)

    net, (x, y) = Net(ending), samples()
    net.narrow, net.fc = nn.Linear(6, K), nn.Linear(K, K)
    for layer, number in ((None, 1), ("fc", 1), ("other", 2), ("narrow", 0)):
        with torch.no_grad():
            logits = net(x)[number]
        measured = measure(net, loader(), layer=layer)
        right = float((logits.argmax(1) == y).float().mean())
        assert values(measured)["accuracy"] == pytest.approx(right)
        assert set(measured.table.layer) == {layer or "fc"}
        found, labels = predict(net, loader(), layer=layer)
        torch.testing.assert_close(found, logits)
        assert torch.equal(labels, y)


def test_a_fixed_classifier_is_read_from_what_it_makes_of_unit_vectors():
    net, (x, y) = with_head(lambda _: Fixed()), samples()
    nn.init.constant_(net.body.bias, 3.0)  # all logits of features 0 would be equal
    with torch.no_grad():
        assert net.features(x).any(1).all()
        expected = neural_collapse(net.features(x), y, 3 * net.fc.M.T, torch.ones(K)).values
    measured = measure(net, loader())
    found = values(measured)
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert set(measured.table.layer) == {"fc"}


def test_one_logit_stands_for_two_classes():
    torch.manual_seed(0)
    net, (x, y) = nn.Sequential(nn.Linear(D, 6), nn.ReLU(), nn.Linear(6, 1)), samples()
    y = (y > 1).long()
    W, b = net[2].weight.detach(), net[2].bias.detach()
    with torch.no_grad():
        features, z = net[:2](x), net(x)
    expected = neural_collapse(features, y, torch.cat([-W, W]) / 2, torch.cat([-b, b]) / 2).values
    likelihood = nn.functional.binary_cross_entropy_with_logits(z[:, 0], y.float())
    expected |= {"nll": float(likelihood), "accuracy": float(((z[:, 0] > 0) == y).float().mean())}
    for wrapped in (net, nn.Sequential(net, nn.Sigmoid()), nn.Sequential(net, nn.Flatten(0))):
        for labels in (y, y.float(), y[:, None].float()):
            found = values(measure(wrapped, [(x, labels)]))
            chosen = {name: found[name] for name in expected}
            assert chosen == pytest.approx(expected, rel=1e-4, abs=1e-5)


class Cosine(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(K, 6))

    def forward(self, h):
        return 10 * normalize(h) @ normalize(self.weight).T


REFUSED = {
    "the mean of two heads": Net(lambda net, h: (net.fc(h) + net.other(h)) / 2),
    "a second head added": Net(lambda net, h: net.fc(h) + 0.01 * net.other(h)),
    "cosines": with_head(lambda _: Cosine()),
    "a temperature before the softmax": Net(lambda net, h: (net.fc(h) / 3).softmax(1)),
    "a negative multiple": Net(lambda net, h: -net.fc(h)),
    "norm after the head": Net(lambda net, h: normalize(net.fc(h))),
}


@pytest.mark.parametrize("name, net", REFUSED.items(), ids=REFUSED)
def test_another_output_is_refused_until_the_layer_is_named(name, net):
    with pytest.raises(UsageError, match=r"not W h \+ b of one layer .* layer=.*are ('fc'|none)"):
        measure(net, loader())
    x, y = samples()
    with torch.no_grad():
        logits, features = net(x), net.features(x)
    expectation = contextlib.nullcontext()
    if "softmax" in name:  # its probabilities stand for logits then
        expectation = pytest.warns(UserWarning, match="look like probabilities")
    if isinstance(net.fc, Cosine):
        with pytest.raises(UsageError, match=r"'fc' does not give W h \+ b"):
            measure(net, loader(), layer="fc")
    else:
        with expectation:
            found = values(measure(net, loader(), layer="fc"))
        accuracy = float((logits.argmax(1) == y).double().mean())
        collapse = neural_collapse(features, y, net.fc.weight, net.fc.bias).values
        assert found["accuracy"] == accuracy  # the model's own
        assert found["nc3_product"] == pytest.approx(collapse["nc3_product"], rel=1e-5)
    torch.testing.assert_close(predict(net, loader())[0], logits, rtol=1e-5, atol=1e-6)


def test_an_output_without_logits_needs_a_named_layer():
    net = Net(lambda net, h: {"embedding": net.fc(h)})
    with pytest.raises(UsageError, match=r"returns dict, not logits: .* 'body', 'fc', 'other'"):
        measure(net, loader())
    with pytest.raises(UsageError, match="returns dict"):
        predict(net, loader())
    expected = values(measure(RIGHT["plain"], loader()))
    assert values(measure(net, loader(), layer="fc")) == pytest.approx(expected)


def test_a_later_batch_from_another_head_is_refused():
    calls = []

    def ending(net, h):
        calls.append(h)
        return (net.fc if len(calls) < 3 else net.other)(h)

    with pytest.raises(UsageError, match="was not called in every batch"):
        measure(Net(ending), loader())
    with pytest.raises(UsageError, match="in the first batch, but not in a later one"):
        measure(Net(lambda net, h: net.fc(h) + (len(h) < 20) * net.other(h)), loader())


def test_a_model_that_draws_numbers_has_its_classifier():
    net = Net(lambda net, h: net.fc(h + torch.randn(h.shape)))
    assert set(measure(net, loader()).table.layer) == {"fc"}


STEPS = {
    "relu": lambda z, net, h: z.relu(),
    "double": lambda z, net, h: 2 * z,
    "negate": lambda z, net, h: -z,
    "shift": lambda z, net, h: z + torch.arange(K),
    "other": lambda z, net, h: z + net.other(h),
    "softmax": lambda z, net, h: z.softmax(1),
    "log_softmax": lambda z, net, h: z.log_softmax(1),
    "flip": lambda z, net, h: z.flip(1),
    "mask": lambda z, net, h: z.masked_fill(torch.arange(K) == 1, -torch.inf),
    "norm": lambda z, net, h: normalize(z),
    "bfloat16": lambda z, net, h: z.bfloat16(),
}


# steps may give probabilities, or nothing but zeros
@pytest.mark.filterwarnings("ignore:the logits look like probabilities", "ignore:W is zero")
@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(sorted(STEPS)), max_size=3), st.booleans(), st.integers(0, 5))
def test_the_accuracy_is_the_models_own_or_there_is_an_error(steps, named, seed):
    def ending(net, h):
        z = net.fc(h)
        for step in steps:
            z = STEPS[step](z, net, h)
        return z

    net, (x, y) = Net(ending), samples(seed)
    with torch.no_grad():
        accuracy = float((net(x).float().argmax(1) == y).double().mean())
    try:
        found = values(measure(net, loader(seed), layer="fc" if named else None))
    except UsageError:
        assert steps  # the plain head is always found
        return
    assert found["accuracy"] == pytest.approx(accuracy, abs=1e-12)
    logits, _ = predict(net, loader(seed))
    assert float((logits.argmax(1) == y).double().mean()) == pytest.approx(accuracy, abs=1e-12)
