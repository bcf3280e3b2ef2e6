"""Why collapse metrics of degenerate features or weights are undefined."""

import warnings
from collections.abc import Iterator, Sequence

import torch

from lsnc_core.metrics.geometry import ROUNDING, centred_rows, without_rounding
from lsnc_core.metrics.statistics import GLOBAL_MEANS, Statistics


def warn_of_undefined(names: Sequence[str], statistics: Statistics, W: torch.Tensor | None) -> None:
    """Warn once of metrics that are NaN or infinite, and say why.

    Args: names of these metrics; statistics and W (K, D) or None, which they were computed from.
    """
    reasons = [*_of_means(statistics), *(() if W is None else _of_classifier(W))]
    because = "; ".join(reasons) or "the numbers are too large or too small for float64"
    warnings.warn(
        f"{because}; so these metrics are undefined (NaN) or infinite: {', '.join(names)}.",
        stacklevel=4,
    )


def _of_means(statistics: Statistics) -> Iterator[str]:
    """What is degenerate about the class means."""
    if not statistics.basis.shape[-1]:
        yield "all class means coincide"
        return
    numbers = statistics.present.nonzero()[:, 0]
    means = statistics.means[numbers]
    if pair := _coinciding(means, ROUNDING * float(means.abs().amax())):
        yield f"the means of {_classes(numbers[pair])} coincide"
    for mu_G, centre in zip(GLOBAL_MEANS, ("global mean", "mean of all samples"), strict=True):
        H = without_rounding(statistics.centred_means(mu_G), statistics.means)
        central = (H == 0).all(1)
        same = [] if pair else _coinciding(H / H.norm(dim=1, keepdim=True), ROUNDING)
        if central.any():
            yield f"the mean of {_classes(numbers[central])} is the {centre}"
        if same:
            which = _classes(numbers[same])
            yield f"the means of {which} have the same direction from the {centre}"
        if central.any() or same:
            return


def _of_classifier(W: torch.Tensor) -> Iterator[str]:
    """What is degenerate about W."""
    W = W.detach().cpu().double()
    zero = (W == 0).all(1)
    if zero.all():
        yield "W is zero"
        return
    if zero.any():
        yield f"the weights of {_classes(zero.nonzero()[:, 0])} are zero"
    if not centred_rows(W).any():
        yield "all rows of W are equal"


def _coinciding(rows: torch.Tensor, least: float) -> list[int]:
    """A pair of rows (K, D) at most so far apart, empty without one.

    Rows that coincide are neighbours in the order of their products with a random vector.
    """
    draw = torch.randn(rows.shape[1], generator=torch.Generator().manual_seed(0)).double()
    order = (rows @ draw).argsort()
    close = (rows[order[1:]] - rows[order[:-1]]).norm(dim=1) <= least
    if not close.any():
        return []
    first = int(close.nonzero()[0, 0])
    return sorted(order[first : first + 2].tolist())


def _classes(numbers: torch.Tensor) -> str:
    """ "class 3" or "classes 0, 1, ..." """
    some = ", ".join(map(str, numbers[:5].tolist())) + (", ..." if len(numbers) > 5 else "")
    return f"class {some}" if len(numbers) == 1 else f"classes {some}"
