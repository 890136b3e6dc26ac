"""Descent on a gradient that is estimated from values of the loss alone: SPSA and NES."""

from collections.abc import Callable
from typing import Unpack

import jax
import numpy as np

from diffprog.attack._attacks.fast_gradient import descent, step_lengths
from diffprog.attack._attacks.probes import by_differences
from diffprog.attack._engine import border
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import Options, search
from diffprog.attack._losses import margin, of_label
from diffprog.attack._norms import Norm, l2, linf


def spsa(
    model: Callable,
    images,
    labels,
    *,
    key: jax.Array,
    norm: Norm = linf,
    epsilon=8 / 255,
    max_steps: int = 40,
    step_size=None,
    num_samples: int = 128,
    delta: float = 0.01,
    loss: Callable = margin,
    **options: Unpack[Options],
) -> AttackResult:
    """Simultaneous perturbation stochastic approximation (Uesato et al. 2018, section 4, algorithm 1).

    The gradient is the mean over `num_samples` random sign vectors u of u (loss(x + delta u) - loss(x - delta u)) /
    (2 delta): each step costs 1 + 2 x num_samples queries of each image, and no gradient. It is followed as in `bim`,
    where
    the paper uses Adam; the best iterate is returned. Probes stay within the bounds, unlike the paper's, so that the
    model is only ever asked about images.

    norm:       `linf` or `l2`, of `epsilon`.
    step_size:  in that norm; epsilon / 4 if left out.
    delta:      in pixel values: too short, and rounding drowns the difference; too long, and the loss bends.
    Other arguments are those of `pgd`.
    """
    border.checked_positive(delta=delta)
    return _estimated(
        "spsa",
        jax.random.rademacher,
        model,
        images,
        labels,
        key,
        norm,
        epsilon,
        max_steps,
        step_size,
        num_samples,
        delta,
        loss,
        options,
    )


def nes(
    model: Callable,
    images,
    labels,
    *,
    key: jax.Array,
    norm: Norm = linf,
    epsilon=8 / 255,
    max_steps: int = 40,
    step_size=None,
    num_samples: int = 128,
    sigma: float = 0.001,
    loss: Callable = margin,
    **options: Unpack[Options],
) -> AttackResult:
    """Natural evolution strategies (Ilyas et al. 2018, section 2.1, algorithm 1): `spsa` with normal directions u.

    2 x num_samples is the paper's population (there 50), `sigma` its deviation. Probes that would leave the bounds
    are clipped.
    """
    border.checked_positive(sigma=sigma)
    return _estimated(
        "nes",
        jax.random.normal,
        model,
        images,
        labels,
        key,
        norm,
        epsilon,
        max_steps,
        step_size,
        num_samples,
        sigma,
        loss,
        options,
    )


def _estimated(
    name, draw, model, images, labels, key, norm, epsilon, max_steps, step_size, num_samples, reach, loss, options
):
    border.checked_counts(num_samples=num_samples)
    method = descent(name, border.checked_norm(norm, (linf, l2)), of_label(loss), False)
    given = (*step_lengths(step_size, 1 / 4), np.float32(reach))
    return search(
        model,
        images,
        labels,
        method._replace(look=by_differences(draw, num_samples)),
        max_steps=max_steps,
        key=key,
        epsilon=epsilon,
        given=given,
        **options,
    )
