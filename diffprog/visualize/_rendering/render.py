"""Draw what units respond to: pictures that excite an objective, a batch of units in one compiled program.

How often is compiled: once for each network, layout of objectives (which layers are read how, not which units: `plan`),
number of pictures and of transformed copies, parameterization, transform, optimizer and engine; once to decode; and
once more if a unit of such a batch was ever dead at the start. The last 32 programs are kept.
"""

from contextlib import nullcontext
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from diffprog.images._checks import check_array
from diffprog.optimize import value_and_grad
from diffprog.visualize import transforms
from diffprog.visualize._rendering.batching import parts_by_picture, plan, term_names
from diffprog.visualize._rendering.program import Data, Kept, Setting, adam, choose, decoder, program
from diffprog.visualize._rendering.sharding import spread
from diffprog.visualize.objectives._base import PICTURE, Objective
from diffprog.visualize.parameterizations import fourier

WARM_UP = 16  # steps in which units that are dead at the start may get a gradient, as in Lucid
BLOCK = 16  # steps between two looks at the scores


@dataclass(frozen=True)
class Rendering:
    """Pictures and how they came about. All arrays are NumPy's.

    images:    (n, height, width, channels) in [0, 1].
    scores:    (steps, n), each picture's objective before each step, measured under that step's random transforms.
    term_histories: for each picture a dict from a term of its objective to that term's history (steps,), unweighted.
    snapshots: from a number of steps to the pictures (n, height, width, channels) after so many.
    reached:   (n,) the step at which a picture came to its level `stop_at`, as which it is given; -1 if it did not.
    was_dead:  (n,) whether a picture got its first gradients through rectifiers that were off.
    """

    images: np.ndarray
    scores: np.ndarray
    term_histories: tuple[dict[str, np.ndarray], ...] = field(repr=False)
    snapshots: dict[int, np.ndarray] = field(repr=False)
    reached: np.ndarray
    was_dead: np.ndarray


def render(
    model,
    objective,
    *,
    key,
    parameterization=None,
    transform=transforms.lucid,
    num_transforms=1,
    steps=256,
    learning_rate=0.05,
    optimizer=None,
    num_images=None,
    start=None,
    stop_at=None,
    snapshots=(),
    image_ids=None,
    engine="diffprog",
    progress=None,
):
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
      key: A JAX random key.
      parameterization: How pictures are written; `fourier(model.size)` by default.
      transform: A transform, drawn anew for every picture and step.
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
    value_and_grad(engine)
    objectives = _objectives(objective, num_images)
    n = len(objectives)
    parameterization = parameterization or fourier(model.size, channels=model.channels)
    layers = _layers(model, objectives)
    planned = plan(objectives, model, _shapes(model, layers, parameterization, transform))
    setting = Setting(
        model,
        planned.layout,
        layers,
        n,
        parameterization,
        transform,
        _positive(num_transforms, "num_transforms"),
        optimizer or adam(learning_rate),
        stop_at is not None,
        engine,
    )
    data = Data(model.parameters, planned.numbers, _image_ids(image_ids, n), _levels(stop_at, n))
    ascent = _Ascent(objectives, setting, data, _positive(steps, "steps"), snapshots)
    with _bar(progress, steps) as bar:
        return ascent.run(key, start, bar)


class _Ascent:
    """One call of `render`, its arguments checked."""

    def __init__(self, objectives, setting, data, steps, snapshots):
        self.objectives, self.setting, self.steps = objectives, setting, steps
        self.data = spread(data, setting.count)
        self.snapshots = {int(at) for at in snapshots if 0 <= at <= steps}

    def run(self, key, photographs, bar):
        beginning, loop = jax.random.split(key)
        first = min(WARM_UP, self.steps)
        stops = sorted({*self.snapshots, first, self.steps} - {0})
        early, late = [at for at in stops if at <= first], [at for at in stops if at > first]
        start = self.start(beginning, loop, photographs)
        found = self.through(program(self.setting, revive=False), start, early, bar)
        dead = self.dead(first, self.parts([history for _, history in found]))
        if dead.any():
            lively = self.through(program(self.setting, revive=True), start, early, None)
            found = [self.merged(dead, yes, no) for yes, no in zip(lively, found, strict=True)]
        if not self.finished(found[-1][0]):
            found += self.through(program(self.setting, revive=False), found[-1][0], late, bar)
        return self.rendering(start, found, dead)

    def start(self, key, loop, photographs):
        setting = self.setting
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, self.data.image_ids)
        parameters = setting.parameterization.start(keys)
        if photographs is not None:
            parameters = _encoded(setting.parameterization, photographs, setting.count)
        kept = Kept(parameters, jnp.full(setting.count, -1), jnp.int32(0)) if setting.stops else None
        state = program(setting, revive=False).init(parameters, key=loop, tracked=kept)
        return spread(state, setting.count)

    def through(self, descent, state, stops, bar):
        """(state, history) at each stop, up to the one at which all pictures have come to their levels."""
        found = []
        for at in stops:
            before = int(state.num_steps)
            state, history = descent.run(
                state, at - before, data=self.data, block_size=BLOCK, progress=bar, callback=self.look
            )
            found.append((state, history))
            if self.finished(state):
                break
        return found

    def finished(self, state):
        """Whether all have come to their levels. Not in the first steps: a picture may yet begin anew."""
        return (
            self.setting.stops
            and int(state.num_steps) >= WARM_UP
            and bool(np.all(np.asarray(state.tracked.reached) >= 0))
        )

    def look(self, state, history):
        """After a block: refuse what is not finite; say whether it is the last."""
        scores = history.aux[0]
        if not np.isfinite(scores).all():
            row, picture = np.argwhere(~np.isfinite(scores))[0]
            step = int(state.num_steps) - len(scores) + int(row)
            raise ValueError(
                f"{self.objectives[picture].name} is {scores[row, picture]} at step {step}; expected a finite number: "
                "a smaller learning_rate may help, or the network's own values are not finite for such pictures"
            )
        return self.finished(state)

    def parts(self, histories):
        rows = [np.concatenate(each) for each in zip(*(history.aux[1] for history in histories), strict=True)]
        return parts_by_picture(self.objectives, self.setting.layout, rows)

    def dead(self, steps, parts):
        """Of which pictures the network's layers said the very same in each of the first steps."""

        def same(objective, histories):
            named = zip(term_names(objective), objective.weights, strict=True)
            read = [name for name, term in named if not term.joint and set(term.layers) != {PICTURE}]
            return bool(read) and all(np.ptp(histories[name]) == 0 for name in read)

        return np.array([same(*each) for each in zip(self.objectives, parts, strict=True)]) & (steps > 1)

    def merged(self, pictures, yes, no):
        """(state, history) with the marked pictures from one ascent and the others from the other."""
        (state, history), (other_state, other) = yes, no
        rows = [np.array(group.pictures) for group in self.setting.layout]
        terms = [
            np.where(pictures[chosen][:, None], a, b)
            for chosen, a, b in zip(rows, history.aux[1], other.aux[1], strict=True)
        ]
        scores = np.where(pictures, history.aux[0], other.aux[0])
        return choose(jnp.asarray(pictures), state, other_state), other._replace(aux=(scores, terms, None))

    def rendering(self, start, found, dead):
        decode = decoder(self.setting.parameterization)
        state = found[-1][0]
        parameters, reached = state.parameters, np.full(self.setting.count, -1)
        if self.setting.stops:
            reached = np.asarray(state.tracked.reached)
            parameters = choose(state.tracked.reached >= 0, state.tracked.parameters, parameters)
        states = {0: start, **{int(each.num_steps): each for each, _ in found}}
        return Rendering(
            images=np.asarray(decode(parameters)),
            scores=np.concatenate([history.aux[0] for _, history in found]),
            term_histories=self.parts([history for _, history in found]),
            snapshots={at: np.asarray(decode(states[at].parameters)) for at in sorted(self.snapshots & set(states))},
            reached=reached,
            was_dead=dead,
        )


# ---------------------------------------------------------------- arguments


def _objectives(objective, num_images):
    if isinstance(objective, Objective):
        return [objective] * _positive(1 if num_images is None else num_images, "num_images")
    objectives = list(objective)
    if not objectives or not all(isinstance(each, Objective) for each in objectives) or num_images is not None:
        raise ValueError(
            "render takes an objective (and num_images), or a list of objectives; "
            f"found {objectives!r:.80}, num_images={num_images}"
        )
    return objectives


def _layers(model, objectives):
    names = sorted(set().union(*(each.layers for each in objectives)) - {PICTURE})
    return model.check_layers(names)


def _shapes(model, layers, parameterization, transform):
    """The layers' shapes for pictures as the network gets them."""
    height, width = transform.size(parameterization.height, parameterization.width)
    if min(height, width) < model.min_size:
        side = min(height, width)
        raise ValueError(f"{model.name} takes images of {model.min_size} pixels or more; found {side} after transforms")
    picture = jax.ShapeDtypeStruct(
        (parameterization.height, parameterization.width, parameterization.channels), jnp.float32
    )
    transformed = jax.eval_shape(lambda key, image: transform(key, image), jax.random.key(0), picture)
    if transformed.shape[-1] != model.channels:
        raise ValueError(f"{model.name} takes images of {model.channels} channels; found {transformed.shape[-1]}")
    try:
        shapes = model.layers_at(height, width)
    except Exception as error:  # whatever a network of the user's raises
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{model.name} cannot take images of {height} x {width} pixels: {reason}") from error
    found = {name: shapes[model.layer_name(name)] for name in layers}
    for name, shape in found.items():
        if 0 in shape:
            raise ValueError(f"{name} is empty for images of {height} x {width} pixels; draw larger pictures")
    return found | {PICTURE: (parameterization.height, parameterization.width, parameterization.channels)}


def _levels(stop_at, n):
    if stop_at is None:
        return None
    levels = np.broadcast_to(np.asarray(stop_at, np.float32), (n,)) if np.ndim(stop_at) == 0 else np.asarray(stop_at)
    if levels.shape != (n,) or np.isnan(levels).any():
        raise ValueError(f"stop_at must be a number, or one for each of {n} pictures; found {stop_at!r}")
    return jnp.asarray(levels, jnp.float32)


def _image_ids(image_ids, n):
    image_ids = np.arange(n) if image_ids is None else np.asarray(image_ids)
    if image_ids.shape != (n,) or image_ids.dtype.kind not in "iu" or (image_ids < 0).any():
        raise ValueError(f"image_ids must be {n} whole numbers, not negative; found {image_ids!r}")
    return jnp.asarray(image_ids, jnp.uint32)


def _encoded(parameterization, photographs, n):
    if parameterization.encode is None:
        raise ValueError("pictures that are written in this way cannot start from a photograph; use fourier or pixels")
    shape = parameterization.shape
    photographs = check_array(photographs, (shape, (1, *shape), (n, *shape)), "start")
    return parameterization.encode(jnp.broadcast_to(photographs, (n, *shape)))


def _positive(number, what):
    if not isinstance(number, int) or number < 1:
        raise ValueError(f"{what} must be a whole number of at least 1; found {number!r}")
    return number


def _bar(progress, steps):
    if isinstance(progress, tqdm):
        return nullcontext(progress)
    return tqdm(total=steps, desc=progress, disable=progress is None)
