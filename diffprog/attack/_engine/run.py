"""Every attack goes this way: what comes in is checked, searched for by the one loop, and judged as it goes out."""

import zlib
from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import jax
import numpy as np
from tqdm import tqdm

from diffprog.attack._engine import border
from diffprog.attack._engine.loop import Loop, Trace
from diffprog.attack._engine.method import Example, ExpectationOverTransformation, Method, Oracle, smaller
from diffprog.attack._engine.result import AttackResult, as_8bit, distances, monotone


class Options(TypedDict, total=False):
    """What every attack takes besides its own arguments.

    targeted:   labels are the classes to reach, not to leave.
    criterion:  `(logits [n, classes], labels [n]) -> bool [n]`: what counts as a success instead.
    mask:       bool, of the shape of the images, of one image, or with a size of 1 where it does not vary: what may
                change.
    bounds:     (lowest, highest) value of a pixel, (0, 1) unless given.
    restarts:   searches from fresh random starts; after the first, of the images that are still standing. The best of
                an image is kept.
    early_stop: an image's search ends with its first success. Without it (the default), a search within a budget goes
                on to the highest loss.
    batch:      rows of a compiled batch; the number of images unless given. More images wait in a queue. Results are
                equal bit for bit wherever `batch` is, whatever else shares it, and equal to rounding otherwise.
    numbers:    int [n], the images' numbers in their data set, 0 .. n-1 unless given: an image's random draws come from
                the key, the attack's name and this number.
    devices:    over which the rows of a batch are divided; `batch` is rounded up to a multiple of their number.
    engine:     whose gradients, "diffprog" or "jax".
    skip:       bool [n], or of several budgets [K, n]: images that are not attacked, and come back as failures.
    progress:   a caption, which switches on a progress bar.
    """

    targeted: bool
    criterion: Callable | None
    mask: Any
    bounds: tuple[float, float]
    restarts: int
    early_stop: bool
    batch_size: int | None
    image_ids: Any
    devices: Sequence[jax.Device] | None
    engine: str
    skip: Any
    progress: str | None


def search(
    model: Callable | ExpectationOverTransformation,
    images,
    labels,
    method: Method,
    *,
    max_steps: int,
    key=None,
    epsilon=np.inf,
    given=None,
    extra=None,
    target_classes=None,
    skip=None,
    confidence=0.0,
    targeted=False,
    criterion=None,
    mask=None,
    bounds=(0.0, 1.0),
    restarts=1,
    early_stop=False,
    batch_size=None,
    image_ids=None,
    devices=None,
    engine="diffprog",
    progress=None,
) -> AttackResult:
    """Run `method` on every image for `steps` steps; what is not said here is in `Options`.

    epsilon: a number, or one per image [n], or several budgets at once, increasing: [K, n] or [K, 1]. Then every field
        of the result has an axis K in front, and what succeeds within a budget succeeds within every larger one.
    given:   a pytree of numbers for `method`: another value is no other program.
    extra:   a pytree of arrays [n, ...], one row per image, for `method`.
    rivals:  int [n], for losses of two classes, or [m, n]: a search after each other, in every restart, of the images
             that are still standing; or a function (logits [n, classes], labels [n]) -> such an array.
    confidence: the lead of the winning class that the search must reach; what is returned is judged without it.
    """
    images = border.checked_images(images, bounds)
    count = len(images)
    labels = border.checked_labels(labels, count)
    budgets, several = border.checked_budgets(epsilon, count)
    border.checked_counts(
        max_steps=max_steps, restarts=restarts, batch_size=count if batch_size is None else batch_size
    )
    lower, upper = border.checked_box(images, mask, bounds)
    key = border.checked_key(key)
    image_ids = border.checked_image_ids(image_ids, count)
    oracle = Oracle(model, bool(targeted), criterion, engine, float(confidence))
    loop = Loop(method, oracle, count if batch_size is None else batch_size, devices, str(jax.random.key_impl(key)))
    name = np.uint32(zlib.crc32(method.name.encode()))
    folded = lambda salts: np.asarray(_keys(key, name, image_ids, np.asarray(salts)))

    keys = folded(range(restarts + 2))
    original = border.checked_logits(loop.logits(images, keys[0]), labels)
    valid = np.isfinite(original).all(axis=1)
    initially_wrong = loop.oracle.verdict(original, labels)
    standing = (valid & ~initially_wrong & ~np.broadcast_to(False if skip is None else skip, budgets.shape)).reshape(-1)

    of = np.tile(np.arange(count), len(budgets))  # which image a row of the result belongs to
    radius = border.float32_at_most(budgets.reshape(-1))
    target_classes = (
        labels
        if target_classes is None
        else target_classes(original, labels)
        if callable(target_classes)
        else np.asarray(target_classes)
    )
    target_classes = [border.checked_labels(each, count) for each in np.atleast_2d(target_classes)]
    if len(target_classes) > 1:
        keys = folded(range(restarts * len(target_classes) + 2))
    _, *drawn, last_look = keys
    trace, given = Trace(images[of], method), jax.device_put(given)
    with tqdm(total=0, desc=progress, disable=progress is None, unit="step") as bar:
        for number, own_keys in enumerate(drawn):
            target_class = target_classes[number % len(target_classes)]

            def example(rows, keys=own_keys, target_class=target_class):
                at = of[rows]
                own = jax.tree.map(lambda leaf: leaf[at], extra)
                return Example(
                    images[at], labels[at], target_class[at], radius[rows], lower[at], upper[at], keys[at], own
                )

            queue = np.flatnonzero(standing & ((method.better is smaller) | ~trace.hit))
            loop.run(example, queue, trace, given, max_steps, early_stop, bar)

    returned = np.concatenate([trace.images, as_8bit(trace.images, bounds)])
    logits, rounded = np.split(loop.logits(returned, np.tile(last_look[of], (2, 1))), 2)
    valid_after = np.isfinite(logits).all(axis=1)
    result = AttackResult(
        images=trace.images,
        success=standing & loop.oracle.verdict(logits, labels[of]),
        success_8bit=standing & loop.oracle.verdict(rounded, labels[of]),
        initially_wrong=initially_wrong[of],
        nonfinite=~valid_after | ~valid[of],
        distances=distances(trace.images, images[of]),
        epsilon=budgets.reshape(-1),
        clean_predictions=np.where(valid, original.argmax(axis=1), -1)[of],
        predictions=np.where(valid_after, logits.argmax(axis=1), -1),
        first_success=trace.first,
        steps=trace.steps,
        queries=trace.queries,
        backward_passes=trace.gradients,
        attack=method.name,
    )
    return monotone(result, len(budgets)) if several else result


@jax.jit
def _keys(key, name, image_ids, salts):
    """The bits of keys [salts, n, ...] from an attack's name, the images' numbers, and what each key is for."""
    named = jax.random.fold_in(key, name)
    each = lambda salt, number: jax.random.key_data(jax.random.fold_in(jax.random.fold_in(named, number), salt))
    return jax.vmap(jax.vmap(each, (None, 0)), (0, None))(salts, image_ids)
