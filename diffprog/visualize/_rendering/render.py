"""Draw what units respond to: pictures that excite an objective, a batch of units in one compiled program.

A program is compiled once for each network, layout of objectives (which layers are read how, not which units), number
of pictures and of transformed copies, parameterization, transform, optimizer and engine; once to decode; and once more
if a unit of such a batch was dead at the start. The latest 32 programs of a network are kept and freed
with it.
"""

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from tqdm import tqdm

from diffprog._util.numbers import check_count, check_positive
from diffprog._util.promotion import own_promotion
from diffprog._util.spelling import answers_names
from diffprog._util.warning import warn
from diffprog.models import Model
from diffprog.optimize import value_and_grad
from diffprog.visualize import transforms
from diffprog.visualize._rendering.ascent import (
    Loop,
    NotFiniteError,
    Segment,
    ascend,
    first_state,
    is_finite,
    joined_terms,
    unread_as_zero,
)
from diffprog.visualize._rendering.batching import plan, term_histories
from diffprog.visualize._rendering.fitting import as_transform, extent, fitting, picture_shape
from diffprog.visualize._rendering.program import (
    Data,
    Setting,
    adam,
    choose_pictures,
    decoder,
)
from diffprog.visualize._rendering.sharding import spread
from diffprog.visualize._spelling import MEANT
from diffprog.visualize.objectives._base import PICTURE, Objective
from diffprog.visualize.parameterizations import Parameterization, fourier
from diffprog.visualize.transforms import Transform


@dataclass(frozen=True)
class Rendering:
    """Pictures and how they came about; all arrays are NumPy's.

    Attributes:
      images: (n, height, width, channels) in [0, 1].
      scores: (steps, n), each picture's objective before each step, measured under that step's random transforms.
      term_histories: For each picture a dict from a term of its objective to the term's unweighted history (steps,).
      snapshots: From a number of steps to the pictures (n, height, width, channels) after as many.
      reached: (n,), the step at which a picture reached its score `stop_at` and was kept; -1 if it did not.
      was_dead: (n,), whether a picture got its first gradients through rectifiers that were off.
    """

    images: np.ndarray
    scores: np.ndarray
    term_histories: tuple[dict[str, np.ndarray], ...] = field(repr=False)
    snapshots: dict[int, np.ndarray] = field(repr=False)
    reached: np.ndarray
    was_dead: np.ndarray


@answers_names(MEANT)
@own_promotion()
def render(
    model: Model,
    objective: Objective | Sequence[Objective],
    *,
    key: jax.Array,
    parameterization: Parameterization | None = None,
    transform: Transform | Sequence[Transform] | None = transforms.lucid,
    num_transforms: int = 1,
    steps: int = 256,
    learning_rate: float = 0.05,
    optimizer: optax.GradientTransformation | None = None,
    num_images: int | None = None,
    start: np.ndarray | None = None,
    stop_at: ArrayLike | None = None,
    snapshots: Iterable[int] = (),
    image_ids: ArrayLike | None = None,
    engine: str = "diffprog",
    progress: str | tqdm | None = None,
) -> Rendering:
    """Draw pictures that excite an objective, by gradient ascent under random transforms.

    The ascent is Adam's in a preconditioned space (Olah et al. 2017, "Feature Visualization").

    Equal arguments give equal bits. A picture depends on `key` and its id, and not on the rest of its batch (beyond
    rounding, and except for objectives that compare pictures). Ascent through many ReLUs amplifies rounding: two
    engines, or two machines, draw pictures that agree at first and differ in detail after some ten steps. Several
    devices share the pictures, as many devices as divide n.

    A unit is dead at the start if the layers that its objective reads stay constant for the first 16 steps: it is
    behind rectifiers that are off. Its picture starts again with gradients that pass these rectifiers for 16 steps.

    Args:
      model: The network, a `diffprog.models.Model`.
      objective: An `Objective`, or a list of n objectives, each drawn in a picture of its own in one batch.
      key: A JAX random key, or a seed.
      parameterization: How pictures are written; `fourier(model.size)` by default.
      transform: A transform, or a list to be chained, drawn anew for every picture and step; None for none. Where
        the network does not take pictures of the resulting size, they are resized to its own.
      num_transforms: Transformed copies of each picture per step, whose scores are averaged.
      steps: Number of ascent steps.
      learning_rate: Adam's learning rate.
      optimizer: An Optax gradient transformation in place of Adam. Reuse one object: programs are compiled for it.
      num_images: Number of pictures of a single objective, 1 by default. With `diversity` in the objective, they
        show several sides of one unit.
      start: A photograph (height, width, channels), or n of them, to start from; noise by default.
      stop_at: A score, or one per picture. A picture that reaches it is kept as it is; when all have, the ascent ends.
      snapshots: Numbers of steps after which the pictures are kept.
      image_ids: n whole numbers on which the pictures' random draws depend; 0 .. n - 1 by default.
      engine: Gradients by "diffprog" or by "jax".
      progress: A caption, which switches on a progress bar; or a `tqdm` bar of your own.

    Returns:
      A `Rendering`.

    Raises:
      ValueError: For an unknown layer, channel, class or engine, for pictures that are too small, or for an objective
        that is not finite.
    """
    value_and_grad(engine)  # refuse an unknown engine first
    objectives = _as_list(objective, num_images)
    n = len(objectives)
    height, width, channels = picture_shape(model)
    parameterization = _check_parameterization(parameterization or fourier(*extent(height, width), channels=channels))
    transform = fitting(model, as_transform(transform), parameterization.height, parameterization.width)
    layers = model.check_layers(sorted(set().union(*(objective.layers for objective in objectives)) - {PICTURE}))
    layout, arguments = plan(objectives, model, _layer_shapes(model, layers, parameterization, transform))
    setting = Setting(
        layout=layout,
        layers=layers,
        num_images=n,
        parameterization=parameterization,
        transform=transform,
        num_transforms=check_count(num_transforms, "num_transforms"),
        optimizer=optimizer or adam(check_positive(learning_rate, "learning_rate")),
        has_stop=stop_at is not None,
        engine=engine,
    )
    max_steps = check_count(steps, "steps")
    data = spread(Data(None, arguments, _check_image_ids(image_ids, n), _check_stop_at(stop_at, n)), n)
    shown = {check_count(step, "each of snapshots", 0) for step in snapshots}
    if shown and max(shown) > max_steps:
        warn(f"no snapshot is taken after {max(shown)} steps: there are {max_steps}")
        shown = {step for step in shown if step <= max_steps}
    with nullcontext(progress) if isinstance(progress, tqdm) else _bar(progress, max_steps) as bar:
        loop = Loop(model, setting, data)
        state = first_state(loop, key, start)
        try:
            segments, was_dead = ascend(loop, objectives, state, shown, max_steps, bar)
        except NotFiniteError as error:
            if error.step == 0 or is_finite(loop.normal.data.network):
                raise
            loop = Loop(model, setting, data, unread_as_zero)
            segments, was_dead = ascend(loop, objectives, state, shown, max_steps, bar)
    return _rendering(setting, objectives, [Segment(state, None), *segments], shown, was_dead)


def _rendering(setting, objectives, segments, snapshots, was_dead):
    """Collect the results; the first segment is the start, without steps."""
    decode = decoder(setting.parameterization)
    state, histories = segments[-1].state, segments[1:]
    parameters, reached = state.parameters, np.full(setting.num_images, -1)
    if setting.has_stop:
        reached = np.asarray(state.tracked.step)
        parameters = choose_pictures(state.tracked.step >= 0, state.tracked.parameters, parameters)
    states = {int(segment.state.num_steps): segment.state for segment in segments}
    return Rendering(
        images=np.asarray(decode(parameters)),
        scores=np.concatenate([segment.history.aux.scores for segment in histories]),
        term_histories=term_histories(objectives, setting.layout, joined_terms(histories)),
        snapshots={step: np.asarray(decode(states[step].parameters)) for step in sorted(snapshots & set(states))},
        reached=reached,
        was_dead=was_dead,
    )


# ---------------------------------------------------------------- arguments


def _as_list(objective, num_images):
    if isinstance(objective, Objective):
        return [objective] * check_count(1 if num_images is None else num_images, "num_images")
    objectives = list(objective)
    if not objectives or not all(isinstance(x, Objective) for x in objectives) or num_images is not None:
        raise ValueError(
            "render takes an objective (and num_images), or a list of objectives; "
            f"found {objectives!r:.80}, num_images={num_images}"
        )
    return objectives


def _layer_shapes(model, layers, parameterization, transform):
    """Find the shapes of the layers, for pictures as the network gets them, and of the picture itself."""
    height, width = transform.size(parameterization.height, parameterization.width)
    if min(height, width) < model.min_size:
        side = min(height, width)
        raise ValueError(f"{model.name} takes images of {model.min_size} pixels or more; found {side} after transforms")
    picture = jax.ShapeDtypeStruct(parameterization.shape, jnp.float32)
    transformed = jax.eval_shape(lambda key, image: transform(key, image), jax.random.key(0), picture)
    if transformed.shape[-1] != model.channels:
        raise ValueError(f"{model.name} takes images of {model.channels} channels; found {transformed.shape[-1]}")
    shapes = model.layers_at(height, width)
    read = {name: shapes[model.layer_name(name)] for name in layers}
    for name, shape in read.items():
        if 0 in shape:
            raise ValueError(f"{name} is empty for images of {height} x {width} pixels; draw larger pictures")
    return read | {PICTURE: parameterization.shape}


def _check_stop_at(stop_at, n):
    if stop_at is None:
        return None
    scores = np.broadcast_to(np.asarray(stop_at, np.float32), (n,)) if np.ndim(stop_at) == 0 else np.asarray(stop_at)
    if scores.shape != (n,) or np.isnan(scores).any():
        raise ValueError(f"stop_at must be a number, or one for each of {n} pictures; found {stop_at!r}")
    return jnp.asarray(scores, jnp.float32)


def _check_image_ids(image_ids, n):
    image_ids = np.arange(n) if image_ids is None else np.asarray(image_ids)
    if image_ids.shape != (n,) or image_ids.dtype.kind not in "iu" or (image_ids < 0).any():
        raise ValueError(f"image_ids must be {n} whole numbers, not negative; found {image_ids!r}")
    return jnp.asarray(image_ids, jnp.uint32)


def _check_parameterization(parameterization):
    if not isinstance(parameterization, Parameterization):
        raise ValueError(f"parameterization must be one, such as fourier(128); found {parameterization!r:.60}")
    return parameterization


def _bar(caption, steps):
    return tqdm(total=steps, desc=caption, disable=caption is None)
