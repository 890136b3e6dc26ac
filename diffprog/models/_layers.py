"""The layers of a network that somebody else wrote, found while it runs."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import keystr, tree_flatten_with_path

from diffprog._jax_internals import is_array_type
from diffprog._jax_internals.inlining import embeds_arrays
from diffprog._jax_internals.jaxprs import has_loop
from diffprog._jax_internals.rows import may_mix_rows
from diffprog._util.modules import explain_module_error
from diffprog.graph._interventions.naming import Kind, Naming
from diffprog.graph._selection.tap import LayerName, named

LOGITS, OUTPUT = "logits", "output"
PROBES = 2, 4  # numbers of images: what a value has as many of, both times, are its images


class NoLogits(ValueError):
    """A network returns no logits; it may have layers nevertheless."""


class Found(NamedTuple):
    """What is known of a network after it was looked at.

    Attributes:
      layers: From the name of a value inside to the axis of its images.
      outputs: From the place of an array that it returns to its name as a layer.
      answer: The place of the one that is its answer, the logits as a rule; None if none is.
      num_classes: How many numbers the answer has for an image, if it is one array (n, classes).
      may_mix: Whether an image's answer may depend on the other images.
      reads_outside: Whether the function reads arrays that are not among its arguments.
      has_loop: Whether there is a loop in it, which has to be staged for its values to be found.
      naming: Names the values inside, in a run.
    """

    layers: dict[str, int]
    outputs: dict[str, str]
    answer: str | None
    num_classes: int | None
    may_mix: bool
    reads_outside: bool
    has_loop: bool
    naming: Naming


@dataclass(frozen=True, eq=False)
class Network:
    """`network(parameters, images)` of a `Model`, around a function.

    Attributes:
      function: `function(parameters, images)` to anything.
      found: What was found in it.
      channels_first: Whether values of as many axes as the images have their channels behind their images.
      takes_parameters: Whether its parameters are an argument of the user's function.
    """

    function: Callable
    found: Found
    channels_first: bool
    takes_parameters: bool

    @property
    def reads_outside(self) -> bool:
        """Whether the network reads more than its parameters."""
        return self.found.reads_outside or not self.takes_parameters

    def __call__(self, parameters: Any, images: jax.Array) -> Iterator[tuple[str, jax.Array]]:
        """Yield (name, value) of each layer, the answer last; what nobody uses is removed when it is compiled.

        Raises:
          NoLogits: At the end, if no output is the answer.
        """
        layers, outputs, answer = self.found.layers, self.found.outputs, self.found.answer
        # Written out in Python, a loop would have other values.
        with jax.disable_jit(False) if self.found.has_loop else nullcontext():
            output, values = self.found.naming.run(self.function, (parameters, images), images.shape[1:])
        for name, value in values:
            if name in layers:
                yield name, self._by_image(value, layers[name], images.ndim)
        returned = dict(outputs_by_place(output))
        for place in sorted(outputs, key=lambda place: place == answer):
            value = named(returned[place], LayerName(outputs[place]))
            yield outputs[place], self._by_image(value, 0, images.ndim)
        if answer is None:
            raise NoLogits(
                f"the network returns {', '.join(outputs.values()) or 'no array with a row for each image'}, and none "
                "is its logits: wrap a function that returns them alone, or in a dict as 'logits'"
            )

    def _by_image(self, value, axis, rank):
        """Bring a value's images first, and its channels last."""
        if self.channels_first and value.ndim - axis == rank:
            value = jnp.moveaxis(value, axis + 1, -1)
        return jnp.moveaxis(value, axis, 0)


def find_layers(name: str, function: Callable, parameters: Any, shape: tuple[int, ...], num_labels: int = 0) -> Found:
    """Find the layers in runs on shapes alone: taps and modules, or else operations.

    Args:
      name: The network's, for messages.
      function: `function(parameters, images)`.
      parameters: Its parameters.
      shape: The shape of an image.
      num_labels: The number of classes, if it is known.

    Raises:
      ValueError: The function cannot take such images.
    """
    for is_tap in (True, False):
        naming = Naming(is_tap)
        few, more = (_look(name, function, parameters, (count, *shape), naming) for count in PROBES)
        axes = _of_images(few.inside, more.inside)
        layers = {layer: axis for layer, axis in axes.items() if len(few.inside[layer]) > 1}
        if layers:
            break
    kinds = {kind_of(layer, is_tap) for layer in layers}
    outputs = {place: few.outputs[place] for place, axis in _of_images(few.outputs, more.outputs).items() if axis == 0}
    if not layers and not outputs:
        raise ValueError(
            f"{name} must compute and return an array with a row for each image; found none: keep the axis of images"
        )
    answer = _answer(outputs, num_labels)
    return Found(
        layers=layers,
        outputs=_output_names(outputs, answer, layers),
        answer=answer,
        num_classes=outputs[answer][1] if answer is not None and len(outputs[answer]) == 2 else None,
        may_mix=may_mix_rows(few.program, more.program, len(jax.tree.leaves(parameters))),
        reads_outside=bool(few.program.consts) or embeds_arrays(few.program),
        has_loop=has_loop(few.program),
        naming=Naming(is_tap, frozenset(kinds)),
    )


class _Look(NamedTuple):
    """The shapes of all values with names, of all outputs by their places, and the program."""

    inside: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]
    program: Any


def kind_of(layer: str, is_tap: bool) -> Kind:
    """Find the kind of a value from its counted name."""
    name, _, place = layer.rpartition("#")
    return Kind(name if place.isdigit() else layer, is_tap)


def _look(name, function, parameters, shape, naming):
    names: list[str] = []

    def values(parameters, images):
        output, pairs = naming.run(function, (parameters, images))
        names.extend(name for name, _ in pairs)
        return [value for _, value in pairs], dict(outputs_by_place(output))

    try:
        images = jax.ShapeDtypeStruct(shape, jnp.float32)
        with jax.disable_jit(False):
            program, (inside, outputs) = jax.make_jaxpr(values, return_shape=True)(parameters, images)
    except Exception as error:  # whatever the user's function raises
        raise ValueError(f"{name} cannot take images of {' x '.join(map(str, shape[1:]))}: {reason(error)}") from error
    shapes = {name: value.shape for name, value in zip(names, inside, strict=True)}
    return _Look(shapes, {place: value.shape for place, value in outputs.items()}, program)


def _of_images(few, more):
    """Find the values, of which shapes for fewer and for more images are known, that have an axis of images."""
    axes = {name: _image_axis(few[name], more[name]) for name in few if name in more}
    return {name: axis for name, axis in axes.items() if axis is not None}


def _image_axis(few, more):
    """Find the axis that has as many entries as there are images; None if there is none, or more than one."""
    if len(few) != len(more):
        return None
    differing = [axis for axis, sides in enumerate(zip(few, more, strict=True)) if sides[0] != sides[1]]
    return differing[0] if [(few[axis], more[axis]) for axis in differing] == [PROBES] else None


# ---------------------------------------------------------------- what a network returns


def outputs_by_place(output: Any) -> list[tuple[str, jax.Array]]:
    """List the arrays of floats that a network returns, with their places: "" if it is one, or "['boxes']"."""
    floats = lambda x: is_array_type(x) and jnp.issubdtype(x.dtype, jnp.floating)
    return [(keystr(path), leaf) for path, leaf in tree_flatten_with_path(output)[0] if floats(leaf)]


def _answer(outputs, num_labels):
    """Choose the place of the logits among outputs, given their shapes.

    It is the only output, or the one that is called so, or the only (n, labels), or of a sequence the first (n, k).
    """
    flat = [place for place, shape in outputs.items() if len(shape) == 2]
    labelled = [place for place in flat if outputs[place][1] == num_labels]
    called = [place for place in outputs if place.endswith((f"['{LOGITS}']", f".{LOGITS}"))]
    for choices in (list(outputs), sorted(called, key=len)[:1], labelled, flat):
        if len(choices) == 1:
            return choices[0]
    return next((place for place in flat if place.startswith("[0]")), None)


def _output_names(outputs, answer, layers):
    """Name the outputs: the answer "logits" if it is (n, classes), and others "output" and their place."""
    names: dict[str, str] = {}
    for place, shape in outputs.items():
        name = OUTPUT + (place if place != answer else "")
        if place == answer and len(shape) == 2 and LOGITS not in layers:
            name = LOGITS
        while name in layers:  # a tap of the user's
            name += "'"
        names[place] = name
    return names


def reason(error: Exception) -> str:
    """Write why a network failed, on one line."""
    if sentence := explain_module_error(error):
        return f"it is {sentence}"
    return " ".join(str(error).split())[:300] or type(error).__name__
