"""The sanity check by randomized weights: does an attribution notice that the network has forgotten what it learned?"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from diffprog._util.numbers import check_count
from diffprog._util.promotion import own_promotion
from diffprog._util.random_keys import random_key
from diffprog._util.spelling import answers_names
from diffprog.attribute._core.question import check_inputs
from diffprog.attribute._core.spelling import MEANT
from diffprog.attribute.measures._correlation import rank_correlation
from diffprog.attribute.measures._credit import finite, places_of, values_of
from diffprog.attribute.measures._measured import Measured
from diffprog.attribute.measures._sensitivity import Method, check_method
from diffprog.attribute.measures._used import places_of_use
from diffprog.models import Model


@answers_names(MEANT)
@own_promotion()
def randomization(
    model: Callable[..., Any],
    inputs: Any,
    method: Method,
    score: Any = None,
    *,
    key: Any,
    parameters: Any = None,
    depth: int | None = None,
    steps: int | None = None,
    is_absolute: bool = True,
    progress: str | None = None,
) -> Measured:
    """Randomize the weights layer by layer, from the output to the input, and see how much the maps stay: low is good.

    The entries of each array of a layer are shuffled, which keeps their distribution, and the layers above stay as they
    are randomized. A method whose maps stay shows the picture, and not what the network knows.

    Args:
      model: a `diffprog.models.Model`, or with `parameters=` a function of parameters and a batch, as `apply` of a
        Flax module.
      inputs: examples, a pytree of arrays (n, ...).
      method: of attribution, called as `method(model, inputs, score)`: `attribute.gradient`, or a `functools.partial`
        that fixes options, the key of a method that samples among them.
      score: what is explained, of the same class in all of these networks.
      key: a JAX random key, or a seed.
      parameters: pytree of arrays, of a function.
      depth: how many parts of a parameter's path name its layer; by default all but the last.
      steps: number of steps in which all layers are randomized, as even as can be; by default one for each layer.
      is_absolute: whether absolute values of credit are compared, as is usual, or signed ones.
      progress: a caption, which switches on a progress bar.

    Returns:
      `Measured`: the mean over the steps of the rank correlation (Spearman) between the maps before and after, channels
      of pictures added up; and the correlations as a curve, whose first point, 1, is before. `steps` names the last
      layer that each step randomizes. A step that leaves a map without any variation counts as nothing, and is NaN in
      the curve.

    Raises:
      ValueError: something does not fit; the message says what to do.

    References:
      Adebayo et al., "Sanity checks for saliency maps", 2018, section 4.1.
    """
    apply, parameters = _parts(model, parameters)
    inputs, count = check_inputs(model, inputs)
    layers = _layers(apply, parameters, inputs, depth)
    groups = _grouped(layers, check_count(steps, "steps") if steps is not None else len(layers))
    first = check_method(method(_with(model, parameters), inputs, score))
    start = _maps(first, is_absolute)
    leaves, tree = jax.tree.flatten(parameters)
    curve, evaluations = [np.ones(count)], _runs(first, count)
    for names in tqdm(groups, desc=progress, disable=progress is None, leave=False, unit="step"):
        for name in names:
            for number in layers[name]:
                leaves[number] = _shuffled(leaves[number], jax.random.fold_in(random_key(key), number))
        found = method(_with(model, jax.tree.unflatten(tree, leaves)), inputs, score)
        evaluations += _runs(found, count)
        maps = _maps(found, is_absolute)
        curve.append(np.array([rank_correlation(a, b) for a, b in zip(start, maps, strict=True)]))
    rows = np.stack(curve, axis=1)
    known = np.isfinite(rows[:, 1:])
    sums = np.where(known, rows[:, 1:], 0).sum(axis=1)
    value = np.where(known.any(axis=1), sums / np.maximum(known.sum(axis=1), 1), np.nan)
    return Measured(
        value,
        curve=rows,
        at=np.arange(rows.shape[1]) / len(groups),
        evaluations=evaluations,
        steps=("as it is", *(names[-1] for names in groups)),
        measure="randomization",
    )


def _parts(model: Any, parameters: Any) -> tuple[Callable[..., Any], Any]:
    if isinstance(model, Model):
        if parameters is not None:
            raise ValueError("parameters= is for a function; a Model has its own: leave it out")
        if model.reads_outside:
            raise ValueError(
                f"{model.name} holds its weights inside a function, where they cannot be randomized: give a function "
                "of parameters and a batch, and parameters="
            )
        return model.apply, model.parameters
    if parameters is None or not jax.tree.leaves(parameters):
        raise ValueError(
            "randomization needs the weights: give a Model, or a function of parameters and a batch with parameters="
        )
    return model, jax.tree.map(jnp.asarray, parameters)


def _with(model: Any, parameters: Any) -> Callable[..., Any]:
    """Make the same network with other weights."""
    if isinstance(model, Model):
        return replace(model, parameters=parameters)
    return lambda inputs: model(parameters, inputs)


def _layers(apply: Callable[..., Any], parameters: Any, inputs: Any, depth: int | None) -> dict[str, list[int]]:
    """Group parameters by layer, the layer that is used last in front: numbers of leaves by name."""
    few = jax.tree.map(lambda leaf: leaf[:1], inputs)
    places = places_of_use(apply, parameters, few)
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(parameters)[0]]
    leaves = jax.tree.leaves(parameters)
    groups: dict[str, list[int]] = {}
    for number, (path, place, leaf) in enumerate(zip(paths, places, leaves, strict=True)):
        if place is not None and jnp.issubdtype(leaf.dtype, jnp.floating):
            parts = path[: max(len(path) - 1, 1)] if depth is None else path[: check_count(depth, "depth")]
            name = jax.tree_util.keystr(parts, simple=True, separator="/") or "parameters"
            groups.setdefault(name, []).append(number)
    if not groups:
        raise ValueError("the score depends on none of the parameters: give those that the function uses")
    used = {name: max(places[number] or () for number in numbers) for name, numbers in groups.items()}
    return {name: groups[name] for name in sorted(groups, key=lambda name: used[name], reverse=True)}


def _grouped(layers: dict[str, list[int]], steps: int) -> list[Sequence[str]]:
    """Divide layers into steps."""
    names, steps = list(layers), min(steps, len(layers))
    bounds = [number * len(names) // steps for number in range(steps + 1)]
    return [names[start:end] for start, end in pairwise(bounds)]


@jax.jit
def _shuffled(leaf: jax.Array, key: jax.Array) -> jax.Array:
    return jax.random.permutation(key, leaf.ravel()).reshape(leaf.shape)


def _maps(attribution: Any, is_absolute: bool) -> np.ndarray:
    """Bring credit to one number for each place: float64 (n, places)."""
    leaves = [finite(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(values_of(attribution))]
    rows = np.concatenate([leaf.reshape(len(leaf), -1) for leaf in places_of(leaves)], axis=1)
    return np.abs(rows) if is_absolute else rows


def _runs(attribution: Any, count: int) -> np.ndarray:
    number = 0 if attribution.evaluations is None else attribution.evaluations
    return np.array(np.broadcast_to(number, (count,)))
