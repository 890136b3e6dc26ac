"""Inputs without a gradient: not used, cut by the program's structure, cut on purpose, or zero for these values."""

import numpy as np

from diffprog._tracer.errors import MissingDerivative
from diffprog.diagnosis._arrays import array, is_zero, operand, reaches, used_by, varies
from diffprog.diagnosis._finding import Finding, where
from diffprog.graph._recording.nodes import Edge, Node, Place
from diffprog.graph._recording.recording import Recording


def find(recording: Recording) -> list[Finding]:
    """One finding per input whose gradient is missing or zero everywhere; inputs with the same cause share one."""
    ends = {place.node for place in recording.outputs if place is not None}
    needed = reaches(list(ends))
    findings: dict[tuple, list] = {}
    for node in recording.inputs:
        if not node.differentiable[0] or not np.prod(np.shape(node.values[0])):
            continue
        gradient = node.gradients[0]
        if gradient is None:
            key, make = _missing(node, needed)
        elif is_zero(gradient):
            key, make = _zero_here(node, ends)
        else:
            continue
        findings.setdefault(key, []).append((node, make))
    return [shared[0][1](_named([node for node, _ in shared])) for shared in findings.values()]


def _named(nodes: list[Node]) -> str:
    names = ", ".join(node.label for node in nodes[:3])
    return names + (f" and {len(nodes) - 3} more" if len(nodes) > 3 else "")


# ---------------------------------------------------------------- no path


def _missing(node: Node, needed: set[Node]):
    blocks = _blocks(node, needed)
    if not blocks:
        block = _decided(node)
        return _unused(node, needed) if block is None else _steers(node, block)
    # What is stopped on its way to another cut, as within a softmax, is not what is missing.
    blocks = [b for b in blocks if b.primitive != "stop_gradient" or not _only_leads_to(b, blocks, needed)]
    on_purpose = all(block.primitive == "stop_gradient" for block in blocks)
    guilty = next((b for b in blocks if b.primitive != "stop_gradient"), blocks[0])
    cause, remedy = _why_blocked(guilty)
    distinct = {(block.source or block, block.primitive): block for block in reversed(blocks)}  # the first iterations
    cuts = sorted(distinct.values(), key=lambda block: block.index)
    paths = [f"path {i}: {_why_blocked(block)[0]} at {where(block)}" for i, block in enumerate(cuts, 1)]

    def make(names):
        title = f"no gradient: {names}: {'every path' if len(blocks) > 1 else 'the only path'} to the output is cut"
        cut = "on purpose" if on_purpose else "structure"
        return Finding("zero", cause, guilty, title, tuple(paths[:8]), None if on_purpose else remedy, cut)

    return tuple((block.source or block, block.primitive) for block in blocks), make


def _decided(node: Node) -> Node | None:
    """The first operation without a derivative on the way to what decides which branch runs, or how long a loop."""
    seen, waiting, decides = set(), [node], False
    blocked = []
    while waiting:
        here = waiting.pop()
        if here in seen:
            continue
        seen.add(here)
        blocked += [here] if here.status == "blocked" else []
        waiting += here.outputs
        aval = here.avals[0]
        decides |= not here.outgoing and np.shape(here.values[0]) == () and aval.dtype.kind in "bi"
    return min(blocked, key=lambda n: n.index) if decides and blocked else None


def _steers(node: Node, block: Node):
    cause, _ = _why_blocked(block)
    remedy = "let the branch, or the number of steps, be fixed, and blend smoothly what it gives"

    def make(names):
        title = f"no gradient: {names}: decides what runs, and has no other way to the output"
        return Finding("zero", cause, block, title, (f"{cause} at {where(block)}",), remedy, "structure")

    return ("steers", block.source, block.primitive), make


def _blocks(node: Node, needed: set[Node]) -> list[Node]:
    """The operations at which the paths from an input to the output lose the gradient, in order."""
    blocks, seen, waiting = [], set(), [Place(node, 0)]
    while waiting:
        place = waiting.pop()
        if place in seen:
            continue
        seen.add(place)
        for edge in used_by(place.node, place.output):
            target = edge.target
            if target not in needed:
                continue
            used = [i for i in range(len(target.avals)) if _leads_on(target, i, needed)]
            if edge.live and any(target.differentiable[i] for i in used):
                waiting += [Place(target, i) for i in used if target.differentiable[i]]
            if not edge.live or any(not target.differentiable[i] for i in used):
                if target not in blocks:
                    blocks.append(target)
    return sorted(blocks, key=lambda n: n.index)


def _only_leads_to(stopped: Node, blocks: list[Node], needed: set[Node]) -> bool:
    """Whether every way on from a node to the output is cut by other nodes of these."""
    seen, waiting = set(), [stopped]
    while waiting:
        here = waiting.pop()
        if here in seen or (here is not stopped and here in blocks):
            continue
        seen.add(here)
        onward = [target for target in here.outputs if target in needed]
        if not onward:  # the output
            return False
        waiting += onward
    return True


def _leads_on(node, output, needed) -> bool:
    edges = used_by(node, output)
    return any(edge.target in needed for edge in edges) or not node.outgoing


def _unused(node: Node, needed):
    last = [edge.target for edge in node.outgoing if edge.target.tap is None]

    def make(names):
        if not last:
            title, lines = f"no gradient: {names}: never used", ()
        else:
            title = f"no gradient: {names}: what is computed of it does not reach the output"
            lines = tuple(list(dict.fromkeys(f"used at {where(target)}" for target in last))[:3])
        return Finding("zero", "unused", node, title, lines, "use it, or leave it out of the arguments", "unused")

    return ("unused", not last), make


_COMPARISONS = {"gt", "lt", "ge", "le", "eq", "ne", "gt_to", "lt_to", "le_to", "is_finite"}
_ROUNDS = {"round": "round", "floor": "floor", "ceil": "ceil", "sign": "sign", "nextafter": "nextafter"}
_STRAIGHT_THROUGH = "let the gradient pass straight through: x + jax.lax.stop_gradient({f} - x)"


def _why_blocked(node: Node) -> tuple[str, str]:
    """Cause and usual remedy."""
    name = node.primitive
    if name == "stop_gradient":
        return "stop_gradient", ""
    if name in ("argmax", "argmin"):
        return f"{name} has no derivative", (
            "weigh by a softmax instead of choosing (soft argmax), or pass the gradient straight through: "
            "soft + jax.lax.stop_gradient(hard - soft)"
        )
    if name in _COMPARISONS:
        return "a comparison has no derivative", "use a soft step, as jax.nn.sigmoid((x - threshold) / temperature)"
    if name in _ROUNDS:
        return f"{name} is flat", _STRAIGHT_THROUGH.format(f=f"jnp.{name}(x)")
    if name == "convert_element_type" and node.dtype == bool:
        return "conversion to bool", "use a soft step, as jax.nn.sigmoid(x / temperature)"
    if name in ("convert_element_type", "bitcast_convert_type"):
        return f"conversion to {node.dtype}", (
            f"keep it a floating-point number, or round and pass straight through: "
            f"{_STRAIGHT_THROUGH.format(f='jnp.round(x)').split(': ')[1]}"
        )
    if name in ("sort", "top_k", "argsort"):
        return "the order of a sort has no derivative", "use the sorted values, or soft ranks in the place of the order"
    if name in ("rem", "floor_divide", "div") and node.status == "blocked":
        return f"{name} of whole numbers", "compute it in floating point"
    if name in ("custom_jvp_call", "custom_vjp_call"):
        return f"{node.label} has no derivative in this argument", "give its custom rule one"
    if name.startswith("random"):
        return f"{name} has no derivative", "write the sample as a smooth function of noise and parameters"
    if name in ("pure_callback", "io_callback"):
        return "a callback has no derivative", "wrap it in jax.custom_vjp with a gradient of its own"
    return f"{node.label} has no derivative here", "use something smooth, or pass the gradient straight through"


def missing_rule(recording: Recording, error: MissingDerivative) -> Finding:
    """The finding of a backward pass that ended at an operation without a derivative."""
    reached = [
        node
        for node in recording.nodes
        if node.status == "live" and not any(g is not None for g in node.gradients) and _is_reached(node)
    ]
    node = max(reached, key=lambda n: n.index)
    cause = "a callback has no derivative" if node.primitive.endswith(("callback", "ffi_call")) else error.problem
    title = "no gradient: the backward pass ends at an operation without a derivative"
    return Finding("zero", cause, node, title, (f"{node.label} at {where(node)}",), error.advice, "structure")


def _is_reached(node: Node) -> bool:
    return any(edge.gradient is not None for edge in node.outgoing)


# ---------------------------------------------------------------- a path, but zero


def _zero_here(node: Node, ends):
    """An input whose gradient is zero for these values: the operations that made it so."""
    culprits = _culprits(node)
    if not culprits:
        only = next(iter(ends))
        why = ("the output's own gradient is zero",)
        return ("seed",), lambda names: Finding(
            "zero", "zero gradient", only, f"zero gradient: {names}", why, None, "here"
        )
    reasons = [(_to_blame(edge), *_why_zero(edge)) for edge in culprits]
    guilty, cause, _, remedy = reasons[0]
    if all(map(_moves_on, culprits)):
        return ("for now", guilty.source), lambda names: Finding("zero", cause, guilty, names, (), None, "for now")

    def make(names):
        title = f"zero gradient: {names}: zero for these values"
        lines = [f"{cause}{detail} at {where(target)}" for target, cause, detail, _ in _distinct(reasons)[:5]]
        return Finding("zero", cause, guilty, title, tuple(lines), remedy, "here")

    return tuple(dict.fromkeys((node.source or node, cause) for node, cause, _, _ in reasons)), make


def _moves_on(edge: Edge) -> bool:
    """Whether an edge brings zeros only because the other factor is zero, and an input that will change makes it so.

    So it is with weights that start at zero: after the first step the gradient is there.
    """
    node = edge.target
    if node.primitive not in ("mul", "dot_general", "conv_general_dilated"):
        return False
    other = node.arguments[1 - edge.argument]
    if not isinstance(other, Place) or np.any(operand(node, 1 - edge.argument)):
        return False
    seen, waiting = set(), [e for e in node.incoming if e.argument == 1 - edge.argument]
    while waiting:
        here = waiting.pop()
        if not here.live or here.gradient is None or is_zero(here.gradient) or here.source in seen:
            continue
        if here.source.primitive == "input":
            return True
        seen.add(here.source)
        waiting += here.source.incoming
    return False


def _distinct(reasons):
    return list({(reason[0].source, reason[1]): reason for reason in reasons}.values())


def _culprits(node: Node) -> list[Edge]:
    """The edges that bring zeros although the operation that sent them got a gradient that is not zero."""
    found, seen, waiting = [], set(), [node]
    while waiting:
        here = waiting.pop()
        if here in seen:
            continue
        seen.add(here)
        for edge in here.outgoing:
            if not edge.live or edge.gradient is None or not is_zero(edge.gradient):
                continue
            arrived = [g for g in edge.target.gradients if g is not None]
            if all(map(is_zero, arrived)):
                waiting.append(edge.target)
            else:
                found.append(edge)
    return sorted(found, key=lambda edge: edge.target.index)


_SMOOTH_ENDS = ("tanh", "logistic", "erf", "atan")
_PICKS = {"gather", "dynamic_slice", "slice", "scatter", "dynamic_update_slice", "reduce_max", "reduce_min"}
_PICKS |= {"reduce_window_max", "select_and_gather_add", "sort", "top_k"}


def _to_blame(edge: Edge) -> Node:
    """The operation that made zeros of a gradient: its own, or a rectifier whose zeros it is multiplied with."""
    return _rectifier_above(edge) or edge.target


def _rectifier_above(edge: Edge) -> Node | None:
    """Where an edge leads into a product with zeros: the rectifier that made them, if one did."""
    node = edge.target
    if node.primitive not in ("mul", "dot_general", "conv_general_dilated"):
        return None
    other = node.arguments[1 - edge.argument]
    while isinstance(other, Place) and not np.any(array(other.node.values[other.output])):
        if _rectifies(other.node):
            return other.node
        if other.node.primitive not in ("reshape", "broadcast_in_dim", "transpose", "squeeze", "convert_element_type"):
            return None
        other = other.node.arguments[0]
    return None


def _why_zero(edge: Edge) -> tuple[str, str, str]:
    """(cause, details, remedy) of an operation that turned a gradient into zeros."""
    node, name, label = edge.target, edge.target.primitive, edge.target.label
    x = array(edge.source.values[edge.output])
    if (rectifier := _rectifier_above(edge)) is not None:
        x = next((found for found in map(array, rectifier.inputs[0].values) if found is not None), None)
    if rectifier is not None or _rectifies(node):
        share = "" if x is None else f", {np.mean(x <= 0):.0%} of {x.size} units not above zero"
        remedy = "lower the learning rate, initialize anew, or use a function with a slope below zero, as leaky_relu"
        return "dead ReLU", share, remedy
    if name in ("max", "min") and varies(node, 1 - edge.argument):
        better = "larger" if name == "max" else "smaller"
        return "not picked", f", {name} takes the other argument, which is {better}", "check what is compared"
    if name in ("max", "min", "clamp") or label == "clip":
        return "saturated clip", _extent(x), "scale what is clipped to the range, or pass the gradient straight through"
    if name in _SMOOTH_ENDS:
        kind = {"logistic": "sigmoid"}.get(name, name)
        return f"saturated {kind}", _extent(x), "scale its input down: normalize, or initialize with smaller weights"
    if label in ("sigmoid", "softmax", "_softmax", "log_softmax", "silu", "gelu", "softplus", "logaddexp", "logsumexp"):
        return f"saturated {label.strip('_')}", _extent(x), "scale its input down, or divide it by a temperature"
    if name == "exp" and is_of_softmax(node):
        return "saturated softmax", _extent(x), "scale its input down, or divide it by a temperature"
    if name in ("reduce_prod", "cumprod") and _tiny(node):
        return "underflow in a product", "", "sum logarithms instead"
    if name in ("exp", "exp2", "rsqrt", "erfc", "integer_pow", "pow", "square") and _tiny(node):
        return f"underflow in {label}", _extent(x), "compute it by logarithms, or scale its operand"
    if name == "select_n":
        return "masked", "", "let the mask keep something, or blend softly"
    if name == "mul" or name == "dot_general" or name == "conv_general_dilated":
        other = operand(node, 1 - edge.argument)
        if other is not None and not np.any(other):
            return "multiplied by zero", "", "let what it is multiplied with be something other than zero"
        return "underflow in a product", "", "scale the loss, or compute in a wider type"
    if name in ("integer_pow", "square", "pow", "abs", "cos", "cosh", "sub"):
        return "stationary point", f", {label} has slope zero here", "start elsewhere: at this point the slope is zero"
    if name in _PICKS:
        return "not picked", f", {label} picks other elements", "check the index, or the order of what is compared"
    if name in ("custom_jvp_call", "custom_vjp_call"):
        return f"{label} sends zero", "", "check its custom rule"
    return f"{label} sends zero", "", "check the values that go into it"


def _rectifies(node: Node) -> bool:
    if node.label in ("relu", "relu6"):
        return True
    return node.primitive == "max" and any(
        x is not None and not np.any(x) and not varies(node, i) for i, x in ((i, operand(node, i)) for i in (0, 1))
    )


def is_of_softmax(node: Node) -> bool:
    """Whether an exponential is of something from which the largest was subtracted."""
    if not node.inputs or node.inputs[0].primitive != "sub":
        return False
    shift = node.inputs[0].inputs[-1]
    while shift.primitive in ("broadcast_in_dim", "reshape", "stop_gradient", "max", "select_n") and shift.inputs:
        shift = shift.inputs[-1]
    return shift.primitive == "reduce_max"


def _tiny(node: Node) -> bool:
    value = array(node.values[0])
    return value is not None and bool(np.all(np.abs(value) < 1e-30))


def _extent(x) -> str:
    return "" if x is None or not x.size else f", operand from {x.min():.3g} to {x.max():.3g}"
