"""The images of an evaluation as they are: what they contain, and what the model says of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from diffprog._util.fingerprint import fingerprint
from diffprog._util.kept_results import NO_BUDGETS, Results
from diffprog.attack._evaluation.verdicts import classes

CLEAN_NAMES = ("labels", "content", "logits", "predictions", "is_wrong")
CLOSE = 1e-3  # of the largest logit: what other devices may round differently, and other weights exceed


def predict_clean(
    store: Results,
    folder: Path,
    ask: Callable[[np.ndarray, np.ndarray], np.ndarray],
    judge: Callable[[np.ndarray, np.ndarray], np.ndarray],
    images: np.ndarray,
    labels: np.ndarray,
    image_ids: np.ndarray,
    is_compared: bool,
) -> dict[str, np.ndarray]:
    """Ask the model about a batch, or read what is kept; refuse other images and labels, and another model.

    Args:
        store: Where it is kept.
        folder: The evaluation's, for messages.
        ask: From images and their ids to logits [n, classes].
        judge: From logits and labels to what counts as broken, bool [n].
        images: The batch.
        labels: Its labels.
        image_ids: Its images' numbers in the data set.
        is_compared: Whether the model is asked again about images whose logits are kept, to compare them.

    Returns:
        `CLEAN_NAMES`: "predictions" are -1 where logits are not finite, "is_wrong" tells what is broken from the start.
    """
    content = np.array([fingerprint(image, label) for image, label in zip(images, labels, strict=True)])
    is_missing = store.missing(NO_BUDGETS, image_ids)[0]
    is_kept = ~is_missing
    if is_kept.any():
        known = store.gather(NO_BUDGETS, image_ids[is_kept])
        changed = image_ids[is_kept][known["content"][0] != content[is_kept]]
        if len(changed):
            raise ValueError(
                f"{folder} holds an evaluation of other images or labels (image {changed[0]}): give another directory, "
                "or the same in the same order"
            )
        if is_compared and not _are_close(known["logits"][0], ask(images[is_kept], image_ids[is_kept])):
            raise ValueError(
                f"{folder} holds an evaluation of another model (its logits differ): give another directory, or the "
                "same model"
            )
    if is_missing.any():
        logits = ask(images[is_missing], image_ids[is_missing])
        is_wrong = judge(logits, labels[is_missing])
        values = (labels[is_missing], content[is_missing], logits, classes(logits), is_wrong)
        arrays = {name: value[None] for name, value in zip(CLEAN_NAMES, values, strict=True)}
        store.save(NO_BUDGETS, image_ids[is_missing], arrays)
    arrays = store.gather(NO_BUDGETS, image_ids)
    return {name: arrays[name][0] for name in CLEAN_NAMES}


def _are_close(logits: np.ndarray, others: np.ndarray) -> bool:
    """Compare logits up to what other devices may round differently."""
    if logits.shape != others.shape:
        return False
    largest = np.abs(others[np.isfinite(others)]).max(initial=0.0)
    return bool(np.allclose(logits, others, rtol=0, atol=CLOSE * largest, equal_nan=True))
