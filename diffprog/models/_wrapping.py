"""Wrapping of any JAX network as a `Model`: a plain function, Flax Linen, Flax NNX, Equinox."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffprog._jax_internals import is_array_type
from diffprog.graph._interventions.activations import activations
from diffprog.graph._selection.selectors import full_name
from diffprog.models._model import Model


def wrap(
    function: Callable,
    parameters: Any = None,
    *,
    size: int,
    name: str | None = None,
    labels: Sequence[str] = (),
    channels: int = 3,
    min_size: int = 1,
    mean: ArrayLike | None = None,
    std: ArrayLike | None = None,
    channels_first: bool = False,
) -> Model:
    """Make a `Model` of a network of your own, with its layers found; nothing in it has to be changed.

    ```python
    wrap(lambda parameters, images: module.apply(parameters, images), parameters, size=32)  # Flax Linen
    wrap(lambda module, images: module(images), module, size=32)  # Flax NNX
    wrap(jax.vmap(module), size=32, channels_first=True)  # Equinox
    ```

    Its layers are what modules return, by path ("CNN/Conv_0", of which "Conv_0" will do where one layer is called so),
    and values under `dp.tap`. In a function that has neither, operations are layers, counted from 1
    ("conv_general_dilated#2"): those whose result is an array of floats (n, ...). A layer that is called twice is
    "CNN/Conv_0" and "CNN/Conv_0#2".

    Args:
      function: `function(parameters, images)`, or `function(images)` where no parameters are given. A result that is an
        array (n, classes) is the layer "logits", another array (n, ...) "output"; it may be anything else.
      parameters: Pytree of arrays, or a module.
      size: Side of the square images that the network takes.
      name: For messages and captions; the function's by default.
      labels: The classes' names, in the order of the logits.
      channels: Channels of the images.
      min_size: The smallest side that the network takes.
      mean: What is subtracted from images, a number or one per channel; nothing by default. Images are in [0, 1].
      std: What they are divided by then. A network that takes 0 .. 255 has std=1 / 255, one that takes -1 .. 1 mean=0.5
        and std=0.5.
      channels_first: Whether it takes (n, channels, height, width), and four-dimensional values inside are of that
        layout. The layers' values are given with channels last.

    Returns:
      A `Model`.

    Raises:
      ValueError: The function cannot take images of that size, or has no layers.
    """
    name = name or _name_of(function)
    normal = mean is None and std is None
    mean, std = _per_channel(mean, 0.0, channels, "mean"), _per_channel(std, 1.0, channels, "std")
    if parameters is None:
        parameters, run = (), lambda _, images: function(images)
    else:
        run = function

    def prepared(parameters, images):
        images = images if normal else (images - mean) / std
        return run(parameters, jnp.moveaxis(images, -1, 1) if channels_first else images)

    names = _layers(name, prepared, parameters, (2, size, size, channels))
    network = partial(_network, prepared, names, channels_first)
    return Model(name, network, parameters, tuple(labels), size, min_size, channels)


def combine(models: Mapping[str, Model]) -> Model:
    """Combine networks into one that looks at images with all of them.

    Layer "blocks.3" of network "a" is "a/blocks.3": `channel("a/blocks.3", 5) + logit("volcano", "b/logits")` is an
    objective in both. The logits are the mean of the networks' where all have the same labels.

    Args:
      models: {name: network}; names without "/".

    Returns:
      A `Model`.

    Raises:
      ValueError: There is no network, a name is unsuitable, or numbers of channels differ.
    """
    models = dict(models)
    if not models or any("/" in key for key in models):
        raise ValueError(f'networks are combined in a dict, under names without "/"; found {list(models)}')
    channels = {model.channels for model in models.values()}
    if len(channels) > 1:
        raise ValueError(f"networks that are combined take images of as many channels; found {sorted(channels)}")
    first = next(iter(models.values()))
    same_labels = all(model.labels == first.labels for model in models.values())

    def network(parameters, images):
        outputs = []
        for key, model in models.items():
            value = None
            for layer, value in model.network(parameters[key], images):
                yield f"{key}/{layer}", value
            outputs.append(value)
        if same_labels and first.labels:
            yield "logits", sum(outputs) / len(outputs)

    return Model(
        name=" + ".join(model.name for model in models.values()),
        network=network,
        parameters={key: model.parameters for key, model in models.items()},
        labels=first.labels if same_labels else (),
        size=max(model.size for model in models.values()),
        min_size=max(model.min_size for model in models.values()),
        channels=first.channels,
    )


def _name_of(function):
    owner = getattr(function, "__self__", None)  # of a bound method: the module
    kind = type(function if owner is None else owner).__name__
    name = kind if owner is not None else getattr(function, "__name__", kind)
    return name if name.isidentifier() else "network"


def _per_channel(number, default, channels, name):
    value = np.asarray(default if number is None else number, np.float32)
    if value.shape not in ((), (channels,)) or not np.isfinite(value).all() or (name == "std" and not value.all()):
        raise ValueError(f"{name} must be a finite number or {channels} of them, std not 0; found {number!r}")
    return value


def _network(function, names, channels_first, parameters, images):
    """Yield (name, value) of each layer; those that nobody uses are removed when it is compiled."""
    output, values = _run(function, lambda site, name: name in names, parameters, images)
    last = lambda value: jnp.moveaxis(value, 1, -1) if channels_first and value.ndim == 4 else value
    yield from ((name, last(value)) for name, value in values)
    if is_array_type(output) and _is_batch(output, images):
        yield ("logits" if output.ndim == 2 else "output"), last(output)


def _run(function, chosen, parameters, images):
    """Run the function: its output, and (name, value) of each operation for which `chosen(site, name)` holds."""
    counts: Counter[str] = Counter()
    names: list[str] = []

    def selects(site):
        name = full_name(site) if site.tap is not None else f"{site.label}#"
        counts[name] += 1
        if site.tap is None:
            name = f"{name}{counts[name]}"
        elif counts[name] > 1:
            name = f"{name}#{counts[name]}"
        if chosen(site, name):
            names.append(name)
            return True
        return False

    try:
        output, values = activations(function, [selects], with_output=True)(parameters, images)
    except ValueError:
        if names:
            raise
        return function(parameters, images), []  # nothing is chosen, which `activations` takes for a mistake
    values = values[selects]
    return output, list(zip(names, values if isinstance(values, list) else [values], strict=True))


def _layers(name, function, parameters, shape):
    """Find the names of the layers in a run on shapes alone: taps and modules, or else operations."""
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    names: list[str] = []

    def run(parameters, images):
        for kind in (lambda site, _: site.tap is not None, lambda site, _: site.tap is None):
            _, values = _run(function, kind, parameters, images)
            names.extend(name for name, value in values if _is_batch(value, images))
            if names:
                break

    try:
        jax.eval_shape(run, parameters, images)
    except Exception as error:  # whatever the user's function raises
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{name} cannot take images of {' x '.join(map(str, shape[1:]))}: {reason}") from error
    return frozenset(names)


def _is_batch(value, images):
    floats = is_array_type(value) and jnp.issubdtype(value.dtype, jnp.floating)
    return floats and value.ndim >= 2 and value.shape[0] == images.shape[0]
