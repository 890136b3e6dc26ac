"""What an attack is made of: what is given of an image, what the model says of a point, and what is learned from it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffprog.attack._engine import border
from diffprog.attack._losses import label_margin
from diffprog.attack._norms import Norm, linf


class Example(NamedTuple):
    """What is given of an image. A search holds one row of each field per image."""

    image: jax.Array  # float32 [...]
    label: jax.Array  # int32, the class to leave, or with `targeted` to reach
    target_class: jax.Array  # int32, a class that some losses raise while they lower the label's; else the label
    epsilon: jax.Array  # float32, the budget; infinite in a search for the smallest perturbation
    lower: jax.Array  # float32 [...], the box: the bounds of pixels, and the image itself where a mask forbids a change
    upper: jax.Array
    key: jax.Array  # of this image in this attack: its number, the attack's name and the restart are folded in
    extra: Any = None  # what a special method is given of an image besides


class View(NamedTuple):
    """What the model says of `state.point`, and what it cost."""

    logits: jax.Array  # float32 [classes]
    value: jax.Array  # float32, the loss, negated with `targeted`: always to be raised
    hit: jax.Array  # bool, whether the attack has what it wants here
    gradient: Any = None  # of the value; zero where the box is a single point. None if the look takes none
    number: jax.Array | None = None  # int32, steps taken before this one
    key: jax.Array | None = None  # of this step
    extra: Any = None  # what a special look adds
    queries: Any = 1  # forward passes spent
    gradients: Any = 0  # backward passes spent


class Candidate(NamedTuple):
    """A point that was looked at, and what speaks for it."""

    point: jax.Array
    value: jax.Array  # float32
    hit: jax.Array  # bool
    size: jax.Array  # float32, of the perturbation


def larger(kept: Candidate, new: Candidate):
    """A success before a failure, then the larger value: what a search within a budget returns."""
    return (new.hit & ~kept.hit) | ((new.hit == kept.hit) & (new.value > kept.value))


def smaller(kept: Candidate, new: Candidate):
    """The smallest success: without one, the image itself is returned."""
    return new.hit & (~kept.hit | (new.size < kept.size))


def latest(kept: Candidate, new: Candidate):
    """Whatever came last."""
    return new.hit | ~new.hit


class Method(NamedTuple):
    """An attack, as functions of ONE image; `search` maps them over a batch and asks the model in between.

    Compiled programs are found by a Method's value: make it in a function under `lru_cache`, with what may change from
    call to call without another program (step sizes, budgets) in `given` and `Example`.

    start:   (example, given) -> state, any NamedTuple of arrays with a field `point`: where the model is asked first.
             It lies in the box, and in the ball if there is a budget, always: it is what may be returned. A boolean
             field `done`, if there is one, ends the image's search.
    learn:   (example, given, state, view) -> state.
    look:    (oracle, loss, states, examples, given, keys) -> View: how the model is asked, of a whole batch.
    loss:    (logits [n, classes], labels [n], rivals [n]) -> [n].
    norm:    of the budget, or of the perturbation to be made small.
    better:  (kept, new) -> bool: which candidate to return: `larger`, `smaller` or `latest`.
    """

    name: str
    start: Callable
    learn: Callable
    look: Callable
    loss: Callable = label_margin
    norm: Norm = linf
    better: Callable = larger


class ExpectationOverTransformation(NamedTuple):
    """A model that draws: `model(images, key) -> logits`, judged by its expectation over `num_samples` draws.

    Losses and gradients are means over the draws, and the verdict is that of the mean probabilities (Athalye et al.
    2018, expectation over transformation). A search for the smallest perturbation ends where single draws decide, and
    fresh ones undo most of what it found: with `confidence=1.0`, an option of every attack, it seeks points of some
    lead, which stay. Judged so is also a deterministic model under random transforms of the image:
    `ExpectationOverTransformation(lambda images, key: model(transform(key, images)), num_samples=20)`.
    """

    model: Callable
    num_samples: int = 20


CLEAR = 1e-6  # of the largest logit: a lead that another order of summation cannot undo


class Oracle(NamedTuple):
    """The model, and what counts as a success."""

    model: Callable | ExpectationOverTransformation
    targeted: bool
    criterion: Callable | None  # (logits [n, classes], labels [n]) -> bool [n]; None: another class, or the target
    engine: str
    confidence: float = 0.0  # the lead of the winning class, in units of the logits, that a success needs

    def ask(self, points, examples, keys, loss) -> tuple[jax.Array, jax.Array]:
        """The values [n], to be raised, and the logits [n, classes]."""
        sign = -1 if self.targeted else 1
        if not isinstance(self.model, ExpectationOverTransformation):
            logits = border.logits_of(self.model, points)
            return sign * border.values_of(loss, logits, examples.label, examples.target_class), logits

        border.checked_counts(num_samples=self.model.num_samples)

        def draw(number):
            drawn = jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)
            network = lambda point, key: border.drawn_logits_of(self.model.model, point[None], key)[0]
            return jax.vmap(network)(points, drawn)

        every = jax.vmap(draw)(jnp.arange(self.model.num_samples))
        values = jax.vmap(lambda logits: border.values_of(loss, logits, examples.label, examples.target_class))(every)
        return sign * values.mean(axis=0), mean_logits(every)

    def hit(self, logits, examples, clear=CLEAR):
        """Where the attack has what it wants. A logit that is not finite is never a success."""
        if self.criterion is not None:
            return jnp.isfinite(logits).all(axis=-1) & border.met(self.criterion, logits, examples.label)
        lead = label_margin(logits, examples.label, examples.label) * (-1 if self.targeted else 1)
        clear = lead > clear * jnp.max(jnp.abs(logits), axis=-1)  # false where that is NaN or infinite
        return clear & (lead >= self.confidence)

    def verdict(self, logits, labels):
        """`hit` of the plain prediction, as a user computes it: NumPy arrays in and out."""
        finite = np.isfinite(logits).all(axis=-1)
        if self.criterion is not None:
            return finite & np.asarray(border.met(self.criterion, logits, labels))
        return finite & ((logits.argmax(axis=-1) == labels) == self.targeted)


def mean_logits(logits):
    """Logits whose softmax is the mean of the softmaxes over the first axis."""
    return jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=0) - jnp.log(len(logits))
