"""How to mend a line: the fix in one sentence, with the user's own expressions where the line can be read."""

import ast
import linecache
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from diffprog.diagnosis._causes import Cause
from diffprog.diagnosis._patterns import is_exponential_sum
from diffprog.diagnosis._primitives import NONZERO, POSITIVE, Safe, known_of
from diffprog.graph._recording.nodes import Node


def of_slope(node: Node, masked: bool) -> str | None:
    """Say how to mend an operation whose slope is not finite.

    Args:
      node: the operation.
      masked: whether its result is masked later, where that happens.
    """
    record = known_of(node)
    if node.primitive == "sqrt" and (norm := _norm(node)) is not None:
        return norm
    fix = next((row.fix for row in record.backward if row.fix), None)
    if fix is not None:
        return fix
    if (safe := _safe(node)) is not None:
        return _double_where(node, safe, masked)
    return f"mask the operand of {node.label} too, not only its result (double-where)" if masked else None


def of_result(node: Node, cause: Cause) -> str | None:
    """Say how to mend an operation whose result is not finite."""
    if cause.fix is not None:
        return cause.fix
    overflows = cause.text.startswith("overflow")
    if overflows and not isinstance(node.dtype, list) and node.dtype == np.float16:
        return "compute in float32 or bfloat16, or scale the loss"
    if node.primitive == "log" and cause.text == "log of zero" and (safer := _logarithm_of(node)) is not None:
        return safer
    if overflows:
        return "scale its operands down, or compute it by logarithms"
    return None if (safe := _safe(node)) is None else _double_where(node, safe, False)


def _safe(node: Node) -> Safe | None:
    """Say how to keep away from where a node is not finite; None if that is not known."""
    safe = known_of(node).safe
    safe = safe(node) if callable(safe) else safe
    if safe is None or not _is_complex(node):
        return safe
    return NONZERO if safe in (POSITIVE, NONZERO) else None  # complex numbers have no order


def _is_complex(node: Node) -> bool:
    return any(jnp.issubdtype(edge.source.avals[edge.output].dtype, jnp.complexfloating) for edge in node.incoming)


def _norm(node: Node) -> str | None:
    """Write the fix of a norm at zero, if the node's line calls one of a single array."""
    written = _expression(node, ("norm",))
    if written is None or not isinstance(written.call, ast.Call):
        return None
    keywords = {k.arg: ast.unparse(k.value) for k in written.call.keywords}
    if len(written.call.args) > 1 or set(keywords) - {"axis", "keepdims"}:
        return "a norm has no slope at zero: mask its operand where all of it is zero (double-where)"
    how = "".join(f", {name}={value}" for name, value in keywords.items())
    return (
        f"a norm has no slope at zero; take the root only of what is not zero:\n"
        f"n2 = jnp.sum({_grouped(written.operand)} ** 2{how})\n"
        f"{written.whole}  ->  jnp.where(n2 > 0, jnp.sqrt(jnp.where(n2 > 0, n2, 1.0)), 0.0)"
    )


def _double_where(node: Node, safe: Safe, masked: bool) -> str:
    """Write out the double-where, for the node's own line if that can be read."""
    record = known_of(node)
    written = _expression(node, record.written_as or (node.primitive,), record.operator)
    start = "mask the operand, not only the result" if masked else "mask operand and result"
    if written is None:
        form = _FORMS.get(node.primitive, f"{node.primitive}({{}})")
        condition, result = (text.format(x="x", whole=form.format("x")) for text in (safe.condition, safe.result))
        inner = f"jnp.where({condition}, x, {safe.operand})"
        return f"{start} (double-where): {form.format('x')}  ->  jnp.where({condition}, {form.format(inner)}, {result})"
    x = _grouped(written.operand)
    condition, result = (text.format(x=x, whole=written.whole) for text in (safe.condition, safe.result))
    return (
        f"{start} (double-where):\nsafe = jnp.where({condition}, {written.operand}, {safe.operand})\n"
        f"{written.whole}  ->  jnp.where({condition}, {written.with_safe}, {result})"
    )


def _logarithm_of(node: Node) -> str | None:
    """Name the better-behaved function for the logarithm of a sum of exponentials or of a probability."""
    above = node.inputs[0] if node.inputs else None
    for _ in range(6):
        if above is None or not above.inputs:
            return None
        if above.primitive == "logistic":
            return "take the logarithm of the logits instead: jax.nn.log_sigmoid(x), or log_sigmoid(-x) for log(1 - p)"
        if above.primitive == "div" and is_exponential_sum(above.inputs[-1]):
            return "take the logarithm of the logits instead: jax.nn.log_softmax(x)"
        if is_exponential_sum(above):
            return (
                "all of its terms are zero: leave out rows that are masked whole, or mask with a large finite number "
                "as -1e9, and sum by jax.nn.logsumexp"
            )
        above = above.inputs[-1] if above.primitive == "sub" else above.inputs[0]
    return None


class _Written(NamedTuple):
    """An expression of the user's that calls an operation: its tree, its text, its operand, it with `safe` for that."""

    call: ast.Call | ast.BinOp
    whole: str
    operand: str
    with_safe: str


def _expression(node: Node, calls: tuple[str, ...], operator=None) -> _Written | None:
    """Find the expression on the node's line that calls the operation; None unless there is exactly one."""
    if node.source is None:
        return None
    text, tree = _statement(node.source.file, node.source.line)
    if tree is None:
        return None
    matches: list[tuple[ast.Call | ast.BinOp, ast.expr]] = []
    for part in ast.walk(tree):
        if isinstance(part, ast.Call) and _called(part) in calls:
            position = _OPERAND.get(_called(part), 0)
            if position < len(part.args):
                matches.append((part, part.args[position]))
        elif operator is not None and isinstance(part, ast.BinOp) and isinstance(part.op, operator):
            matches.append((part, part.right if operator is ast.Div else part.left))
    if len(matches) != 1:
        return None
    ((call, argument),) = matches
    whole, operand = ast.get_source_segment(text, call), ast.get_source_segment(text, argument)
    if whole is None or operand is None or "\n" in whole:
        return None
    start = argument.col_offset - call.col_offset
    return _Written(call, whole, operand, whole[:start] + "safe" + whole[start + len(operand) :])


_FORMS = {"div": "y / {}", "pow": "{} ** y", "integer_pow": "{} ** n"}
"""How an operation is written where it is no function of its name."""

_OPERAND = {"xlogy": 1, "xlog1py": 1, "divide": 1, "true_divide": 1, "div": 1}
"""Which argument of a function a remedy is about, where it is not the first."""


def calls(node: Node, name: str) -> bool:
    """Whether the user's line of a node calls a function of this name."""
    tree = _statement(node.source.file, node.source.line)[1] if node.source is not None else None
    return tree is not None and any(isinstance(x, ast.Call) and _called(x) == name for x in ast.walk(tree))


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _statement(file: str, line: int):
    """(text, tree) of the smallest statement or lambda around a line; (text, None) if there is none."""
    text = "".join(linecache.getlines(file))
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return text, None
    around = [x for x in ast.walk(tree) if isinstance(x, ast.stmt) and x.lineno <= line <= _last_line(x)]
    return text, min(reversed(around), key=lambda x: _last_line(x) - x.lineno, default=None)


def _last_line(statement: ast.stmt) -> int:
    return statement.end_lineno or statement.lineno


def _grouped(text: str) -> str:
    """Put an expression in parentheses if it needs them to be an operand."""
    atoms = (ast.Name, ast.Call, ast.Subscript, ast.Attribute, ast.Constant)
    return text if isinstance(ast.parse(text, mode="eval").body, atoms) else f"({text})"
