"""DeepDream: a photograph into which a network sees ever more of what it already sees there.

```python
dream(model, layer("blocks.9"), photograph, key=jax.random.key(0)).image
```

After Mordvintsev, Olah and Tyka 2015, "Inceptionism": gradient ascent on the photograph itself, from coarse to fine
(octaves), on a picture that is rolled about in each step, by steps of equal strength.
"""

from functools import partial
from math import ceil
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from diffprog._util.numbers import check_count, check_positive
from diffprog._util.promotion import own_promotion
from diffprog._util.random_keys import random_key
from diffprog._util.spelling import answers_names
from diffprog.images import resize
from diffprog.images._checks import check_array
from diffprog.images._filters import gaussian_blur, resize_linear
from diffprog.models import Model
from diffprog.optimize import Descent
from diffprog.visualize._deepdream.tiles import tiled
from diffprog.visualize._rendering.batching import measure, plan
from diffprog.visualize._rendering.fitting import picture_shape
from diffprog.visualize._rendering.program import network_data
from diffprog.visualize._spelling import MEANT
from diffprog.visualize.objectives._base import PICTURE, Objective

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue (ITU-R BT.601)
STRENGTHS = {"mean": lambda gradient: jnp.mean(jnp.abs(gradient)), "std": jnp.std}


class Dream(NamedTuple):
    """A dream and how it came about.

    Attributes:
      image: (height, width, channels) in [0, 1].
      octaves: The picture at the end of each octave, from small to large; the last is `image`.
      scores: (octaves, steps), the objective before each step, as rolled.
    """

    image: np.ndarray
    octaves: tuple[np.ndarray, ...]
    scores: np.ndarray


@answers_names(MEANT)
@own_promotion()
def dream(
    model: Model,
    objective: Objective,
    photograph: np.ndarray,
    *,
    key: jax.Array,
    octaves: int = 4,
    scale: float = 1.4,
    steps: int = 20,
    learning_rate: float = 0.008,
    jitter: int = 32,
    normalize: str = "mean",
    smooth: float = 0.5,
    mask: np.ndarray | None = None,
    keep_colors: bool = False,
    tile: int = 512,
    overlap: int = 64,
    engine: str = "diffprog",
    progress: str | None = None,
) -> Dream:
    """Change a photograph so that an objective rises.

    A network that takes pictures of one size only sees each octave resized to it.

    A picture with a side longer than `tile` is seen in windows, one at a time, so that memory is bounded. The gradient
    is the whole picture's if windows and overlap are multiples of the network's stride and the overlap covers twice
    what a unit sees to one side. A smaller overlap leaves seams, which the jitter moves about.

    One program is compiled for each octave's size, and used again for photographs of that size, for other channels of
    the layer and for other guides of that size. Equal arguments give equal bits.

    Args:
      model: The network.
      objective: What the photograph is to excite.
      photograph: Array (height, width, channels) in [0, 1].
      key: A JAX random key.
      octaves: Number of sizes; the last is the photograph's own. What was dreamt at one size is enlarged and added to
        the photograph at the next, which so keeps its own fine detail.
      scale: Factor between sizes, above 1.
      steps: Number of ascent steps in each octave.
      learning_rate: Length of a step, in units of the picture's range.
      jitter: Pixels by which the picture is rolled at most, up, down and sideways, before each step's gradient.
      normalize: The gradient is divided by its "mean" absolute value or by its "std", so that steps are equally strong.
      smooth: Standard deviation, in pixels, around which the gradient is blurred; 0 for none.
      mask: Array (height, width) in [0, 1]: where the photograph may change, and how much of the change shows.
      keep_colors: Change only the luminance of red, green and blue.
      tile: Side of a window in pixels.
      overlap: Pixels that a window sees beyond the part that it changes.
      engine: Gradients by "diffprog" or by "jax".
      progress: A caption, which switches on a progress bar with the time left.

    Returns:
      A `Dream`.

    Raises:
      ValueError: For an unknown layer, channel or class, for arguments out of range, and for a photograph whose
        smallest octave is too small for the network.

    References:
      Mordvintsev et al. 2015, "Inceptionism: Going Deeper into Neural Networks".
    """
    picture_shape(model)
    key, photograph = random_key(key), model.check_image(photograph)
    octaves, steps = check_count(octaves, "octaves"), check_count(steps, "steps")
    sizes = octave_sizes(model, photograph.shape[:2], octaves, scale)
    size = photograph.shape[:2]
    mask = np.ones(size, np.float32) if mask is None else check_array(mask, (size,), "the mask")
    _check_ascent(steps, learning_rate, jitter, smooth, normalize)
    if keep_colors and model.channels != 3:
        raise ValueError(f"colors are of red, green and blue; {model.name} takes images of {model.channels} channels")
    _check_tile(model, tile, overlap)
    plans = [_plan(model, objective.check(model), size, tile) for size in sizes]
    layout = plans[0].layout
    names = tuple(sorted({name for group in layout for kind in group.terms for name in kind.layers} - {PICTURE}))
    collect, network = network_data(model, names, (1, *_seen(model, sizes[0], tile), model.channels))
    options = learning_rate, jitter, smooth, normalize, keep_colors, tile, overlap, engine
    make = lambda: _loop(collect, partial(_seen, model, tile=tile), names, layout, *options)
    loop = model.kept(("dream", layout, *options), make)
    detail = np.zeros((*sizes[0], model.channels), np.float32)
    pictures, scores = [], []
    with tqdm(total=octaves * steps, desc=progress, disable=progress is None) as bar:
        for octave, size in enumerate(sizes):
            base, shown = resized(photograph, size).clip(0, 1), resized(mask, size).clip(0, 1)
            start = (base + resized(detail, size)).clip(0, 1)
            state = loop.init(start, key=jax.random.fold_in(key, octave))
            data = network, plans[octave].arguments, base, shown
            state, history = loop.run(state, steps, data=data, block_size=10, progress=bar)
            _check_finite(objective, history.value, size)
            detail = np.asarray(state.parameters) - base
            pictures.append(np.asarray(_shown(state.parameters, base, shown, keep_colors)))
            scores.append(history.value)
    return Dream(pictures[-1], tuple(pictures), np.stack(scores))


def _plan(model, objective, size, tile):
    """Sort the objective into what is compiled and what is data, for a picture of `size` seen in windows."""
    at_size = model.layers_at(*_seen(model, size, tile))
    shapes = {name: at_size[model.layer_name(name)] for name in objective.layers - {PICTURE}}
    return plan([objective], model, shapes | {PICTURE: (min(size[0], tile), min(size[1], tile), model.channels)})


def _seen(model, size, tile):
    """Find the size in which the network sees a window: its own if it takes no other."""
    window = min(size[0], tile), min(size[1], tile)
    return window if model.takes(*window) else picture_shape(model)[:2]


def _loop(collect, seen, names, layout, learning_rate, jitter, smooth, normalize, keep_colors, tile, overlap, engine):
    """Make the loop; its data are (the network's, objective's arguments, photograph, mask)."""

    def ascend(picture, step):
        network, arguments, base, mask = step.data

        def score(image):
            sides = seen(image.shape[:2])
            shown = image if sides == image.shape[:2] else resize_linear(image, (*sides, image.shape[2]))
            values = (collect(network, shown[None], names) if names else {}) | {PICTURE: image[None]}
            return measure(layout, arguments, values, 1)[0][0]

        shift = jax.random.randint(step.key, (2,), -jitter, jitter + 1, jnp.int32)
        return tiled(score, jnp.roll(_shown(picture, base, mask, keep_colors), shift, (0, 1)), tile, overlap)

    optimizer = optax.chain(
        optax.stateless(lambda gradient, _: smoothed(gradient, smooth)),
        optax.stateless(lambda gradient, _: gradient / (STRENGTHS[normalize](gradient) + 1e-12)),
        optax.scale(-learning_rate),
    )
    return Descent(
        ascend,
        optimizer,
        project=lambda picture, _: jnp.clip(picture, 0, 1),
        maximize=True,
        engine=engine,
        allow_nonfinite=True,  # the caller looks at the values
    )


def _shown(picture, base, mask, keep_colors):
    """Show the dream through its mask: the network sees just what the user will.

    Mask and clipping stay out of the gradient: the mask would weigh in the strength by which a step is divided, and a
    pixel at the end of its range could never return.
    """
    still, change = jax.lax.stop_gradient, picture - base
    if keep_colors:
        change = jnp.repeat((change @ LUMA)[..., None], 3, axis=-1)
    return still(jnp.clip(base + mask[..., None] * change, 0, 1)) + (change - still(change))


def smoothed(image: jax.Array, deviation: float) -> jax.Array:
    """Average three Gaussian blurs, of half, once and twice the deviation in pixels; (h, w, c), zero outside."""
    if deviation == 0:
        return image
    deviations = (deviation / 2, deviation, 2 * deviation)
    blurred = [gaussian_blur(image, width, ceil(3 * width), edge="zero") for width in deviations]
    return (blurred[0] + blurred[1] + blurred[2]) / 3


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize an image (h, w) or (h, w, c) of any range."""
    return resize(image, *size, to_8_bits=False)


def octave_sizes(model: Model, size: tuple[int, int], octaves: int, scale: float) -> list[tuple[int, int]]:
    """Compute the (height, width) of each octave, from small to large."""
    if octaves < 1 or scale <= 1:
        raise ValueError(f"octaves must be at least 1 and scale above 1; found octaves={octaves}, scale={scale}")
    height, width = size
    factors = [scale**smaller for smaller in reversed(range(octaves))]
    sizes = [(round(height / factor), round(width / factor)) for factor in factors]
    if min(sizes[0]) < model.min_size:
        raise ValueError(
            f"{model.name} takes images of {model.min_size} pixels or more, but the smallest of {octaves} octaves of "
            f"{size[0]} x {size[1]} is {sizes[0][0]} x {sizes[0][1]}: use fewer octaves or a larger photograph"
        )
    return sizes


def _check_ascent(steps, learning_rate, jitter, smooth, normalize):
    if normalize not in STRENGTHS:
        raise ValueError(f"a gradient is normalized by 'mean' or 'std'; found {normalize!r}")
    check_count(steps, "steps")
    check_positive(learning_rate, "learning_rate")
    check_count(jitter, "jitter", 0)
    if smooth != 0:
        check_positive(smooth, "smooth")


def _check_finite(objective, scores, size):
    if not np.isfinite(scores).all():
        raise ValueError(
            f"{objective.name} is {scores[-1]} for a picture of {size[0]} x {size[1]}; expected a finite number: "
            "look at the objective and at the network's parameters"
        )


def _check_tile(model, tile, overlap):
    if overlap < 0 or tile < model.min_size or tile <= 2 * overlap:
        raise ValueError(
            f"a tile has {model.min_size} pixels or more for {model.name}, and more than twice the overlap; "
            f"found tile={tile}, overlap={overlap}"
        )
