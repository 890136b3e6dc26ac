"""Why an operation made something that is not finite: what its operands were, in words."""

import numpy as np

from diffprog.diagnosis._arrays import array, at, operand
from diffprog.graph._recording.nodes import Edge, Node, Place


def forward_cause(node: Node, index) -> tuple[str, list[str]]:
    """A few words, and further lines, for a result that is not finite although the operands may be.

    Args:
      index: of the element, None if it is not known.
    """
    given = [at(operand(node, i), index) if index is not None else None for i in range(len(node.arguments))]
    x = given[0] if given else None
    y = given[1] if len(given) > 1 else None
    infinite = any(g is not None and np.isinf(g) for g in given)
    name = node.primitive
    if (original := differentiated(node)) is not None:
        at_zero = at(operand(original, 0), index) if index is not None else None
        for singular, words, formula in _SLOPES[original.primitive] if at_zero is not None else ():
            if singular(at_zero):
                return words, [f"its slope: {formula}"]
    if name == "div" and y is not None:
        if y == 0:
            return ("zero divided by zero" if x == 0 else "division by zero"), []
        return ("infinity divided by infinity" if infinite else "overflow in a division"), []
    if name in ("sub", "add") and infinite:
        return "infinity minus infinity", []
    if name == "mul" and infinite:
        return "zero times infinity", []
    if name in _DOMAINS and x is not None:
        for inside, words in _DOMAINS[name]:
            if not inside(x):
                return words, []
    if name in ("pow", "integer_pow") and x is not None:
        power = node.params.get("y", y)
        if power is not None and x == 0 and power < 0:
            return "zero to a negative power", []
        if power is not None and x < 0 and power != int(power):
            return "a negative number to a fractional power", []
        return "overflow in a power", []
    if name in ("exp", "exp2", "expm1", "sinh", "cosh"):
        return f"overflow in {name}", [f"{name} exceeds {node.dtype} above about {_largest_exponent(node):.0f}"]
    if name == "custom_jvp_call" or name == "custom_vjp_call":
        return _custom(node)
    if name in ("cholesky", "triangular_solve", "custom_linear_solve", "lu", "eigh", "svd", "qr", "schur", "eig"):
        return _WORDS.get(name, f"{name} of a singular matrix"), []
    if name in ("reduce_sum", "dot_general", "cumsum", "conv_general_dilated", "reduce_window_sum", "scatter-add"):
        return ("infinities in a sum" if _any_infinite(node) else f"overflow in {name}"), []
    if name == "convert_element_type":
        return f"overflow in the conversion to {node.dtype}", []
    return (f"infinity in {name}" if infinite else f"overflow in {name}"), []


def backward_cause(edge: Edge, index) -> tuple[str, list[str]]:
    """The same for a gradient that an operation sends to one of its arguments."""
    node, name = edge.target, edge.target.primitive
    x = array(edge.source.values[edge.output])
    x = None if x is None or index is None else x[index]
    arrived = at(array(node.gradients[0]), index) if index is not None and node.single else None
    if name == "sqrt" and is_norm(node):
        return "norm of zero", ["the slope of a norm at zero is 0 / 0"]
    if name in _SLOPES and x is not None:
        for singular, words, formula in _SLOPES[name]:
            if singular(x):
                return words, [_product(arrived, formula)]
    if name == "div":
        return _division(edge, arrived, index)
    if name in ("pow", "integer_pow"):
        power = node.params.get("y")
        if power is None:
            power = at(operand(node, 1), index)
        if edge.argument == 1:
            return "power of zero", ["the slope in the exponent is log(0) * 0 ** y"]
        if x == 0:
            text = "" if power is None else f" {power:.4g}"
            return "power of zero", [_product(arrived, f"inf = y * 0 ** (y - 1), with y ={text}")]
        if x is not None and x < 0 and power is not None and power != int(power):
            return "a negative number to a fractional power", []
        return "overflow in a power", []
    if name == "atan2":
        return "atan2 of zero and zero", ["its slopes are x / (x**2 + y**2) and y / (x**2 + y**2)"]
    if name in ("eigh", "eig", "svd", "schur"):
        return _WORDS[name], ["the gradient depends on which vectors of a repeated value were chosen"]
    if name in ("exp", "exp2", "expm1", "sinh", "cosh") and not _finite(node, index):
        return f"overflow in {name}", [_product(arrived, f"inf = {name}({'' if x is None else f'{x:.6g}'})")]
    if name == "mul":
        other = at(operand(node, 1 - edge.argument), index)
        if other is not None and np.isinf(other):
            return "zero times infinity", [_product(arrived, "inf, the other factor")]
        return "overflow in a product", []
    if name in ("custom_jvp_call", "custom_vjp_call"):
        cause, details = _custom(node)
        return cause, details
    if name in ("reduce_prod", "cumprod", "cumlogsumexp", "cholesky", "triangular_solve", "lu", "qr"):
        return f"singular {name}", []
    slope = "the slope is infinite" if arrived is not None and np.isfinite(arrived) else "the slope is not finite"
    return f"{name} has no finite slope here", [slope]


def differentiated(node: Node) -> Node | None:
    """The operation whose slope is computed by a node of the reverse pass, where it is one with a singular slope."""
    if not _in_reverse(node):
        return None
    used = [x.node for x in node.arguments if isinstance(x, Place)]
    for candidate in used + [edge.target for x in used for edge in x.outgoing]:
        if candidate.primitive in _SLOPES and candidate.source == node.source and not _in_reverse(candidate):
            return candidate
    return None


def _in_reverse(node: Node) -> bool:
    return "backward" in node.path.split("/")


def is_norm(root: Node) -> bool:
    """Whether a square root is of a sum of squares."""
    above = [node for node in root.inputs]
    while above and above[0].primitive in ("convert_element_type", "name", "broadcast_in_dim", "reshape"):
        above = above[0].inputs
    if not above or above[0].primitive not in ("reduce_sum", "dot_general"):
        return False
    if above[0].primitive == "dot_general":
        return len(set(above[0].inputs)) == 1
    squares = above[0].inputs
    return bool(squares) and (
        squares[0].primitive == "square"
        or (squares[0].primitive == "integer_pow" and squares[0].params.get("y") == 2)
        or (squares[0].primitive == "mul" and len({(e.source, e.output) for e in squares[0].incoming}) == 1)
        or squares[0].primitive in ("abs", "real")
    )


def _product(arrived, slope: str) -> str:
    if arrived is None:
        return f"local slope: {slope}"
    outcome = "0 * inf = nan" if arrived == 0 else f"{arrived:.6g} * inf = inf"
    return f"local slope: {slope}; {outcome}"


def _division(edge, arrived, index):
    y = at(operand(edge.target, 1), index)
    if y is not None and y == 0:
        return "division by zero", [_product(arrived, "inf = 1 / 0" if edge.argument == 0 else "inf = x / 0**2")]
    if y is not None and np.isfinite(y):
        return "overflow in a division", [f"the slope x / y**2 overflows: y = {y:.6g}"]
    return "infinity divided by infinity", []


def _custom(node):
    name = node.label.strip("_")
    return (f"{name} of infinities" if _any_infinite(node) else f"{name} is singular here"), []


def _any_infinite(node: Node) -> bool:
    found = [operand(node, i) for i in range(len(node.arguments))]
    return any(x is not None and x.dtype.kind in "fc" and bool(np.isinf(x).any()) for x in found)


def _finite(node, index):
    value = array(node.values[0])
    return value is not None and index is not None and bool(np.isfinite(value[index]))


def _largest_exponent(node) -> float:
    try:
        return float(np.log(float(np.finfo(node.dtype).max)))
    except ValueError:  # bfloat16
        return 88.0


_DOMAINS = {
    "log": [(lambda x: x != 0, "log of zero"), (lambda x: x > 0, "log of a negative number")],
    "log1p": [(lambda x: x > -1, "log1p at or below -1")],
    "sqrt": [(lambda x: x >= 0, "sqrt of a negative number")],
    "rsqrt": [(lambda x: x != 0, "rsqrt of zero"), (lambda x: x > 0, "rsqrt of a negative number")],
    "asin": [(lambda x: abs(x) <= 1, "asin outside of [-1, 1]")],
    "acos": [(lambda x: abs(x) <= 1, "acos outside of [-1, 1]")],
    "acosh": [(lambda x: x >= 1, "acosh below 1")],
    "atanh": [(lambda x: abs(x) < 1, "atanh at or outside of -1 and 1")],
    "erf_inv": [(lambda x: abs(x) < 1, "erf_inv at or outside of -1 and 1")],
    "lgamma": [(lambda x: x > 0, "lgamma at a pole")],
    "digamma": [(lambda x: x > 0, "digamma at a pole")],
}
_SLOPES = {
    "sqrt": [
        (lambda x: x == 0, "sqrt at zero", "inf = 0.5 / sqrt(0)"),
        (lambda x: x < 0, "sqrt of a negative number", "nan = 0.5 / sqrt(x)"),
    ],
    "rsqrt": [
        (lambda x: x == 0, "rsqrt at zero", "inf = -0.5 * 0 ** -1.5"),
        (lambda x: x < 0, "rsqrt of a negative number", "nan = -0.5 * x ** -1.5"),
    ],
    "cbrt": [(lambda x: x == 0, "cbrt at zero", "inf = 1 / (3 * cbrt(0)**2)")],
    "log": [(lambda x: x == 0, "log of zero", "inf = 1 / 0")],
    "log1p": [(lambda x: x == -1, "log1p of -1", "inf = 1 / 0")],
    "asin": [(lambda x: abs(x) >= 1, "asin at the end of its domain", "inf = 1 / sqrt(1 - x**2)")],
    "acos": [(lambda x: abs(x) >= 1, "acos at the end of its domain", "-inf = -1 / sqrt(1 - x**2)")],
    "acosh": [(lambda x: x <= 1, "acosh at the end of its domain", "inf = 1 / sqrt(x**2 - 1)")],
    "atanh": [(lambda x: abs(x) >= 1, "atanh at the end of its domain", "inf = 1 / (1 - x**2)")],
    "erf_inv": [(lambda x: abs(x) >= 1, "erf_inv at the end of its domain", "inf")],
    "lgamma": [(lambda x: x <= 0, "lgamma at a pole", "digamma(x)")],
    "digamma": [(lambda x: x <= 0, "digamma at a pole", "polygamma(1, x)")],
}
_WORDS = {
    "cholesky": "cholesky of a matrix that is not positive definite",
    "triangular_solve": "solve with a singular matrix",
    "custom_linear_solve": "solve with a singular matrix",
    "lu": "lu of a singular matrix",
    "eigh": "eigh of repeated eigenvalues",
    "eig": "eig of repeated eigenvalues",
    "svd": "svd of repeated singular values",
    "schur": "schur of repeated eigenvalues",
}
