"""Networks as values: parameters, preprocessing, labels and named layers in one record."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffprog.images._checks import check_images
from diffprog.models._labels import class_index, suggest


@dataclass(frozen=True, eq=False)
class Model:
    """A network with its parameters.

    Attributes:
      name: For messages and captions.
      network: `network(parameters, images)`, an iterator of (layer name, value) from the input to the logits. It is a
        generator, so that whoever needs a shallow layer computes no deeper one. Images are NHWC in [0, 1]:
        preprocessing is the network's first act.
      parameters: Pytree of arrays.
      labels: The classes' names in the order of the logits.
      size: Side of the square images that the network was trained for.
      min_size: The smallest side that it takes.
      channels: Channels of the images, 3 for RGB.
    """

    name: str
    network: Callable[[Any, jax.Array], Iterator[tuple[str, jax.Array]]]
    parameters: Any = field(repr=False)
    labels: tuple[str, ...] = field(repr=False)
    size: int
    min_size: int
    channels: int = 3

    def apply(self, parameters: Any, images: jax.Array) -> jax.Array:
        """Compute logits in plain JAX, unchecked and uncompiled, for grad, jit and vmap.

        Args:
          parameters: The network's, or others like them.
          images: Array (n, height, width, channels) in [0, 1].

        Returns:
          Logits (n, classes).
        """
        *_, (_, logits) = self.network(parameters, images)
        return logits

    def __call__(self, images: ArrayLike) -> jax.Array:
        """Compute logits, compiled.

        Under a transformation the values of the images are unknown, and only type and shape are checked.

        Args:
          images: Floats (n, height, width, channels) in [0, 1].

        Returns:
          Logits (n, classes).

        Raises:
          ValueError: The images have another type, rank or range, or less than `min_size` pixels.
        """
        return self._compiled(self.parameters, self.check_images(images))

    @cached_property
    def _compiled(self):
        return jax.jit(self.apply)

    @cached_property
    def _compiled_layers(self):
        return jax.jit(self.collect, static_argnums=2)

    def activations(self, images: ArrayLike, names: str | Iterable[str]) -> dict[str, jax.Array]:
        """Compute the values of layers, compiled; nothing beyond the deepest of them is computed.

        Args:
          images: Floats (n, height, width, channels) in [0, 1].
          names: A layer's name or several, from `layers`.

        Returns:
          {name: values (n, ...)}, in the order of `names`.

        Raises:
          ValueError: The images are unsuitable, or there is no such layer.
        """
        names = self.check_layers([names] if isinstance(names, str) else names)
        values = self._compiled_layers(self.parameters, self.check_images(images), names)
        return {name: values[name] for name in names}  # in the order asked for, which jit does not keep

    def collect(self, parameters: Any, images: jax.Array, names: Iterable[str]) -> dict[str, jax.Array]:
        """Compute the values of layers in plain JAX, unchecked and uncompiled.

        Args:
          parameters: The network's, or others like them.
          images: Array (n, height, width, channels) in [0, 1].
          names: Names from `layers`.

        Returns:
          {name: values (n, ...)}.
        """
        asked = {self.layer_name(name): name for name in names}
        values = {}
        for name, value in self.network(parameters, images):
            if name in asked:
                values[name] = value
            if len(values) == len(asked):
                break
        return {asked[name]: values[name] for name in asked}

    @cached_property
    def layers(self) -> dict[str, tuple[int, ...]]:
        """The layers in order: a dict from name to the shape (height, width, channels) at the network's own size."""
        return self.layers_at(self.size)

    def layers_at(self, height: int, width: int | None = None) -> dict[str, tuple[int, ...]]:
        """List the layers for images of another size.

        Args:
          height: The images' height in pixels.
          width: Their width; the height by default.

        Returns:
          A dict from name to shape, as `layers`.
        """
        images = jax.ShapeDtypeStruct((1, height, width or height, self.channels), jnp.float32)
        names: list[str] = []

        def values(parameters, images):
            pairs = list(self.network(parameters, images))
            names.extend(name for name, _ in pairs)
            return [value for _, value in pairs]

        shapes = jax.eval_shape(values, self.parameters, images)
        return {name: shape.shape[1:] for name, shape in zip(names, shapes, strict=True)}

    def label_index(self, name: str | int) -> int:
        """Find the logit of a class.

        Args:
          name: The class by name ("volcano"), synonym or index.

        Returns:
          The index.

        Raises:
          ValueError: There is no such class. The message lists near misses.
        """
        if self.labels:
            return class_index(self.labels, name)
        num_classes = self.layers.get("logits", (0,))[-1]
        if isinstance(name, int) and 0 <= name < num_classes:
            return name
        raise ValueError(f"{self.name} has no names for its {num_classes} classes; found {name!r}: give a number")

    def top(self, images: ArrayLike, k: int = 5) -> list[list[tuple[str, int, float]]]:
        """List the most probable classes of each image.

        Args:
          images: Floats (n, height, width, channels) in [0, 1].
          k: Number of classes.

        Returns:
          For each image a list of (label, index, probability), best first.
        """
        probabilities = np.asarray(jax.nn.softmax(self(images)))
        best = np.argsort(-probabilities, axis=-1, kind="stable")[:, :k]
        rows = zip(probabilities, best, strict=True)
        return [[(self.labels[i], int(i), float(row[i])) for i in order] for row, order in rows]

    def check_layers(self, names: Iterable[str]) -> tuple[str, ...]:
        """Check that there are layers of these names.

        Args:
          names: Names of layers.

        Returns:
          The names, each once.

        Raises:
          ValueError: There is no such layer. The message lists near misses.
        """
        names = tuple(dict.fromkeys(names))
        for name in names:
            self.layer_name(name)
        return names

    def layer_name(self, name: str) -> str:
        """Complete the name of a layer: its last part is enough where only one layer has it.

        Args:
          name: "CNN/Conv_0", or "Conv_0".

        Returns:
          The full name.

        Raises:
          ValueError: There is no such layer, or more than one. The message lists near misses.
        """
        if name in self.layers:
            return name
        ends = [layer for layer in self.layers if layer.endswith(f"/{name}")]
        if len(ends) == 1:
            return ends[0]
        problem = f"has {len(ends)} layers" if ends else "has no layer"
        raise ValueError(f"{self.name} {problem} {name!r}; {suggest(str(name), ends or list(self.layers))}")

    def check_image(self, image: ArrayLike) -> np.ndarray:
        """Check one image.

        Args:
          image: Floats (height, width, channels) in [0, 1].

        Returns:
          The image as a float32 array.

        Raises:
          ValueError: The image has another type, rank or range, or less than `min_size` pixels.
        """
        if np.ndim(image) != 3:
            raise ValueError(f"a photograph has shape (height, width, {self.channels}); found {np.shape(image)}")
        return np.asarray(self.check_images(np.asarray(image)[None])[0])

    def check_images(self, images: ArrayLike) -> jax.Array:
        """Check a batch of images.

        Args:
          images: Floats (n, height, width, channels) in [0, 1].

        Returns:
          The images as a float32 array.

        Raises:
          ValueError: The images have another type, rank or range, or less than `min_size` pixels.
        """
        return check_images(images, self.channels, self.min_size)
