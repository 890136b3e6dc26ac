"""What each name of `diffprog attribute --method` runs: a function of `diffprog.attribute`, and its settings."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np

from diffprog import attribute
from diffprog._util.tables import text_table
from diffprog.attribute import Attribution
from diffprog.models import Model


class Recipe(NamedTuple):
    """How a method is run on a photograph.

    Attributes:
      title: for the sheet.
      method: name of the function in `diffprog.attribute`.
      options: its settings, beside the network, the image and the score.
      takes_baseline: whether `--baseline` is for it.
      is_relative: whether only differences of its values mean something, so that their mean is taken off.
    """

    title: str
    method: str
    options: Mapping[str, Any] = {}
    takes_baseline: bool = False
    is_relative: bool = False

    def run(
        self, model: Model, images: np.ndarray, score: Any, baseline: Any, seed: int, engine: str, progress: str | None
    ) -> Attribution:
        """Attribute one picture.

        Args:
          model: a network.
          images: (1, height, width, channels).
          score: what is explained.
          baseline: what the picture is compared with; None for the recipe's own.
          seed: decides random draws.
          engine: whose gradients.
          progress: caption of a progress bar.
        """
        method = getattr(attribute, self.method)
        settings = {key: value(images) if callable(value) else value for key, value in self.options.items()}
        if baseline is not None and self.takes_baseline:
            settings["baseline"] = baseline
        takes = inspect.signature(method).parameters
        for name, value in (("key", jax.random.key(seed)), ("engine", engine), ("progress", progress)):
            if name in takes:
                settings[name] = value
        result = method(model, images, score, **settings)
        if not self.is_relative:
            return result
        return replace(result, values=result.values - result.values.mean(axis=(1, 2, 3), keepdims=True))


def grays(images: np.ndarray) -> np.ndarray:
    """Make pictures of one gray each, from black to white: a set of baselines that favors no brightness."""
    return np.linspace(0, 1, 16, dtype=np.float32)[:, None, None, None] * np.ones_like(images)


def _blurred(images):
    return attribute.baselines.blurred(10.0)


def _mean(images):
    return attribute.baselines.mean()


def _segments(images):
    return attribute.features.segments(images, 40)


def _grid(images):
    return attribute.features.grid(7)


def _composite(images):
    return attribute.rules.epsilon_gamma_box(0.0, 1.0)


MIDDLE, LAST = "blocks.10", "head"
# The first sixteen are on the sheet that is drawn if none is named.
ALL = {
    "gradient": Recipe("gradient", "gradient"),
    "gradient_times_input": Recipe("gradient x input", "gradient_times_input", takes_baseline=True),
    "smooth_gradient": Recipe("SmoothGrad, 25 samples", "smooth_gradient", {"samples": 25}),
    "variance_of_gradient": Recipe("VarGrad, 25 samples", "smooth_gradient", {"samples": 25, "moment": "variance"}),
    "integrated_gradients_20": Recipe(
        "integrated gradients, 20", "integrated_gradients", {"steps": 20}, takes_baseline=True
    ),
    "integrated_gradients_until": Recipe(
        "the same until gap < 5%",
        "integrated_gradients",
        {"steps": 40, "until_gap": 0.05, "max_steps": 640},
        takes_baseline=True,
    ),
    "integrated_gradients_blurred": Recipe(
        "from the blurred picture", "integrated_gradients", {"steps": 50, "baseline": _blurred}
    ),
    "expected_gradients": Recipe("expected gradients, grays", "expected_gradients", {"samples": 64, "baseline": grays}),
    "deeplift": Recipe("DeepLIFT", "deeplift", takes_baseline=True),
    "lrp": Recipe("LRP, gamma and box rules", "lrp", {"rules": _composite}),
    "guided_backprop": Recipe("guided backprop", "guided_backprop"),
    "deconvnet": Recipe("deconvnet", "deconvnet"),
    "grad_cam": Recipe("Grad-CAM, last layer", "grad_cam", {"at": LAST}),
    "gradient_times_last": Recipe("gradient x last layer", "gradient_times_input", {"at": LAST}),
    "occlusion": Recipe("occlusion, 28 x 28", "occlusion", {"window": 28, "stride": 14, "baseline": _mean}),
    "lime": Recipe(
        "LIME, 40 segments", "lime", {"features": _segments, "samples": 300, "strength": 1e-3, "baseline": _mean}
    ),
    "kernel_shap": Recipe("KernelSHAP, 7 x 7", "kernel_shap", {"features": _grid, "samples": 400, "baseline": _mean}),
    "integrated_gradients": Recipe(
        "integrated gradients, 50", "integrated_gradients", {"steps": 50}, takes_baseline=True
    ),
    "integrated_gradients_mean": Recipe(
        "from its mean color", "integrated_gradients", {"steps": 50, "baseline": _mean}
    ),
    "internal_influence": Recipe("influence, middle layer", "internal_influence", {"at": MIDDLE, "steps": 20}),
    "gradient_times_middle": Recipe("gradient x middle layer", "gradient_times_input", {"at": MIDDLE}),
    "lrp_epsilon": Recipe("LRP, epsilon", "lrp"),
    "rise": Recipe("RISE less its mean", "rise", {"samples": 500, "baseline": _mean}, is_relative=True),
}
RECIPES = {name: recipe for name, recipe in ALL.items() if hasattr(attribute, recipe.method)}
BASELINES: dict[str, Callable[[], Any]] = {
    "black": lambda: 0.0,
    "gray": lambda: 0.5,
    "white": lambda: 1.0,
    "blurred": lambda: attribute.baselines.blurred(10.0),
    "mean": lambda: attribute.baselines.mean(),
}


def table() -> str:
    """Write what can be asked for as a table."""
    rows = [("name", "function", "settings", "what it does")]
    for name, recipe in RECIPES.items():
        settings = ", ".join(f"{key}={_written(value)}" for key, value in recipe.options.items())
        line = (inspect.getdoc(getattr(attribute, recipe.method)) or "").partition("\n")[0]
        rows.append((name, recipe.method, settings, line))
    return "\n".join(text_table(rows))


def _written(value):
    return value.__name__.strip("_") if callable(value) else repr(value)
