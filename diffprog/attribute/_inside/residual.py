"""Residual streams: what each block writes into one, and what could be read from it there."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._jax_internals import Tracer
from diffprog._util.promotion import own_promotion
from diffprog._util.spelling import answers_names
from diffprog._util.user_functions import call_traced
from diffprog._util.warning import warn
from diffprog.attribute._core.attribution import Attribution, AttributionWarning
from diffprog.attribute._core.finish import finish
from diffprog.attribute._core.places import moved
from diffprog.attribute._core.question import check_inputs, pose
from diffprog.attribute._core.spelling import MEANT
from diffprog.attribute._core.sweep import scores_and_slopes
from diffprog.attribute._gradients.gradient import gradient_times_input
from diffprog.graph import Selector, hook

LEAST_LINEAR = 0.05  # part of the score that may be missed before a warning


@answers_names(MEANT)
@own_promotion()
def residual_contributions(
    model: Callable[..., Any],
    inputs: Any,
    score: Any = None,
    *,
    at: Selector | list[Selector],
    frozen: Selector | list[Selector] | None = None,
    chunk: int | None = None,
    progress: str | None = None,
) -> Attribution:
    """Say what each block's output adds to a score that reads their sum: direct contributions, past all later blocks.

    The selected values are held: a block is credited with what it writes into the stream and not with what later blocks
    make of it. If the score reads the stream linearly, the contributions and the score without them add up exactly.

    Args:
      model: a function from a batch to outputs; see `diffprog.attribute`.
      inputs: examples, a pytree of arrays (n, ...).
      score: what is explained; a list for several.
      at: selectors of all that is added to the stream: embeddings and the outputs of blocks.
      frozen: selectors of values through which no slope goes. With "rsqrt", which is the scale of a normalization, a
        stream that is normalized before it is read counts as read linearly, with the scale that it has.
      chunk: rows of one run; found by itself.
      progress: a caption, which switches on a progress bar.

    Returns:
      An `Attribution` whose values are a dict from selector to contributions (n, ...), element by element; in a `scan`
      (n, iterations, ...). Its baseline's score is that of an empty stream, and its gap what a score that is not linear
      adds. With `frozen` there is no such baseline, and the gap is what is in no selected value, such as biases.

    Raises:
      ValueError: something does not fit; the message says what to do.

    References:
      Elhage et al., "A mathematical framework for transformer circuits", 2021 (direct logit attribution).
    """
    selectors = [at] if isinstance(at, str) or callable(at) else list(at)
    if frozen is None:
        empty = dict.fromkeys(selectors, 0.0)
        found = gradient_times_input(model, inputs, score, baseline=empty, at=at, chunk=chunk, progress=progress)
        _warn_of_curvature(found)
        return replace(found, method="residual_contributions")
    question = pose(_with_frozen(model, frozen), inputs, score, at=at, chunk=chunk)
    scores, slopes = scores_and_slopes(question, progress)
    beside = (lambda x: x) if question.num_scores is None else (lambda x: x[:, None])
    values = [g * beside(x) for g, x in zip(slopes, question.points, strict=True)]
    return finish(question, "residual_contributions", values, scores, is_complete=True, evaluations=1)


def _with_frozen(model, frozen):
    selectors = [frozen] if isinstance(frozen, str) or callable(frozen) else list(frozen)
    return hook(lambda inputs: model(inputs), dict.fromkeys(selectors, jnp.zeros_like))


def _warn_of_curvature(found: Attribution):
    if isinstance(found.gap, Tracer):
        return
    gap, score, start = (np.abs(np.asarray(x, np.float64)) for x in (found.gap, found.score, found.baseline_score))
    if (gap > LEAST_LINEAR * np.maximum(score, start)).any():
        warn(
            f"residual_contributions: the contributions miss up to {gap.max():.3g} of the score, which does not read "
            "the selected values linearly: select all that is added to the stream, and freeze the scale of a "
            'normalization before the readout, frozen="rsqrt"',
            AttributionWarning,
        )


@own_promotion()
def logit_lens(
    model: Callable[..., Any],
    inputs: Any,
    *,
    at: Selector | list[Selector],
    readout: Callable[[jax.Array], jax.Array],
) -> dict[Any, Any]:
    """Read what a residual stream says at each depth with the readout of its end.

    Args:
      model: a function from a batch to anything.
      inputs: examples, a pytree of arrays (n, ...).
      at: selectors of values of the stream.
      readout: function of one such value (n, ...) to logits (n, ..., classes): the final normalization and unembedding.

    Returns:
      A dict from selector to the readout of its value; a list where it means several. Of a value in a `scan` there is
      one for each iteration, (iterations, n, ..., classes).

    Raises:
      ValueError: a selector means nothing.

    References:
      nostalgebraist, "interpreting GPT: the logit lens", 2020.
    """
    inputs, _ = check_inputs(model, inputs)
    place = moved(model, at, (inputs,))

    def read(value, axis):
        whole = lambda value: call_traced("readout", readout, value)
        for _ in range(axis):
            whole = jax.vmap(whole)
        return whole(jnp.moveaxis(value, 0, axis))

    compiled = jax.jit(lambda inputs: [*map(read, place.values(inputs), place.axes)])
    return place.present(compiled(inputs))
