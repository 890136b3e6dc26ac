"""FAB: from boundary to boundary, each time a little nearer to the image."""

from functools import partial
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffprog._util.factory import factory
from diffprog.attack._engine import validation
from diffprog.attack._engine.method import AttackSpec, smaller_norm
from diffprog.attack._engine.options import Options, documents_options, parse_options
from diffprog.attack._engine.oracle import Model, query_gradient
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import run_attack
from diffprog.attack._losses import likely_target_classes, target_lead
from diffprog.attack._norms import Norm, l1, l2, linf
from diffprog.attack._norms.hyperplane import way_to_plane

TOWARDS_IMAGE = 0.1  # alpha_max: the largest share of the image's own projection in a step
BEYOND = 1.05  # eta: how far a step goes, in ways to the boundary
BACK = 0.9  # beta: a success goes back towards the image, to this fraction of its perturbation


@documents_options
def fab(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array | None = None,
    norm: Norm = linf,
    max_steps: int = 100,
    num_target_classes: int = 9,
    **options: Unpack[Options],
) -> AttackResult:
    """Find the minimum perturbation by FAB-T, the fast adaptive boundary attack.

    It goes towards each of the likeliest wrong classes in turn. A step takes the difference of the two logits for
    linear, projects the point and the image onto the hyperplane where it vanishes, inside the box, and goes to a mean
    of the two, a little beyond. A success goes back a tenth of its way. Nothing is drawn, and there is no line search
    at the end, as in AutoAttack.

    Args:
      model: (images (n, ...)) -> logits (n, classes).
      images: (n, ...), floats within the bounds.
      labels: (n,), int; classes to leave.
      key: not needed; nothing is drawn.
      norm: to be made small, `linf`, `l2` or `l1`.
      max_steps: projections per target class. Each costs a forward and a backward pass, and two after a success.
      num_target_classes: wrong classes that are tried; all of them if there are fewer.
      **options: shared options.

    Returns:
      The smallest success of each image, or the image itself.

    References:
      Croce & Hein 2020a, algorithm 1; 2020b, section 5, for the target classes.
    """
    validation.check_counts(max_steps=max_steps, num_target_classes=num_target_classes)
    spec = _spec(validation.check_norm(norm, (linf, l2, l1)))
    run = partial(run_attack, target_classes=likely_target_classes(num_target_classes), key=key)
    return run(model, images, labels, spec, parse_options(options), 2 * max_steps + 1, max_steps)


class State(NamedTuple):
    """Where a search from boundary to boundary is."""

    point: jax.Array
    is_back: jax.Array  # bool, whether the point is a success that has gone back already
    projections: jax.Array  # int32
    done: jax.Array


@factory
def _spec(norm):
    def init(example, max_projections):
        return State(example.image, jnp.bool_(False), jnp.int32(0), jnp.bool_(False))

    def projected(example, point, view):
        def way(origin):
            lead = view.value + jnp.sum(view.gradient * (origin - point))
            return way_to_plane(norm, origin, -lead, view.gradient, example.lower, example.upper)

        from_point, from_image = way(point), way(example.image)
        point_length, image_length = (jnp.maximum(norm.size(step), 1e-8) for step in (from_point, from_image))
        share = jnp.minimum(point_length / (point_length + image_length), TOWARDS_IMAGE)
        mean = (1 - share) * (point + BEYOND * from_point) + share * (example.image + BEYOND * from_image)
        return example.clip(mean)

    def update(example, max_projections, state, view):
        goes_back = view.is_adversarial & ~state.is_back
        shrunk = example.clip(example.image + BACK * (state.point - example.image))
        point = jnp.where(goes_back, shrunk, projected(example, state.point, view))
        # The last projection has been queried once the next one is due.
        return State(point, goes_back, state.projections + ~goes_back, state.projections >= max_projections)

    return AttackSpec("fab-t", init, update, query_gradient, target_lead, norm, smaller_norm)
