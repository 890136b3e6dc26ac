"""Class activation maps by one function, from gradients and without."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._jax_internals import Tracer
from diffprog._util.factory import factory
from diffprog._util.promotion import own_promotion
from diffprog._util.spelling import answers_names
from diffprog._util.warning import warn
from diffprog.attribute._class_activation.maps import FORMULAS
from diffprog.attribute._class_activation.without_gradients import ablation_weights, score_weights, weighted
from diffprog.attribute._core.attribution import Attribution, AttributionWarning
from diffprog.attribute._core.baseline import Baseline, baseline_points
from diffprog.attribute._core.finish import finish
from diffprog.attribute._core.question import Question, pose
from diffprog.attribute._core.spelling import MEANT
from diffprog.attribute._core.sweep import scores_of, sweep, zero_scores
from diffprog.graph import Selector
from diffprog.images._filters import resize_linear
from diffprog.models import Model

KINDS = (*FORMULAS, "score", "ablation")


@answers_names(MEANT)
@own_promotion()
def grad_cam(
    model: Callable[..., Any],
    inputs: Any,
    score: Any = None,
    *,
    at: Selector | list[Selector],
    kind: str = "grad",
    relu: bool = False,
    upsample: bool | tuple[int, ...] = False,
    channel_axis: int | None = None,
    baseline: Baseline = None,
    chunk: int | None = None,
    engine: str = "diffprog",
    progress: str | None = None,
) -> Attribution:
    """Map the positions of a layer that speak for a score, and those that speak against it.

    Maps keep their sign and their scale, so that those of two classes or layers can be compared.

    Args:
      model: a function from a batch to outputs, or a `diffprog.models.Model`; see `diffprog.attribute`.
      inputs: examples, a pytree of arrays (n, ...).
      score: what is explained; a list for several. "eigen" does not look at it.
      at: selectors of layers, values (n, positions, channels) with any number of axes of positions: (n, height, width,
        channels) of pictures, (n, tokens, channels) of text.
      kind: how channels are weighed:
        "grad": by the mean of the gradient over positions (Grad-CAM).
        "hires": by the gradient at each position (HiResCAM).
        "plus_plus": by positive gradients of exp(score) (Grad-CAM++).
        "layer": by the positive part of the gradient at each position (Layer-CAM).
        "x_grad": by the mean of the gradient over positions, each weighing as much as its value (XGrad-CAM).
        "score": by the score of the part of the input that the channel shows (Score-CAM); one run for each channel.
        "ablation": by the part of the score that is lost without the channel (Ablation-CAM); one run of what follows
          the layer for each channel.
        "eigen": by the first principal direction of the values (Eigen-CAM).
      relu: whether what speaks against the score is cut off, as in the papers.
      upsample: whether maps are enlarged, bilinearly, to the positions of the inputs; or to these.
      channel_axis: the axis of channels of one example's value; by default the last, or the first where
        `diffprog.models.wrap` was told so.
      baseline: what is shown in place of what "score" hides; zeros by default.
      chunk: rows of one run; found by itself.
      engine: gradients by "diffprog" or by "jax".
      progress: a caption, which switches on a progress bar.

    Returns:
      An `Attribution` without a gap. Its values are a dict from selector to maps (n, positions) at the layer's
      resolution. Enlarged maps of one value are an array, shaped like the inputs without their channels: (n, height,
      width) of pictures.

    Raises:
      ValueError: something does not fit; the message says what to do.

    References:
      Selvaraju et al., "Grad-CAM", 2017. Draelos & Carin, "Use HiResCAM instead of Grad-CAM", 2020. Chattopadhyay et
      al., "Grad-CAM++", 2018. Jiang et al., "LayerCAM", 2021. Fu et al., "Axiom-based Grad-CAM", 2020. Wang et al.,
      "Score-CAM", 2020. Desai & Ramaswamy, "Ablation-CAM", 2020. Muhammad & Yeasin, "Eigen-CAM", 2020.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, KINDS))}; found {kind!r}")
    if at is None:
        raise ValueError("grad_cam maps a layer: give at=, its name or another selector of diffprog.graph")
    if baseline is not None and kind != "score":
        raise ValueError(f'only kind="score" shows a baseline; found kind={kind!r}: leave baseline out')
    question = pose(model, inputs, score, at=at, chunk=chunk, engine=engine)
    axes = tuple(_channels(model, inputs, point, channel_axis) for point in question.points)
    if kind in FORMULAS:
        scores, maps = _by_gradient(question, kind, axes, progress)
        evaluations = 1
    else:
        scores = scores_of(question, question.points)
        options = (model, inputs, score, baseline, chunk) if kind == "score" else None
        maps = _by_scores(question, axes, scores, options, progress)
        evaluations = 1 + sum(point.shape[axis + 1] for point, axis in zip(question.points, axes, strict=True))
    if relu:
        _warn_of_empty(maps)
        maps = [jax.nn.relu(each) for each in maps]
    if upsample:
        maps = [_enlarged(each, _size(inputs, each, question, upsample)) for each in maps]
    found = finish(question, "grad_cam", maps, scores, evaluations=evaluations, explains_zeros=not relu)
    return replace(found, values=next(iter(found.values.values()))) if upsample and len(maps) == 1 else found


def _channels(model, inputs, point, axis):
    """Find the axis of channels in a value of one example, and check that there are positions."""
    rank = point.ndim - 1
    if axis is None:
        is_first = isinstance(model, Model) and getattr(model.network, "channels_first", False)
        axis = 0 if is_first and point.ndim == np.ndim(inputs) else rank - 1
    if rank < 2 or not -rank <= axis < rank:
        raise ValueError(
            f"at must mean a layer (n, positions, channels), and channel_axis one of its axes behind n; found a value "
            f"of shape {point.shape}: name a layer before positions are summed up"
        )
    return axis % rank


# ---------------------------------------------------------------- by gradients


def _by_gradient(question: Question, kind, axes, progress):
    between = () if question.num_scores is None else (question.num_scores,)
    state = (
        zero_scores(question),
        [_no_map(point, axis, between) for point, axis in zip(question.points, axes, strict=True)],
    )
    fold = _fold_map(kind, axes)
    return sweep(
        question, 1, _with_itself, question.points, None, fold, state, gradients=kind != "eigen", progress=progress
    )


def _no_map(point, axis, between):
    positions = point.shape[1 : axis + 1] + point.shape[axis + 2 :]
    return jnp.zeros((len(point), *between, *positions), jnp.promote_types(point.dtype, jnp.float32))


def _with_itself(point, shared, sample):
    return point, point


@factory
def _fold_map(kind, axes):
    formula = FORMULAS[kind]

    def one(values, slopes, axis):
        return formula(jnp.moveaxis(values, axis, -1), jnp.moveaxis(slopes, axis, -1))

    def fold(state, score, slopes, points):
        old_score, old = state
        found = []
        for number, (values, axis) in enumerate(zip(points, axes, strict=True)):
            if slopes is None:
                new = jnp.broadcast_to(formula(jnp.moveaxis(values, axis, -1), None), old[number].shape)
            elif score.ndim:
                new = jax.vmap(one, (None, 0, None))(values, slopes[number], axis)
            else:
                new = one(values, slopes[number], axis)
            found.append(new.astype(old[number].dtype))
        return score.astype(old_score.dtype), found

    return fold


# ---------------------------------------------------------------- by scores


def _by_scores(question: Question, axes, scores, asked, progress):
    if any(isinstance(point, Tracer) for point in question.points):
        raise ValueError('kind="score" and kind="ablation" have no value under a transformation of JAX: give another')
    maps = []
    for position, (point, axis) in enumerate(zip(question.points, axes, strict=True)):
        values = jnp.moveaxis(point, axis + 1, -1)
        if asked is None:
            weights = ablation_weights(question, position, axis, scores, progress)
        else:
            weights = _weights_of_inputs(values, asked, progress)
        maps.append(weighted(values, weights))
    return maps


def _weights_of_inputs(values, asked, progress):
    model, inputs, score, baseline, chunk = asked
    question = pose(model, inputs, score, chunk=chunk)
    if len(question.points) != 1 or question.points[0].ndim < values.ndim - 1:
        shapes = ", ".join(str(point.shape) for point in question.points)
        raise ValueError(
            f'kind="score" hides positions of the inputs, one array with those of the layer; found {shapes}, and a '
            f"layer {values.shape}: give another kind"
        )
    return score_weights(question, values, baseline_points(question, baseline), progress)


# ---------------------------------------------------------------- the result


def _size(inputs, found, question, upsample):
    """Find the positions to which maps are enlarged."""
    rank = found.ndim - (1 if question.num_scores is None else 2)
    if not isinstance(upsample, bool):
        size = tuple(upsample)
    else:
        leaves = jax.tree.leaves(inputs)
        shape = np.shape(leaves[0])
        size = shape[1 : rank + 1] if len(leaves) == 1 and len(shape) in (rank + 1, rank + 2) else ()
    if len(size) != rank:
        raise ValueError(
            f"upsample=True takes one array of inputs with {rank} axes of positions and at most one of channels behind "
            f"them; found {[np.shape(leaf) for leaf in jax.tree.leaves(inputs)]}: give upsample=, a tuple of {rank} "
            "lengths"
        )
    return size


def _enlarged(found, size):
    return resize_linear(found, (*found.shape[: found.ndim - len(size)], *size))


def _warn_of_empty(maps):
    for found in maps:
        if isinstance(found, Tracer):
            continue
        rows = np.asarray(found).reshape(len(found), -1)
        is_empty = (rows <= 0).all(axis=1)
        if is_empty.any():
            warn(
                f"grad_cam with relu=True leaves nothing of {int(is_empty.sum())} of {len(rows)} maps, in which "
                "everything speaks against the score: look at them with relu=False",
                AttributionWarning,
            )
