"""The ascent of a batch of pictures: in segments between snapshots, with a new start for units that are dead."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._util.random_keys import random_key
from diffprog.images._checks import check_array
from diffprog.models import Model
from diffprog.optimize import Descent, History, State
from diffprog.visualize._rendering.program import (
    Data,
    Measures,
    Reached,
    Setting,
    choose_pictures,
    network_data,
    program,
)
from diffprog.visualize._rendering.sharding import spread
from diffprog.visualize.objectives._base import PICTURE

WARM_UP = 16  # steps in which units that are dead at the start may get a gradient, as in Lucid
BLOCK = 16  # steps between two looks at the scores


class NotFiniteError(ValueError):
    """Say that objectives are not finite: at which `step` first, and of which `pictures` of the batch there."""

    def __init__(self, message: str, step: int, pictures: np.ndarray):
        super().__init__(message)
        self.step, self.pictures = step, pictures


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
class Loop:
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
        descent = self.model.kept((setting, redirect), lambda: program(setting, collect))
        data = self.data._replace(network=spread(self.change(network), setting.num_images))
        return _Ascent(descent, data, network)


def first_state(loop, key, photographs):
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


def ascend(loop, objectives, state, snapshots, max_steps, bar):
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


def is_finite(parameters):
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(parameters) if _is_float(leaf))


def unread_as_zero(parameters):
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
    for group, terms in zip(setting.layout, joined_terms(segments), strict=True):
        reads_layers = [not kind.joint and set(kind.layers) != {PICTURE} for kind in group.terms]
        if any(reads_layers) and len(terms) > 1:
            were_dead[list(group.pictures)] = (np.ptp(terms[..., reads_layers], axis=0) == 0).all(axis=1)
    return were_dead


def joined_terms(segments):
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
