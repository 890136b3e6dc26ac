"""Networks as values: parameters, preprocessing, labels and named layers in one record."""

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffprog._jax_internals import Tracer
from diffprog._jax_internals.interception import is_intercepted
from diffprog._transforms.closures import lift
from diffprog._util.numbers import check_count
from diffprog.images._checks import check_images
from diffprog.images._filters import resize_linear
from diffprog.models._labels import class_index, suggest
from diffprog.models._layers import LOGITS, NoLogits, reason

NUM_KEPT = 32  # programs that are kept with a network


@dataclass(frozen=True, eq=False)
class Model:
    """A network with its parameters.

    Attributes:
      name: For messages and captions.
      network: `network(parameters, images)`, an iterator of (layer name, value) from the input to the logits. It is a
        generator, so that whoever needs a shallow layer computes no deeper one. Images are NHWC in [0, 1]:
        preprocessing is the network's first act. Values that it puts under `dp.tap` with the layers' names are known
        to `dp.grad_at` and its like.
      parameters: Pytree of arrays.
      labels: The classes' names in the order of the logits.
      size: Side of the square images that the network was trained for, or (height, width); a tuple of another length
        for inputs that are no pictures.
      min_size: The smallest side that it takes.
      channels: Channels of the images, 3 for RGB.
    """

    name: str
    network: Callable[..., Iterator[tuple[str, jax.Array]]]
    parameters: Any = field(repr=False)
    labels: tuple[str, ...] = field(repr=False)
    size: int | tuple[int, ...]
    min_size: int
    channels: int = 3

    @cached_property
    def _shapes(self) -> dict[tuple[int, ...], Any]:
        return {}

    @cached_property
    def programs(self) -> dict[Any, Any]:
        """Programs that others keep with the network, to be freed with it."""
        return {}

    def kept(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Find a program that is kept with the network, or make it; of too many the oldest goes.

        Args:
          key: What it is found by.
          make: Called if there is none.

        Returns:
          The program.
        """
        if key not in self.programs:
            made = make()
            while len(self.programs) >= NUM_KEPT:
                self.programs.pop(next(iter(self.programs)))
            self.programs[key] = made
        return self.programs[key]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input at the network's own size: (height, width, channels) of a picture."""
        return input_shape(self.size, self.channels)

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
          ValueError: The images have another type, rank or range, or a size that the network does not take.
        """
        return self._run(self.apply, self._compiled, self.check_images(images))

    @property
    def reads_outside(self) -> bool:
        """Whether the network reads more than its parameters, as a function does that closes over its weights."""
        return getattr(self.network, "reads_outside", False)

    def _run(self, function, compiled, images, *names):
        """Compute by a compiled program, which must not have inside what may change."""
        try:
            if not self.reads_outside:
                return compiled(self.parameters, images, *names)
            if isinstance(images, Tracer) or is_intercepted():
                return function(self.parameters, images, *names)
            lifted = lift(lambda parameters, images: function(parameters, images, *names), self.parameters, images)
            return _run_lifted(lifted, self.parameters, images)
        except NoLogits as error:
            raise NoLogits(f"{self.name}: {error}") from None
        except Exception:
            self._shapes_for(images.shape[1:])  # says that it's the size, if it is
            raise

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
        values = self._run(self.collect, self._compiled_layers, self.check_images(images), names)
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
        for name, value in self.values(parameters, images):
            if name in asked:
                values[name] = value
            if len(values) == len(asked):
                break
        return {asked[name]: values[name] for name in asked}

    def values(self, parameters: Any, images: jax.Array) -> Iterator[tuple[str, jax.Array]]:
        """Iterate over the values of all layers in plain JAX, unchecked and uncompiled.

        Args:
          parameters: The network's, or others like them.
          images: Array (n, height, width, channels) in [0, 1].

        Yields:
          Name and value (n, ...) of each layer, as `network`, which may have no logits.
        """
        try:
            yield from self.network(parameters, images)
        except NoLogits:
            return

    @property
    def layers(self) -> dict[str, tuple[int, ...]]:
        """The layers in order: a dict from name to the shape (height, width, channels) at the network's own size."""
        return dict(self._shapes_for(self.shape))

    def layers_at(self, height: int, width: int | None = None) -> dict[str, tuple[int, ...]]:
        """List the layers for images of another size.

        Args:
          height: The images' height in pixels.
          width: Their width; the height by default.

        Returns:
          A dict from name to shape, as `layers`.

        Raises:
          ValueError: The network does not take images of that size.
        """
        return dict(self._shapes_for((height, width or height, self.channels)))

    def takes(self, height: int, width: int | None = None) -> bool:
        """Say whether the network takes images of a size: one that flattens its values takes one size only.

        Args:
          height: The images' height in pixels.
          width: Their width; the height by default.

        Returns:
          Whether it does.
        """
        try:
            self._shapes_for((height, width or height, self.channels))
        except ValueError:
            return False
        return True

    def fitted(self, images: jax.Array) -> jax.Array:
        """Resize images to the network's own size where it does not take theirs.

        Args:
          images: Array (n, height, width, channels).

        Returns:
          The images, as they are or resampled bilinearly.
        """
        if images.ndim != 4 or self.takes(*images.shape[1:3]):
            return images
        return resize_linear(images, (images.shape[0], *self.shape))

    def _shapes_for(self, shape):
        """Find the layers' shapes for inputs of a shape; a second look at it costs nothing."""
        if shape not in self._shapes:
            try:
                self._shapes[shape] = self._look(shape)
            except Exception as error:  # whatever a network of the user's raises
                self._shapes[shape] = reason(error)  # not the error, which holds on to values
        if isinstance(found := self._shapes[shape], str):
            size, own = (" x ".join(map(str, sides[:-1])) for sides in (shape, self.shape))
            remedy = "" if shape == self.shape else f"; its own size is {own}"
            raise ValueError(f"{self.name} cannot take images of {size} pixels: {found}{remedy}")
        return found

    def _look(self, shape):
        if len(shape) > 1 and min(shape[:-1]) < self.min_size:
            raise ValueError(f"they must be {self.min_size} pixels or more")
        names: list[str] = []

        def values(parameters, images):
            pairs = list(self.values(parameters, images))
            names.extend(name for name, _ in pairs)
            return [value for _, value in pairs]

        shapes = jax.eval_shape(values, self.parameters, jax.ShapeDtypeStruct((1, *shape), jnp.float32))
        return {name: shape.shape[1:] for name, shape in zip(names, shapes, strict=True)}

    def label_index(self, name: str | int, layer: str = LOGITS) -> int:
        """Find the logit of a class.

        Args:
          name: The class by name ("volcano"), synonym or index.
          layer: Name of the layer of logits, in which labels count if there is one for each class.

        Returns:
          The index.

        Raises:
          ValueError: There is no such class. The message lists near misses.
        """
        if layer == LOGITS and LOGITS not in self.layers and self.labels:
            return class_index(self.labels, name, len(self.labels))
        shape = self.layers[self.layer_name(layer)]
        if not shape:
            raise ValueError(f"{self.name} has no classes in {layer}, which is one number for each image")
        try:
            return class_index(self.labels, name, shape[-1])
        except ValueError as error:
            where = self.name if layer == LOGITS else f"layer {layer} of {self.name}"
            raise ValueError(f"{where} {error}") from None

    def top(self, images: ArrayLike, k: int = 5) -> list[list[tuple[str, int, float]]]:
        """List the most probable classes of each image.

        Args:
          images: Floats (n, height, width, channels) in [0, 1].
          k: Number of classes.

        Returns:
          For each image a list of (label, index, probability), best first. Without labels, the index stands for one.
        """
        k = check_count(k, "k")
        logits = np.asarray(self(images), np.float64)
        if logits.ndim != 2 or (self.labels and len(self.labels) != logits.shape[1]):
            fit = f" and {len(self.labels)} labels" if self.labels else ""
            raise ValueError(f"the most probable classes need logits (n, classes); found {logits.shape}{fit}")
        labels = self.labels or [str(index) for index in range(logits.shape[1])]
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = shares / shares.sum(axis=1, keepdims=True)
        best = np.argsort(-probabilities, axis=-1, kind="stable")[:, :k]
        rows = zip(probabilities, best, strict=True)
        return [[(labels[i], int(i), float(row[i])) for i in order] for row, order in rows]

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
        image = np.asarray(image)
        if image.ndim == 2 and self.channels == 1 and len(self.shape) == 3:
            image = image[..., None]
        if image.ndim != len(self.shape):
            expected = f"(height, width, {self.channels})" if len(self.shape) == 3 else self.shape
            raise ValueError(f"a photograph has shape {expected}; found {image.shape}")
        return np.asarray(self.check_images(image[None])[0])

    def check_images(self, images: ArrayLike) -> jax.Array:
        """Check a batch of images.

        Args:
          images: Floats (n, height, width, channels) in [0, 1].

        Returns:
          The images as a float32 array.

        Raises:
          ValueError: The images have another type, rank or range, or less than `min_size` pixels.
        """
        return check_images(images, self.channels, self.min_size, rank=len(self.shape) + 1)


@jax.jit
def _run_lifted(lifted, parameters, images):
    return lifted(parameters, images)


def checked_size(size: Any) -> int | tuple[int, ...]:
    """Check the size of a network's inputs: a side, or the lengths of all axes but the channels.

    Raises:
      ValueError: It is something else.
    """
    if isinstance(size, tuple | list):
        return tuple(check_count(side, "each side of size") for side in size)
    return check_count(size, "size")


def sides_of(size: int | tuple[int, ...]) -> tuple[int, ...]:
    """Give the lengths of all axes but the channels."""
    return size if isinstance(size, tuple) else (size, size)


def input_shape(size: int | tuple[int, ...], channels: int) -> tuple[int, ...]:
    """Give the shape of one input."""
    return (*sides_of(size), channels)
