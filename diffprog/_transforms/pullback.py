"""The backward pass as a value: what `vjp` returns."""

import weakref
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
from jax import tree_util

from diffprog._jax_internals import (
    binding,
    canonical,
    cotangent_dtype,
    float0,
    hides_engine,
    instantiate,
    same_type,
    typeof,
)
from diffprog._jax_internals.pullbacks import DidntWant, DontWant, GradRef, takes_gradient
from diffprog._jax_internals.references import content_type
from diffprog._jax_internals.scopes import reverse_pass
from diffprog._tracer.backward import Taped
from diffprog._tracer.cotangents import add_into, fill_zeros, materialize
from diffprog._transforms.saved import Saved, mirror, save
from diffprog._util.lists import expand, select


def send(taped: Taped, needs_grad: Sequence[bool], cotangents: Iterable, whole: bool = True) -> list:
    """Send cotangents of result leaves back: one per argument leaf, None for zero.

    Args:
      taped: the tape from the arguments to the results.
      needs_grad: which argument leaves are inputs of the tape.
      cotangents: one per result leaf, None for zero.
      whole: whether each is made an array; else it may be a part of one.
    """
    with binding.not_intercepting(), reverse_pass():
        return expand(taped.pull(cotangents, whole), needs_grad)


class Run(NamedTuple):
    """A function that ran on a tape.

    Attributes:
      results: the leaves of its result, free of the tape.
      out_tree: the structure of its result.
      aux: its auxiliary data, None if there is none.
      taped: for the reverse pass; the last contents of the arguments in `written` are results of it too.
      args: the leaves of its arguments; of a mutable array its content before the run.
      in_tree: their structure.
      needs_grad: which of these leaves have a gradient that is wanted.
      mutable: the positions of those that are mutable arrays.
      written: of these, those whose content is another one after the run.
      name: of the function.
    """

    results: list
    out_tree: Any
    aux: Any
    taped: Taped
    args: list
    in_tree: Any
    needs_grad: list[bool]
    mutable: list[int]
    written: list[int]
    name: str

    @property
    def in_avals(self) -> list:
        return list(map(typeof, self.args))


class _Types(NamedTuple):
    """The types of a pullback; see `Run`."""

    in_avals: tuple
    in_tree: Any
    out_avals: tuple
    out_tree: Any
    out_nzs: tuple[bool, ...]
    mutable: tuple[int, ...]
    written: tuple[int, ...]
    name: str


@tree_util.register_pytree_node_class
class Pullback:
    """Maps a cotangent of a function's result to the tuple of cotangents of its arguments.

    A pytree: its leaves are the residual arrays, its structure is the backward program. So it can be returned
    from `jax.jit`, mapped by `jax.vmap`, called any number of times and kept.

    What it keeps can be looked at and replaced, as in the object that `jax.vjp` returns: drop a weight after the
    forward pass by `pullback.args_res[1] = None`, and put it back before the call.
    """

    def __init__(self, run: Run, saveable: Sequence[bool]):
        out_avals, out_nzs = map(typeof, run.results), run.taped.active[: len(run.results)]
        self._types = _Types(
            tuple(run.in_avals),
            run.in_tree,
            tuple(out_avals),
            run.out_tree,
            out_nzs,
            tuple(run.mutable),
            tuple(run.written),
            run.name,
        )
        # Until the pass is staged. What the rules keep stays in memory; of the other arguments not even the value.
        self._run: Any = (run.taped, run.needs_grad, list(map(_weakly, run.args)), saveable)
        self._saved: Any = None
        if not all(saveable):
            _ = self._staged  # the tape has all arguments

    @hides_engine
    def __call__(self, cotangent: Any, *others: Any) -> tuple:
        """Send a cotangent back.

        Args:
          cotangent: pytree like the function's result, with float0 for integers.
          *others: none; the result has one cotangent, also where it is a tuple.

        Returns:
          A tuple of pytrees like the function's arguments.

        Raises:
          TypeError: there is more than one argument.
          ValueError: the cotangent's structure, a shape or a dtype differs from the result's; an argument that was
            taken out of `args_res` is missing; an argument of the function was a mutable array, see `with_refs`.
        """
        if others:
            raise TypeError(
                f"the pullback of {self._types.name} takes one cotangent, of the structure of the function's result; "
                f"it was called with {len(others) + 1} arguments: pass a tuple if the result is one"
            )
        if self._types.mutable:
            raise ValueError(
                f"argument {self._types.mutable[0]} of {self._types.name} is a mutable array, and its gradient can "
                "only be added to one: call pullback.with_refs(...)(cotangent), with a mutable array, or with "
                "jax.ad.DontWant(), in its place"
            )
        return _pull([None] * self._types.in_tree.num_leaves, self, cotangent)

    def with_refs(self, *targets: Any) -> Callable[[Any], tuple]:
        """Say of each argument where its gradient goes.

        Args:
          *targets: one per argument of the function, of its structure. A mutable array (`jax.new_ref`): the gradient
            is added to it; `jax.ad.GradValue()`: it is returned; `jax.ad.DontWant()`: it is not computed.

        Returns:
          The function: cotangent of the result -> tuple of pytrees like the arguments, with `GradRef` or `DidntWant`
          of `jax.ad` in the place of gradients that are not returned.

        Raises:
          ValueError: the structure differs from the arguments', or a mutable array has another type than the gradient.
        """
        in_avals, in_tree, mutable = self._types.in_avals, self._types.in_tree, self._types.mutable
        leaves, tree = jax.tree.flatten(targets)
        if tree != in_tree:
            raise ValueError(
                f"with_refs was given targets of the structure {tree}, but the function's arguments have {in_tree}: "
                "give one mutable array, jax.ad.GradValue() or jax.ad.DontWant() for each array"
            )
        for i, (target, aval) in enumerate(zip(leaves, in_avals, strict=True)):
            if i in mutable and not (takes_gradient(target) or isinstance(target, DontWant)):
                raise ValueError(
                    f"argument {i} of {self._types.name} is a mutable array, and with_refs was given {target!r} in its "
                    "place: give a mutable array for its gradient, or jax.ad.DontWant()"
                )
            if takes_gradient(target) and not same_type(content_type(typeof(target)), aval.to_ct_aval()):
                raise ValueError(
                    f"with_refs was given a mutable array of type {typeof(target).str_short()} for a gradient of type "
                    f"{aval.to_ct_aval().str_short()}: make it with jax.new_ref(jnp.zeros_like(argument))"
                )
        return tree_util.Partial(partial(_pull, leaves), self)

    @property
    def args_res(self) -> list:
        """What the backward pass reads of the arguments: a list with an entry, of its structure, for each argument.

        An array that is not needed has `NotNeeded` of JAX in its place. Any entry may be replaced; None drops it.
        """
        return self._staged.args_res

    @args_res.setter
    def args_res(self, args_res: list) -> None:
        self._saved = self._staged._replace(args_res=args_res)

    @property
    def opaque_residuals(self) -> list:
        """What the backward pass reads besides the arguments: a list of arrays."""
        return self._staged.opaque_residuals

    @opaque_residuals.setter
    def opaque_residuals(self, opaque_residuals: list) -> None:
        self._saved = self._staged._replace(opaque_residuals=opaque_residuals)

    @property
    def out_nzs(self) -> Any:
        """Which arrays of the result depend on the arguments, as booleans in containers like the result's."""
        return mirror(self._types.out_tree, iter(self._types.out_nzs))

    @property
    def jaxpr(self) -> Any:
        """The backward program: a jaxpr, residuals and cotangents of the result -> cotangents of the arguments."""
        return self._staged.program.jaxpr.jaxpr

    @property
    def _staged(self) -> Saved:
        """The backward pass as a program. The tape is let go: what is taken out of `args_res` is kept nowhere."""
        if self._saved is None:
            taped, needs_grad, args, saveable = self._run
            avals = self._cotangent_avals
            ct_in = [aval.dtype != float0 if isinstance(aval, jax.core.ShapedArray) else True for aval in avals]
            pull = lambda cotangents: send(taped, needs_grad, cotangents)
            args = [reference() for reference in args]
            self._saved = save(pull, ct_in, select(avals, ct_in), args, self._types.in_tree, saveable)
            self._run = None
        return self._saved

    @property
    def _cotangent_avals(self) -> list:
        contents = [self._types.in_avals[i] for i in self._types.written]
        return [aval.to_ct_aval() for aval in (*self._types.out_avals, *contents)]

    def _check(self, cotangent) -> list:
        """Get the leaves of a cotangent of the result, each of the right type."""
        out_avals, out_tree = self._types.out_avals, self._types.out_tree
        leaves, tree = jax.tree.flatten(cotangent)
        if tree != out_tree:
            raise ValueError(
                f"the cotangent passed to a pullback has the structure {tree}, "
                f"but the function's result has {out_tree}: pass a cotangent of that structure"
            )
        leaves = list(map(canonical, leaves))
        for leaf, aval in zip(leaves, out_avals, strict=True):
            actual, expected = typeof(leaf), aval.to_ct_aval()
            ignored = cotangent_dtype(aval) == float0 and actual.shape == aval.shape  # JAX takes any dtype there
            if not (ignored or same_type(actual, expected)):
                raise ValueError(
                    f"the cotangent passed to a pullback has type {actual.str_short()}, but a result of type "
                    f"{aval.str_short()} takes {expected.str_short()}: convert it"
                )
        return leaves

    def _send(self, cotangents: list, wanted: list[bool], whole: bool) -> list:
        if self._saved is None and all(wanted):
            taped, needs_grad, *_ = self._run
            return send(taped, needs_grad, cotangents, whole)
        saved = self._staged
        return saved.program(saved.residuals(self._types.in_tree), cotangents, wanted)

    def tree_flatten(self):
        """Stage the backward pass; what it keeps are the leaves."""
        program, args_res, opaque_residuals = self._staged
        return (args_res, opaque_residuals), (program, self._types)

    @classmethod
    def tree_unflatten(cls, structure, kept):
        """Put what it keeps, or whatever JAX has in its place, back."""
        program, types = structure
        pullback = cls.__new__(cls)
        pullback._types, pullback._run, pullback._saved = types, None, Saved(program, *kept)
        return pullback


def _weakly(value) -> Callable[[], Any]:
    """Refer to `value` without keeping it, if it can be referred to so."""
    try:
        return weakref.ref(value)
    except TypeError:
        return lambda: value


def _pull(targets: Sequence, pullback: Pullback, cotangent: Any) -> tuple:
    """Send a cotangent back to `targets`, one per leaf of the arguments; see `Pullback.with_refs`."""
    types = pullback._types
    wanted = [not isinstance(target, DontWant) for target in targets]
    added = [takes_gradient(target) for target in targets]
    # Where the function wrote to a mutable argument, the array for its gradient has that of the last content.
    contents = [
        jax.ref.swap(targets[i], ..., instantiate(types.in_avals[i])) if added[i] else None for i in types.written
    ]
    sent = pullback._send([*pullback._check(cotangent), *contents], wanted, whole=not any(added))

    def deliver(target, g, aval, want, add):
        if not want:
            return DidntWant()
        if not add:
            return fill_zeros([materialize(g)], [aval])[0]
        if g is not None:
            add_into(target, g)
        return GradRef()

    delivered = map(deliver, targets, sent, types.in_avals, wanted, added)
    return types.in_tree.unflatten(delivered)
