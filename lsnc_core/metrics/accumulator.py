"""Collapse metrics in one pass over the features, batch by batch, across devices and processes."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping

import torch

from lsnc_core.defaults import usual_defaults
from lsnc_core.errors import UsageError
from lsnc_core.labels import as_count, check_classes
from lsnc_core.metrics.collapse import Values, collapse_values
from lsnc_core.metrics.statistics import (
    Statistics,
    check_samples,
    describe,
    holds_values,
    refuse_not_finite,
    span_of_means,
)
from lsnc_core.metrics.threads import one_thread

STATES = ("counts", "means", "scatter", "class_scatter", "misplaced")
# Samples are collected until there are so many, or their features so many numbers, and then
# multiplied at once: a product of few rows is slow, float32 sums of many are inexact.
ROWS, CHUNK = 4096, 2**21
SPAN = 16  # chunks about the same centres, so that a mean which moves costs few digits
PIECE = 2**18  # numbers that stay in a core's cache from one operation to the next


def _gram(rows: torch.Tensor) -> torch.Tensor:
    """rows^T rows, (D, D), of rows (B, D)."""
    if rows.device.type != "cpu":
        return rows.T @ rows
    # numpy computes only half of the product of a matrix with its own transpose.
    array = rows.numpy()
    return torch.from_numpy(array.T @ array)


@contextlib.contextmanager
def _exactly(device: torch.device) -> Iterator[None]:
    """Without gradients and autocast; what is made inside an inference mode stays writable.

    One thread does all but the product of `_gram`, for which numpy has threads of its own.
    """
    off = torch.autocast(device.type, enabled=False)
    with torch.inference_mode(False), torch.no_grad(), off, one_thread(), usual_defaults():
        yield


class _Block:
    """Sums over consecutive samples about a fixed centre for each class.

    The centre is the running class mean or, for a new class, the mean of its first samples,
    rounded to the type of the products. float32 subtracts it almost without error, however far from
    the origin the samples lie. As a centre the rounded mean is exact: `state` moves the sums to the
    block's own class means, in float64.
    """

    def __init__(self, counts: torch.Tensor, means: torch.Tensor, dtype: torch.dtype) -> None:
        D = means.shape[1]
        rows = max(1, min(ROWS, CHUNK // D))
        # What is not multiplied yet; memory that is used again costs no page faults.
        self.features, self.labels = means.new_empty(rows, D, dtype=dtype), counts.new_empty(rows)
        self.filled = 0
        self.start(counts, means)

    def start(self, counts: torch.Tensor, means: torch.Tensor) -> None:
        """Begin anew, with these running counts and means."""
        D = means.shape[1]
        self.centres, self.known = means.to(self.features.dtype), counts > 0
        self.counts, self.sums = torch.zeros_like(counts), torch.zeros_like(means)
        self.products, self.squares = means.new_zeros(D, D), means.new_zeros(len(means))
        self.chunks = 0

    @property
    def room(self) -> int:
        """How many samples `add` takes now."""
        return len(self.labels) - self.filled

    def add(self, h: torch.Tensor, y: torch.Tensor) -> None:
        """Add samples: h, floating point (B, D); y, labels (B,); B at most `room`."""
        if len(y) == len(self.labels):  # nothing to collect
            self._multiply(h, y)
            return
        place = slice(self.filled, self.filled + len(y))
        self.features[place], self.labels[place] = h, y
        self.filled += len(y)
        if not self.room:
            self._multiply_collected()

    def _multiply_collected(self) -> None:
        self._multiply(self.features[: self.filled], self.labels[: self.filled])
        self.filled = 0

    def _multiply(self, h: torch.Tensor, y: torch.Tensor) -> None:
        """Add samples to the sums; their deviations take the place of the collected features."""
        D = self.centres.shape[1]
        added = torch.zeros_like(self.counts).index_add_(0, y, torch.ones_like(y))  # (K,)
        rows = max(1, PIECE // D)
        pieces = list(zip(h.split(rows), y.split(rows), strict=True))
        fresh = (added > 0) & ~self.known  # (K,)
        if fresh.device.type != "cpu" or fresh.any():  # to ask a GPU would be to wait for it
            means = torch.zeros_like(self.sums)
            for piece, k in pieces:
                means.index_add_(0, k, piece.double())
            means /= added.clamp(min=1)[:, None]
            self.centres = torch.where(fresh[:, None], means.to(self.centres.dtype), self.centres)
        self.known |= fresh
        self.counts += added
        sums = torch.zeros_like(self.centres)
        for (piece, k), deviations in zip(pieces, self.features.split(rows), strict=False):
            deviations = deviations[: len(k)]
            torch.sub(piece, self.centres.index_select(0, k), out=deviations)  # (rows, D)
            sums.index_add_(0, k, deviations)
            squares = torch.linalg.vector_norm(deviations, dim=1).double().square_()  # (rows,)
            self.squares.index_add_(0, k, squares)
        self.sums += sums
        self.products += _gram(self.features[: len(y)])
        self.chunks += 1

    def state(self) -> dict[str, torch.Tensor]:
        """End the block: its counts, class means and scatters, named as in an accumulator."""
        if self.filled:
            self._multiply_collected()
        roots = self.counts.clamp(min=1).double().sqrt()[:, None]  # (K, 1)
        shifts = self.sums / roots  # (K, D): roots times the way from a centre to the class mean
        return {
            "counts": self.counts,
            "means": self.centres + shifts / roots,
            "scatter": self.products.sub_(_gram(shifts)),
            "class_scatter": self.squares - shifts.square().sum(1),
        }


class NeuralCollapse:
    """Every collapse metric that one pass over the features allows, for any batch size and order.

    The state holds counts, class means and one pooled scatter matrix (D x D) about the class means,
    all float64, on the device of the features (on the CPU where a device has no float64). `update`
    never waits for a GPU. NC4, the accuracies and NC1 by class or by correctness need a second
    pass, which `measure` makes. The method names are those of torchmetrics.

    On a CPU, deviations of float32 or narrower features from their class means are multiplied in
    float32, a few thousand at a time, and summed in float64. The metrics then agree with those of
    float64 products to about 1e-7, and NC1 to about 1e-7 times the ratio of the largest variance
    within classes to that along the class means. Float64 features, and all features on a GPU, are
    multiplied in float64.

    Args: num_classes, K >= 2; num_features, D, the classifier's input width; float64, whether to
    multiply in float64 whatever the features are, which takes twice as long.
    Source: Chan, Golub and LeVeque 1983 (pairwise update of means and scatter).

    >>> nc = NeuralCollapse(2, 2)
    >>> nc.update(torch.tensor([[2.0, 0.0], [-2.0, 1.0]]), torch.tensor([0, 1]))
    >>> nc.update(torch.tensor([[4.0, 0.0], [-4.0, -1.0]]), torch.tensor([0, 1]))
    >>> values = nc.compute(W=torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    >>> round(values["nc1_trace"], 4), round(values.preset("guo")["NC1"], 4)
    (0.1111, 0.0556)
    """

    def __init__(self, num_classes: int, num_features: int, *, float64: bool = False) -> None:
        self.K = check_classes(num_classes, "num_classes")
        self.D, self.float64 = as_count(num_features, "num_features", 1), float64
        self.reset()

    @usual_defaults()
    def reset(self) -> None:
        """Forget all samples."""
        self._state = {
            "counts": torch.zeros(self.K, dtype=torch.int64),
            "means": torch.zeros(self.K, self.D, dtype=torch.float64),
            "scatter": torch.zeros(self.D, self.D, dtype=torch.float64),
            "class_scatter": torch.zeros(self.K, dtype=torch.float64),
            # Labels on a GPU outside 0..K-1 are counted here and reported by `compute`.
            "misplaced": torch.zeros((), dtype=torch.int64),
        }
        self._empty = True
        self._forget_open()

    def _forget_open(self) -> None:
        """Drop the samples that are not part of the state yet."""
        self._block: _Block | None = None
        self._span = 1  # of the open block, in chunks
        self._dtype = torch.float64

    @property
    def counts(self) -> torch.Tensor:
        """int64 (K,), samples of each class."""
        return self._settled()["counts"]

    @property
    def means(self) -> torch.Tensor:
        """float64 (K, D), class means; zeros for a class without samples."""
        return self._settled()["means"]

    @property
    def scatter(self) -> torch.Tensor:
        """float64 (D, D), sum over the samples of (h - mu_y)(h - mu_y)^T."""
        return self._settled()["scatter"]

    @property
    def class_scatter(self) -> torch.Tensor:
        """float64 (K,), sum over the samples of each class of |h - mu_y|^2."""
        return self._settled()["class_scatter"]

    @property
    def misplaced(self) -> torch.Tensor:
        """int64 (), labels on a GPU outside 0..K-1."""
        return self._settled()["misplaced"]

    @property
    def _device(self) -> torch.device:
        return self._state["means"].device

    def to(self, device: torch.device | str) -> "NeuralCollapse":
        """Move the state to a device; returns the accumulator itself."""
        settled = self._settled()
        with _exactly(self._device):
            self._state = {name: tensor.to(device) for name, tensor in settled.items()}
        return self

    def update(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        """Add a batch.

        Args: features, floating point (B, D); labels, integers (B,) in 0..K-1.
        Raises: UsageError where they do not fit; for labels on a GPU `compute` raises it.
        """
        features, labels = check_samples(features, labels, self.K, self.D, wait=False)
        if self._empty:
            self.to(features.device)
            self._empty = False
        # On a GPU, TF32 could round the factors of a float32 product.
        wide = self.float64 or features.dtype == torch.float64 or self._device.type != "cpu"
        dtype = torch.float64 if wide else torch.float32
        if dtype != self._dtype:
            self._settled()
            self._dtype = dtype
        with _exactly(self._device):
            h, y = features.to(self._device), labels.to(self._device)
            if self._device.type != "cpu":  # elsewhere they have been checked
                wrong = (y < 0) | (y >= self.K)
                self._state["misplaced"] = self._state["misplaced"] + wrong.sum()
                y = y.masked_fill(wrong, 0)
            while len(y):
                room = self._add(h, y)
                h, y = h[room:], y[room:]

    def _add(self, h: torch.Tensor, y: torch.Tensor) -> int:
        """Add the samples for which the open block has room; returns how many there could be.

        The first block ends after one chunk, so that few samples lie about the mean of a few.
        """
        if self._block is None:
            self._block = _Block(self._state["counts"], self._state["means"], self._dtype)
        room = self._block.room
        self._block.add(h[:room], y[:room])
        if self._block.chunks == self._span:
            self._span = SPAN
            self._join(self._block.state())
            self._block.start(self._state["counts"], self._state["means"])
        return room

    def _settled(self) -> dict[str, torch.Tensor]:
        """The state of all samples so far."""
        if self._block is not None:
            with _exactly(self._device):
                self._join(self._block.state())
            self._block = None
        return self._state

    def _join(self, other: Mapping[str, torch.Tensor]) -> None:
        """Join the samples of another state.

        With n_k samples here and b_k there, the scatter about the common mean is the sum of both
        and of n_k b_k/(n_k + b_k) (m_k - mu_k)(m_k - mu_k)^T.
        """
        mine = self._state
        total = mine["counts"] + other["counts"]
        share = other["counts"].double() / total.clamp(min=1)  # (K,)
        steps = other["means"] - mine["means"]  # (K, D)
        weights = mine["counts"] * share  # (K,): n_k b_k / (n_k + b_k)
        between = steps * weights.sqrt()[:, None]  # (K, D)
        self._state = mine | {
            "counts": total,
            "means": mine["means"] + share[:, None] * steps,
            "scatter": mine["scatter"].add_(other["scatter"]).add_(_gram(between)),
            "class_scatter": mine["class_scatter"]
            + other["class_scatter"]
            + between.square().sum(1),
        }

    @torch.no_grad()
    def merge_state(
        self,
        others: "NeuralCollapse | Mapping[str, torch.Tensor]"
        " | Iterable[NeuralCollapse | Mapping[str, torch.Tensor]]",
    ) -> None:
        """Add the samples of other accumulators or of their state_dicts, e.g. of other processes.

        Raises: UsageError where the numbers of classes or features differ.
        """
        if not isinstance(others, NeuralCollapse | Iterable):
            raise UsageError(
                f"others must be accumulators or their state_dicts, not {describe(others)}."
            )
        for other in [others] if isinstance(others, NeuralCollapse | Mapping) else others:
            state = other.state_dict() if isinstance(other, NeuralCollapse) else other
            self._check_state(state)
            if self._empty:
                self.to(state["means"].device)
                self._empty = False
            state = {name: tensor.to(self._device) for name, tensor in state.items()}
            self._settled()
            self._join(state)
            self._state["misplaced"] = self._state["misplaced"] + state["misplaced"]

    def state_dict(self) -> dict[str, torch.Tensor]:
        """A copy of the state, for `load_state_dict` and `merge_state`."""
        return {name: tensor.clone() for name, tensor in self._settled().items()}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from a `state_dict`.

        Raises: UsageError where its numbers of classes or features differ.
        """
        self._check_state(state)
        self._forget_open()
        with _exactly(self._device):
            self._state = {name: state[name].clone() for name in STATES}
        self._empty = False

    def _check_state(self, state: Mapping[str, torch.Tensor]) -> None:
        is_state = isinstance(state, Mapping) and all(map(holds_values, state.values()))
        if not is_state:
            raise UsageError(f"a state is what state_dict gives, not {describe(state)}.")
        shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
        expected = {name: tuple(self._state[name].shape) for name in STATES}
        if shapes != expected:
            raise UsageError(
                f"the state does not belong to {self.K} classes and {self.D} features: its shapes "
                f"are {shapes}."
            )

    def statistics(self) -> Statistics:
        """The class statistics of all samples so far, on the CPU.

        Raises: UsageError for labels out of range, NaN, or fewer than two classes.
        """
        state = {name: tensor.cpu() for name, tensor in self._settled().items()}
        if misplaced := int(state["misplaced"]):
            raise UsageError(
                f"{misplaced} labels lie outside 0..{self.K - 1} for {self.K} classes: correct "
                "them and start again."
            )
        counts, means = state["counts"], state["means"]
        refuse_not_finite(counts, means)
        basis = span_of_means(means[counts > 0])
        within = basis.T @ (state["scatter"] @ basis) / counts.sum()
        class_within = state["class_scatter"] / counts.clamp(min=1)  # (K,)
        return Statistics(counts, means, basis, within, class_within.clamp(min=0))

    def compute(self, W: torch.Tensor | None = None, b: torch.Tensor | None = None) -> Values:
        """All metrics by name; `.preset("guo")` and `.preset("zhou")` give a paper's own names.

        Args: W, float (K, D), and b, float (K,) or None, the classifier; without W only the metrics
        of the features.
        Returns: Values, float by name. Looking up NC4 or an accuracy raises UsageError, which says
        what provides it.
        """
        return collapse_values(self.statistics(), W, b)
