"""How to mend a line: the fix in one sentence, with the user's own expressions where the line can be read."""

import ast
import linecache

from diffprog.graph.nodes import Edge, Node

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
    from diffprog.diagnosis.causes import is_norm

    node = edge.target
    name = node.primitive
    if name == "sqrt" and is_norm(node):
        found = _expression(node, ("norm",))
        x = found[1] if found else "x"
        return (
            f"a norm has no slope at zero; take the root of what is not zero alone:\n"
            f"n2 = jnp.sum({_grouped(x)} ** 2)\njnp.where(n2 > 0, jnp.sqrt(jnp.where(n2 > 0, n2, 1.0)), 0.0)"
        )
    if name == "atan2":
        return "give atan2 a point that is not the origin: jnp.arctan2(y, jnp.where((x == 0) & (y == 0), 1.0, x))"
    if name in ("eigh", "eig", "svd", "schur"):
        return (
            "let the loss depend on the values, or on all vectors of a repeated value together, or add a small "
            "perturbation to the matrix"
        )
    if name in _SAFE:
        return double_where(node, mask is not None)
    if mask is not None:
        return f"mask the operand of {node.label} too, not only its result (double-where)"
    return None


_NAME = " (double-where):"


def double_where(node: Node, masked: bool) -> str:
    """The double-where, written out for the node's own line if that can be read."""
    name = node.primitive
    condition, harmless = _SAFE[name]
    found = _expression(node, _CALLS.get(name, (name,)), operator=_OPERATORS.get(name))
    if found is None:
        start = "mask the operand too, not only the result" if masked else "keep the operand away from that point"
        return f"{start}: x = jnp.where({condition.format(x='x')}, x, {harmless}) before {node.label} (double-where)"
    whole, operand, rewritten = found
    condition = condition.format(x=_grouped(operand))
    start = f"mask the operand, not only the result{_NAME}" if masked else f"mask operand and result{_NAME}"
    return (
        f"{start}\nsafe = jnp.where({condition}, {operand}, {harmless})\n"
        f"{whole}  ->  jnp.where({condition}, {rewritten}, 0.0)"
    )


def forward(node: Node, cause: str) -> str | None:
    """The fix for an operation whose result is not finite."""
    name = node.primitive
    if "overflow in exp" in cause:
        return "subtract the largest exponent first, as jax.nn.softmax and jax.nn.logsumexp do, or clip the exponent"
    if "float16" in cause or "conversion" in cause:
        return "compute in float32 or bfloat16, or scale the loss"
    if cause == "infinity minus infinity":
        return (
            "put a large finite number, as -1e9, in the place of the infinity, or leave out rows that are masked whole"
        )
    if cause == "cholesky of a matrix that is not positive definite":
        return "add a small multiple of the identity to the matrix"
    if cause == "solve with a singular matrix":
        return "add a small multiple of the identity to the matrix, or use jnp.linalg.lstsq"
    if name in _SAFE and cause.split()[0] != "overflow":
        return double_where(node, False)
    if cause.startswith("overflow"):
        return "scale its operands down, or compute it by logarithms"
    return None


_OPERATORS = {"div": ast.Div, "pow": ast.Pow, "integer_pow": ast.Pow}


def _expression(node: Node, calls: tuple[str, ...], operator=None):
    """(the expression that calls the operation, its operand, the expression with `safe` for it) on the node's line.

    None if the line can't be read, or does that more than once.
    """
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
    whole, operand = (ast.get_source_segment(text, part) for part in found[0])
    if whole is None or "\n" in whole:
        return None
    start = found[0][1].col_offset - found[0][0].col_offset
    return whole, operand, whole[:start] + "safe" + whole[start + len(operand) :]


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
    return text if text.replace(".", "").replace("_", "").isalnum() or text.endswith((")", "]")) else f"({text})"
