"""Trains many networks of one shape at once: their weights are stacked and every layer is one batched matrix product.

All replicas see the same images in the same order, so the first layer is a single product of all replicas' weights with
the shared image patches. The columns are ordered such that the output of each layer, only reshaped, is the input of the
next: no activation is ever copied. R replicas, B images, K classes, P positions of a layer.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from lsnc_core import labels, losses, models
from lsnc_core.errors import UsageError
from lsnc_core.images import ImageSet, standardise
from lsnc_core.runs.spec import RunSpec

EVALUATION_BATCH = 1024
Layers = list[tuple[torch.Tensor, torch.Tensor]]


def build(spec: RunSpec, image_shape: tuple[int, int, int], classes: int) -> models.Network:
    """The network of a spec with its initial weights, drawn by the spec's seed."""
    if spec.model == "cnn":
        network = models.cnn(image_shape, classes, spec.widths[:2], spec.widths[2])
    else:
        network = models.mlp(image_shape, classes, spec.widths)
    return models.initialise(network, labels.generator(spec.seed, "weights"))


def linear_layers(network: models.Network) -> list[nn.Conv2d | nn.Linear]:
    """The network's layers with weights, in order; each but the last must be followed by a ReLU, later convolutions must cut patches.

    Raises:
        UsageError: for a network that is not such a chain.
    """
    chain = [module for module in network.features if not isinstance(module, nn.Flatten)] + [network.classifier]
    layers, between = chain[::2], chain[1::2]
    for position, layer in enumerate(layers):
        good = isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None
        if isinstance(layer, nn.Conv2d):
            plain = (layer.padding, layer.dilation, layer.groups) == ((0, 0), (1, 1), 1)
            good = good and plain and (position == 0 or layer.kernel_size == layer.stride)
        if not good:
            raise UsageError(f"the stacked trainer cannot train the layer {layer}.")
    for module in between:
        if not isinstance(module, nn.ReLU):
            raise UsageError(f"the stacked trainer needs a ReLU between layers, found {module}.")
    return layers


def stack(networks: Sequence[models.Network], device: torch.device) -> Layers:
    """Weights (R, out, in) and biases (R, out, 1) of each layer, convolutions as matrices over their patches, ready for gradients."""
    columns = zip(*(linear_layers(network) for network in networks), strict=True)
    return [
        (
            torch.stack([layer.weight.detach().flatten(1) for layer in column]).to(device).requires_grad_(),
            torch.stack([layer.bias.detach()[:, None] for layer in column]).to(device).requires_grad_(),
        )
        for column in columns
    ]


def patch_plan(network: models.Network, image_shape: tuple[int, int, int]) -> torch.Tensor:
    """Which pixel stands where in the first layer's columns: int64 (in, P), indices into the C*H*W pixels of an image.

    Positions run over the offsets inside each later patch first, so that (channels, P) of one layer read as
    (channels * offsets, positions) of the next.
    """
    convolutions = [layer for layer in linear_layers(network) if isinstance(layer, nn.Conv2d)]
    pixels = torch.arange(image_shape[0] * image_shape[1] * image_shape[2])
    if not convolutions:
        return pixels[:, None]  # (C*H*W, 1)
    first, *later = convolutions
    # unfold has no integer version; float64 holds pixel indices exactly
    columns = F.unfold(pixels.double().view(1, *image_shape), first.kernel_size, stride=first.stride)[0].long()  # (in, P)
    rows, width = ((image_shape[i] - first.kernel_size[i - 1]) // first.stride[i - 1] + 1 for i in (1, 2))
    grid = torch.arange(rows * width).view(1, rows, width)
    for convolution in later:
        high, wide = convolution.kernel_size
        rows, width = rows // high, width // wide
        grid = grid[:, : rows * high, : width * wide].unflatten(2, (width, wide)).unflatten(1, (rows, high))  # (O, rows, high, width, wide)
        grid = grid.permute(0, 2, 4, 1, 3).flatten(0, 2)  # (O*high*wide, rows, width)
    return columns[:, grid.flatten()]


def forward(layers: Layers, images: torch.Tensor, plan: torch.Tensor) -> torch.Tensor:
    """Logits (R, B, K) of all replicas for the same images, float (B, C*H*W)."""
    (weight, bias), *later = layers
    columns = images.T.index_select(0, plan.flatten()).view(plan.shape[0], -1)  # (in, P*B)
    # kept flat: autograd copies the gradient of every in-place step on a view
    hidden = torch.addmm(bias.flatten(0, 1), weight.flatten(0, 1), columns)  # (R*out, P*B)
    for weight, bias in later:
        hidden = torch.baddbmm(bias, weight, hidden.relu_().reshape(len(weight), weight.shape[2], -1))  # (R, out, P*B)
    return hidden.mT


@torch.no_grad()
def measure(
    layers: Layers,
    images: torch.Tensor,
    plan: torch.Tensor,
    clean: torch.Tensor,
    fitted: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> dict[str, torch.Tensor]:
    """Means over the images of losses in nats and accuracies, each float64 (R,).

    `loss` and `accuracy` are against the clean labels int64 (N,); `uniform_loss` is the cross-entropy against the uniform
    distribution (with `loss` it gives the expected loss against labels with any symmetric noise). Where the targets float
    (R, N, K) and noisy labels int64 (R, N) that were fitted are given, `fit_loss` and `fit_accuracy` are against those.
    """
    sums: dict[str, torch.Tensor] = {}

    def add(name: str, values: torch.Tensor) -> None:
        sums[name] = sums.get(name, 0) + values.double().sum(1)

    for start in range(0, len(images), EVALUATION_BATCH):
        part = slice(start, start + EVALUATION_BATCH)
        surprise = -forward(layers, images[part], plan).log_softmax(-1)  # (R, B, K)
        guess = surprise.argmin(-1)  # (R, B)
        add("loss", surprise.gather(2, clean[part].expand(len(surprise), -1)[..., None])[..., 0])
        add("accuracy", guess == clean[part])
        add("uniform_loss", surprise.mean(2))
        if fitted is not None:
            targets, noisy = fitted
            add("fit_loss", (targets[:, part] * surprise).sum(-1))
            add("fit_accuracy", guess == noisy[:, part])
    return {name: value / len(images) for name, value in sums.items()}


@torch.no_grad()
def sgd_step(
    parameters: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor], velocities: Sequence[torch.Tensor], spec: RunSpec
) -> None:
    """One step of SGD in place: `v <- momentum v + gradient + weight_decay w`, `w <- w - lr v`.

    The same bits as torch.optim.SGD, whose first use takes seconds in every process (it imports torch's compiler).
    """
    for parameter, gradient, velocity in zip(parameters, gradients, velocities, strict=True):
        velocity.mul_(spec.momentum).add_(gradient.add(parameter, alpha=spec.weight_decay) if spec.weight_decay else gradient)
        parameter.add_(velocity, alpha=-spec.lr)


def train(
    specs: Sequence[RunSpec], image_set: ImageSet, device: torch.device, progress: Callable[[int], object] = lambda epochs: None
) -> list[list[dict]]:
    """Train the networks of all specs together by SGD on smoothed noisy labels.

    Args:
        specs: runs of one `company`: they may differ in a, p and seed only.
        image_set: the set that the specs name, whole.
        device: where to train.
        progress: called after each epoch with the number of network-epochs done in it.

    Returns:
        For each spec its history: one mapping per epoch of `evaluate_at` with `epoch`, `kept` (the share of training labels
        that the noise left as they were), `train_loss` and `train_accuracy` (against the smoothed noisy labels),
        `clean_train_*` (training inputs, clean labels) and `test_*` (held-out inputs, clean labels); losses in nats.

    Raises:
        UsageError: for specs that cannot train together, or a set too small.
    """
    shared = specs[0]
    if any(spec.company != shared.company for spec in specs):
        raise UsageError("runs that train together may differ in a, p and seed only.")
    chosen = image_set.subset(shared.train_size, shared.test_size)
    train_images, test_images = (images.to(device) for images in standardise(chosen, shared.pool))  # (N, C, H, W)
    image_shape, classes = tuple(train_images.shape[1:]), chosen.num_classes
    train_images, test_images = train_images.flatten(1), test_images.flatten(1)  # (N, C*H*W)
    clean, test_labels = chosen.train_labels.to(device), chosen.test_labels.to(device)

    networks = [build(spec, image_shape, classes) for spec in specs]
    plan = patch_plan(networks[0], image_shape).to(device)
    layers = stack(networks, device)
    noisy = torch.stack(
        [labels.corrupt(chosen.train_labels, labels.symmetric_noise(spec.a, classes), spec.seed) for spec in specs]
    )  # (R, N)
    kept = (noisy == chosen.train_labels).double().mean(1).tolist()
    targets = torch.stack([labels.soft_targets(row, spec.p, classes) for row, spec in zip(noisy, specs, strict=True)]).to(
        device
    )  # (R, N, K)
    noisy = noisy.to(device)

    parameters = [parameter for layer in layers for parameter in layer]
    velocities = [torch.zeros_like(parameter) for parameter in parameters]
    order = labels.generator(shared.order_seed, "order")
    histories: list[list[dict]] = [[] for _ in specs]
    for epoch in range(1, shared.epochs + 1):
        for chosen_rows in torch.randperm(len(train_images), generator=order).to(device).split(shared.batch):
            logits = forward(layers, train_images[chosen_rows], plan)
            # the sum over replicas: each one's gradient is that of its own mean loss
            loss = losses.cross_entropy(logits, targets[:, chosen_rows]).mean(1).sum()
            sgd_step(parameters, torch.autograd.grad(loss, parameters), velocities, shared)
        if epoch in shared.evaluate_at:
            on_train = measure(layers, train_images, plan, clean, (targets, noisy))
            on_test = measure(layers, test_images, plan, test_labels)
            found = {"train_loss": on_train.pop("fit_loss"), "train_accuracy": on_train.pop("fit_accuracy")}
            found |= {f"clean_train_{name}": value for name, value in on_train.items()}
            found |= {f"test_{name}": value for name, value in on_test.items()}
            columns = {name: value.tolist() for name, value in found.items()}
            for replica, history in enumerate(histories):
                history.append({"epoch": epoch, "kept": kept[replica]} | {name: values[replica] for name, values in columns.items()})
        progress(len(specs))
    return histories
