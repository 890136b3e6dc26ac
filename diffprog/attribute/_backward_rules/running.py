"""Run backward rules on the rows of a question, in compiled chunks."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from tqdm import tqdm

from diffprog._util.promotion import own_promotion
from diffprog.attribute._backward_rules.deeplift import DeepLift
from diffprog.attribute._backward_rules.following import Following, follow
from diffprog.attribute._backward_rules.rectifiers import Rectifiers
from diffprog.attribute._backward_rules.relevance import Relevance
from diffprog.attribute._backward_rules.relevance_rules import Composite, Rule, zero
from diffprog.attribute._backward_rules.reveal_cancel import RevealCancel
from diffprog.attribute._core.question import Question, gradients_of, in_blocks


@dataclass(frozen=True)
class Settings:
    """What a compiled program depends on, besides the function.

    Attributes:
      method: "rescale", "reveal_cancel", "relevance", "guided" or "deconvnet".
      engine: whose reverse pass hands the credit back.
      rules: of layers, for "relevance".
      with_bias: whether biases keep their part, for "relevance".
    """

    method: str
    engine: str
    rules: Composite | Rule | None = None
    with_bias: bool = True


@jax.tree_util.register_static
@dataclass(frozen=True)
class _Unruled:
    """What the rules did not cover: found when the program is traced, and kept with it."""

    operations: tuple[str, ...]


@dataclass(frozen=True)
class Credit:
    """What backward rules find.

    Attributes:
      score: of the points, (n,) or (n, k).
      baseline_score: likewise, of the baseline; None without one.
      own: what the program's own constants are given of the score, likewise.
      values: credit, like the points, (n, ...) or (n, k, ...).
      unruled: operations without a rule.
    """

    score: jax.Array
    baseline_score: jax.Array | None
    own: jax.Array
    values: Any
    unruled: tuple[str, ...]


def credit(question: Question, settings: Settings, baseline: Any = None, progress: str | None = None) -> Credit:
    """Run backward rules.

    Args:
      question: whose points get the credit.
      settings: the rules.
      baseline: like the points; None without one.
      progress: a caption, which switches on a progress bar.
    """
    rules = settings.rules
    bounds = None if rules is None else rules.box
    box = None if bounds is None else [jnp.asarray(end) for end in bounds]
    found: list[_Unruled] = []
    with tqdm(total=question.count, desc=progress, unit="example", disable=progress is None, leave=False) as bar:

        def program(rows):
            *arrays, unruled = _credit(settings, question.lifted, *rows, box)
            found.append(unruled)
            bar.update(min(question.block, question.count - bar.n))
            return arrays

        rows = (question.points, question.context, baseline)
        score, baseline_score, own, values = in_blocks(program, rows, question.count, question.block)
    return Credit(score, baseline_score, own, values, found[0].operations)


@partial(jax.jit, static_argnums=0)
@own_promotion()
def _credit(settings: Settings, lifted, points, context, baseline, box):
    function = lambda points: lifted(points, context)
    leaves, tree = jax.tree.flatten(points)
    of_leaves = lambda leaves: function(jax.tree.unflatten(tree, leaves))
    starts = None if baseline is None else jax.tree.leaves(baseline)
    total = (
        _count_layers(of_leaves, leaves) if isinstance(settings.rules, Composite) and settings.rules.depths else None
    )
    unruled: dict[str, None] = {}

    def signal(shares):
        method = _method(settings, box)
        prepare = method.prepare if isinstance(method, Relevance) else None
        if isinstance(method, Rectifiers):  # these are derivatives: nothing is multiplied by the points
            signals = shares
        else:
            signals = _differences(leaves, starts, shares)
        _, found, state = follow(method, of_leaves, leaves, starts, signals, shares, prepare, total)
        unruled.update(state.unruled)
        if isinstance(method, Relevance):
            method.check_overrides()
        return found

    own, values = gradients_of(signal, [jnp.zeros_like(leaf) for leaf in leaves], settings.engine)
    before = None if baseline is None else function(baseline)
    return function(points), before, own, jax.tree.unflatten(tree, values), _Unruled(tuple(unruled))


def _differences(leaves, starts, shares):
    starts = [None] * len(leaves) if starts is None else starts
    return [(x if b is None else x - b) * share for x, b, share in zip(leaves, starts, shares, strict=True)]


def _method(settings, box):
    if settings.method == "relevance":
        return Relevance(settings.rules, settings.with_bias, box)
    makers = {
        "rescale": DeepLift,
        "reveal_cancel": RevealCancel,
        "guided": partial(Rectifiers, True),
        "deconvnet": partial(Rectifiers, False),
    }
    return makers[settings.method]()


def _count_layers(function, leaves: Sequence) -> int:
    """Count the layers of a program, those in a loop once."""
    states: list[Following] = []

    def run(leaves):
        method = Relevance(zero(), True)
        _, found, state = follow(method, function, leaves, None, leaves, leaves, method.prepare)
        states.append(state)
        return found

    jax.eval_shape(run, list(leaves))
    return states[0].layers
