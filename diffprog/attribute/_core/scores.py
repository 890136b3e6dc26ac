"""Scores: what is explained, as a function from a model's output to one number per example."""

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._util.modules import is_apply_of_module
from diffprog._util.numbers import whole_number
from diffprog._util.promotion import own_promotion
from diffprog._util.user_functions import call_traced
from diffprog.models import Model
from diffprog.visualize.objectives import Objective


class Explained(NamedTuple):
    """A model and its scores as one function.

    Attributes:
      function: (inputs, classes) -> scores (c,), or (c, k) of several.
      classes: for scores that are classes, their indices int32 (n, number of such scores): arguments, so that one
        program serves all classes.
      is_several: whether a list of scores was given.
      of_parameters: (parameters, inputs, classes) -> scores, of a `Model`.
      kept_by: what the function of a `Model` is known by: another one that is equal computes the same. None if it may
        change, because the network or a score reads what may change.
    """

    function: Callable[..., jax.Array]
    classes: np.ndarray
    is_several: bool
    of_parameters: Callable[..., jax.Array] | None = None
    kept_by: Hashable | None = None


def explain(model: Callable[..., Any], score: Any, count: int) -> Explained:
    """Make one function of a model and what is to be explained.

    Args:
      model: a function from a batch to outputs, or a `Model`.
      score: see `diffprog.attribute`; a list for several.
      count: number of examples.

    Raises:
      ValueError: the model or a score is unsuitable.
    """
    if not callable(model):
        raise ValueError(
            "model must be a function from a batch to outputs, or a diffprog.models.Model; found "
            f"{type(model).__name__}: give one"
        )
    if is_apply_of_module(model):
        raise ValueError(
            "model must be a function of the inputs; found the method apply of a module, which takes its variables "
            "first: give lambda inputs: module.apply(variables, inputs)"
        )
    is_several = isinstance(score, list | tuple)
    wanted = list(score) if is_several else [score]
    if not wanted:
        raise ValueError("score must be one score or a list of them; found an empty list")
    columns: list[np.ndarray] = []
    parts = [_part(model, each, count, columns) for each in wanted]

    @own_promotion()
    def of_parameters(parameters, inputs, classes):
        outputs = _Outputs(model, parameters, inputs)
        scores = [part(outputs, classes) for part in parts]
        return jnp.stack(scores, axis=1) if is_several else scores[0]

    def function(inputs, classes):
        return of_parameters(getattr(model, "parameters", None), inputs, classes)

    classes = np.stack(columns, axis=1) if columns else np.zeros((count, 0), np.int32)
    if not isinstance(model, Model):
        return Explained(function, classes, is_several)
    is_fixed = not model.reads_outside and all(isinstance(part, _Class) or part is _whole for part in parts)
    kinds = tuple("class" if isinstance(part, _Class) else "whole" for part in parts)
    return Explained(function, classes, is_several, of_parameters, (kinds, is_several) if is_fixed else None)


class _Outputs:
    """What a model says of a batch, computed once for all scores."""

    def __init__(self, model, parameters, inputs):
        self.model, self.parameters, self.inputs = model, parameters, inputs
        self.count = len(jax.tree.leaves(inputs)[0])
        self._output = None
        self._layers = {}

    @property
    def output(self):
        if self._output is None:
            if isinstance(self.model, Model):
                self._read(None)
            else:
                self._output = call_traced("model", self.model, self.inputs)
        return self._output

    def layers(self, names):
        self._read(names)
        return {name: self._layers[name] for name in names}

    def _read(self, names):
        """Read layers of a `Model`, to its end if none are named."""
        if names is not None and set(names) <= set(self._layers):
            return
        model, value = self.model, None
        full = {name: name if name == "image" else model.layer_name(name) for name in names or ()}
        values = {"image": self.inputs}
        for layer, value in model.network(self.parameters, self.inputs):
            values[layer] = value
            if names is not None and all(each in values for each in full.values()):
                break
        if names is None:
            self._output = value
        self._layers |= values | {name: values[each] for name, each in full.items()}


def _part(model, score, count, columns):
    """Make a function (outputs, classes) -> (c,) of one score; a column of classes is added where it has one."""
    if isinstance(score, Objective):
        if not isinstance(model, Model):
            raise ValueError(
                f"score {score.name} reads layers, which a plain function has not: wrap the network with "
                "diffprog.models.wrap, or give a function of its output"
            )
        score.check(model)
        return partial(_objective, score)
    if isinstance(score, str):
        if not isinstance(model, Model):
            raise ValueError(
                f"score {score!r} names a class, which needs a diffprog.models.Model with labels; found a plain "
                "function: give the class's index"
            )
        return _class(model, np.full(count, model.label_index(score)), columns)
    if score is None:
        return _whole
    if (index := whole_number(score)) is not None and np.ndim(score) == 0:
        return _class(model, np.full(count, index), columns)
    if callable(score):
        return partial(_function, score)
    classes = np.asarray(score)
    if classes.dtype.kind not in "iu" or classes.shape != (count,):
        raise ValueError(
            "score must be a class, a label, an objective, a function of the output, integers with one class for each "
            f"of {count} examples, or a list of several of these; found {classes.dtype} of shape {classes.shape}"
        )
    return _class(model, classes, columns)


def _class(model, classes, columns):
    low, high = int(classes.min()), int(classes.max())
    if isinstance(model, Model):
        model.label_index(low), model.label_index(high)  # says if there is no such class
    columns.append(classes.astype(np.int32))
    return _Class(len(columns) - 1, low, high)


class _Class(NamedTuple):
    """A score that is a class of each example.

    Attributes:
      column: where the classes stand.
      low, high: the smallest and the largest.
    """

    column: int
    low: int
    high: int

    def __call__(self, outputs, classes):
        logits = _logits(outputs)
        count = logits.shape[1]
        for index in (self.low, self.high):
            if not -count <= index < count:
                raise ValueError(f"score {index} is no class: the output has {count} of them")
        return jnp.take_along_axis(logits, classes[:, self.column, None], axis=1)[:, 0]


def _objective(objective, outputs, classes):
    return objective.score(outputs.model, outputs.layers(sorted(objective.layers))).astype(jnp.float32)


def _logits(outputs):
    output = outputs.output
    if not isinstance(output, jax.Array) or output.ndim != 2:
        raise ValueError(
            f"a class needs an output (n, classes); found {_shapes(output)}: give score= as a function of the output "
            "to one number per example"
        )
    return output


def _whole(outputs, classes):
    return _one_each(outputs.output, outputs.count, "the output", "give score=, a class or a function of the output")


def _function(function, outputs, classes):
    scores = call_traced("score", function, outputs.output)
    return _one_each(scores, outputs.count, "what score returns", "let it sum or select over all other axes")


def _one_each(scores, count, what, remedy):
    if not (hasattr(scores, "shape") and jnp.issubdtype(scores.dtype, jnp.floating)) or scores.shape != (count,):
        raise ValueError(
            f"a score is one real number per example, ({count},) here; {what} is {_shapes(scores)}: {remedy}"
        )
    return scores


def _shapes(output):
    leaves = jax.tree.leaves(output)
    if len(leaves) == 1 and hasattr(leaves[0], "shape"):
        return f"{leaves[0].dtype} of shape {leaves[0].shape}"
    return f"{len(leaves)} arrays"
