"""How every attack runs: what comes in is checked, searched for by the one loop, and judged as it goes out."""

import inspect
import re
import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypedDict, TypeVar

import jax
import numpy as np
from jax.typing import ArrayLike
from tqdm import tqdm

from diffprog.attack._engine import validation
from diffprog.attack._engine.loop import BatchedModel, Findings, Loop, placement
from diffprog.attack._engine.method import AttackSpec, Example, smaller_norm
from diffprog.attack._engine.oracle import Model, Oracle
from diffprog.attack._engine.result import AttackResult, as_8bit, distances, merge_budgets

F = TypeVar("F", bound=Callable[..., Any])


class Options(TypedDict, total=False):
    """What every attack takes besides its own arguments.

    Args:
      targeted: labels are the classes to reach, not to leave.
      criterion: `(logits (n, classes), labels (n,)) -> bool (n,)`, what counts as a success instead of the labels.
      mask: bool, what may change; of the shape of the images, or of one image, or with a size of 1 where it does not
        vary.
      bounds: (lowest, highest) value of a pixel, (0, 1) by default.
      restarts: searches from fresh random starts, 1 by default; after the first, only images that still stand are
        searched. The best of an image is kept.
      early_stop: end an image's search with its first success. By default a search within a budget goes on to the
        highest loss.
      confidence: lead of the winning class, in units of the logits, that the search must reach, 0 by default; what is
        returned is judged without it.
      batch_size: rows of a compiled batch; the number of images by default. More images wait in a queue. Results are
        equal bit for bit for equal batch sizes, whatever shares the batch, and equal to rounding otherwise.
      image_ids: int (n,), the images' numbers in their data set, 0 .. n-1 by default. Random draws of an image depend
        on the key, the attack's name and this number alone.
      devices: over which the rows of a batch are divided; the batch size is rounded up to a multiple of their number.
      engine: whose gradients, "diffprog" (default) or "jax".
      skip: bool (n,), or of several budgets (K, n); images that are not attacked, and come back as failures.
      progress: a caption, which switches on a progress bar.
    """

    targeted: bool
    criterion: Callable[..., Any] | None
    mask: ArrayLike | None
    bounds: tuple[float, float]
    restarts: int
    early_stop: bool
    confidence: float
    batch_size: int | None
    image_ids: ArrayLike | None
    devices: Sequence[jax.Device] | None
    engine: str
    skip: ArrayLike | None
    progress: str | None


class Settings(NamedTuple):
    """Parsed `Options`, with their defaults."""

    targeted: bool = False
    criterion: Callable[..., Any] | None = None
    mask: Any = None
    bounds: tuple[float, float] = (0.0, 1.0)
    restarts: int = 1
    early_stop: bool = False
    confidence: float = 0.0
    batch_size: int | None = None
    image_ids: Any = None
    devices: Sequence[jax.Device] | None = None
    engine: str = "diffprog"
    skip: Any = None
    progress: str | None = None


def parse_options(options: Options) -> Settings:
    """Check the options that every attack takes, and fill in the defaults."""
    unknown = [name for name in options if name not in Settings._fields]
    if unknown:
        raise TypeError(f"an attack got an unexpected keyword argument {unknown[0]!r}; see its help for those it takes")
    settings = Settings(**options)
    validation.check_counts(restarts=settings.restarts)
    if settings.batch_size is not None:
        validation.check_counts(batch_size=settings.batch_size)
    validation.check_nonnegative(confidence=settings.confidence)
    return settings._replace(targeted=bool(settings.targeted), bounds=validation.check_bounds(settings.bounds))


def documents_options(attack: F) -> F:
    """Write the shared options into the docstring of an attack, in place of its entry `**options`."""
    text, entries = inspect.getdoc(attack) or "", (inspect.getdoc(Options) or "").partition("Args:\n")[2]
    attack.__doc__ = re.sub(r"^  \*\*options: .*\n(?:    .*\n)*", lambda _: entries.rstrip() + "\n", text, flags=re.M)
    return attack


class Problem(NamedTuple):
    """Checked images, and the rows of the result: one per budget and image, the images running fastest."""

    images: np.ndarray  # float32 [n, ...]
    labels: np.ndarray  # int32 [n]
    lower: np.ndarray  # float32 [n, ...], the box
    upper: np.ndarray
    extras: Any  # pytree of arrays [n, ...]
    budgets: np.ndarray  # float64 [K, n]
    has_several_budgets: bool
    image_of_row: np.ndarray  # int [K n]

    def examples(self, target_classes: np.ndarray, keys: np.ndarray) -> Callable[[np.ndarray], Example]:
        """Make a function from rows to their examples; target classes [n] and bits of keys [n, ...] are of images."""
        radii = validation.round_down_to_float32(self.budgets.reshape(-1))

        def examples_of(rows):
            image = self.image_of_row[rows]
            return Example(
                image=self.images[image],
                label=self.labels[image],
                target_class=target_classes[image],
                epsilon=radii[rows],
                lower=self.lower[image],
                upper=self.upper[image],
                key=keys[image],
                extras=jax.tree.map(lambda leaf: leaf[image], self.extras),
            )

        return examples_of


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
    epsilon: Any = np.inf,
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
      hyperparameters: pytree of numbers for the attack; other values are no other program.
      key: random key.
      epsilon: a number, or one per image (n,), or several budgets at once, increasing: (K, n) or (K, 1). Then every
        field of the result has an axis K in front, and what succeeds within a budget succeeds in every larger one.
      extras: pytree of arrays (n, ...), one row per image, for the attack.
      target_classes: (logits (n, classes), labels (n,)) -> (m, n), for losses of two classes: every restart is one
        search per target class, in turn, of the images that still stand.

    Returns:
      What became of each image.
    """
    problem = _check_problem(images, labels, epsilon, extras, settings)
    count, rows = len(problem.images), problem.image_of_row
    validation.check_counts(max_steps=max_steps)
    key = validation.check_key(key)
    image_ids = validation.check_image_ids(settings.image_ids, count)
    salt = np.uint32(zlib.crc32(spec.name.encode()))
    keys_of = lambda num_purposes: np.asarray(_key_bits(key, salt, image_ids, np.arange(num_purposes)))

    oracle = Oracle(model, settings.targeted, settings.criterion, settings.engine, float(settings.confidence))
    where, key_impl = placement(settings.batch_size or count, settings.devices), str(jax.random.key_impl(key))
    logits_of = BatchedModel(oracle, where, key_impl)
    keys = keys_of(settings.restarts + 2)
    clean_logits = validation.check_logits(logits_of(problem.images, keys[0]), problem.labels)
    is_finite = np.isfinite(clean_logits).all(axis=1)
    initially_wrong = oracle.judge(clean_logits, problem.labels)
    skipped = np.broadcast_to(False if settings.skip is None else settings.skip, problem.budgets.shape)
    attacked = (is_finite & ~initially_wrong & ~skipped).reshape(-1)

    classes = np.atleast_2d(target_classes(clean_logits, problem.labels) if target_classes else problem.labels)
    if len(classes) > 1:
        keys = keys_of(settings.restarts * len(classes) + 2)
    _, *search_keys, judge_keys = keys
    findings = Findings(problem.images[rows], spec)
    loop = Loop(spec, oracle, problem.images, problem.labels, where, key_impl)
    hyperparameters = jax.device_put(hyperparameters)
    with tqdm(total=0, desc=settings.progress, disable=settings.progress is None, unit="step") as bar:
        for search, image_keys in enumerate(search_keys):
            examples_of = problem.examples(classes[search % len(classes)].astype(np.int32), image_keys)
            queue = np.flatnonzero(attacked & ((spec.better is smaller_norm) | ~findings.is_adversarial))
            loop.run(examples_of, queue, findings, hyperparameters, max_steps, settings.early_stop, bar)

    returned = np.concatenate([findings.images, as_8bit(findings.images, settings.bounds)])
    logits, logits_8bit = np.split(logits_of(returned, np.tile(judge_keys[rows], (2, 1))), 2)
    ends_finite, row_labels = np.isfinite(logits).all(axis=1), problem.labels[rows]
    result = AttackResult(
        images=findings.images,
        success=attacked & oracle.judge(logits, row_labels),
        success_8bit=attacked & oracle.judge(logits_8bit, row_labels),
        initially_wrong=initially_wrong[rows],
        nonfinite=~ends_finite | ~is_finite[rows],
        distances=distances(findings.images, problem.images[rows]),
        epsilon=problem.budgets.reshape(-1),
        clean_predictions=np.where(is_finite, clean_logits.argmax(axis=1), -1)[rows],
        predictions=np.where(ends_finite, logits.argmax(axis=1), -1),
        first_success=findings.first_success,
        steps=findings.steps,
        queries=findings.queries,
        backward_passes=findings.backward_passes,
        attack=spec.name,
    )
    return merge_budgets(result, len(problem.budgets)) if problem.has_several_budgets else result


def _check_problem(images, labels, epsilon, extras, settings) -> Problem:
    images = validation.check_images(images, settings.bounds)
    labels = validation.check_labels(labels, len(images))
    budgets, has_several_budgets = validation.check_budgets(epsilon, len(images))
    lower, upper = validation.check_box(images, settings.mask, settings.bounds)
    image_of_row = np.tile(np.arange(len(images)), len(budgets))
    return Problem(images, labels, lower, upper, extras, budgets, has_several_budgets, image_of_row)


@jax.jit
def _key_bits(key, salt, image_ids, purposes):
    """Fold an attack's salt, the images' numbers and each purpose into the key: bits of keys [purposes, n, ...].

    Bits, because rows are gathered on the host, where NumPy holds no keys.
    """
    salted = jax.random.fold_in(key, salt)
    fold = lambda purpose, image: jax.random.key_data(jax.random.fold_in(jax.random.fold_in(salted, image), purpose))
    return jax.vmap(jax.vmap(fold, (None, 0)), (0, None))(purposes, image_ids)
