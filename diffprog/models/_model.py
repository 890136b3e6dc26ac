"""A network as a value: parameters, preprocessing, labels and named layers in one record."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffprog.images._checks import check_images
from diffprog.models._labels import class_index, suggest


@dataclass(frozen=True, eq=False)
class Model:
    """A pretrained network.

    network: (parameters, images) -> an iterator of (layer name, value) from the input to the logits. A generator, so
        that whoever needs a shallow layer computes no deeper one. Images are NHWC in [0, 1]: the preprocessing is the
        network's first act.
    labels: the classes' names in the order of the logits.
    size: the side of the square images that the network was trained for; min_size: the least side it accepts.
    channels: of the images, 3 for RGB.
    """

    name: str
    network: Callable[[Any, jax.Array], Iterator[tuple[str, jax.Array]]]
    parameters: Any = field(repr=False)
    labels: tuple[str, ...] = field(repr=False)
    size: int
    min_size: int
    channels: int = 3

    def apply(self, parameters, images):
        """Logits (n, classes) of images (n, height, width, 3): plain JAX, unchecked, for grad, jit and vmap."""
        *_, (_, logits) = self.network(parameters, images)
        return logits

    def __call__(self, images):
        """Logits (n, classes) of float images (n, height, width, 3) in [0, 1], compiled.

        Raises ValueError for images of another type, rank or range, or smaller than `min_size` pixels. (Under a
        transformation the values are unknown, and only type and shape are checked.)
        """
        return self._compiled(self.parameters, self.check_images(images))

    @cached_property
    def _compiled(self):
        return jax.jit(self.apply)

    @cached_property
    def _compiled_layers(self):
        return jax.jit(self.collect, static_argnums=2)

    def activations(self, images, names):
        """The values of the named layers, as a dict, for images as `__call__` takes them.

        names: one name or several, from `layers`. Nothing beyond the deepest of them is computed.
        """
        names = self.check_layers([names] if isinstance(names, str) else names)
        found = self._compiled_layers(self.parameters, self.check_images(images), names)
        return {name: found[name] for name in names}  # in the order asked for, which jit does not keep

    def collect(self, parameters, images, names):
        """`activations` in plain JAX, unchecked and uncompiled, as `apply` is to `__call__`."""
        asked = {self.layer_name(name): name for name in names}
        found = {}
        for name, value in self.network(parameters, images):
            if name in asked:
                found[name] = value
            if len(found) == len(asked):
                break
        return {asked[name]: found[name] for name in asked}

    @cached_property
    def layers(self):
        """The layers in order: a dict from name to the shape (height, width, channels) at the network's own size."""
        return self.layers_at(self.size)

    def layers_at(self, height, width=None):
        """`layers` for images of another size."""
        images = jax.ShapeDtypeStruct((1, height, width or height, self.channels), jnp.float32)
        names = []

        def values(parameters, images):
            pairs = list(self.network(parameters, images))
            names.extend(name for name, _ in pairs)
            return [value for _, value in pairs]

        shapes = jax.eval_shape(values, self.parameters, images)
        return {name: shape.shape[1:] for name, shape in zip(names, shapes, strict=True)}

    def label_index(self, name):
        """The index of the logit of a class, by name ("volcano"), synonym or number; ValueError lists near misses."""
        if self.labels:
            return class_index(self.labels, name)
        count = self.layers.get("logits", (0,))[-1]
        if isinstance(name, int) and 0 <= name < count:
            return name
        raise ValueError(f"{self.name} has no names for its {count} classes; found {name!r}: give a number")

    def top(self, images, k=5):
        """The most probable classes of each image: a list of [(label, index, probability), ...], best first."""
        probabilities = np.asarray(jax.nn.softmax(self(images)))
        best = np.argsort(-probabilities, axis=-1, kind="stable")[:, :k]
        rows = zip(probabilities, best, strict=True)
        return [[(self.labels[i], int(i), float(row[i])) for i in order] for row, order in rows]

    def check_layers(self, names):
        """The names as a tuple; ValueError with the near misses if one is no layer."""
        for name in names:
            self.layer_name(name)
        return tuple(dict.fromkeys(names))

    def layer_name(self, name):
        """The full name of a layer, of which the last part is enough where only one layer has it.

        Raises ValueError with the near misses if there is no such layer, or more than one.
        """
        if name in self.layers:
            return name
        ends = [layer for layer in self.layers if layer.endswith(f"/{name}")]
        if len(ends) == 1:
            return ends[0]
        found = f"has {len(ends)} layers" if ends else "has no layer"
        raise ValueError(f"{self.name} {found} {name!r}; {suggest(str(name), ends or list(self.layers))}")

    def check_image(self, image):
        """One image (height, width, channels) as a float32 array; ValueError if it is not in [0, 1]."""
        if np.ndim(image) != 3:
            raise ValueError(f"a photograph has shape (height, width, {self.channels}); found {np.shape(image)}")
        return np.asarray(self.check_images(np.asarray(image)[None])[0])

    def check_images(self, images):
        """The images as a float32 array; ValueError if they are not (n, height, width, channels) in [0, 1]."""
        return check_images(images, self.channels, self.min_size)
