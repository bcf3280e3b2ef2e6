"""Collapse metrics in one pass over the features, batch by batch, across devices and processes."""

from collections.abc import Iterable, Mapping

import torch

from lsnc_core.errors import UsageError
from lsnc_core.labels import check_classes
from lsnc_core.metrics.collapse import Values, collapse_values
from lsnc_core.metrics.statistics import (
    CHUNK,
    Statistics,
    check_samples,
    refuse_not_finite,
    span_of_means,
)

STATES = ("counts", "means", "scatter", "class_scatter", "misplaced")


class NeuralCollapse:
    """Every collapse metric that one pass over the features allows, for any batch size and order.

    The state holds counts, class means and one pooled scatter matrix (D x D) about the running
    class means, all float64, on the device of the features (on the CPU where a device has no
    float64). `update` never waits for a GPU. NC4, the accuracies and NC1 by class or by correctness
    need a second pass, which `measure` makes. The method names are those of torchmetrics.

    Args: num_classes, K >= 2; num_features, D, the classifier's input width.
    Source: Chan, Golub and LeVeque 1983 (pairwise update of means and scatter).

    >>> nc = NeuralCollapse(2, 2)
    >>> nc.update(torch.tensor([[2.0, 0.0], [-2.0, 1.0]]), torch.tensor([0, 1]))
    >>> nc.update(torch.tensor([[4.0, 0.0], [-4.0, -1.0]]), torch.tensor([0, 1]))
    >>> values = nc.compute(W=torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    >>> round(values["nc1_trace"], 4), round(values.preset("guo")["NC1"], 4)
    (0.1111, 0.0556)
    """

    counts: torch.Tensor
    means: torch.Tensor
    scatter: torch.Tensor
    class_scatter: torch.Tensor
    misplaced: torch.Tensor

    def __init__(self, num_classes: int, num_features: int) -> None:
        self.K = check_classes(num_classes, "num_classes")
        if isinstance(num_features, bool) or not isinstance(num_features, int) or num_features < 1:
            raise UsageError(
                f"num_features must be a whole number of at least 1, not {num_features!r}."
            )
        self.D = num_features
        self.reset()

    def reset(self) -> None:
        """Forget all samples."""
        self.counts = torch.zeros(self.K, dtype=torch.int64)
        self.means = torch.zeros(self.K, self.D, dtype=torch.float64)
        self.scatter = torch.zeros(self.D, self.D, dtype=torch.float64)
        self.class_scatter = torch.zeros(self.K, dtype=torch.float64)
        # Labels on a GPU outside 0..K-1 are counted here and reported by `compute`.
        self.misplaced = torch.zeros((), dtype=torch.int64)
        self._empty = True

    def to(self, device: torch.device | str) -> "NeuralCollapse":
        """Move the state to a device; returns the accumulator itself."""
        for name in STATES:
            setattr(self, name, getattr(self, name).to(device))
        return self

    @torch.no_grad()
    def update(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        """Add a batch.

        Args: features, floating point (B, D); labels, integers (B,) in 0..K-1.
        Raises: UsageError where they do not fit; for labels on a GPU `compute` raises it.
        """
        features, labels = check_samples(features, labels, self.K, self.D, wait=False)
        if self._empty:
            self.to(features.device)
            self._empty = False
        rows = max(1, CHUNK // self.D)
        for h, y in zip(features.split(rows), labels.split(rows), strict=True):
            self._add(h.to(self.means.device, torch.float64), y.to(self.means.device))

    def _add(self, h: torch.Tensor, y: torch.Tensor) -> None:
        """Update means and scatter with one matrix product.

        With batch means m_k, running means mu_k, n_k samples before and b_k in the batch, the new
        scatter adds the batch's scatter about m_k and, to join both parts,
        n_k b_k/(n_k + b_k) (m_k - mu_k)(m_k - mu_k)^T. The sum of both is
        sum (h - t)(h - t)^T with t_k = m_k - sqrt(n_k/(n_k + b_k)) (m_k - mu_k).
        """
        misplaced = (y < 0) | (y >= self.K)
        self.misplaced += misplaced.sum()
        y = y.masked_fill(misplaced, 0)
        added = torch.zeros_like(self.counts).index_add_(0, y, torch.ones_like(y))  # (K,)
        total = self.counts + added
        share = added.double() / total.clamp(min=1)  # (K,)
        sums = torch.zeros_like(self.means).index_add_(0, y, h)  # (K, D)
        means = sums / added.clamp(min=1)[:, None]
        steps = means - self.means
        h = h - (means - (1 - share).sqrt()[:, None] * steps).index_select(0, y)  # (B, D)
        self.scatter.addmm_(h.T, h)
        self.class_scatter.index_add_(0, y, h.square_().sum(1))
        self.means += share[:, None] * steps
        self.counts = total

    @torch.no_grad()
    def merge_state(
        self,
        others: "NeuralCollapse | Mapping[str, torch.Tensor]"
        " | Iterable[NeuralCollapse | Mapping[str, torch.Tensor]]",
    ) -> None:
        """Add the samples of other accumulators or of their state_dicts, e.g. of other processes.

        Raises: UsageError where the numbers of classes or features differ.
        """
        for other in [others] if isinstance(others, NeuralCollapse | Mapping) else others:
            state = other.state_dict() if isinstance(other, NeuralCollapse) else other
            self._check_state(state)
            if self._empty:
                self.to(state["means"].device)
                self._empty = False
            state = {name: tensor.to(self.means.device) for name, tensor in state.items()}
            total = self.counts + state["counts"]
            share = state["counts"].double() / total.clamp(min=1)  # (K,)
            steps = state["means"] - self.means  # (K, D)
            weights = self.counts * share  # (K,): n_k b_k / (n_k + b_k)
            self.scatter += state["scatter"] + (steps * weights[:, None]).T @ steps
            self.class_scatter += state["class_scatter"] + weights * steps.square().sum(1)
            self.means += share[:, None] * steps
            self.misplaced += state["misplaced"]
            self.counts = total

    def state_dict(self) -> dict[str, torch.Tensor]:
        """A copy of the state, for `load_state_dict` and `merge_state`."""
        return {name: getattr(self, name).clone() for name in STATES}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from a `state_dict`.

        Raises: UsageError where its numbers of classes or features differ.
        """
        self._check_state(state)
        for name in STATES:
            setattr(self, name, state[name].clone())
        self._empty = False

    def _check_state(self, state: Mapping[str, torch.Tensor]) -> None:
        shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
        expected = {name: tuple(getattr(self, name).shape) for name in STATES}
        if shapes != expected:
            raise UsageError(
                f"the state does not belong to {self.K} classes and {self.D} features: its shapes "
                f"are {shapes}."
            )

    def statistics(self) -> Statistics:
        """The class statistics of all samples so far, on the CPU.

        Raises: UsageError for labels out of range, NaN, or fewer than two classes.
        """
        if self.misplaced:
            raise UsageError(
                f"{int(self.misplaced)} labels lie outside 0..{self.K - 1} for {self.K} classes: "
                "correct them and start again."
            )
        counts, means, class_scatter = self.counts.cpu(), self.means.cpu(), self.class_scatter.cpu()
        refuse_not_finite(counts, means)
        basis = span_of_means(means[counts > 0])
        within = basis.T @ (self.scatter.cpu() @ basis) / counts.sum()
        return Statistics(counts, means, basis, within, class_scatter / counts.clamp(min=1))

    def compute(self, W: torch.Tensor | None = None, b: torch.Tensor | None = None) -> Values:
        """All metrics by name; `.preset("guo")` and `.preset("zhou")` give a paper's own names.

        Args: W, float (K, D), and b, float (K,) or None, the classifier; without W only the metrics
        of the features.
        Returns: Values, float by name. Looking up NC4 or an accuracy raises UsageError, which says
        what provides it.
        """
        return collapse_values(self.statistics(), W, b)
