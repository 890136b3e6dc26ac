"""Any JAX network as a `Model`: a plain function, Flax Linen, Flax NNX, Equinox."""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._jax_internals import is_array_type
from diffprog.graph._interventions.activations import activations
from diffprog.graph._selection.selectors import full_name
from diffprog.models._model import Model


def wrap(
    function: Callable,
    parameters=None,
    *,
    size: int,
    name=None,
    labels=(),
    channels=3,
    min_size=1,
    mean=None,
    std=None,
    channels_first=False,
) -> Model:
    """A network of your own as a `Model`, with its layers found: nothing in it has to be changed.

        models.wrap(lambda parameters, images: module.apply(parameters, images), parameters, size=32)    Flax Linen
        models.wrap(lambda module, images: module(images), module, size=32)                              Flax NNX
        models.wrap(jax.vmap(module), size=32, channels_first=True)                                      Equinox

    function:   `function(parameters, images)`, or `function(images)` where no parameters are given. A result that is
                an array (n, classes) is the layer "logits", another array (n, ...) "output"; it may be anything else.
    size:       the side of the square images that it takes; channels: how many they have.
    min_size:    the least side that it takes.
    labels:     the classes' names, in the order of the logits.
    mean, std:  what it was trained to have subtracted, and then divided by: a number, or one for each channel. Images
                are in [0, 1]: a network that takes 0 .. 255 has std=1 / 255, one that takes -1 .. 1 mean=0.5 and
                std=0.5. Nothing is subtracted unless you say so.
    channels_first: whether it takes (n, channels, height, width), and its four-dimensional values inside are of that
                layout; the layers' values are given with channels last.

    Its layers are what modules return, by path ("CNN/Conv_0", of which "Conv_0" will do where one layer is called so),
    and values under `dp.tap`. A function that has neither has its operations for layers, counted from 1
    ("conv_general_dilated#2"): those whose result is an array of floats (n, ...). A layer that is called twice is
    "CNN/Conv_0" and "CNN/Conv_0#2".

    Raises ValueError, in one sentence, if the function cannot take images of that size or has no layers.
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
    """Several networks, seen as one that looks at the same images: `combine({"a": model, "b": other})`.

    Layer "blocks.3" of the first is "a/blocks.3": `channel("a/blocks.3", 5) + logit("volcano", "b/logits")` is an
    objective in both. Its logits are the mean of theirs where all have the same labels.
    """
    models = dict(models)
    if not models or any("/" in key for key in models):
        raise ValueError(f'networks are put together in a dict, under names without "/"; found {list(models)}')
    channels = {model.channels for model in models.values()}
    if len(channels) > 1:
        raise ValueError(f"networks that are put together take images of as many channels; found {sorted(channels)}")
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


def _per_channel(given, default, channels, what):
    value = np.asarray(default if given is None else given, np.float32)
    if value.shape not in ((), (channels,)) or not np.isfinite(value).all() or (what == "std" and not value.all()):
        raise ValueError(f"{what} must be a finite number or {channels} of them, std not 0; found {given!r}")
    return value


def _network(function, names, channels_first, parameters, images):
    """(name, value) of each layer, as `Model.network` gives them. All are computed; those that nobody uses are removed
    when it is compiled."""
    output, values = _run(function, lambda site, name: name in names, parameters, images)
    last = lambda value: jnp.moveaxis(value, 1, -1) if channels_first and value.ndim == 4 else value
    yield from ((name, last(value)) for name, value in values)
    if is_array_type(output) and _is_batch(output, images):
        yield ("logits" if output.ndim == 2 else "output"), last(output)


def _run(function, chosen, parameters, images):
    """The function's output, and (name, value) of each operation for which `chosen(site, name)` holds, in order."""
    counts, found = Counter(), []

    def selects(site):
        name = full_name(site) if site.tap is not None else f"{site.label}#"
        counts[name] += 1
        if site.tap is None:
            name = f"{name}{counts[name]}"
        elif counts[name] > 1:
            name = f"{name}#{counts[name]}"
        if chosen(site, name):
            found.append(name)
            return True
        return False

    try:
        output, values = activations(function, [selects], with_output=True)(parameters, images)
    except ValueError:
        if found:
            raise
        return function(parameters, images), []  # nothing is chosen, which `activations` takes for a mistake
    values = values[selects]
    return output, list(zip(found, values if isinstance(values, list) else [values], strict=True))


def _layers(name, function, parameters, shape):
    """The names of the layers, found in a run on shapes alone: taps and modules, or else operations."""
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    found = []

    def run(parameters, images):
        for kind in (lambda site, _: site.tap is not None, lambda site, _: site.tap is None):
            _, values = _run(function, kind, parameters, images)
            found.extend(name for name, value in values if _is_batch(value, images))
            if found:
                break

    try:
        jax.eval_shape(run, parameters, images)
    except Exception as error:  # whatever the user's function raises
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{name} cannot take images of {' x '.join(map(str, shape[1:]))}: {reason}") from error
    return frozenset(found)


def _is_batch(value, images):
    floats = is_array_type(value) and jnp.issubdtype(value.dtype, jnp.floating)
    return floats and value.ndim >= 2 and value.shape[0] == images.shape[0]
