"""Write what an operation computes and what its rule does, as a line of mathematics."""

from typing import NamedTuple

from diffprog.graph._recording.nodes import Node


class Formula(NamedTuple):
    """An operation and its rule.

    Attributes:
      forward: the result from the operands: "z = x * y".
      backward: per operand that gets a gradient, that gradient from the result's, which is called g: "g * y".
    """

    forward: str
    backward: tuple[str, ...]


def formula(node: Node, operands: list[str] | None = None, result: str = "z", gradient: str = "g") -> Formula | None:
    """Write the formula of a node's operation; None for an input, a constant, and an operation without one.

    Args:
      node: the operation.
      operands: what to call its arguments; x, y, w by default.
      result: what to call its result.
      gradient: what to call the gradient at the result.
    """
    entry = _of_label.get(node.label) if node.primitive.startswith("custom_") else None
    entry = entry or _table.get(node.primitive)
    if entry is None:
        return None
    forward, *backward = entry
    x, y, w, *_ = [*(operands or ["x", "y", "w"]), "?", "?", "?"]
    words = {"x": x, "y": y, "w": w, "z": result, "g": gradient, **_parameters(node)}
    if node.primitive in ("concatenate", "stack"):  # of any number of operands, all alike
        words["x"] = ", ".join(operands or ["x", "y", "..."][: len(node.arguments)])
        backward *= len(node.arguments)
    live = {edge.argument for edge in node.incoming if edge.live}
    asked = [text for i, text in enumerate(backward) if i in live]
    return Formula(forward.format_map(words), tuple(text.format_map(words) for text in asked))


def _parameters(node: Node) -> dict[str, str]:
    """Those parameters of an operation that formulas mention."""
    shown = {name: x for name, x in node.params.items() if isinstance(x, (int, str, tuple)) and name != "y"}
    texts = {name: str(x) for name, x in shown.items()}
    if node.primitive == "integer_pow":
        texts |= {"n": str(node.params["y"]), "m": str(node.params["y"] - 1)}
    if node.primitive == "convert_element_type":
        texts["dtype"] = str(node.params["new_dtype"])
    return texts


# Per primitive: the result, then the gradient of each operand. {x}, {y}, {w} are the operands, {z} the result, {g} the
# gradient at the result; other names are the primitive's parameters.
_table: dict[str, tuple[str, ...]] = {
    "neg": ("{z} = -{x}", "-{g}"),
    "add": ("{z} = {x} + {y}", "{g}", "{g}"),
    "add_any": ("{z} = {x} + {y}", "{g}", "{g}"),
    "sub": ("{z} = {x} - {y}", "{g}", "-{g}"),
    "mul": ("{z} = {x} * {y}", "{g} * {y}", "{g} * {x}"),
    "div": ("{z} = {x} / {y}", "{g} / {y}", "-{g} * {x} / {y}²"),
    "rem": ("{z} = {x} mod {y}", "{g}", "-{g} * trunc({x} / {y})"),
    "pow": ("{z} = {x} ^ {y}", "{g} * {y} * {x} ^ ({y} - 1)", "{g} * {z} * log {x}"),
    "integer_pow": ("{z} = {x} ^ {n}", "{g} * {n} * {x} ^ {m}"),
    "square": ("{z} = {x}²", "{g} * 2 {x}"),
    "sqrt": ("{z} = √{x}", "{g} / (2 √{x})"),
    "rsqrt": ("{z} = 1 / √{x}", "-{g} * {z} / (2 {x})"),
    "cbrt": ("{z} = ∛{x}", "{g} * {z} / (3 {x})"),
    "exp": ("{z} = exp {x}", "{g} * exp {x}"),
    "exp2": ("{z} = 2 ^ {x}", "{g} * log 2 * 2 ^ {x}"),
    "expm1": ("{z} = exp({x}) - 1", "{g} * exp {x}"),
    "log": ("{z} = log {x}", "{g} / {x}"),
    "log1p": ("{z} = log(1 + {x})", "{g} / (1 + {x})"),
    "sin": ("{z} = sin {x}", "{g} * cos {x}"),
    "cos": ("{z} = cos {x}", "-{g} * sin {x}"),
    "tan": ("{z} = tan {x}", "{g} * (1 + tan² {x})"),
    "asin": ("{z} = asin {x}", "{g} / √(1 - {x}²)"),
    "acos": ("{z} = acos {x}", "-{g} / √(1 - {x}²)"),
    "atan": ("{z} = atan {x}", "{g} / (1 + {x}²)"),
    "atan2": ("{z} = atan2({x}, {y})", "{g} * {y} / ({x}² + {y}²)", "-{g} * {x} / ({x}² + {y}²)"),
    "sinh": ("{z} = sinh {x}", "{g} * cosh {x}"),
    "cosh": ("{z} = cosh {x}", "{g} * sinh {x}"),
    "tanh": ("{z} = tanh {x}", "{g} * (1 - tanh² {x})"),
    "asinh": ("{z} = asinh {x}", "{g} / √({x}² + 1)"),
    "acosh": ("{z} = acosh {x}", "{g} / √({x}² - 1)"),
    "atanh": ("{z} = atanh {x}", "{g} / (1 - {x}²)"),
    "logistic": ("{z} = 1 / (1 + exp(-{x}))", "{g} * {z} * (1 - {z})"),
    "erf": ("{z} = erf {x}", "{g} * 2/√π * exp(-{x}²)"),
    "erfc": ("{z} = 1 - erf {x}", "-{g} * 2/√π * exp(-{x}²)"),
    "erf_inv": ("{z} = erf⁻¹ {x}", "{g} * √π/2 * exp({z}²)"),
    "lgamma": ("{z} = log Γ({x})", "{g} * ψ({x})"),
    "digamma": ("{z} = ψ({x})", "{g} * ψ'({x})"),
    "abs": ("{z} = |{x}|", "{g} * sign {x}"),
    "max": ("{z} = max({x}, {y})", "{g} where {x} > {y}, half at a tie", "{g} where {y} > {x}, half at a tie"),
    "min": ("{z} = min({x}, {y})", "{g} where {x} < {y}, half at a tie", "{g} where {y} < {x}, half at a tie"),
    "clamp": (
        "{z} = {y} clipped to [{x}, {w}]",
        "sum of {g} where {y} < {x}",
        "{g} where {x} < {y} < {w}, else 0",
        "sum of {g} where {y} > {w}",
    ),
    "select_n": ("{z} = {w} where {x}, else {y}", "", "{g} where not {x}, else 0", "{g} where {x}, else 0"),
    "dot_general": ("{z} = {x} {y}", "{g} {y}ᵀ", "{x}ᵀ {g}"),
    "conv_general_dilated": ("{z} = {x} ⋆ {y}", "{g} * {y}, the kernel flipped", "{x} ⋆ {g}"),
    "reduce_sum": ("{z} = Σ {x} over axes {axes}", "{g}, repeated along them"),
    "reduce_prod": ("{z} = Π {x} over axes {axes}", "{g} * product of the others"),
    "reduce_max": ("{z} = max {x} over axes {axes}", "{g} at the largest, shared at a tie"),
    "reduce_min": ("{z} = min {x} over axes {axes}", "{g} at the smallest, shared at a tie"),
    "cumsum": ("{z}ₖ = {x}₀ + ... + {x}ₖ", "sum of {g} from there on"),
    "cumprod": ("{z}ₖ = {x}₀ ... {x}ₖ", "(sum of {g} {z} from there on) / {x}"),
    "reduce_window_sum": ("{z} = sum of {x} in each window", "{g} of every window it is in"),
    "reduce_window_max": ("{z} = largest {x} in each window", "{g} of the windows where it is the largest"),
    "broadcast_in_dim": ("{z} = {x}, repeated to shape {shape}", "sum of {g} over what was repeated"),
    "reshape": ("{z} = {x} in shape {new_sizes}", "{g} in the shape of {x}"),
    "squeeze": ("{z} = {x} without axes {dimensions}", "{g} with them"),
    "transpose": ("{z} = {x} with axes in order {permutation}", "{g} with axes in the old order"),
    "rev": ("{z} = {x} reversed along {dimensions}", "{g} reversed"),
    "concatenate": ("{z} = ({x}) end to end", "its part of {g}"),
    "stack": ("{z} = ({x}), one row each", "its row of {g}"),
    "unstack": ("{z} = the rows of {x}", "the rows' gradients, stacked"),
    "pad": ("{z} = {x} with {y} around it", "{g} without the border", "sum of {g} at the border"),
    "slice": ("{z} = {x}[{start_indices} to {limit_indices}]", "{g} there, 0 elsewhere"),
    "dynamic_slice": ("{z} = a window of {x}", "{g} in the window, 0 elsewhere"),
    "dynamic_update_slice": ("{z} = {x} with {y} in a window", "{g} outside the window", "{g} in the window"),
    "gather": ("{z} = {x}[{y}]", "{g} added at {y}, 0 elsewhere"),
    "scatter": ("{z} = {x} with {w} at {y}", "{g} except at {y}", "", "{g} at {y}"),
    "scatter-add": ("{z} = {x} with {w} added at {y}", "{g}", "", "{g} at {y}"),
    "sort": ("{z} = {x} in order", "{g}, put back in the old order"),
    "convert_element_type": ("{z} = {x} as {dtype}", "{g}, converted back"),
    "copy": ("{z} = {x}", "{g}"),
    "name": ("{z} = {x}, named", "{g}"),
    "real": ("{z} = Re {x}", "{g}"),
    "imag": ("{z} = Im {x}", "-i {g}"),
    "complex": ("{z} = {x} + i {y}", "Re {g}", "Im {g}, negated"),
    "conj": ("{z} = conj {x}", "conj {g}"),
    "cholesky": ("{z} = L with L Lᵀ = {x}", "L⁻ᵀ Φ(Lᵀ {g}) L⁻¹, symmetrized; Φ: lower triangle, diagonal halved"),
    "triangular_solve": ("{z} = {x}⁻¹ {y}", "-(the gradient of {y}) {z}ᵀ, its triangle", "{x}⁻ᵀ {g}"),
    "stop_gradient": ("{z} = {x}, without a gradient",),
    "floor": ("{z} = ⌊{x}⌋, flat between whole numbers",),
    "ceil": ("{z} = ⌈{x}⌉, flat between whole numbers",),
    "round": ("{z} = {x}, rounded: flat between whole numbers",),
    "sign": ("{z} = sign {x}, flat but at 0",),
    "argmax": ("{z} = position of the largest {x}",),
    "argmin": ("{z} = position of the smallest {x}",),
    "gt": ("{z} = {x} > {y}",),
    "lt": ("{z} = {x} < {y}",),
    "ge": ("{z} = {x} ≥ {y}",),
    "le": ("{z} = {x} ≤ {y}",),
    "eq": ("{z} = {x} == {y}",),
    "ne": ("{z} = {x} ≠ {y}",),
    "iota": ("{z} = 0, 1, 2, ...",),
}

# Functions with a rule of their own, by name.
_of_label: dict[str, tuple[str, ...]] = {
    "relu": ("{z} = max({x}, 0)", "{g} where {x} > 0, else 0"),
    "relu6": ("{z} = min(max({x}, 0), 6)", "{g} where 0 < {x} < 6, else 0"),
    "silu": ("{z} = {x} * sigmoid({x})", "{g} * sigmoid({x}) * (1 + {x} * (1 - sigmoid({x})))"),
    "softplus": ("{z} = log(1 + exp {x})", "{g} * sigmoid({x})"),
    "_softmax": ("{z} = softmax {x}", "{z} * ({g} - Σ {g} {z})"),
    "softmax": ("{z} = softmax {x}", "{z} * ({g} - Σ {g} {z})"),
    "logaddexp": ("{z} = log(exp {x} + exp {y})", "{g} * exp({x} - {z})", "{g} * exp({y} - {z})"),
    "logsumexp": ("{z} = log Σ exp {x}", "{g} * softmax {x}"),
    "logit": ("{z} = log({x} / (1 - {x}))", "{g} / ({x} (1 - {x}))"),
    "xlogy": ("{z} = {x} log {y}", "{g} * log {y}", "{g} * {x} / {y}"),
}
