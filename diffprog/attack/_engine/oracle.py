"""The model under attack, what counts as a success, and the ways to query it: each is one batched question."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._transforms.closures import Lifted, lift
from diffprog._util.factory import factory
from diffprog.attack._engine import answers, validation
from diffprog.attack._engine.method import Example, View
from diffprog.attack._losses import ONE_CLASS_LOSSES, TWO_CLASS_LOSSES, margin
from diffprog.diagnosis import diagnose
from diffprog.optimize._engine import value_and_grad, vjp

CLEAR = 1e-6  # of the largest logit: a lead that another order of summation cannot undo
STEEP = 1e12  # stands for an infinite slope
ROWS_AT_ONCE = 512  # rows of one pass: enough to fill a processor, within the memory that a large network leaves


class ExpectationOverTransformation(NamedTuple):
    """A model that draws random numbers, judged by its expectation (EOT, Athalye et al. 2018).

    Losses and gradients are means over draws, and the verdict is taken from the mean probabilities. A search for the
    minimum norm ends where single draws decide, and fresh draws undo most of what it found: `confidence=1.0`, an
    option of every attack, makes it seek points with a lead, which stay. A deterministic model under random
    transforms is attacked likewise:
    `ExpectationOverTransformation(lambda images, key: model(transform(key, images)), num_samples=20)`.
    """

    model: Callable[..., jax.Array]  # (images, key) -> logits
    num_samples: int = 20  # draws per query


Model = Callable[..., jax.Array] | ExpectationOverTransformation


class Oracle(NamedTuple):
    """The model, and what counts as a success.

    An argument of compiled programs: the arrays that the functions in it read are the leaves of a pytree (`lifted`).
    """

    model: Model
    targeted: bool
    criterion: Callable[..., Any] | None  # (logits [n, classes], labels [n]) -> bool [n]; None: the label decides
    engine: str
    confidence: float = 0.0  # lead of the winning class, in units of the logits, that a success needs in the search
    loss: Callable[..., jax.Array] | None = None  # (logits, labels) -> [n], what a search raises

    def lifted_model(self, images: np.ndarray, num_rows: int, key_impl: str) -> "Oracle":
        """Read what the model computes now, for batches of so many of these images; a model that is read stays so."""
        batch, model = np.zeros((num_rows, *images.shape[1:]), images.dtype), self.model
        if isinstance(getattr(model, "model", model), Lifted):
            return self
        if not isinstance(model, ExpectationOverTransformation):
            return self._replace(model=lift(partial(answers.call_model, model), batch))
        call, key = partial(answers.call_random_model, model.model), jax.random.key(0, impl=key_impl)
        return self._replace(model=model._replace(model=lift(call, batch[:1], key)))

    def lifted(self, images: np.ndarray, labels: np.ndarray, num_rows: int, key_impl: str) -> "Oracle":
        """Read what the model, the criterion and the loss compute now, for batches of so many images and labels."""
        oracle = self.lifted_model(images, num_rows, key_impl)
        answer = cast(Lifted, getattr(oracle.model, "model", oracle.model)).result
        logits, labels = (np.zeros((num_rows, *each.shape[1:]), each.dtype) for each in (answer, labels))
        criterion, loss = self.criterion, self.loss
        if criterion is not None:
            criterion = lift(partial(answers.call_criterion, criterion), logits, labels)
        if loss is not None:
            known = loss in TWO_CLASS_LOSSES or loss in ONE_CLASS_LOSSES
            loss = jax.tree_util.Partial(loss) if known else lift(partial(answers.call_loss, loss), logits, labels)
        return oracle._replace(criterion=criterion, loss=loss)

    @property
    def can_be_kept(self) -> bool:
        """Whether compiled programs may be found again by the functions, once they are lifted."""
        functions = (getattr(self.model, "model", self.model), self.criterion, self.loss)
        return all(function.can_be_kept for function in functions if isinstance(function, Lifted))

    def evaluate(self, points, examples: Example, keys, loss) -> tuple[jax.Array, jax.Array]:
        """Compute the values [n], to be raised, and the logits [n, classes]."""
        sign = -1 if self.targeted else 1
        if not isinstance(self.model, ExpectationOverTransformation):
            logits = answers.call_model(self.model, points)
            return sign * loss_values(loss, logits, examples), logits

        model, num_samples = self.model
        validation.check_counts(num_samples=num_samples)

        def draw(index):
            draw_keys = jax.vmap(lambda key: jax.random.fold_in(key, index))(keys)
            logits_of_point = lambda point, key: answers.call_random_model(model, point[None], key)[0]
            return jax.vmap(logits_of_point)(points, draw_keys)

        draws = jax.vmap(draw)(jnp.arange(num_samples))
        values = jax.vmap(lambda logits: loss_values(loss, logits, examples))(draws)
        return sign * values.mean(axis=0), mean_logits(draws)

    def is_adversarial(self, logits: jax.Array, labels: jax.Array, clear: float = CLEAR) -> jax.Array:
        """Tell successes during a search, by a lead that rounding cannot undo. Logits that are not finite are none."""
        if self.criterion is not None:
            return all_finite(logits) & answers.call_criterion(self.criterion, logits, labels)
        lead = margin(logits, labels) * (-1 if self.targeted else 1)
        leads_clearly = lead > clear * jnp.max(jnp.abs(logits), axis=-1)  # false where that is NaN or infinite
        return leads_clearly & (lead >= self.confidence)

    def judge(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Tell successes by the plain prediction, as a user computes it."""
        finite = all_finite(logits)
        if self.criterion is not None:
            return finite & np.asarray(answers.call_criterion(self.criterion, logits, labels))
        return finite & ((logits.argmax(axis=-1) == labels) == self.targeted)


def _functions_and_settings(oracle):
    """Take an oracle apart: the functions, pytrees all, and what programs are compiled for."""
    draws = oracle.model.num_samples if isinstance(oracle.model, ExpectationOverTransformation) else None
    function = oracle.model if draws is None else oracle.model.model
    rest = oracle._replace(model=None, criterion=None, loss=None)
    return (function, oracle.criterion, oracle.loss), (draws, *rest)


def _together(settings, functions):
    (draws, *rest), (function, criterion, loss) = settings, functions
    model = function if draws is None else ExpectationOverTransformation(function, draws)
    return Oracle(*rest)._replace(model=model, criterion=criterion, loss=loss)


jax.tree_util.register_pytree_node(Oracle, _functions_and_settings, _together)


def loss_values(loss, logits, examples):
    """Compute the loss of each image, [n]."""
    target_classes = (examples.target_class,) if getattr(loss, "func", loss) in TWO_CLASS_LOSSES else ()
    return answers.call_loss(loss, logits, examples.label, *target_classes).astype(jnp.float32)


def all_finite(rows: Any) -> Any:
    """Tell which rows of an array are finite numbers: bool [n], in NumPy or in JAX as the array is."""
    namespace = np if isinstance(rows, np.ndarray) else jnp
    return namespace.isfinite(rows).reshape(len(rows), -1).all(axis=1)


def usable(gradient: jax.Array) -> jax.Array:
    """Replace what is not finite in a gradient, so that it does not stop the elements that are.

    NaN says nothing, and becomes 0. What is infinite, as the slope of a root at 0, is steeper than all that is finite;
    it becomes a number whose square, and the sum of squares, are finite.
    """
    return jnp.nan_to_num(gradient, nan=0.0, posinf=STEEP, neginf=-STEEP)


def has_slope(gradients: jax.Array) -> jax.Array:
    """Tell for which images a gradient is not all 0: bool [n]."""
    return jnp.any(gradients.reshape(len(gradients), -1) != 0, axis=1)


def mean_logits(logits):
    """Compute logits whose softmax is the mean of the softmaxes over the first axis."""
    return jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=0) - jnp.log(len(logits))


def query_logits(oracle: Oracle, loss, states, examples: Example, hyperparameters, keys) -> View:
    """Take one forward pass: the value and the logits."""
    values, logits = oracle.evaluate(states.point, examples, keys, loss)
    return View(logits, values, oracle.is_adversarial(logits, examples.label))


def value_and_gradient(oracle: Oracle, loss, points, examples: Example, keys) -> tuple[jax.Array, ...]:
    """Compute the values [n], the logits, and the gradient of the values as it is."""

    def total(points):
        values, logits = oracle.evaluate(points, examples, keys, loss)
        return values.sum(), (values, logits)  # a sum: no image's gradient is scaled by how many others there are

    (_, (values, logits)), gradient = value_and_grad(oracle.engine)(total, has_aux=True)(points)
    return values, logits, gradient


def query_gradient(oracle: Oracle, loss, states, examples: Example, hyperparameters, keys) -> View:
    """Take one forward and one backward pass: the value, the logits and the usable gradient of the value."""
    values, logits, gradient = value_and_gradient(oracle, loss, states.point, examples, keys)
    leads_out = jnp.isinf(gradient) & examples.blocked(gradient, states.point)  # and would drown what leads on
    gradient = jnp.where((examples.upper > examples.lower) & ~leads_out, usable(gradient), 0)
    is_adversarial = oracle.is_adversarial(logits, examples.label)
    return View(logits, values, is_adversarial, gradient, backward_passes=1, has_gradient=has_slope(gradient))


@factory
def query_jacobian(weightings: Callable[..., jax.Array]) -> Callable[..., View]:
    """Make a query of gradients of weighted sums of logits, all from one pullback.

    Args:
      weightings: (oracle, examples, logits (n, classes)) -> weights (n, k, classes).

    Returns:
      A query whose view has `extras = (sums (n, k), gradients (n, k, ...))`.
    """

    def query(oracle, loss, states, examples, hyperparameters, keys):
        def logits_and_values(points):
            values, logits = oracle.evaluate(points, examples, keys, loss)
            return logits, values

        logits, pullback, values = vjp(oracle.engine)(logits_and_values, states.point, has_aux=True)
        weights = weightings(oracle, examples, logits)
        gradients = jax.vmap(lambda weight: pullback(weight)[0], 1, 1)(weights)
        gradients = jnp.where((examples.upper > examples.lower)[:, None], usable(gradients), 0)
        sums = jnp.sum(weights * logits[:, None], axis=-1)
        is_adversarial = oracle.is_adversarial(logits, examples.label)
        view = View(logits, values, is_adversarial, extras=(sums, gradients), backward_passes=weights.shape[1])
        return view._replace(has_gradient=has_slope(gradients))

    return query


@factory
def query_differences(draw: Callable[..., jax.Array], num_samples: int) -> Callable[..., View]:
    """Make a query whose gradient is estimated from 2 * num_samples values around the point.

    The estimate is the mean over random directions u of u times the slope along u. The points lie in the box, where
    images are: near its edge, or between edges that are closer than that, the center and the distance make room.

    Args:
      draw: (key, shape) -> a direction whose elements are independent, of variance 1.
      num_samples: directions.

    Returns:
      A query that takes the distance of its points from the last of the hyperparameters.
    """

    def query(oracle, loss, states, examples, hyperparameters, keys):
        distance = jnp.minimum(hyperparameters[-1], (examples.upper - examples.lower) / 2)
        center = jnp.clip(states.point, examples.lower + distance, examples.upper - distance)
        shape = examples.image.shape[1:]

        def slope(index):
            sample_keys = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, index)))(keys)
            direction_keys, query_keys = sample_keys.T
            direction = jax.vmap(lambda key: draw(key, shape))(direction_keys)

            def value(sign):
                points = examples.clip(center + sign * distance * direction)
                return oracle.evaluate(points, examples, query_keys, loss)[0]

            ahead, behind = jax.vmap(value)(jnp.array([1.0, -1.0], jnp.float32))
            return direction * ((ahead - behind) / 2).reshape(-1, *[1] * len(shape))

        mean = sum_in_groups(slope, num_samples, group_size(2 * len(keys), num_samples)) / num_samples
        gradient = jnp.where(distance > 0, mean / jnp.where(distance > 0, distance, 1), 0)
        view = query_logits(oracle, loss, states, examples, hyperparameters, keys)
        return view._replace(gradient=gradient, queries=1 + 2 * num_samples)

    return query


def group_size(rows: int, num_terms: int) -> int:
    """Count how many of `num_terms` queries of so many rows each are made at once."""
    return max(1, min(num_terms, ROWS_AT_ONCE // rows))


def sum_in_groups(term: Callable[..., Any], num_terms, size: int) -> Any:
    """Sum term(index), a pytree, over index < `num_terms`, which may be traced; `size` terms at a time.

    What is too much in the last group is the last term once more: no model is asked about other points than counted.
    """

    def add(group, total):
        indices = (group * size + jnp.arange(size)).astype(jnp.int32)
        is_term = lambda leaf: (indices < num_terms).reshape(-1, *[1] * (leaf.ndim - 1))
        keep = lambda leaf: jnp.where(is_term(leaf), leaf, 0).sum(axis=0, dtype=leaf.dtype)
        return jax.tree.map(lambda t, leaf: t + keep(leaf), total, jax.vmap(term)(jnp.minimum(indices, num_terms - 1)))

    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(term, jnp.int32(0)))
    return jax.lax.fori_loop(0, -(-num_terms // size), add, zeros)


def explain_gradient(oracle: Oracle, image: np.ndarray, label: np.ndarray) -> str:
    """Say why the gradient at an image leads nowhere, in the words of `diffprog.diagnose`."""
    if isinstance(oracle.model, ExpectationOverTransformation):
        return "Look for rounding, thresholds, or a stopped gradient in the model, with diffprog.diagnose."
    lead = lambda point: jnp.sum(call_plain(oracle, point, label))
    try:
        findings = diagnose(lead)(jnp.asarray(image)).findings
    except Exception:  # whatever the user's model raises here, it has been attacked
        findings = ()
    return str(findings[0]) if findings else "Look for rounding, thresholds, or a stopped gradient in the model."


def call_plain(oracle: Oracle, point: jax.Array, label: np.ndarray) -> jax.Array:
    """Compute the margin where there are classes, else the sum of what the model answers."""
    logits = answers.call_model(cast(Callable, oracle.model), point)
    return margin(logits, jnp.asarray(label)) if logits.ndim == 2 and label.ndim == 1 else logits
