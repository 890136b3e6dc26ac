"""`shard_map`: a function that runs on every device, each on its own block of the arrays.

JAX hands the trace a Python function here, not a jaxpr. So this rule is an exception: it gets the tape, and runs the
function itself, on a tape inside that sees what it closes over of the tape around. The backward pass is a `shard_map`
over the same devices: what a device has to keep is stacked into an array over all of them and handed back to it.
"""

from typing import Any, NamedTuple

from jax import lax, typeof

from diffprog._jax_internals import devices, eval_jaxpr
from diffprog._tracer import cotangents
from diffprog._tracer.cotangents import fill_zeros
from diffprog._tracer.rules import rule
from diffprog._tracer.staging import Mask, sort_residuals, trace_reverse
from diffprog._tracer.tape import Tape, Traced
from diffprog._tracer.vjp import run_taped
from diffprog._util.lists import expand, select, split_list


class _Inside(Tape):
    """The tape inside the function. What the function closes over of the tape around it is an input here."""

    def __init__(self, parent, around=None):
        super().__init__(parent)
        self.around = around
        self.closed_over: dict[int, tuple[Traced, Traced]] = {}  # the value of the tape around, the input here

    def untraced(self, value):
        if type(value) is Traced and value._trace is self.around:
            if id(value) not in self.closed_over:
                self.closed_over[id(value)] = value, self.watch(value.value)
            _, value = self.closed_over[id(value)]
        return super().untraced(value)


class _Reverse(NamedTuple):
    """A backward program.

    Attributes:
      ct_in: of which results it takes cotangents.
      ct_out: which inputs it has cotangents for.
      program: closed jaxpr, residuals + cotangents of the results in `ct_in` -> cotangents of the inputs in `ct_out`.
      residuals: where each residual is found: its position in arguments + closed over + results + saved + constants.
    """

    ct_in: Mask
    ct_out: Mask
    program: Any
    residuals: tuple[int, ...]


class _Forward(NamedTuple):
    """What the forward pass finds out, besides its results.

    Attributes:
      tree: the tree of the results.
      specs: the specs of results and saved residuals.
      scalars: which saved residuals are scalars.
      constants: residuals that are the same on every device and in every call.
      reverses: backward programs.
      closed_over: values of the tape around.
    """

    tree: Any
    specs: tuple
    scalars: Mask
    constants: tuple
    reverses: list[_Reverse]
    closed_over: tuple


@rule("shard_map")
def _shard_map(tape, primitive, fun, args, in_specs, params):
    """Record a `shard_map` on this tape.

    Args:
      tape: the tape around.
      primitive: JAX's.
      fun: blocks -> flat tree of blocks, with their specs attached.
      args: its arguments, traced or not.
      in_specs: their specs.
      params: the other parameters of the operation.
    """
    values, sources = tape.untrace(args)
    needs_grad = [source is not None for source in sources]
    axes = devices.mapped_axes(params)
    meta: Any = None

    def forward(*blocks):
        nonlocal meta
        outputs, meta = _run_forward(tape, fun, blocks, needs_grad, params, axes)
        return outputs, meta.specs

    outputs = devices.bind_shard_map(tape.parent, forward, values, in_specs, params)
    results = outputs[: len(meta.tree)]
    avals = [typeof(x) for x in results]
    closed_values, closed_sources = tape.untrace(meta.closed_over)
    needs_grad += [True] * len(closed_values)

    pool = [*values, *closed_values, *outputs, *meta.constants]
    in_specs = [*in_specs, *map(devices.spec_of_copies, closed_values)]
    specs = [*in_specs, *meta.specs, *map(devices.spec_of_copies, meta.constants)]
    first_saved = len(in_specs) + len(results)
    stacked = {first_saved + i for i, scalar in enumerate(meta.scalars) if scalar}
    out_specs = meta.specs[: len(results)]

    def run(reverse, cotangents):
        """Run one backward program on the devices: cotangents of the results -> one per input, None for zero."""
        specs_in = [spec.to_ct_spec() for spec in select(out_specs, reverse.ct_in)]
        specs_out = [spec.to_ct_spec() for spec in select(select(in_specs, needs_grad), reverse.ct_out)]

        def inside(*blocks):
            residuals, cts = split_list(blocks, [len(reverse.residuals)])
            pairs = zip(residuals, reverse.residuals, strict=True)
            residuals = [lax.squeeze(x, [0]) if i in stacked else x for x, i in pairs]
            if not params["check_vma"]:
                cts = [_shared(g, devices.copies(spec, params)) for g, spec in zip(cts, specs_in, strict=True)]
            sent = eval_jaxpr(reverse.program.jaxpr, reverse.program.consts, *residuals, *cts)
            if not params["check_vma"]:
                sent = [_summed(g, devices.copies(spec, params)) for g, spec in zip(sent, specs_out, strict=True)]
            return sent, specs_out

        operands = [*(pool[i] for i in reverse.residuals), *fill_zeros(cotangents, avals, reverse.ct_in)]
        operand_specs = [*(specs[i] for i in reverse.residuals), *specs_in]
        return expand(devices.bind_shard_map(None, inside, operands, operand_specs, params), reverse.ct_out)

    def pull(arrived):
        sent = [None] * sum(needs_grad)
        for reverse in _chosen(meta.reverses, [g is not None for g in arrived]):
            sent = list(map(cotangents.add, sent, run(reverse, arrived)))
        return expand(sent, needs_grad)

    active = meta.reverses[0].ct_in
    return meta.tree.update(tape.record(primitive.name, [*sources, *closed_sources], results, active, pull))


def _run_forward(tape, fun, blocks, needs_grad, params, axes) -> tuple[list, _Forward]:
    """Run the function on a tape inside: its results with what has to be saved, and what was found out."""
    inside: Any = None
    tree: Any = None
    specs: Any = None

    def make(parent):
        nonlocal inside
        inside = _Inside(parent, tape)
        return inside

    def flat(*blocks):
        nonlocal tree, specs
        tree, specs = fun(*blocks).unpack_aux()
        return list(tree)

    results, taped = run_taped(flat, blocks, needs_grad, make)
    closed_over, copies = zip(*inside.closed_over.values(), strict=True) if inside.closed_over else ((), ())
    taped = taped._replace(inputs=[*taped.inputs, *(x.node for x in copies)])

    masks = _patterns(taped.active)
    traced = (trace_reverse(results, taped, ct_in, whole=False) for ct_in in masks)
    programs, residuals, reached = zip(*traced, strict=True)
    known = [*blocks, *(x.value for x in copies), *results]
    saved, constants, where = sort_residuals([x for some in residuals for x in some], known)
    *positions, _ = split_list(where, list(map(len, residuals)))

    specs = (*specs, *(devices.spec_of_blocks(x, params, axes) for x in saved))
    scalars = tuple(x.ndim == 0 for x in saved)  # they have no dimension to be stacked along
    saved = [lax.broadcast(x, (1,)) if scalar else x for x, scalar in zip(saved, scalars, strict=True)]
    reverses = list(map(_Reverse, masks, reached, programs, map(tuple, positions)))
    return [*results, *saved], _Forward(tree.update(results), specs, scalars, constants, reverses, closed_over)


_FEW = 4  # a loss and what is reported beside it; of more results each program of its own would take too long to trace


def _patterns(active: Mask) -> list[Mask]:
    """List the results that cotangents may come in for together: all active ones, and, if these are few, each alone.

    Results that nobody used have none, and zeros in their place would make NaN of an infinite slope. What was traced
    cannot be traced again when it turns out which they are.
    """
    alone = [tuple(i == k for i in range(len(active))) for k, flag in enumerate(active) if flag]
    return [active, *alone] if 1 < len(alone) <= _FEW else [active]


def _chosen(reverses: list[_Reverse], arrived) -> list[_Reverse]:
    """Choose the programs to run for the cotangents that arrived."""
    whole, *alone = reverses
    if not alone or all(select(arrived, whole.ct_in)):
        return [whole]
    return [reverse for reverse in alone if any(select(arrived, reverse.ct_in))]


def _shared(g, axes):
    """Share a cotangent among the copies of a result, where no type says that it is equal everywhere."""
    num_copies = lax.axis_size(axes) if axes else 1
    return g if num_copies == 1 else lax.div(g, lax.full_like(g, num_copies))


def _summed(g, axes):
    """Sum the cotangents of an argument that every device has whole."""
    return lax.psum(g, axes) if axes else g
