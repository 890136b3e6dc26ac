"""Wrapping of any JAX network as a `Model`: a plain function, Flax Linen, Flax NNX, Equinox."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffprog._util.modules import is_apply_of_module
from diffprog._util.numbers import check_count
from diffprog._util.promotion import callers_promotion
from diffprog.graph._selection.tap import LayerName, named
from diffprog.models._labels import checked_labels
from diffprog.models._layers import LOGITS, Network, NoLogits, find_layers
from diffprog.models._mixing import warn_of_mixing
from diffprog.models._model import Model, checked_size, input_shape, sides_of


def wrap(
    function: Callable,
    parameters: Any = None,
    *,
    size: int | tuple[int, ...],
    name: str | None = None,
    labels: Sequence[str] | Mapping[int, str] | None = (),
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
    "CNN/Conv_0" and "CNN/Conv_0#2". In a `scan`, a layer has its iterations as positions: (n, iterations, ...). The
    names are known to `dp.grad_at`, `dp.activations`, `dp.hook`, `dp.intervene` and `dp.record` too.

    What it returns is layers as well. An array (n, classes) is "logits", another "output". Of a pytree, the logits are
    the array that is called so, or is the only one of that form, or the first of a sequence; others are
    "output['boxes']" and so on.

    Args:
      function: `function(parameters, images)`, or `function(images)` where no parameters are given.
      parameters: Pytree of arrays, or a module.
      size: Side of the square images that the network takes, or (height, width). It may also be (frames, height, width)
        for films, (tokens,) for sequences and () for rows of a table: inputs are (n, *size, channels), of which
        pictures alone can be drawn.
      name: For messages and captions; the function's by default.
      labels: The classes' names, in the order of the logits, or a dict from their indices; none by default.
      channels: Channels of the images.
      min_size: The smallest side that the network takes.
      mean: What is subtracted from images, a number or one per channel; nothing by default. Images are in [0, 1].
      std: What they are divided by then. A network that takes 0 .. 255 has std=1 / 255, one that takes -1 .. 1 mean=0.5
        and std=0.5.
      channels_first: Whether it takes (n, channels, height, width), and four-dimensional values inside are of that
        layout. The layers' values are given with channels last.

    Returns:
      A `Model`. There is a warning if pictures of a batch influence each other, as in a network in training mode.

    Raises:
      ValueError: The function cannot take images of that size, or there is not one label for each class.
    """
    if parameters is None and is_apply_of_module(function):
        raise ValueError(
            "function must be one of images alone where no parameters are given; found the method apply of a module, "
            "which takes its variables first: give them as parameters"
        )
    name, size, labels = name or _name_of(function), checked_size(size), checked_labels(labels)
    channels, min_size = check_count(channels, "channels"), check_count(min_size, "min_size")
    shape, takes_parameters = input_shape(size, channels), parameters is not None
    is_normal = mean is None and std is None
    shift, scale = _per_channel(mean, 0.0, shape, "mean"), _per_channel(std, 1.0, shape, "std")

    def prepared(parameters, images):
        images = images if is_normal else (images - shift) / scale
        images = jnp.moveaxis(images, -1, 1) if channels_first else images
        with callers_promotion():
            return function(parameters, images) if takes_parameters else function(images)

    parameters = parameters if takes_parameters else ()
    found = find_layers(name, prepared, parameters, shape, len(labels))
    network = Network(prepared, found, channels_first, takes_parameters)
    model = Model(name, network, parameters, labels, size, min_size, channels)
    if labels and found.num_classes not in (None, len(labels)):
        raise ValueError(f"{name} has {found.num_classes} classes; found {len(labels)} labels: give one for each")
    if found.may_mix:
        warn_of_mixing(model)
    return model


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

    def layers(parameters, images):
        answers = []
        for key, model in models.items():
            layer, value = None, None
            with jax.named_scope(key):
                for layer, value in model.values(parameters[key], model.fitted(images)):
                    yield f"{key}/{layer}", value
            answers += [value] * (layer == LOGITS)
        if same_labels and first.labels and len(answers) == len(models):
            yield LOGITS, named(sum(answers) / len(answers), LayerName(LOGITS))
        else:
            raise NoLogits(
                "networks that are combined have logits together if all have the same labels: ask for a layer"
            )

    return Model(
        name=" + ".join(model.name for model in models.values()),
        network=_Combined(layers, any(model.reads_outside for model in models.values())),
        parameters={key: model.parameters for key, model in models.items()},
        labels=first.labels if same_labels else (),
        size=max((model.size for model in models.values()), key=sides_of),
        min_size=max(model.min_size for model in models.values()),
        channels=first.channels,
    )


@dataclass(frozen=True, eq=False)
class _Combined:
    """Several networks as one, and whether any reads more than its parameters."""

    layers: Callable
    reads_outside: bool

    def __call__(self, parameters, images):
        return self.layers(parameters, images)


def _name_of(function):
    owner = getattr(function, "__self__", None)  # of a bound method: the module
    kind = type(function if owner is None else owner).__name__
    name = kind if owner is not None else getattr(function, "__name__", kind)
    plain = isinstance(name, str) and name.isidentifier() and not name.startswith("_")  # Equinox's is no text
    return name if plain else "network"


def _per_channel(number, default, shape, name):
    value = np.asarray(default if number is None else number, np.float32)
    if value.shape not in ((), shape[-1:]) or not np.isfinite(value).all() or (name == "std" and not value.all()):
        raise ValueError(f"{name} must be a finite number or {shape[-1]} of them, std not 0; found {number!r}")
    return value.reshape(*[1] * len(shape), -1) if value.ndim else value
