"""What an expert would write in JAX: networks under `vmap`, the steps of an epoch in a `lax.scan`.

The whole epoch is one compiled program. JAX is no dependency: without it there are no such rows.
"""

import dataclasses
import importlib.util
from collections.abc import Callable

import numpy as np
from torch import nn

from lsnc_core import models
from lsnc_core.runs import RunSpec, prepare


def installed() -> bool:
    """Whether JAX can be imported here."""
    return importlib.util.find_spec("jax") is not None


def written(network: models.Network) -> bool:
    """Whether `apply_of` knows all layers of a network."""
    known = nn.Conv2d | nn.Linear | nn.ReLU | nn.Flatten
    return all(isinstance(module, known) for module in network.features)


def apply_of(network: models.Network) -> Callable:
    """The network as a function of its parameters, a list, and one image batch (B, C, H, W)."""
    import jax
    from jax import lax

    modules = [*network.features, network.classifier]

    def apply(parameters, x):
        left = iter(parameters)
        for module in modules:
            if isinstance(module, nn.Conv2d):
                x = lax.conv_general_dilated(x, next(left), module.stride, "VALID")
                x = x + next(left)[:, None, None]
            elif isinstance(module, nn.Linear):
                x = x @ next(left).T + next(left)
            elif isinstance(module, nn.ReLU):
                x = jax.nn.relu(x)
            else:
                x = x.reshape(len(x), -1)
        return x

    return apply


def arrays(network: models.Network) -> list[np.ndarray]:
    """The parameters of a network."""
    return [parameter.detach().numpy() for parameter in network.parameters()]


def epoch_of(
    spec: RunSpec, images: np.ndarray, targets: np.ndarray, count: int
) -> Callable[[], None]:
    """A function that trains `count` networks of a spec for one epoch.

    Args: images float32 (N, C, H, W); targets float32 (N, K).
    """
    import jax
    import jax.numpy as jnp
    from jax import lax

    networks = [
        prepare.build(dataclasses.replace(spec, seed=seed), images.shape[1:], targets.shape[1])
        for seed in range(count)
    ]
    # of each parameter, those of all networks
    columns = zip(*map(arrays, networks), strict=True)
    weights = [jnp.stack(column) for column in columns]
    velocities = [jnp.zeros_like(weight) for weight in weights]
    x = jnp.asarray(images)
    y = jnp.broadcast_to(targets, (count, *targets.shape)) + 0  # each network has its own labels
    apply, batch = apply_of(networks[0]), spec.batch

    def loss(parameters, x, y):
        return -(y * jax.nn.log_softmax(apply(parameters, x))).sum(-1).mean()

    gradient = jax.vmap(jax.grad(loss), in_axes=(0, None, 0))

    def step(state, rows):
        weights, velocities = state
        gradients = gradient(weights, x[rows], y[:, rows])
        velocities = [spec.momentum * v + g for v, g in zip(velocities, gradients, strict=True)]
        weights = [w - spec.lr * v for w, v in zip(weights, velocities, strict=True)]
        return (weights, velocities), None

    @jax.jit
    def train(state, order):
        steps = len(x) // batch
        state, _ = lax.scan(step, state, order[: steps * batch].reshape(steps, batch))
        if len(x) % batch:
            state, _ = step(state, order[steps * batch :])
        return state

    state, draws = (weights, velocities), np.random.default_rng(0)

    def epoch() -> None:
        nonlocal state
        state = jax.block_until_ready(train(state, draws.permutation(len(x))))

    return epoch
