"""DeepLIFT, layer-wise relevance propagation, guided backpropagation and deconvnet, as methods."""

from collections.abc import Callable
from typing import Any

from diffprog._util.promotion import own_promotion
from diffprog._util.spelling import answers_names
from diffprog.attribute._backward_rules.relevance_rules import Composite, Rule, epsilon
from diffprog.attribute._backward_rules.running import Settings, credit
from diffprog.attribute._core.attribution import Attribution
from diffprog.attribute._core.baseline import Baseline, baseline_points
from diffprog.attribute._core.finish import finish
from diffprog.attribute._core.question import pose
from diffprog.attribute._core.spelling import MEANT
from diffprog.graph import Selector

At = Selector | list[Selector] | None
DEEPLIFT_RULES = ("rescale", "reveal_cancel")
BIASES = ("absorb", "spread")


@answers_names(MEANT)
@own_promotion()
def deeplift(
    model: Callable[..., Any],
    inputs: Any,
    score: Any = None,
    *,
    baseline: Baseline = None,
    rule: str = "rescale",
    at: At = None,
    chunk: int | None = None,
    engine: str = "diffprog",
    progress: str | None = None,
) -> Attribution:
    """Share the score's difference from a baseline's, operation by operation (DeepLIFT).

    Each operation passes on its difference by multipliers whose sum is exact, so that the gap is rounding: functions of
    one value, however they are spelled, by their secant; products by the means of the factors; maxima and sorting by
    the weights of winners. Costs about the gradient of two inputs.

    Args:
      model: a function from a batch to outputs, or a `diffprog.models.Model`; see `diffprog.attribute`.
      inputs: examples, a pytree of arrays (n, ...).
      score: what is explained; a list for several.
      baseline: what inputs are compared with; zeros by default.
      rule: "rescale", or "reveal_cancel", which shares a nonlinearity between the positive and the negative terms of
        the sum that goes into it, by Shapley's formula.
      at: selectors of the values that get the credit; the inputs by default.
      chunk: examples of one run; found by itself.
      engine: the reverse pass by "diffprog" or by "jax".
      progress: a caption, which switches on a progress bar.

    Returns:
      An `Attribution`. `unruled` lists operations without a rule of their own, which pass on their derivative or, where
      they choose by indices, nothing; the gap measures what that costs.

    Raises:
      ValueError: something does not fit; the message says what to do.

    References:
      Shrikumar et al., "Learning important features through propagating activation differences", 2017. For products,
      Shapley's formula for two factors, as in Lundberg and Lee's DeepExplainer, 2017.
    """
    if rule not in DEEPLIFT_RULES:
        raise ValueError(f"rule must be one of {', '.join(map(repr, DEEPLIFT_RULES))}; found {rule!r}")
    question = pose(model, inputs, score, at=at, chunk=chunk, engine=engine)
    start = baseline_points(question, baseline)
    found = credit(question, Settings(rule, engine), start, progress)
    return finish(
        question,
        "deeplift",
        found.values,
        found.score,
        baseline_score=found.baseline_score,
        is_complete=True,
        evaluations=2,
        unruled=found.unruled,
    )


@answers_names(MEANT)
@own_promotion()
def lrp(
    model: Callable[..., Any],
    inputs: Any,
    score: Any = None,
    *,
    rules: Rule | Composite | None = None,
    bias: str = "absorb",
    at: At = None,
    chunk: int | None = None,
    engine: str = "diffprog",
    progress: str | None = None,
) -> Attribution:
    """Divide the score among the inputs, layer by layer (layer-wise relevance propagation).

    A layer is a product with weights and the scalings and biases behind it, batch normalization at inference among
    them: it gets a rule of `diffprog.attribute.rules`. Everything else has one rule, see `attention_lrp`.

    Args:
      model: a function from a batch to outputs, or a `diffprog.models.Model`; see `diffprog.attribute`.
      inputs: examples, a pytree of arrays (n, ...).
      score: what is explained; a list for several. A logit, not a probability.
      rules: a rule or a composite of `diffprog.attribute.rules`; `rules.epsilon(1e-6)` by default.
      bias: "absorb" lets constants of the program (biases) keep their part of the score, "spread" divides it among what
        they are added to.
      at: selectors of the values that get the credit; the inputs by default.
      chunk: examples of one run; found by itself.
      engine: the reverse pass by "diffprog" or by "jax".
      progress: a caption, which switches on a progress bar.

    Returns:
      An `Attribution`. Its `baseline_score` is the part that constants of the program keep, so that its gap is what is
      not conserved: what an epsilon absorbs, and a softmax.

    Raises:
      ValueError: something does not fit; the message says what to do.

    References:
      Bach et al., "On pixel-wise explanations for non-linear classifier decisions by layer-wise relevance propagation",
      2015. Montavon et al., "Layer-wise relevance propagation: an overview", 2019.
    """
    return _lrp("lrp", model, inputs, score, rules, bias, at, chunk, engine, progress)


@answers_names(MEANT)
@own_promotion()
def attention_lrp(
    model: Callable[..., Any],
    inputs: Any,
    score: Any = None,
    *,
    rules: Rule | Composite | None = None,
    bias: str = "absorb",
    at: At = None,
    chunk: int | None = None,
    engine: str = "diffprog",
    progress: str | None = None,
) -> Attribution:
    """Divide the score of a transformer among its inputs (AttnLRP).

    In the form that multiplies gradients: a function f of one value passes on f(x) / x, a product of two signals half
    to each, a softmax its derivative, and the statistics of normalization nothing. These rules hold in `lrp` too: this
    is `lrp` under the name by which people look for it.

    Args:
      model: a function from a batch to outputs, or a `diffprog.models.Model`; see `diffprog.attribute`.
      inputs: examples, a pytree of arrays (n, ...); for text use `at=` the embedding.
      score: what is explained; a list for several. A logit, not a probability.
      rules: of products with weights; `rules.epsilon(1e-6)` by default.
      bias: "absorb" or "spread", as for `lrp`.
      at: selectors of the values that get the credit; the inputs by default.
      chunk: examples of one run; found by itself.
      engine: the reverse pass by "diffprog" or by "jax".
      progress: a caption, which switches on a progress bar.

    Returns:
      An `Attribution`, as `lrp` returns it. A softmax does not conserve relevance: the gap is its part.

    Raises:
      ValueError: something does not fit; the message says what to do.

    References:
      Achtibat et al., "AttnLRP: attention-aware layer-wise relevance propagation for transformers", 2024.
    """
    return _lrp("attention_lrp", model, inputs, score, rules, bias, at, chunk, engine, progress)


def _lrp(method, model, inputs, score, rules, bias, at, chunk, engine, progress):
    rules = epsilon() if rules is None else rules
    if not isinstance(rules, Rule | Composite):
        raise TypeError(f"rules must be of diffprog.attribute.rules, as rules.epsilon(1e-6); found {rules!r}")
    if bias not in BIASES:
        raise ValueError(f"bias must be one of {', '.join(map(repr, BIASES))}; found {bias!r}")
    question = pose(model, inputs, score, at=at, chunk=chunk, engine=engine)
    found = credit(question, Settings("relevance", engine, rules, bias == "absorb"), None, progress)
    return finish(
        question,
        method,
        found.values,
        found.score,
        baseline_score=found.own,
        is_complete=True,
        evaluations=1,
        unruled=found.unruled,
    )


@answers_names(MEANT)
@own_promotion()
def guided_backprop(
    model: Callable[..., Any],
    inputs: Any,
    score: Any = None,
    *,
    at: At = None,
    chunk: int | None = None,
    engine: str = "diffprog",
    progress: str | None = None,
) -> Attribution:
    """Compute the gradient, but pass back through ReLUs only what is positive there (guided backpropagation).

    ReLUs are found by how they behave, in any spelling. The pictures are crisp and hardly depend on the class or on the
    upper layers (Adebayo et al., 2018): take them for edges.

    Args:
      model: a function from a batch to outputs, or a `diffprog.models.Model`; see `diffprog.attribute`.
      inputs: examples, a pytree of arrays (n, ...).
      score: what is explained; a list for several.
      at: selectors of the values that get the credit; the inputs by default.
      chunk: examples of one run; found by itself.
      engine: the reverse pass by "diffprog" or by "jax".
      progress: a caption, which switches on a progress bar.

    Returns:
      An `Attribution`. `unruled` lists nonlinear functions that are no ReLUs, which pass back their derivative.

    Raises:
      ValueError: something does not fit; the message says what to do.

    References:
      Springenberg et al., "Striving for simplicity: the all convolutional net", 2015.
    """
    return _rectified("guided_backprop", "guided", model, inputs, score, at, chunk, engine, progress)


@answers_names(MEANT)
@own_promotion()
def deconvnet(
    model: Callable[..., Any],
    inputs: Any,
    score: Any = None,
    *,
    at: At = None,
    chunk: int | None = None,
    engine: str = "diffprog",
    progress: str | None = None,
) -> Attribution:
    """Compute the gradient, but pass back through ReLUs what is positive, active or not (deconvnet).

    Args:
      model: a function from a batch to outputs, or a `diffprog.models.Model`; see `diffprog.attribute`.
      inputs: examples, a pytree of arrays (n, ...).
      score: what is explained; a list for several.
      at: selectors of the values that get the credit; the inputs by default.
      chunk: examples of one run; found by itself.
      engine: the reverse pass by "diffprog" or by "jax".
      progress: a caption, which switches on a progress bar.

    Returns:
      An `Attribution`. `unruled` lists nonlinear functions that are no ReLUs, which pass back their derivative.

    Raises:
      ValueError: something does not fit; the message says what to do.

    References:
      Zeiler and Fergus, "Visualizing and understanding convolutional networks", 2014.
    """
    return _rectified("deconvnet", "deconvnet", model, inputs, score, at, chunk, engine, progress)


def _rectified(method, kind, model, inputs, score, at, chunk, engine, progress):
    question = pose(model, inputs, score, at=at, chunk=chunk, engine=engine)
    found = credit(question, Settings(kind, engine), None, progress)
    return finish(question, method, found.values, found.score, evaluations=1, unruled=found.unruled)
