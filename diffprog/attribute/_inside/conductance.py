"""How much of the score flows through a value inside the model, along the way from the baseline to the input."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from tqdm import tqdm

from diffprog._jax_internals.jaxprs import runs_any
from diffprog._transforms.closures import Lifted, lift
from diffprog._transforms.reverse import vjp
from diffprog._util.promotion import own_promotion
from diffprog._util.spelling import answers_names
from diffprog.attribute._core.attribution import Attribution
from diffprog.attribute._core.baseline import Baseline, baseline_points
from diffprog.attribute._core.finish import finish
from diffprog.attribute._core.places import Moved, moved
from diffprog.attribute._core.question import Question, in_blocks, pose
from diffprog.attribute._core.scores import explain
from diffprog.attribute._core.spelling import MEANT
from diffprog.attribute._core.sweep import scores_of
from diffprog.attribute._gradients.quadrature import nodes_and_weights
from diffprog.graph import Selector, grad_at

WITHOUT_FORWARD_MODE = "custom_lin"  # what JAX leaves in a tangent program for a `custom_vjp`, and cannot compile


@answers_names(MEANT)
@own_promotion()
def conductance(
    model: Callable[..., Any],
    inputs: Any,
    score: Any = None,
    *,
    at: Selector | list[Selector],
    baseline: Baseline = None,
    steps: int = 50,
    quadrature: str = "gauss_legendre",
    chunk: int | None = None,
    progress: str | None = None,
) -> Attribution:
    """Integrate how much of the change of the score goes through each unit of a layer, from the baseline to the input.

    At each point of the way the unit's gradient is multiplied by the unit's own velocity, which forward mode gives
    exactly: no differences of values are taken. The units of a layer through which everything goes add up to the score
    minus the baseline's score. Of a value in a `scan` each iteration is a layer.

    Args:
      model: a function from a batch to outputs, or a `diffprog.models.Model`; see `diffprog.attribute`.
      inputs: examples, a pytree of arrays (n, ...).
      score: what is explained; a list for several.
      at: selectors of the values whose units get the credit.
      baseline: the input where the way begins; zeros by default.
      steps: points on the way.
      quadrature: "gauss_legendre", "midpoint" or "trapezoid".
      chunk: rows of one run; found by itself.
      progress: a caption, which switches on a progress bar.

    Returns:
      An `Attribution` whose values are a dict from selector to credit (n, ...); in a `scan` (n, iterations, ...). Its
      gap is that of a single layer: what does not go through it, and the error of the quadrature. None for several.

    Raises:
      ValueError: something does not fit; the message says what to do.

    References:
      Dhamdhere et al., "How important is a neuron?", 2019, equation 3.
    """
    question = pose(model, inputs, score, chunk=chunk)
    inside = _Inside(model, score, question, at)
    start = baseline_points(question, baseline)
    values = inside.integrate(_flow, question, start, quadrature, steps, progress)
    return finish(
        replace(question, present=inside.place.present),
        "conductance",
        values,
        scores_of(question, question.points),
        baseline_score=scores_of(question, start),
        is_complete=inside.place.axes == (0,),
        evaluations=steps + 2,
        steps=steps,
    )


@answers_names(MEANT)
@own_promotion()
def internal_influence(
    model: Callable[..., Any],
    inputs: Any,
    score: Any = None,
    *,
    at: Selector | list[Selector],
    baseline: Baseline = None,
    steps: int = 50,
    quadrature: str = "gauss_legendre",
    chunk: int | None = None,
    progress: str | None = None,
) -> Attribution:
    """Average the gradient at a value inside the model over the way from the baseline to the input.

    Args:
      model: a function from a batch to outputs, or a `diffprog.models.Model`; see `diffprog.attribute`.
      inputs: examples, a pytree of arrays (n, ...).
      score: what is explained; a list for several.
      at: selectors of the values.
      baseline: the input where the way begins; zeros by default.
      steps: points on the way.
      quadrature: "gauss_legendre", "midpoint" or "trapezoid".
      chunk: rows of one run; found by itself.
      progress: a caption, which switches on a progress bar.

    Returns:
      An `Attribution` whose values are a dict from selector to mean gradient (n, ...). It has no gap, for no axiom says
      what its sum is.

    Raises:
      ValueError: something does not fit; the message says what to do.

    References:
      Leino et al., "Influence-directed explanations for deep convolutional networks", 2018.
    """
    question = pose(model, inputs, score, chunk=chunk)
    inside = _Inside(model, score, question, at)
    start = baseline_points(question, baseline)
    values = inside.integrate(_slope, question, start, quadrature, steps, progress)
    return finish(
        replace(question, present=inside.place.present),
        "internal_influence",
        values,
        scores_of(question, question.points),
        baseline_score=scores_of(question, start),
        evaluations=steps + 2,
        steps=steps,
    )


class _Rows(NamedTuple):
    """What a program gets of a block: ends of the way, and the rest of what the scores depend on."""

    start: Any
    points: Any
    context: Any


class _Inside:
    """Values inside a model, and their gradients."""

    def __init__(self, model: Callable[..., Any], score: Any, question: Question, at: Selector | list[Selector]):
        """Find the places.

        Args:
          model: a function from a batch to outputs.
          score: what is explained.
          question: about the inputs.
          at: selectors.
        """
        self.function = explain(model, score, question.count).function
        self.place: Moved = moved(self.function, at, question.context)
        self.num_scores = question.num_scores

    def values(self, points: list[jax.Array], context: Any) -> list[jax.Array]:
        """Compute the values, each (n, ...)."""
        return self.place.values(_joined(points, context[0]), context[1])

    def gradients(self, points: list[jax.Array], context: Any) -> list[jax.Array]:
        """Compute the gradients with respect to the values, each (n, ...), or (n, k, ...)."""
        if self.num_scores is None:
            return self._gradients(jnp.sum, points, context)
        of_each = [
            self._gradients(lambda scores, i=i: scores[:, i].sum(), points, context) for i in range(self.num_scores)
        ]
        return [jnp.stack(leaves, axis=1) for leaves in zip(*of_each, strict=True)]

    def _gradients(self, total, points, context):
        selectors = list(self.place.selectors)
        found = grad_at(lambda *context: total(self.function(*context)), selectors)
        return self.place.rows_first(self.place.in_order(found(_joined(points, context[0]), context[1])))

    def integrate(self, term, question: Question, start: Any, quadrature: str, steps: int, progress: str | None) -> Any:
        """Integrate a function of a point and its velocity over the way from the start to the points.

        Args:
          term: (this, point, velocity, context) -> list of arrays.
          question: whose points.
          start: where the way begins.
          quadrature: the rule.
          steps: number of points.
          progress: caption of a progress bar.
        """

        def at(part, rows):
            velocity = [x - b for x, b in zip(rows.points, rows.start, strict=True)]
            point = [b + part.astype(b.dtype) * v for b, v in zip(rows.start, velocity, strict=True)]
            return term(self, point, velocity, rows.context)

        rows = _Rows(start, question.points, question.context)
        zeros = jax.tree.map(lambda leaf: jnp.zeros((question.block, *leaf.shape[1:]), leaf.dtype), rows)
        program = lift(at, jnp.zeros((), question.dtype), zeros)
        total = None
        nodes, weights = nodes_and_weights(quadrature, steps)
        for node, weight in tqdm(
            zip(nodes, weights, strict=True), progress, steps, unit="point", disable=progress is None, leave=False
        ):
            part, weight = jnp.asarray(node, question.dtype), jnp.asarray(weight, question.dtype)
            run = partial(_weighted, program, part, weight)
            found = in_blocks(run, rows, question.count, question.block)
            total = found if total is None else jax.tree.map(jnp.add, total, found)
        return total


@jax.jit
def _weighted(program: Lifted, part, weight, rows):
    return [weight * leaf.astype(jnp.promote_types(leaf.dtype, weight.dtype)) for leaf in program(part, rows)]


def _flow(inside: _Inside, point, velocity, context):
    velocities = _pushed(lambda point: inside.values(point, context), point, velocity)
    beside = (lambda v: v) if inside.num_scores is None else (lambda v: v[:, None])
    return [g * beside(v) for g, v in zip(inside.gradients(point, context), velocities, strict=True)]


def _pushed(function, point, velocity):
    """Compute the velocity of values whose point moves.

    A function with a rule for reverse mode alone (`jax.custom_vjp`) has no forward mode. There it is the transpose of
    its transpose: the pullback is linear in the cotangent, and the pullback of this map takes velocities.
    """
    forward = lambda point, velocity: jax.jvp(function, (point,), (velocity,))[1]
    if not runs_any(jax.make_jaxpr(forward)(point, velocity), WITHOUT_FORWARD_MODE):
        return forward(point, velocity)
    values, pull = vjp(function, point)
    _, push = vjp(pull, jax.tree.map(jnp.zeros_like, values))
    return push((velocity,))[0]


def _slope(inside: _Inside, point, velocity, context):
    return inside.gradients(point, context)


def _joined(points, inputs):
    """Put points in the place of the inputs that are floats."""
    floats = iter(points)
    return jax.tree.map(lambda leaf: next(floats) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, inputs)
