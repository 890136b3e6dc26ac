"""How every attack runs: what comes in is checked, searched for by the one loop, and judged as it goes out."""

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from diffprog._util.warning import warn
from diffprog.attack._engine import answers, validation
from diffprog.attack._engine.loop import BatchedModel, Findings, Loop, placement
from diffprog.attack._engine.method import AttackSpec, Example, smaller_norm
from diffprog.attack._engine.options import FOLLOW_CLASSES, Settings, is_steered
from diffprog.attack._engine.oracle import Model, Oracle, all_finite, explain_gradient
from diffprog.attack._engine.per_image import of_images
from diffprog.attack._engine.result import AttackResult, AttackWarning, as_8bit, distances, merge_budgets
from diffprog.attack._losses import ONE_CLASS_LOSSES, TWO_CLASS_LOSSES
from diffprog.attack._registry import ATTACKS


class Problem(NamedTuple):
    """Checked images, and the rows of the result: one per budget and image, the images running fastest."""

    images: np.ndarray  # float32 [n, ...]
    labels: np.ndarray  # int32 [n], or what the loss and the criterion of the user's read
    labels_are_free: bool
    lower: np.ndarray  # float32 [n, ...], the box
    upper: np.ndarray
    extras: Any  # pytree of arrays [n, ...]
    budgets: np.ndarray  # float64 [K, n]
    radii: np.ndarray  # likewise, at most the size of the box
    has_several_budgets: bool
    image_of_row: np.ndarray  # int [K n]

    def data(
        self, hyperparameters: Any, target_classes: np.ndarray, keys: np.ndarray, queries_left: Callable[[], Any]
    ) -> Callable[[np.ndarray], tuple[Example, Any]]:
        """Make a function from rows to their examples and hyperparameters.

        Target classes [n] and bits of keys [n, ...] are of images. What a search may spend [K n] is asked as it begins.
        """
        radii = validation.round_down_to_float32(self.radii.reshape(-1))

        def data_of(rows):
            image, left = self.image_of_row[rows], queries_left()
            example = Example(
                image=self.images[image],
                label=self.labels[image],
                target_class=target_classes[image],
                epsilon=radii[rows],
                lower=self.lower[image],
                upper=self.upper[image],
                key=keys[image],
                extras=jax.tree.map(lambda leaf: leaf[image], self.extras),
                queries_left=None if left is None else np.int32(np.minimum(left[rows], 2**30)),
            )
            return example, of_images(hyperparameters, image)

        return data_of


def run_attack(
    model: Model,
    images: Any,
    labels: Any,
    spec: AttackSpec,
    settings: Settings,
    max_steps: int,
    hyperparameters: Any = None,
    *,
    key: jax.Array | None = None,
    epsilon: Any = None,
    extras: Any = None,
    target_classes: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> AttackResult:
    """Run an attack on every image.

    Args:
      model: (images (n, ...)) -> logits (n, classes), or one that draws random numbers.
      images: (n, ...), within the bounds.
      labels: (n,), int.
      spec: the attack.
      settings: what every attack takes.
      max_steps: steps of each search.
      hyperparameters: pytree of numbers for the attack, or of `PerImage`; other values are no other program.
      key: random key.
      epsilon: a number, or one per image (n,), or several budgets at once, increasing: (K, n) or (K, 1). Then every
        field of the result has an axis K in front, and what succeeds within a budget succeeds in every larger one,
        without a search there unless `every_budget` is set.
        Within a budget of 0 the image is the image; an infinite one leaves the bounds alone. None for an attack that
        has no budget.
      extras: pytree of arrays (n, ...), one row per image, for the attack.
      target_classes: (logits (n, classes), labels (n,)) -> (m, n), for losses of two classes: every restart is one
        search per target class, in turn, of the images that still stand.

    Returns:
      What became of each image.
    """
    spec = _follow_criterion(spec, settings)
    problem = _check_problem(images, labels, epsilon, extras, spec, settings)
    count, rows = len(problem.images), problem.image_of_row
    validation.check_counts(max_steps=max_steps)
    _check_max_queries(settings.max_queries, spec)
    key = validation.check_key(key)
    image_ids = validation.check_image_ids(settings.image_ids, count)
    salt = np.uint32(zlib.crc32(spec.name.encode()))
    keys_of = lambda num_purposes: np.asarray(_key_bits(key, salt, image_ids, np.arange(num_purposes)))

    oracle = Oracle(model, settings.targeted, settings.criterion, settings.engine, float(settings.confidence))
    where, key_impl = placement(settings.batch_size or count, settings.devices), str(jax.random.key_impl(key))
    lifted = oracle.lifted_model(problem.images, where.num_slots, key_impl)
    logits_of = BatchedModel(lifted, where, key_impl)
    keys = keys_of(settings.restarts + 2)
    clean_logits = answers.check_logits(logits_of(problem.images, keys[0]), problem.labels, problem.labels_are_free)
    is_finite = all_finite(clean_logits)
    initially_wrong = oracle.judge(clean_logits, problem.labels)
    skipped = validation.check_skip(settings.skip, problem.budgets.shape)
    attacked = (is_finite & ~initially_wrong & ~skipped).reshape(-1)
    searched = attacked & (problem.budgets > 0).reshape(-1)

    classes = target_classes(clean_logits, problem.labels) if target_classes else np.zeros((1, count), np.int32)
    if len(classes) > 1:
        keys = keys_of(settings.restarts * len(classes) + 2)
    _, *search_keys, judge_keys = keys
    findings = Findings(problem.images[rows], spec)
    loop = Loop(spec, lifted, problem.images, problem.labels, where, key_impl)
    hyperparameters = jax.tree.map(_in_32_bits, hyperparameters)
    verdicts = _Verdicts(oracle, logits_of, problem, attacked, judge_keys, settings)
    with tqdm(total=0, desc=settings.progress, disable=settings.progress is None, unit="step") as bar:
        while not verdicts.are_complete:  # again, where a verdict refuses what a search took for a success
            is_due = lambda some: ~verdicts.decided_below(findings)[some]
            queries_left = lambda: None if settings.max_queries is None else settings.max_queries - findings.queries
            for search, image_keys in enumerate(search_keys):
                target_class = classes[search % len(classes)].astype(np.int32)
                data_of = problem.data(hyperparameters, target_class, image_keys, queries_left)
                is_open = (spec.better is smaller_norm) | ~findings.is_adversarial
                if settings.max_queries is not None:
                    is_open &= findings.queries + spec.queries_per_step <= settings.max_queries
                queue = np.flatnonzero(searched & is_open & (findings.searches == search))
                loop.run(data_of, queue, is_due, findings, max_steps, settings.early_stop, bar)
            verdicts.judge(findings)

    success, counts = verdicts.success, ~verdicts.decided_below(findings)
    unanswered = searched & counts & findings.met_nonfinite & ~success
    result = AttackResult(
        images=findings.images,
        success=success,
        success_8bit=verdicts.success_8bit,
        initially_wrong=initially_wrong[rows],
        nonfinite=~all_finite(verdicts.logits) | ~is_finite[rows] | unanswered,
        distances=distances(findings.images, problem.images[rows]),
        epsilon=problem.budgets.reshape(-1),
        clean_predictions=_predictions(clean_logits)[rows],
        predictions=_predictions(verdicts.logits),
        first_success=findings.first_success,
        steps=findings.steps * counts,
        queries=findings.queries * counts,
        backward_passes=findings.backward_passes * counts,
        attack=spec.name,
        no_gradient=searched & counts & ~success & ~findings.had_gradient,
    )
    _warn(result, oracle, problem, unanswered)
    return merge_budgets(result, len(problem.budgets)) if problem.has_several_budgets else result


class _Verdicts:
    """What the model says of the arrays that are returned, asked in a program of its own.

    Where a search within a budget succeeds, this decides all larger budgets, and what a search within these found by
    the way does not count: so no result depends on which searches ran together.

    Attributes:
      success: bool, of each row.
      success_8bit: likewise, after rounding to 8 bits.
      logits: of each row that counts.
      are_complete: whether every row that counts has been searched for and judged.
    """

    def __init__(
        self,
        oracle: Oracle,
        logits_of: BatchedModel,
        problem: Problem,
        attacked: np.ndarray,
        keys: np.ndarray,
        settings: Settings,
    ):
        self._oracle, self._logits_of, self._problem, self._keys = oracle, logits_of, problem, keys
        self._attacked, self._settings = attacked, settings
        self._is_judged, self._is_refused = np.zeros_like(attacked), np.zeros_like(attacked)
        self.success, self.success_8bit = np.zeros_like(attacked), np.zeros_like(attacked)
        self.logits, self.are_complete = np.zeros((len(attacked), 1), np.float32), False

    def decided_below(self, findings: Findings) -> np.ndarray:
        """Tell which rows are decided by a success within a smaller budget, as far as is known."""
        if self._settings.every_budget:
            return np.zeros_like(self._attacked)
        succeeded = (findings.is_adversarial & ~self._is_refused).reshape(self._problem.budgets.shape)
        return np.concatenate([np.zeros_like(succeeded[:1]), np.logical_or.accumulate(succeeded)[:-1]]).reshape(-1)

    def judge(self, findings: Findings) -> None:
        """Ask the model about rows that count and were not asked about yet."""
        decided = self.decided_below(findings)
        rows = np.flatnonzero(~decided & ~self._is_judged)
        image, points = self._problem.image_of_row[rows], findings.images[rows]
        points = np.concatenate([points, as_8bit(points, self._settings.bounds)])
        logits, logits_8bit = np.split(self._logits_of(points, np.tile(self._keys[image], (2, 1))), 2)
        if not self._is_judged.any():
            self.logits = np.zeros((len(decided), *logits.shape[1:]), logits.dtype)
        self.logits[rows] = logits
        labels = self._problem.labels[image]
        self.success[rows] = self._attacked[rows] & self._oracle.judge(logits, labels)
        self.success_8bit[rows] = self._attacked[rows] & self._oracle.judge(logits_8bit, labels)
        self._is_judged[rows] = True
        self._is_refused = findings.is_adversarial & self._is_judged & ~self.success
        self.are_complete = bool(np.array_equal(self.decided_below(findings), decided))


def _check_max_queries(max_queries, spec):
    if max_queries is not None and max_queries < spec.queries_per_step:
        raise ValueError(
            f"max_queries must be at least {spec.queries_per_step}, what a step of {spec.name} costs; found "
            f"{max_queries}: allow more, or fewer samples in each step"
        )


def _in_32_bits(number: Any) -> Any:
    """Give a number the type that programs have for it, also where `jax_enable_x64` is set."""
    array = np.asarray(number)
    return array.astype({"f": np.float32, "i": np.int32}.get(array.dtype.kind, array.dtype))


def _predictions(logits: np.ndarray) -> np.ndarray:
    """Find the class of each row: -1 where logits are not finite, 0 where there are no classes."""
    classes = logits.argmax(axis=1) if logits.ndim == 2 else np.zeros(len(logits), int)
    return np.where(all_finite(logits), classes, -1)


def _follow_criterion(spec: AttackSpec, settings: Settings) -> AttackSpec:
    """Make a search raise what the user's criterion asks for; refuse one that would follow something else."""
    if settings.loss is not None:
        return spec._replace(loss=settings.loss)
    if settings.criterion is None:
        return spec
    if spec.name in ATTACKS and ATTACKS[spec.name].access == "decisions":
        return spec._replace(loss=no_loss)
    if spec.name in FOLLOW_CLASSES:
        raise ValueError(
            f"{spec.name} goes to the nearest of the classes, and can follow no criterion of your own: take "
            "attack.fmn, attack.ddn or attack.carlini_wagner with loss= and criterion="
        )
    if not is_steered(spec.name):
        return spec
    raise ValueError(
        f"{spec.name} follows its loss, the lead of another class, which says nothing of your criterion: give the "
        "search a loss= that is above 0 exactly where the criterion holds, such as attack.top_k_margin(3)"
    )


def no_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Prefer no point: of searches that a criterion alone judges."""
    return jnp.zeros(len(logits), jnp.float32)


def _warn(result: AttackResult, oracle: Oracle, problem: Problem, unanswered: np.ndarray) -> None:
    """Say which rows deserve no trust: those that no gradient led, and those that met logits that are not finite."""
    blind = np.asarray(result.no_gradient)
    if blind.any() and result.attack in ATTACKS and ATTACKS[result.attack].access == "decisions":
        warn(
            f"{result.attack} found no adversarial point to start from for {_share(blind)}, so it did not search: "
            "these say nothing about robustness. Give starting_points=, images of other classes for instance",
            AttackWarning,
        )
    elif blind.any():
        first = int(problem.image_of_row[np.flatnonzero(blind)[0]])
        cause = explain_gradient(oracle, problem.images[first : first + 1], problem.labels[first : first + 1])
        warn(
            f"{result.attack} found no usable gradient for {_share(blind)}, so it did not search: these "
            f"say nothing about robustness. {cause}",
            AttackWarning,
        )
    if unanswered.any():
        warn(
            f"the model's logits were NaN or infinite at points that {result.attack} tried for {_share(unanswered)}: "
            "these count as neither robust nor broken. Remove the overflow, or what answers NaN, from the model",
            AttackWarning,
        )


def _share(rows: np.ndarray) -> str:
    return f"{int(rows.sum())} of {len(rows)} searches" if len(rows) > 1 else "the image"


def _check_problem(images, labels, epsilon, extras, spec, settings) -> Problem:
    images = validation.check_images(images, settings.bounds)
    labels_are_free = settings.criterion is not None and spec.loss not in (*ONE_CLASS_LOSSES, *TWO_CLASS_LOSSES)
    labels = validation.check_labels(labels, len(images), labels_are_free)
    budgets, has_several_budgets = validation.check_budgets(np.inf if epsilon is None else epsilon, len(images))
    lower, upper = validation.check_box(images, settings.mask, settings.bounds)
    whole = validation.size_of_box(spec.norm, images, settings.bounds)
    if epsilon is not None and np.isinf(budgets).any() and np.isinf(whole):
        raise ValueError("epsilon must be finite where values have no bounds; found infinity: give one of them")
    if message := epsilon is not None and validation.excessive_budget(budgets, spec.norm, images, settings.bounds):
        warn(message, AttackWarning)
    # As large as the box is no budget, and infinity would be no length of a step.
    radii = budgets if epsilon is None else np.minimum(budgets, 1.001 * whole)
    image_of_row = np.tile(np.arange(len(images)), len(budgets))
    return Problem(
        images, labels, labels_are_free, lower, upper, extras, budgets, radii, has_several_budgets, image_of_row
    )


@jax.jit
def _key_bits(key, salt, image_ids, purposes):
    """Fold an attack's salt, the images' numbers and each purpose into the key: bits of keys [purposes, n, ...].

    Bits, because rows are gathered on the host, where NumPy holds no keys.
    """
    salted = jax.random.fold_in(key, salt)
    fold = lambda purpose, image: jax.random.key_data(jax.random.fold_in(jax.random.fold_in(salted, image), purpose))
    return jax.vmap(jax.vmap(fold, (None, 0)), (0, None))(purposes, image_ids)
