"""`shard_map`: a function that runs on every device, each on its own block of the arrays.

JAX hands the trace a Python function here, not a jaxpr, so this rule gets the tape and runs the function itself,
on a tape inside. The backward pass is a `shard_map` over the same devices: what a device has to keep is stacked
into an array over all of them and handed back to it.
"""

from jax import lax, typeof

from diffprog.jax_internals import devices, jaxpr_as_fun, set_current_trace, take_current_trace
from diffprog.rules.calls import fill_zeros, spread
from diffprog.rules.table import rule
from diffprog.tracer.staging import stage_backward
from diffprog.tracer.tape import Tape, Traced


@rule("shard_map")
def _shard_map(tape, primitive, fun, args, in_specs, how):
    """Record a `shard_map` on this tape.

    Args:
      fun: blocks -> flat tree of blocks, with their specs attached.
      how: the other parameters of the operation.
    """
    values, sources = _unzip(map(tape.untraced, args))
    wanted = [source is not None for source in sources]
    axes = devices.mapped_axes(how)
    told = None  # what the forward pass finds out besides its results

    def forward(*blocks):
        nonlocal told
        tree, out_specs, places, inputs, closed_over = _run_inside(tape, fun, blocks, wanted)
        closed_values = [x.value for x in closed_over]
        nodes = [x.node for x in inputs]
        saved, staged = stage_backward([*blocks, *closed_values], list(tree), places, nodes)
        saved_specs = [devices.spec_of_blocks(x, how, axes) for x in saved]
        scalars = [x.ndim == 0 for x in saved]
        told = tree, out_specs, saved_specs, scalars, staged, closed_over
        # Scalars have no dimension to be stacked along.
        saved = [lax.broadcast(x, (1,)) if scalar else x for x, scalar in zip(saved, scalars, strict=True)]
        return [*tree, *saved], [*out_specs, *saved_specs]

    outputs = devices.bind_shard_map(tape.parent, forward, values, in_specs, how)
    tree, out_specs, saved_specs, scalars, staged, closed_over = told
    results = outputs[: len(out_specs)]
    avals = [typeof(x) for x in results]
    closed_values, closed_sources = _unzip(map(tape.untraced, closed_over))
    wanted += [True] * len(closed_over)

    # Where residuals are found, each place with its spec: arguments, closed over, results, saved, constants.
    arg_specs = [*in_specs, *map(devices.spec_of_copies, closed_values)]
    specs = [*arg_specs, *out_specs, *saved_specs, *map(devices.spec_of_copies, staged.constants)]
    first_saved = len(arg_specs) + len(out_specs)
    raised = {first_saved + i for i, scalar in enumerate(scalars) if scalar}
    residuals = staged.collect([*values, *closed_values], outputs)
    given_specs = [spec.to_ct_spec() for spec, alive in zip(out_specs, staged.live, strict=True) if alive]
    found_specs = [spec.to_ct_spec() for spec, want in zip(arg_specs, wanted, strict=True) if want]

    def reverse(*blocks):
        kept, given = blocks[: len(residuals)], blocks[len(residuals) :]
        kept = [lax.squeeze(x, [0]) if i in raised else x for x, i in zip(kept, staged.residuals, strict=True)]
        if not how["check_vma"]:
            given = [_shared(g, devices.copies(spec, how)) for g, spec in zip(given, given_specs, strict=True)]
        found = jaxpr_as_fun(staged.backward)(*kept, *given)
        if not how["check_vma"]:
            found = [_summed(g, devices.copies(spec, how)) for g, spec in zip(found, found_specs, strict=True)]
        return found, found_specs

    def pull(cotangents):
        operands = [*residuals, *fill_zeros(cotangents, avals, staged.live)]
        operand_specs = [*(specs[i] for i in staged.residuals), *given_specs]
        return spread(devices.bind_shard_map(None, reverse, operands, operand_specs, how), wanted)

    return tree.update(tape.record(primitive.name, [*sources, *closed_sources], results, staged.live, pull))


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


def _run_inside(tape, fun, blocks, wanted):
    """Run `fun` on a tape inside the function.

    Returns:
      tree and specs of its results; the place of each on the tape inside; the inputs of that tape: wanted blocks,
      then what is closed over; the latter as `tape` has it.
    """
    with take_current_trace() as parent:
        inside = _Inside(parent, tape)
        with set_current_trace(parent):
            blocks = [inside.watch(x) if want else x for x, want in zip(blocks, wanted, strict=True)]
        with set_current_trace(inside):
            tree, specs = fun(*blocks).unpack_aux()
        results, places = _unzip(map(inside.untraced, tree))
        inside.invalidate()
    closed_over, copies = _unzip(inside.closed_over.values())
    inputs = [*(x for x, want in zip(blocks, wanted, strict=True) if want), *copies]
    return tree.update(results), specs, places, inputs, closed_over


def _shared(g, axes):
    """Without types that say that a result is the same everywhere, each of its copies gets a share of the cotangent."""
    count = lax.axis_size(axes) if axes else 1
    return g if count == 1 else lax.div(g, lax.full_like(g, count))


def _summed(g, axes):
    """An argument that every device has whole gets the sum of their cotangents."""
    return lax.psum(g, axes) if axes else g


def _unzip(pairs):
    pairs = list(pairs)
    return zip(*pairs, strict=True) if pairs else ((), ())
