"""Integrated Hessians: how much of the score is due to pairs of features."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from diffprog._jax_internals import Tracer
from diffprog._util.promotion import own_promotion
from diffprog._util.spelling import answers_names
from diffprog._util.warning import warn
from diffprog.attribute._core.attribution import Attribution, AttributionWarning
from diffprog.attribute._core.baseline import Baseline, baseline_points
from diffprog.attribute._core.finish import check_scores, gap_of
from diffprog.attribute._core.players import Features, players_of
from diffprog.attribute._core.question import Question, gradients_of, in_blocks, pose
from diffprog.attribute._core.spelling import MEANT
from diffprog.attribute._core.sweep import scores_of
from diffprog.attribute._inside.log_quadrature import log_nodes_and_weights
from diffprog.graph import Selector

AT_ONCE = 8  # products with the Hessian that are computed side by side
MOST_FEATURES = 4096


@answers_names(MEANT)
@own_promotion()
def hessian_interactions(
    model: Callable[..., Any],
    inputs: Any,
    score: Any = None,
    *,
    baseline: Baseline = None,
    features: Features = None,
    steps: int = 20,
    at: Selector | None = None,
    chunk: int | None = None,
    progress: str | None = None,
) -> Attribution:
    """Credit pairs of features: integrated gradients of integrated gradients.

    Entry (i, j) is what feature j contributes to the credit that integrated gradients give to feature i. All entries
    add up to the score minus the baseline's score, and each row to the integrated gradient of its feature. Features
    that add up without meeting have no interaction. Of a product of two, each of the four entries is a quarter: half
    goes to the pair, (i, j) and (j, i), and a quarter to each feature itself, (i, i), on its way.

    Second derivatives of a network of ReLUs are 0 almost everywhere: put a smooth activation, softplus, in their place.

    Args:
      model: a function from a batch to outputs, or a `diffprog.models.Model`; see `diffprog.attribute`.
      inputs: examples, a pytree of arrays (n, ...).
      score: what is explained, one score.
      baseline: where the way begins; zeros by default.
      features: which elements of an input belong together, see `diffprog.attribute.features`; each element by default.
      steps: points on the way; each takes one product with the Hessian for each feature.
      at: selector of a value that takes the inputs' place.
      chunk: rows of one run; found by itself.
      progress: a caption, which switches on a progress bar.

    Returns:
      An `Attribution` whose values are (n, features, features).

    Raises:
      ValueError: something does not fit; the message says what to do.

    References:
      Janizek et al., "Explaining explanations: axiomatic feature interactions for deep networks", 2021. Its double
      integral over alpha beta has the density -ln z of the product z; Gauss's rule for this weight replaces the grid.
    """
    question = pose(model, inputs, score, at=at, chunk=chunk)
    if question.num_scores is not None:
        raise ValueError("hessian_interactions explains one score; found a list: call it once for each")
    start = baseline_points(question, baseline)
    groups, count = _groups(question, features)
    rows = _Rows(start, question.points, question.context)
    nodes, weights = log_nodes_and_weights(steps)
    total = None
    for node, weight in tqdm(
        zip(nodes, weights, strict=True), progress, steps, unit="point", disable=progress is None, leave=False
    ):
        numbers = [jnp.asarray(x, question.dtype) for x in (node, weight)]
        found = in_blocks(
            partial(_pairs, count, question.lifted, groups, *numbers), rows, question.count, question.block
        )
        total = found if total is None else total + found
    score, start_score = scores_of(question, question.points), scores_of(question, start)
    check_scores(question, score, "the inputs")
    check_scores(question, start_score, "the baseline")
    _warn_of_no_curvature(total)
    evaluations = np.full(question.count, steps * (count + 1) + 2)
    return Attribution(
        values=total,
        score=score,
        baseline_score=start_score,
        gap=gap_of(score, start_score, [total]),
        evaluations=evaluations,
        steps=np.full(question.count, steps),
        method="hessian_interactions",
    )


class _Rows(NamedTuple):
    start: Any
    points: Any
    context: Any


@partial(jax.jit, static_argnums=0)
def _pairs(count, lifted, groups, node, weight, rows: _Rows):
    """Evaluate one point of the way: (block, count, count)."""
    deltas = [x - b for x, b in zip(rows.points, rows.start, strict=True)]
    point = [b + node.astype(b.dtype) * d for b, d in zip(rows.start, deltas, strict=True)]
    gradient = lambda point: gradients_of(lambda points: lifted(points, rows.context), point)[1]
    summed = lambda leaves: sum(
        jax.vmap(lambda row, group=group: jax.ops.segment_sum(row.reshape(-1), group.reshape(-1), count))(leaf)
        for leaf, group in zip(leaves, groups, strict=True)
    )
    times_delta = lambda leaves: summed([leaf * d for leaf, d in zip(leaves, deltas, strict=True)])

    def row_of(number):
        direction = [jnp.where(group == number, d, jnp.zeros_like(d)) for group, d in zip(groups, deltas, strict=True)]
        return times_delta(jax.jvp(gradient, (point,), (direction,))[1])

    products = jax.lax.map(row_of, jnp.arange(count, dtype=jnp.int32), batch_size=min(AT_ONCE, count))
    alone = times_delta(gradient(point))
    off = node * jnp.moveaxis(products, 0, 1)
    return weight * (off + jax.vmap(jnp.diag)(alone))


def _groups(question: Question, features: Any) -> tuple[list[jax.Array], int]:
    players = players_of(question, features)
    if players.are_own:
        raise ValueError("hessian_interactions takes the same features for all examples; found one array for each")
    if players.count > MOST_FEATURES:
        raise ValueError(
            f"hessian_interactions makes a matrix of all pairs, of at most {MOST_FEATURES} features; found "
            f"{players.count}: group them with features="
        )
    rows = zip(players.groups, question.points, strict=True)
    return [jnp.broadcast_to(jnp.asarray(group), point.shape[1:]) for group, point in rows], players.count


def _warn_of_no_curvature(values):
    if isinstance(values, Tracer):
        return
    pairs = np.asarray(values) * (1 - np.eye(values.shape[1]))
    if values.shape[1] > 1 and not pairs.any():
        warn(
            "hessian_interactions: all second derivatives between features are 0: the score is a sum over features, or "
            "a network of ReLUs, which needs a smooth activation in their place (softplus)",
            AttributionWarning,
        )
