"""Draw what units respond to: pictures that excite an objective, a batch of units in one compiled program.

A program is compiled once for each network, layout of objectives (which layers are read how, not which units), number
of pictures and of transformed copies, parameterization, transform, optimizer and engine; once to decode; and once more
if a unit of such a batch was dead at the start. The latest 32 programs of a network are kept and freed
with it.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from tqdm import tqdm

from diffprog._util.numbers import check_count, check_positive
from diffprog._util.promotion import own_promotion
from diffprog._util.random_keys import random_key
from diffprog._util.warning import warn
from diffprog.images._checks import check_array
from diffprog.models import Model
from diffprog.optimize import Descent, History, State, value_and_grad
from diffprog.visualize import transforms
from diffprog.visualize._rendering.batching import plan, term_histories
from diffprog.visualize._rendering.fitting import as_transform, extent, fitting, picture_shape
from diffprog.visualize._rendering.program import (
    Data,
    Measures,
    Reached,
    Setting,
    adam,
    choose_pictures,
    decoder,
    keep,
    network_data,
    program,
)
from diffprog.visualize._rendering.sharding import spread
from diffprog.visualize.objectives._base import PICTURE, Objective
from diffprog.visualize.parameterizations import Parameterization, fourier
from diffprog.visualize.transforms import Transform

WARM_UP = 16  # steps in which units that are dead at the start may get a gradient, as in Lucid
BLOCK = 16  # steps between two looks at the scores


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


class NotFiniteError(ValueError):
    """Say that objectives are not finite: at which `step` first, and of which `pictures` of the batch there."""

    def __init__(self, message: str, step: int, pictures: np.ndarray):
        super().__init__(message)
        self.step, self.pictures = step, pictures


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
        loop = _Loop(model, setting, data)
        state = _init(loop, key, start)
        try:
            segments, was_dead = _ascend(loop, objectives, state, shown, max_steps, bar)
        except NotFiniteError as error:
            if error.step == 0 or _is_finite(loop.normal.data.network):
                raise
            loop = _Loop(model, setting, data, _unread_as_zero)
            segments, was_dead = _ascend(loop, objectives, state, shown, max_steps, bar)
    return _rendering(setting, objectives, [Segment(state, None), *segments], shown, was_dead)


# ---------------------------------------------------------------- ascent


class Segment(NamedTuple):
    """A stretch of the ascent that ends at a snapshot or another stop: the loop's state there, and the steps to it."""

    state: State
    history: History | None


class _Ascent(NamedTuple):
    """A loop, its data, and what must be held while it runs."""

    descent: Descent
    data: Data
    held: Any

    def run(self, *args, **options):
        return self.descent.run(*args, data=self.data, **options)


@dataclass(frozen=True)
class _Loop:
    """The loop that draws a batch, as it is and with gradients that get through rectifiers that are off.

    Attributes:
      model: The network.
      setting: What is compiled.
      data: All data but the network's.
      change: What is done to the network's data.
    """

    model: Model
    setting: Setting
    data: Data
    change: Callable[[Any], Any] = lambda network: network

    @cached_property
    def normal(self) -> _Ascent:
        return self._make(redirect=False)

    @cached_property
    def redirected(self) -> _Ascent:
        return self._make(redirect=True)

    def _make(self, redirect):
        setting = self.setting
        picture = setting.parameterization
        sides = setting.transform.size(picture.height, picture.width)
        shape = (setting.num_images * setting.num_transforms, *sides, self.model.channels)
        collect, network = network_data(self.model, setting.layers, shape, redirect)
        descent = keep(self.model, (setting, redirect), lambda: program(setting, collect))
        data = self.data._replace(network=spread(self.change(network), setting.num_images))
        return _Ascent(descent, data, network)


def _init(loop, key, photographs):
    """Make the state of the loop before its first step."""
    start_key, loop_key = jax.random.split(random_key(key))
    setting, data = loop.setting, loop.data
    n, parameterization = setting.num_images, setting.parameterization
    if photographs is None:
        parameters = parameterization.start(jax.vmap(jax.random.fold_in, (None, 0))(start_key, data.image_ids))
    elif parameterization.encode is None:
        raise ValueError("pictures that are written in this way cannot start from a photograph; use fourier or pixels")
    else:
        shape = parameterization.shape
        photographs = check_array(photographs, (shape, (1, *shape), (n, *shape)), "start")
        parameters = parameterization.encode(jnp.broadcast_to(photographs, (n, *shape)))
    reached = Reached(parameters, jnp.full(n, -1, jnp.int32), jnp.int32(0)) if setting.has_stop else None
    return spread(loop.normal.descent.init(parameters, key=loop_key, tracked=reached), n)


def _ascend(loop, objectives, state, snapshots, max_steps, bar):
    """Take all steps: their segments, and which pictures were dead at the start and began anew."""
    warm_up = min(WARM_UP, max_steps)
    stops = sorted({*snapshots, warm_up, max_steps} - {0})
    early, late = [stop for stop in stops if stop <= warm_up], [stop for stop in stops if stop > warm_up]
    setting = loop.setting
    run = partial(_run, setting, objectives)
    segments = run(loop.normal, state, early, bar)
    was_dead = _were_dead(setting, segments)
    if was_dead.any():
        redirected = run(loop.redirected, state, early, None)
        segments = [_merge(setting, was_dead, *pair) for pair in zip(redirected, segments, strict=True)]
    if not _is_finished(setting, segments[-1].state):
        segments += run(loop.normal, segments[-1].state, late, bar)
    return segments, was_dead


def _run(setting, objectives, ascent, state, stops, bar):
    """Run a loop to each of the stops, or until all pictures have reached their scores."""

    def check_block(state, history):
        _check_finite(objectives, state, history.aux.scores)
        return _is_finished(setting, state)

    segments = []
    for stop in stops:
        num_steps = stop - int(state.num_steps)
        state, history = ascent.run(state, num_steps, block_size=BLOCK, progress=bar, callback=check_block)
        segments.append(Segment(state, history))
        if _is_finished(setting, state):
            break
    return segments


def _is_finished(setting, state):
    """Tell if all have reached their scores. Never in the first steps: a picture may yet begin anew."""
    warm = setting.has_stop and int(state.num_steps) >= WARM_UP
    return warm and bool(np.all(np.asarray(state.tracked.step) >= 0))


def _check_finite(objectives, state, scores):
    if not np.isfinite(scores).all():
        row, picture = np.argwhere(~np.isfinite(scores))[0]
        step = int(state.num_steps) - len(scores) + int(row)
        raise NotFiniteError(
            f"{objectives[picture].name} is {scores[row, picture]} at step {step}; expected a finite number: "
            "a smaller learning_rate may help, or the network's own values are not finite for such pictures",
            step,
            np.flatnonzero(~np.isfinite(scores[row])),
        )


def _is_finite(parameters):
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(parameters) if _is_float(leaf))


def _unread_as_zero(parameters):
    """Set parameters that are not finite to 0.

    An objective that is finite before the first step is no function of them, but its gradient, a sum of products in
    which they are multiplied by 0, is not finite.
    """
    set_to_zero = lambda leaf: jnp.where(jnp.isfinite(leaf), leaf, jnp.zeros_like(leaf)) if _is_float(leaf) else leaf
    return jax.tree.map(set_to_zero, parameters)


def _is_float(leaf):
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _were_dead(setting, segments):
    """Find the pictures for which the layers that their objectives read stayed constant, bool (n,)."""
    were_dead = np.zeros(setting.num_images, bool)
    for group, terms in zip(setting.layout, _joined_terms(segments), strict=True):
        reads_layers = [not kind.joint and set(kind.layers) != {PICTURE} for kind in group.terms]
        if any(reads_layers) and len(terms) > 1:
            were_dead[list(group.pictures)] = (np.ptp(terms[..., reads_layers], axis=0) == 0).all(axis=1)
    return were_dead


def _joined_terms(segments):
    """Join the terms of all segments: for each group (steps, pictures, terms)."""
    parts = [segment.history.aux.terms for segment in segments]
    return [np.concatenate(group_parts) for group_parts in zip(*parts, strict=True)]


def _merge(setting, chosen, yes, no):
    """Take the chosen pictures from one segment and the others from another."""
    yes_aux, no_aux = yes.history.aux, no.history.aux
    terms = [
        np.where(chosen[list(group.pictures)][:, None], a, b)
        for group, a, b in zip(setting.layout, yes_aux.terms, no_aux.terms, strict=True)
    ]
    aux = Measures(np.where(chosen, yes_aux.scores, no_aux.scores), terms)
    return Segment(choose_pictures(jnp.asarray(chosen), yes.state, no.state), no.history._replace(aux=aux))


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
        term_histories=term_histories(objectives, setting.layout, _joined_terms(histories)),
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
