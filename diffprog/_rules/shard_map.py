"""`shard_map`: a function that runs on every device, each on its own block of the arrays.

JAX hands the trace a Python function here, not a jaxpr, so this rule gets the tape and runs the function itself,
on a tape inside. The backward pass is a `shard_map` over the same devices: what a device has to keep is stacked
into an array over all of them and handed back to it.
"""

from typing import NamedTuple

from jax import lax, typeof

from diffprog._jax_internals import devices, jaxpr_as_fun
from diffprog._tracer import cotangents
from diffprog._tracer.cotangents import fill_zeros
from diffprog._tracer.rules import rule
from diffprog._tracer.staging import sort_residuals, trace_reverse
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
      given: of which results it takes cotangents.
      program: closed jaxpr, residuals + these cotangents -> cotangents of the inputs that are reached.
      kept: where each residual is found.
      reached: which inputs.
    """

    given: tuple[bool, ...]
    program: object
    kept: tuple[int, ...]
    reached: tuple[bool, ...]


class _Forward(NamedTuple):
    """What the forward pass finds out, besides its results.

    Attributes:
      tree: the tree of the results.
      specs: the specs of results and saved residuals.
      scalars: which saved residuals are scalars.
      constants: residuals that are the same on every device and in every call.
      reverses: backward programs. `kept` counts in arguments + closed over + results + saved + constants.
      closed_over: values of the tape around.
    """

    tree: object
    specs: tuple
    scalars: tuple[bool, ...]
    constants: tuple
    reverses: list[_Reverse]
    closed_over: tuple


@rule("shard_map")
def _shard_map(tape, primitive, fun, args, in_specs, how):
    """Record a `shard_map` on this tape.

    Args:
      fun: blocks -> flat tree of blocks, with their specs attached.
      how: the other parameters of the operation.
    """
    values, sources = tape.untrace(args)
    wanted = [source is not None for source in sources]
    axes = devices.mapped_axes(how)
    told = None

    def forward(*blocks):
        nonlocal told
        outputs, told = _run_forward(tape, fun, blocks, wanted, how, axes)
        return outputs, told.specs

    outputs = devices.bind_shard_map(tape.parent, forward, values, in_specs, how)
    results = outputs[: len(told.tree)]
    avals = [typeof(x) for x in results]
    closed_values, closed_sources = tape.untrace(told.closed_over)
    wanted += [True] * len(closed_values)

    pool = [*values, *closed_values, *outputs, *told.constants]
    in_specs = [*in_specs, *map(devices.spec_of_copies, closed_values)]
    specs = [*in_specs, *told.specs, *map(devices.spec_of_copies, told.constants)]
    first_saved = len(in_specs) + len(results)
    stacked = {first_saved + i for i, scalar in enumerate(told.scalars) if scalar}
    out_specs = told.specs[: len(results)]

    def run(reverse, cotangents):
        """One backward program, on the devices: cotangents of the results that it takes -> of the inputs."""
        given_specs = [spec.to_ct_spec() for spec in select(out_specs, reverse.given)]
        found_specs = [spec.to_ct_spec() for spec in select(select(in_specs, wanted), reverse.reached)]

        def inside(*blocks):
            kept, given = split_list(blocks, [len(reverse.kept)])
            kept = [lax.squeeze(x, [0]) if i in stacked else x for x, i in zip(kept, reverse.kept, strict=True)]
            if not how["check_vma"]:
                given = [_shared(g, devices.copies(spec, how)) for g, spec in zip(given, given_specs, strict=True)]
            found = jaxpr_as_fun(reverse.program)(*kept, *given)
            if not how["check_vma"]:
                found = [_summed(g, devices.copies(spec, how)) for g, spec in zip(found, found_specs, strict=True)]
            return found, found_specs

        operands = [*(pool[i] for i in reverse.kept), *fill_zeros(cotangents, avals, reverse.given)]
        operand_specs = [*(specs[i] for i in reverse.kept), *given_specs]
        return expand(devices.bind_shard_map(None, inside, operands, operand_specs, how), reverse.reached)

    def pull(arrived):
        found = [None] * sum(wanted)
        for reverse in _chosen(told.reverses, [g is not None for g in arrived]):
            found = list(map(cotangents.add, found, run(reverse, arrived)))
        return expand(found, wanted)

    live = told.reverses[0].given
    return told.tree.update(tape.record(primitive.name, [*sources, *closed_sources], results, live, pull))


def _run_forward(tape, fun, blocks, wanted, how, axes):
    """Run the function on a tape inside. Returns: its results and what has to be saved, and what was found out."""
    inside = tree = specs = None

    def make(parent):
        nonlocal inside
        inside = _Inside(parent, tape)
        return inside

    def flat(*blocks):
        nonlocal tree, specs
        tree, specs = fun(*blocks).unpack_aux()
        return list(tree)

    results, taped = run_taped(flat, blocks, wanted, make)
    closed_over, copies = zip(*inside.closed_over.values(), strict=True) if inside.closed_over else ((), ())
    taped = taped._replace(inputs=[*taped.inputs, *(x.node for x in copies)])

    traced = [(given, *trace_reverse(results, taped, given)) for given in _patterns(taped.active)]
    residuals = [x for _, _, needed, _ in traced for x in needed]
    saved, constants, where = sort_residuals(residuals, [*blocks, *(x.value for x in copies), *results])
    *kept, _ = split_list(where, (len(needed) for _, _, needed, _ in traced))
    reverses = [
        _Reverse(given, program, tuple(here), reached)
        for (given, program, _, reached), here in zip(traced, kept, strict=True)
    ]

    specs = (*specs, *(devices.spec_of_blocks(x, how, axes) for x in saved))
    scalars = tuple(x.ndim == 0 for x in saved)  # they have no dimension to be stacked along
    saved = [lax.broadcast(x, (1,)) if scalar else x for x, scalar in zip(saved, scalars, strict=True)]
    found_out = _Forward(tree.update(results), specs, scalars, constants, reverses, closed_over)
    return [*results, *saved], found_out


_FEW = 4  # a loss and what is reported beside it; of more results each program of its own would take too long to trace


def _patterns(live) -> list[tuple[bool, ...]]:
    """Cotangents of which results may arrive together: of all live ones, or, if these are few, of each one alone.

    Results that nobody used have none, and zeros in their place would make NaN of an infinite slope. What was traced
    cannot be traced again when it turns out which they are.
    """
    alone = [tuple(i == k for i in range(len(live))) for k, alive in enumerate(live) if alive]
    return [live, *alone] if 1 < len(alone) <= _FEW else [live]


def _chosen(reverses, given) -> list[_Reverse]:
    """The programs to run for these cotangents."""
    whole, *alone = reverses
    if not alone or all(select(given, whole.given)):
        return [whole]
    return [reverse for reverse in alone if any(select(given, reverse.given))]


def _shared(g, axes):
    """Without types that say that a result is the same everywhere, each of its copies gets a share of the cotangent."""
    count = lax.axis_size(axes) if axes else 1
    return g if count == 1 else lax.div(g, lax.full_like(g, count))


def _summed(g, axes):
    """An argument that every device has whole gets the sum of their cotangents."""
    return lax.psum(g, axes) if axes else g
