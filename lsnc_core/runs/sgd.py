"""Steps of SGD with one learning rate and one weight decay per network."""

from collections.abc import Sequence

import torch

Tensors = Sequence[torch.Tensor]


@torch.no_grad()
def sgd_step(
    parameters: Tensors,
    gradients: Tensors,
    velocities: Tensors,
    learning_rates: Tensors,
    weight_decays: Tensors | None,
    momentum: float,
) -> None:
    """One step of SGD in place: `v <- momentum v + gradient + weight_decay w`, `w <- w - lr v`.

    Learning rates and weight decays broadcast to the parameters: torch.optim.SGD knows one learning
    rate per tensor, not one per replica in it.
    """
    for number, (parameter, gradient, velocity) in enumerate(
        zip(parameters, gradients, velocities, strict=True)
    ):
        velocity.mul_(momentum).add_(gradient)
        decay = None if weight_decays is None else weight_decays[number]
        advance(parameter, velocity, learning_rates[number], decay)


def advance(
    parameter: torch.Tensor,
    velocity: torch.Tensor,
    lr: torch.Tensor,
    weight_decay: torch.Tensor | None,
) -> None:
    """The rest of a step of SGD, in place, of a velocity that has taken in the gradient."""
    if weight_decay is not None:
        velocity.addcmul_(parameter, weight_decay)
    parameter.addcmul_(velocity, lr, value=-1)


@torch.no_grad()
def sgd_step_side_by_side(
    parameters: Tensors,
    gradients: Tensors,
    velocities: Tensors,
    learning_rates: Tensors,
    weight_decays: Tensors | None,
    momentum: float,
) -> None:
    """As `sgd_step` for networks side by side on a GPU: few kernels a network, not three a tensor.

    Args: as there; learning rates and weight decays float (), those of one network views of one
    number.
    """
    # these kernels want equal strides; gradients of 1x1 convolutions can have others
    gradients = [
        own if own.stride() == v.stride() else torch.empty_like(v).copy_(own)
        for own, v in zip(gradients, velocities, strict=True)
    ]
    velocities = list(velocities)
    torch._foreach_mul_(velocities, momentum)
    torch._foreach_add_(velocities, gradients)
    if weight_decays is not None:
        for decay, places in _alike(weight_decays):
            pull = torch._foreach_mul(_at(parameters, places), decay)
            torch._foreach_add_(_at(velocities, places), pull)
    for lr, places in _alike(learning_rates):
        step = torch._foreach_mul(_at(velocities, places), lr)
        torch._foreach_sub_(_at(parameters, places), step)


def _alike(numbers: Tensors) -> list[tuple[torch.Tensor, list[int]]]:
    """The distinct numbers, views of one memory counting once, each with its places."""
    places: dict[int, list[int]] = {}
    for place, number in enumerate(numbers):
        places.setdefault(number.data_ptr(), []).append(place)
    return [(numbers[own[0]], own) for own in places.values()]


def _at(tensors: Tensors, places: Sequence[int]) -> list[torch.Tensor]:
    return [tensors[place] for place in places]


def shrink_factors(square_norms: torch.Tensor, clip: float) -> torch.Tensor:
    """What shrinks each network's whole gradient to the norm `clip`, as torch's clip_grad_norm_.

    Args: square_norms of the gradients, float (R,). Returns: float (R,) in (0, 1].
    """
    return (clip / (square_norms.sqrt() + 1e-6)).clamp(max=1)
