"""FAB: from boundary to boundary, each time a little nearer to the image."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp

from diffprog.attack._engine import border
from diffprog.attack._engine.method import Method, smaller
from diffprog.attack._engine.queries import by_gradient
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import Options, search
from diffprog.attack._losses import likely_target_classes, target_lead
from diffprog.attack._norms import Norm, l1, l2, linf
from diffprog.attack._norms.hyperplane import way_to_plane

TOWARDS_IMAGE = 0.1  # alpha_max: the largest share of the image's own projection in a step
BEYOND = 1.05  # eta: how far a step goes, in ways to the boundary
BACK = 0.9  # beta: a success goes back towards the image, to this part of its perturbation


def fab(
    model: Callable,
    images,
    labels,
    *,
    key: jax.Array | None = None,
    norm: Norm = linf,
    max_steps: int = 100,
    num_target_classes: int = 9,
    **options: Unpack[Options],
) -> AttackResult:
    """FAB-T, the fast adaptive boundary attack (Croce & Hein 2020a, algorithm 1): the smallest perturbation in
    L-infinity, L2 or L1, towards each of the `targets` likeliest wrong classes in turn (2020b, section 5).

    A step takes the difference of the two logits for linear, projects the point and the image onto the hyperplane where
    it vanishes, inside the box, and goes to a mean of the two, a little beyond. A success goes back a tenth of its way.
    Nothing is drawn, and there is no line search at the end, as in AutoAttack. There is no budget: `distances` has what
    was needed, and a failure comes back as it was.

    steps:   projections per target. Each costs a forward and a backward pass, and two after a success.
    targets: at most the number of classes less one.

    Other arguments and errors are those of `pgd`.
    """
    border.checked_counts(max_steps=max_steps, num_target_classes=num_target_classes)
    method = _fab(border.checked_norm(norm, (linf, l2, l1)))
    return search(
        model,
        images,
        labels,
        method,
        max_steps=2 * max_steps + 1,
        key=key,
        given=max_steps,
        target_classes=likely_target_classes(num_target_classes),
        **options,
    )


class Boundary(NamedTuple):
    point: jax.Array
    back: jax.Array  # bool, whether the point is a success that has gone back already
    projections: jax.Array  # int32
    done: jax.Array


@lru_cache
def _fab(norm):
    def start(example, given):
        return Boundary(example.image, jnp.bool_(False), jnp.int32(0), jnp.bool_(False))

    def project(example, point, view):
        def way(origin):
            ahead = view.value + jnp.sum(view.gradient * (origin - point))
            return way_to_plane(norm, origin, -ahead, view.gradient, example.lower, example.upper)

        from_point, from_image = way(point), way(example.image)
        sizes = [jnp.maximum(norm.size(each), 1e-8) for each in (from_point, from_image)]
        share = jnp.minimum(sizes[0] / (sizes[0] + sizes[1]), TOWARDS_IMAGE)
        mean = (1 - share) * (point + BEYOND * from_point) + share * (example.image + BEYOND * from_image)
        return jnp.clip(mean, example.lower, example.upper)

    def learn(example, given, state, view):
        success = view.hit & ~state.back
        shrunk = jnp.clip(example.image + BACK * (state.point - example.image), example.lower, example.upper)
        point = jnp.where(success, shrunk, project(example, state.point, view))
        # The last projection has been looked at once the next one is due.
        return Boundary(point, success, state.projections + ~success, state.projections >= given)

    return Method("fab-t", start, learn, by_gradient, target_lead, norm, smaller)
