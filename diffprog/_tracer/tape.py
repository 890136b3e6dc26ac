"""What gets recorded: a JAX trace that writes each operation on a tape.

`Tape` is the trace that is current while a differentiated function runs. Each JAX operation on a `Traced`
value reaches `Tape.process_primitive`, which looks up the operation's rule, runs it in the trace around
(`parent`: plain evaluation, `jit`, `vmap`, another tape ...) and keeps a `Node`: where the operation's inputs
came from, and the map from the cotangents of its results to those of its inputs. The tape knows no calculus
and no array: that is in the rules. Nodes point at their inputs only, so what the result does not depend on is
dropped as soon as the program drops it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from diffprog._jax_internals import (
    PERTURBED,
    Trace,
    Tracer,
    bind_unchanged,
    concrete,
    has_gradient,
    has_zero,
    jaxpr_as_fun,
    set_current_trace,
    typeof,
    user_line,
    zero_tangent,
)
from diffprog._jax_internals.devices import same_context
from diffprog._jax_internals.foreign import has_jvp, result_types
from diffprog._jax_internals.jaxprs import jaxprs_in, params_without_custom_rules
from diffprog._jax_internals.scopes import current_name_stack, current_source
from diffprog._jax_internals.sources import same_source
from diffprog._tracer import custom, references
from diffprog._tracer.backward import Taped
from diffprog._tracer.errors import MissingDerivative
from diffprog._tracer.linearity import RUN_PROGRAMS, first_nonlinear
from diffprog._tracer.references import Reference
from diffprog._tracer.rules import rules, transposes
from diffprog._util.lists import select

reverse_context: ContextVar[Callable] = ContextVar("reverse_context", default=same_context)
"""Makes a node's `context` when an operation is recorded. Gradients that run at once restore no line: it takes time."""


@contextmanager
def keeping_sources() -> Iterator[None]:
    """Let the reverse pass over each operation recorded meanwhile keep that operation's source line and scope."""
    token = reverse_context.set(same_source)
    try:
        yield
    finally:
        reverse_context.reset(token)


class Node:
    """One recorded operation, or an input of the program (without `backward`).

    Attributes:
      order: position on the tape; inputs come before what uses them.
      sources: per argument of the operation the (node, output number) that made it, None if it has no gradient.
      avals: type of each result.
      backward: cotangents of the results -> cotangents of the arguments.
      single: whether the operation has one result rather than a list of them.
      context: makes the context manager under which its arguments' cotangents are computed, as its results were;
        None if it takes none.
      source: the scopes that the operation is in, and its line in a program that is traced.
    """

    __slots__ = ("avals", "backward", "context", "name", "order", "single", "source", "sources")

    def __init__(self, order: int, name: str, sources, avals, backward: Callable | None, single: bool, context, source):
        self.order, self.name, self.sources = order, name, sources
        self.avals, self.backward, self.single, self.context = avals, backward, single, context
        self.source = source


class Traced(Tracer):
    """A value that depends on the inputs of a differentiated function."""

    __slots__ = ("place", "value")

    def __init__(self, tape, value, node: Node, index: int):
        super().__init__(tape, node.avals[index])
        self.value, self.place = value, (node, index)

    @property
    def node(self) -> Node:
        return self.place[0]

    def full_lower(self):
        return self

    def _contents(self):
        return [("value", self.value), ("place", self.place), ("perturbed", PERTURBED)]

    def to_concrete_value(self):
        return concrete(self.value)

    def get_referent(self):
        return self.value.get_referent() if isinstance(self.value, Tracer) else self.value

    def _short_repr(self):
        return f"Traced<{self.value._short_repr() if isinstance(self.value, Tracer) else self.value}>"


class Tape(Trace):
    """The trace that records; `parent` is the trace in which the operations really run.

    Attributes:
      transparent: identities that leave no node: a value has the same place before and after.
    """

    transparent = frozenset({"name"})

    def __init__(self, parent):
        super().__init__()
        self.parent = parent
        self.requires_low = False
        self.size = 0
        self.has_references = False

    def linear(self, owner: str) -> "LinearTape":
        """Make an empty tape beside this one, for the tangent map of `owner`."""
        return LinearTape(self.parent, owner)

    def beside(self, parent) -> "Tape":
        """Make an empty tape."""
        return Tape(parent)

    def references_among(self, values: Sequence) -> dict[int, Reference]:
        """Find the references of this tape among these, by their position."""
        if not self.has_references:
            return {}
        return {i: x for i, x in enumerate(values) if type(x) is Reference and x._trace is self}

    def watch(self, value) -> Traced:
        """Make `value` an input of the program; gradients with respect to it will be known."""
        return Traced(self, value, self.write("input", (), [value], None, True), 0)

    def untraced(self, value):
        """Get the value behind `value`, and its (node, output number), None for a constant of this tape."""
        if type(value) is Traced and value._trace is self:
            return value.value, value.place
        if type(value) is Reference and value._trace is self:
            raise MissingDerivative(
                "a mutable array that the differentiated function made for itself is returned, or passed to a function "
                "with a custom rule for tangents,",
                user_line(),
                "return or pass its value, ref[...]",
            )
        return value, None

    def untrace(self, values: Sequence) -> Iterable[tuple]:
        """Apply `untraced` to each of these, and return their values and their places."""
        return zip(*map(self.untraced, values), strict=True) if values else ((), ())

    def run(self, fun: Callable, args: Sequence, needs_grad: Sequence[bool]) -> tuple[list, Taped]:
        """Record a function of arrays to a sequence of arrays, from start to end; see `diffprog._tracer.vjp`."""
        around = current_name_stack()
        with set_current_trace(self.parent):
            traced = [self.watch(x) if want else x for x, want in zip(args, needs_grad, strict=True)]
        with set_current_trace(self):
            results = fun(*traced)
        self.invalidate()
        values, places = self.untrace(results)
        return list(values), Taped(places, [x.node for x in select(traced, needs_grad)], around)

    def write(self, name, sources, results, backward, single) -> Node:
        """Put an operation on the tape."""
        self.size += 1
        avals, source = [typeof(x) for x in results], current_source(self.parent)
        return Node(self.size, name, sources, avals, backward, single, reverse_context.get()(), source)

    def record(self, name, sources, results, active, backward) -> list:
        """Write an operation with a list of results.

        Returns:
          The results, traced where they are active and differentiable.
        """
        node = self.write(name, sources, results, backward, False)
        return [
            Traced(self, x, node, i) if alive and has_gradient(aval) else x
            for i, (x, aval, alive) in enumerate(zip(results, node.avals, active, strict=True))
        ]

    def process_primitive(self, primitive, args, params, /):
        if primitive.name in references.MAKES_ONE:
            return references.make(self, primitive, args, params)
        if own := self.references_among(args):
            return references.operate(self, primitive, args, params, tuple(i in own for i in range(len(args))))
        values, sources = self.untrace(args)
        needs_grad = tuple(source is not None for source in sources)
        if not any(needs_grad):
            return bind_unchanged(primitive, self.parent, values, params)
        if primitive.name in self.transparent:
            (value,), (source,) = values, sources
            return Traced(self, bind_unchanged(primitive, self.parent, (value,), params), *source)
        rule = rules.get(primitive.name)
        with set_current_trace(self.parent):
            try:
                if rule is not None:
                    outcome = rule(primitive, needs_grad, values, params)
                elif has_jvp(primitive):
                    outcome = custom.primitive_call(self, primitive, needs_grad, values, params)
                else:
                    return self._without_rule(primitive, values, params)
            except MissingDerivative as error:
                raise error.called_from(user_line()) from None
        if primitive.multiple_results:
            results, active, backward = outcome
            if backward is None:
                return results
            return self.record(primitive.name, sources, results, active, backward)
        result, backward = outcome
        if backward is None:
            return result
        node = self.write(primitive.name, sources, [result], backward, True)
        return Traced(self, result, node, 0) if has_gradient(node.avals[0]) else result

    def process_custom_jvp_call(self, primitive, fun, jvp, args, /, *, symbolic_zeros):
        return custom.custom_jvp_call(self, primitive, fun, jvp, args, symbolic_zeros)

    def process_custom_vjp_call(self, primitive, fun, fwd, bwd, args, /, *, out_trees, symbolic_zeros):
        return custom.custom_vjp_call(self, primitive, fun, fwd, bwd, args, out_trees, symbolic_zeros)

    def process_shard_map(self, primitive, fun, args, /, *, in_specs, **params):
        # An exception from "a rule knows no tape": JAX hands over a function to run, not a jaxpr, and what it closes
        # over of this tape is known to nobody else.
        return rules[primitive.name](self, primitive, fun, args, in_specs, params)

    def process_call(self, primitive, fun, args, params, /):
        with set_current_trace(self):  # the call is inlined; JAX before 0.11 only
            return fun.call_wrapped(*args)

    def cur_qdd(self, value):
        return self.parent.cur_qdd(value)  # the present type of a box; JAX before 0.11 only

    def stage_value(self, value):
        return value if isinstance(value, Tracer) and value._trace is self else self.parent.stage_value(value)

    def _without_rule(self, primitive, values, params):
        results = primitive.bind(*values, **params)
        if any(has_gradient(typeof(x)) for x in (results if primitive.multiple_results else [results])):
            raise MissingDerivative(
                f"there is no derivative rule for the primitive '{primitive.name}', used",
                user_line(),
                "wrap its input in jax.lax.stop_gradient, give the function a jax.custom_vjp, or write a rule with "
                "diffprog.defvjp",
            )
        return results


class LinearTape(Tape):
    """Records a linear map of tangents, whose reverse pass is its transpose.

    It is recorded at zero, where every result is zero too. A function with a custom rule that is met on the way is a
    linear map as well, and its body is run; a primitive with a transpose of its own is transposed by that.

    Attributes:
      owner: whose map it is, for messages.
    """

    def __init__(self, parent, owner: str):
        super().__init__(parent)
        self.owner = owner

    def process_primitive(self, primitive, args, params, /):
        values, sources = self.untrace(args)
        needs_grad = tuple(source is not None for source in sources)
        if not any(needs_grad):
            return super().process_primitive(primitive, args, params)
        if primitive.name in ("jit", "eval_jaxpr"):
            with set_current_trace(self):
                return jaxpr_as_fun(next(jaxprs_in(params)))(*args)
        if primitive.name in RUN_PROGRAMS:  # a rule that stages a program would not know that it is linear
            params = params_without_custom_rules(params)
        operation = first_nonlinear(primitive, params, needs_grad)
        if operation is not None:
            raise MissingDerivative(
                f"the rule of {self.owner} applies '{operation}', which is not linear (no transpose), to tangents",
                user_line(),
                "let the rule add up tangents multiplied by values that do not depend on tangents",
            )
        with set_current_trace(self.parent):
            pull = transposes.get(primitive.name, custom.registered_transpose)(primitive, needs_grad, values, params)
            if pull is not None:
                types = result_types(primitive, values, params)
                if all(map(has_zero, types)):
                    zeros = list(map(zero_tangent, types))
                else:
                    results = primitive.bind(*values, **params)
                    zeros = results if primitive.multiple_results else [results]
        if pull is None:
            return super().process_primitive(primitive, args, params)
        results = self.record(primitive.name, sources, zeros, [True] * len(zeros), pull)
        return results if primitive.multiple_results else results[0]

    def process_custom_jvp_call(self, primitive, fun, jvp, args, /, **options):
        if not self._has_tangents(args):
            return super().process_custom_jvp_call(primitive, fun, jvp, args, **options)
        with set_current_trace(self):
            return fun.call_wrapped(*args)

    def process_custom_vjp_call(self, primitive, fun, fwd, bwd, args, /, **options):
        if not self._has_tangents(args):
            return super().process_custom_vjp_call(primitive, fun, fwd, bwd, args, **options)
        with set_current_trace(self):
            return fun.call_wrapped(*args)

    def _has_tangents(self, args) -> bool:
        return any(type(x) is Traced and x._trace is self for x in args)
