"""Do the pictures of a batch influence each other, as in a network in training mode?"""

from typing import Any

import jax
import numpy as np

from diffprog._util.warning import warn
from diffprog.models._model import Model

TOLERANCE = 1e-3  # of the largest answer: more than rounding


def warn_of_mixing(model: Model) -> None:
    """Warn if an image's answer depends on the others in its batch, or on its place among them; the network is run."""
    if _mixes(model):
        warn(
            f"{model.name}: what it says of an image depends on the other images of its batch. Is it in training mode? "
            "Then call net.eval(), or give it train=False or use_running_average=True"
        )


def _answer(model, parameters, images) -> Any:
    """Compute the last of the layers, the logits as a rule."""
    *_, (_, answer) = model.values(parameters, images)
    return answer


def _mixes(model) -> bool:
    """Compare the answers to one image beside two others, and in another place."""
    one, second, third = np.random.default_rng(0).uniform(size=(3, *model.shape)).astype(np.float32)
    answer = jax.jit(lambda parameters, images: _answer(model, parameters, images))
    beside, other, behind = (
        np.asarray(answer(model.parameters, np.stack(pair)), np.float32)
        for pair in ((one, second), (one, third), (second, one))
    )
    difference = max(np.abs(beside[0] - other[0]).max(), np.abs(beside[0] - behind[1]).max())
    return bool(difference > TOLERANCE * np.abs(beside).max())
