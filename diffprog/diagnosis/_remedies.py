"""How to mend a line: the fix in one sentence, with the user's own expressions where the line can be read."""

import ast
import linecache
from typing import NamedTuple

import numpy as np

from diffprog.graph._recording.nodes import Edge, Node

_CALLS = {  # functions that are this operation, where they are not called as it is
    "log": ("log", "log2", "log10", "xlogy", "entr"),
    "asin": ("arcsin", "asin"),
    "acos": ("arccos", "acos"),
    "acosh": ("arccosh", "acosh"),
    "atanh": ("arctanh", "atanh"),
    "pow": ("power", "pow", "float_power"),
    "div": ("divide", "true_divide", "div"),
    "erf_inv": ("erfinv", "erf_inv"),
    "lgamma": ("gammaln", "lgamma"),
}
_SAFE = {  # where the operation is finite with a finite slope, and a value that is
    **dict.fromkeys(["sqrt", "rsqrt", "log", "pow", "lgamma", "digamma"], ("{x} > 0", "1.0")),
    **dict.fromkeys(["cbrt", "integer_pow", "div"], ("{x} != 0", "1.0")),
    **dict.fromkeys(["asin", "acos", "atanh", "erf_inv"], ("abs({x}) < 1", "0.0")),
    **dict.fromkeys(["exp", "expm1"], ("{x} < 80", "0.0")),
    "exp2": ("{x} < 120", "0.0"),
    "log1p": ("{x} > -1", "0.0"),
    "acosh": ("{x} > 1", "2.0"),
}


def backward(edge: Edge, mask: Node | None) -> str | None:
    """The fix for an operation whose slope is not finite."""
    return of_slope(edge.target, mask is not None)


def of_slope(node: Node, masked: bool) -> str | None:
    """The same, of a node.

    Args:
      masked: whether its result is masked later where that happens.
    """
    name = node.primitive
    if name == "sqrt" and (written := _norm(node)) is not None:
        return written
    if name == "atan2":
        return "give atan2 a point that is not the origin: jnp.arctan2(y, jnp.where((x == 0) & (y == 0), 1.0, x))"
    if name in ("eigh", "eig", "svd", "schur"):
        return (
            "let the loss depend on the values, or on all vectors of a repeated value together, or add a small "
            "perturbation to the matrix"
        )
    if name in _SAFE:
        return double_where(node, masked)
    if masked:
        return f"mask the operand of {node.label} too, not only its result (double-where)"
    return None


def _norm(node: Node) -> str | None:
    """The fix of a norm at zero, if the node's line calls one of a single array."""
    found = _expression(node, ("norm",))
    if found is None:
        return None
    keywords = {k.arg: ast.unparse(k.value) for k in found.call.keywords}
    if len(found.call.args) > 1 or set(keywords) - {"axis", "keepdims"}:
        return "a norm has no slope at zero: mask its operand where all of it is zero (double-where)"
    how = "".join(f", {name}={value}" for name, value in keywords.items())
    return (
        f"a norm has no slope at zero; take the root only of what is not zero:\n"
        f"n2 = jnp.sum({_grouped(found.operand)} ** 2{how})\n"
        f"{found.whole}  ->  jnp.where(n2 > 0, jnp.sqrt(jnp.where(n2 > 0, n2, 1.0)), 0.0)"
    )


_NAME = " (double-where):"


def double_where(node: Node, masked: bool) -> str:
    """The double-where, written out for the node's own line if that can be read."""
    name = node.primitive
    condition, harmless = _SAFE[name]
    found = _expression(node, _CALLS.get(name, (name,)), operator=_OPERATORS.get(name))
    if found is None:
        if name in ("sqrt", "rsqrt"):
            return f"add a small number (an epsilon) to the operand of {node.label}, within the root"
        start = "mask the operand too, not only the result" if masked else "keep the operand away from that point"
        return f"{start}: x = jnp.where({condition.format(x='x')}, x, {harmless}) before {node.label} (double-where)"
    condition = condition.format(x=_grouped(found.operand))
    start = f"mask the operand, not only the result{_NAME}" if masked else f"mask operand and result{_NAME}"
    return (
        f"{start}\nsafe = jnp.where({condition}, {found.operand}, {harmless})\n"
        f"{found.whole}  ->  jnp.where({condition}, {found.with_safe}, 0.0)"
    )


def forward(node: Node, cause: str) -> str | None:
    """The fix for an operation whose result is not finite."""
    name = node.primitive
    if "overflow in exp" in cause:
        return "subtract the largest exponent first, as jax.nn.softmax and jax.nn.logsumexp do, or clip the exponent"
    if cause.startswith("overflow") and not isinstance(node.dtype, list) and node.dtype == np.float16:
        return "compute in float32 or bfloat16, or scale the loss"
    if cause == "infinity minus infinity":
        return (
            "put a large finite number, as -1e9, in the place of the infinity, or leave out rows that are masked whole"
        )
    if cause == "cholesky of a matrix that is not positive definite":
        return "add a small multiple of the identity to the matrix"
    if cause == "solve with a singular matrix":
        return "add a small multiple of the identity to the matrix, or use jnp.linalg.lstsq"
    if name == "log" and cause == "log of zero" and (safer := _logarithm_of(node)) is not None:
        return safer
    if name in _SAFE and cause.split()[0] != "overflow":
        return double_where(node, False)
    if cause.startswith("overflow"):
        return "scale its operands down, or compute it by logarithms"
    return None


def _logarithm_of(node: Node) -> str | None:
    """The better-behaved function, where a logarithm is taken of a sum of exponentials or of a probability."""
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


def is_exponential_sum(node: Node) -> bool:
    """Whether a node is a sum of exponentials, as below a softmax."""
    while node.primitive in ("broadcast_in_dim", "reshape", "stop_gradient", "convert_element_type") and node.inputs:
        node = node.inputs[0]
    return node.primitive == "reduce_sum" and bool(node.inputs) and node.inputs[0].primitive == "exp"


_OPERATORS = {"div": ast.Div, "pow": ast.Pow, "integer_pow": ast.Pow}


class _Found(NamedTuple):
    """An expression of the user's that calls an operation: its tree, its text, its operand, it with `safe` for that."""

    call: ast.expr
    whole: str
    operand: str
    with_safe: str


def _expression(node: Node, calls: tuple[str, ...], operator=None) -> _Found | None:
    """The expression on the node's line that calls the operation; None if it can't be read, or there are several."""
    if node.source is None:
        return None
    text, tree = _statement(node.source.file, node.source.line)
    if tree is None:
        return None
    found = []
    for part in ast.walk(tree):
        if isinstance(part, ast.Call) and part.args and _called(part) in calls:
            found.append((part, part.args[0]))
        elif operator is not None and isinstance(part, ast.BinOp) and isinstance(part.op, operator):
            found.append((part, part.right if operator is ast.Div else part.left))
    if len(found) != 1:
        return None
    call, argument = found[0]
    whole, operand = (ast.get_source_segment(text, part) for part in found[0])
    if whole is None or "\n" in whole:
        return None
    start = argument.col_offset - call.col_offset
    return _Found(call, whole, operand, whole[:start] + "safe" + whole[start + len(operand) :])


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
    best = None
    for part in ast.walk(tree):
        if isinstance(part, ast.stmt) and part.lineno <= line <= part.end_lineno:
            if best is None or part.end_lineno - part.lineno <= best.end_lineno - best.lineno:
                best = part
    return text, best


def _grouped(text: str) -> str:
    """An expression, in parentheses if it needs them to be an operand."""
    atoms = (ast.Name, ast.Call, ast.Subscript, ast.Attribute, ast.Constant)
    return text if isinstance(ast.parse(text, mode="eval").body, atoms) else f"({text})"
