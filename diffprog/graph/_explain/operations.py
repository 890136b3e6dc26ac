"""Write one operation of a jaxpr as a Python expression, with JAX's public functions and Python's operators.

To write another operation, add its name to `_LAX`, if `jax.lax` has a function of that name, or a line to `_WRITERS`.
"""

from collections.abc import Callable

import numpy as np

OPERATORS = dict(add="+", add_any="+", sub="-", mul="*", div="/", pow="**")
OPERATORS |= dict(gt=">", lt="<", ge=">=", le="<=", eq="==", ne="!=", xor="^") | {"and": "&", "or": "|"}
_LAX = set(
    "abs acos acosh asin asinh atan atan2 atanh cbrt ceil complex conj cos cosh digamma erf erf_inv erfc exp exp2 "
    "expm1 floor imag is_finite lgamma log log1p logistic max min nextafter real rem rsqrt sign sin sinh sqrt "
    "square stop_gradient tan tanh".split()
)
# Besides operators, what is written with plain numbers among its operands; elsewhere these have their dtype.
TAKE_NUMBERS = {"select_n", "broadcast_in_dim", "dynamic_slice", "dynamic_update_slice", "convert_element_type"}


def tuple_text(texts) -> str:
    """Write a tuple."""
    return f"({', '.join(texts)}{',' if len(texts) == 1 else ''})"


def literal(atom) -> str:
    """Write a number, the value of a jaxpr's literal."""
    x = atom.val
    array = np.asarray(x)
    if array.dtype.kind == "b":
        return repr(bool(array))
    if array.dtype.kind in "iu":
        return repr(int(array))
    if array.dtype.kind in "fV":  # V: bfloat16 and its like
        if not np.isfinite(array):
            return "jnp.nan" if np.isnan(array) else "jnp.inf" if array > 0 else "-jnp.inf"
        return repr(float(str(array)))  # the shortest text of its own type: 0.1, not 0.10000000149
    return f"({complex(array)!r})" if array.dtype.kind == "c" else repr(x)


def typed_literal(atom) -> str:
    """Write a number with its dtype, for where an array is asked for."""
    return f"jnp.{'bool_' if atom.aval.dtype == bool else atom.aval.dtype.name}({literal(atom)})"


def _plain(x):
    """Convert to Python's own whole numbers and tuples of them."""
    return tuple(map(_plain, x)) if isinstance(x, (tuple, list)) else int(x)


def dtype_text(dtype) -> str:
    """Write a dtype."""
    return f"jnp.{np.dtype(dtype).name}" if np.dtype(dtype).name != "bool" else "bool"


def expression(eqn, operands: list[str]) -> str | None:
    """Write an equation as a Python expression of its operands' texts; None if there is none."""
    name = eqn.primitive.name
    if name in OPERATORS and not _is_boolean(eqn, name):
        return f"{_base(operands[0]) if name == 'pow' else operands[0]} {OPERATORS[name]} {operands[1]}"
    if name in _LAX:
        return f"lax.{name}({', '.join(operands)})"
    write = _WRITERS.get(name)
    return write(eqn, eqn.params, *operands) if write else None


def _base(text) -> str:
    return f"({text})" if text.startswith("-") else text


def _is_boolean(eqn, name) -> bool:
    """`and` of whole numbers is Python's `&` too; a sum of truth values isn't `+`."""
    return name in ("add", "mul") and eqn.outvars[0].aval.dtype == bool


def _reduction(function):
    def write(eqn, params, x):
        every = tuple(params["axes"]) == tuple(range(len(eqn.invars[0].aval.shape)))
        return f"jnp.{function}({x})" if every else f"jnp.{function}({x}, {_axes(params['axes'])})"

    return write


def _axes(axes) -> str:
    return repr(int(axes[0])) if len(axes) == 1 else repr(_plain(axes))


def _cumulative(function):
    return lambda eqn, p, x: f"lax.{function}({x}, {p['axis']}{', reverse=True' if p['reverse'] else ''})"


def _dot(eqn, params, x, y):
    (over_x, over_y), (batch_x, _) = params["dimension_numbers"]
    a, b = (v.aval for v in eqn.invars)
    same = a.dtype == b.dtype == eqn.outvars[0].aval.dtype and params.get("precision") is None
    if same and not batch_x and len(over_x) == 1 and len(a.shape) <= 2 and len(b.shape) <= 2:
        left = x if over_x[0] == len(a.shape) - 1 else f"{x}.T"
        right = y if over_y[0] == 0 else f"{y}.T"
        return f"{left} @ {right}"
    if same and not batch_x and not over_x:
        return f"jnp.tensordot({x}, {y}, 0)"
    numbers = f"dimension_numbers={params['dimension_numbers']!r}"
    wide = f", preferred_element_type={dtype_text(eqn.outvars[0].aval.dtype)}"
    return f"lax.dot_general({x}, {y}, {numbers}{wide})"


def _broadcast(eqn, params, x, *_):
    shape, dims = _plain(params["shape"]), _plain(params["broadcast_dimensions"])
    if hasattr(eqn.invars[0], "val"):
        return f"jnp.full({shape}, {x}, {dtype_text(eqn.outvars[0].aval.dtype)})"
    operand_shape = tuple(eqn.invars[0].aval.shape)
    if dims == tuple(range(len(shape) - len(operand_shape), len(shape))):
        return f"jnp.broadcast_to({x}, {shape})"
    return f"lax.broadcast_in_dim({x}, {shape}, {dims})"


def _slice(eqn, params, x):
    strides = params["strides"] or (1,) * len(params["start_indices"])
    parts = zip(params["start_indices"], params["limit_indices"], strides, eqn.invars[0].aval.shape, strict=True)
    text = ", ".join((f"{a or ''}:{b if b != n else ''}" + (f":{s}" if s != 1 else "")) for a, b, s, n in parts)
    return f"{x}[{text}]"


def _pad(eqn, params, x, value):
    return f"lax.pad({x}, {value}, {_plain(params['padding_config'])})"


def _select(eqn, params, which, *cases):
    if len(cases) != 2 or eqn.invars[0].aval.dtype != bool:
        return None
    return f"jnp.where({which}, {cases[1]}, {cases[0]})" if not _both_literal(eqn) else None


def _both_literal(eqn) -> bool:
    return all(hasattr(v, "val") for v in eqn.invars[1:])


def _convert(eqn, params, x):
    if hasattr(eqn.invars[0], "val"):
        return f"jnp.{params['new_dtype'].name}({x})"
    return f"{x}.astype({dtype_text(params['new_dtype'])})"


def _scattering(function):
    return lambda eqn, p, x, indices, new: f"lax.{function}({x}, {indices}, {new}, {_indexing(p)})"


def _gather(eqn, params, x, indices):
    return f"lax.gather({x}, {indices}, slice_sizes={_plain(params['slice_sizes'])}, {_indexing(params)})"


def _indexing(params) -> str:
    mode = {"FILL_OR_DROP": "fill", "CLIP": "clip", "PROMISE_IN_BOUNDS": "promise_in_bounds"}[params["mode"].name]
    return f'dimension_numbers=lax.{params["dimension_numbers"]!r}, mode="{mode}"'


_WRITERS: dict[str, Callable] = {
    "neg": lambda eqn, p, x: f"-{x}",
    "not": lambda eqn, p, x: f"~{x}",
    "integer_pow": lambda eqn, p, x: f"{_base(x)} ** {p['y']}",
    "reduce_sum": _reduction("sum"),
    "reduce_max": _reduction("max"),
    "reduce_min": _reduction("min"),
    "reduce_prod": _reduction("prod"),
    "reduce_and": _reduction("all"),
    "reduce_or": _reduction("any"),
    "argmax": lambda eqn, p, x: f"lax.argmax({x}, {p['axes'][0]}, {dtype_text(p['index_dtype'])})",
    "argmin": lambda eqn, p, x: f"lax.argmin({x}, {p['axes'][0]}, {dtype_text(p['index_dtype'])})",
    "cumsum": _cumulative("cumsum"),
    "cumprod": _cumulative("cumprod"),
    "cummax": _cumulative("cummax"),
    "cummin": _cumulative("cummin"),
    "dot_general": _dot,
    "broadcast_in_dim": _broadcast,
    "reshape": lambda eqn, p, x, *_: f"{x}.reshape({_plain(p['new_sizes'])})",
    "squeeze": lambda eqn, p, x: f"jnp.squeeze({x}, {_axes(p['dimensions'])})",
    "expand_dims": lambda eqn, p, x: f"jnp.expand_dims({x}, {_axes(p['dimensions'])})",
    "transpose": lambda eqn, p, x: f"jnp.transpose({x}, {_plain(p['permutation'])})",
    "rev": lambda eqn, p, x: f"jnp.flip({x}, {_axes(p['dimensions'])})",
    "stack": lambda eqn, p, *xs: f"jnp.stack([{', '.join(xs)}], {p['axis']})",
    "unstack": lambda eqn, p, x: f"jnp.unstack({x}, axis={p['axis']})",
    "split": lambda eqn, p, x: f"lax.split({x}, {tuple(map(int, p['sizes']))}, {p['axis']})",
    "tile": lambda eqn, p, x: f"jnp.tile({x}, {_plain(p['reps'])})",
    "concatenate": lambda eqn, p, *xs: f"jnp.concatenate([{', '.join(xs)}], {p['dimension']})",
    "slice": _slice,
    "pad": _pad,
    "dynamic_slice": lambda eqn, p, x, *starts: (
        f"lax.dynamic_slice({x}, {tuple_text(starts)}, {_plain(p['slice_sizes'])})"
    ),
    "dynamic_update_slice": lambda eqn, p, x, new, *starts: (
        f"lax.dynamic_update_slice({x}, {new}, {tuple_text(starts)})"
    ),
    "gather": _gather,
    "scatter": _scattering("scatter"),
    "scatter-add": _scattering("scatter_add"),
    "select_n": _select,
    "clamp": lambda eqn, p, low, x, high: f"lax.clamp({low}, {x}, {high})",
    "convert_element_type": _convert,
    "iota": lambda eqn, p: f"lax.broadcasted_iota({dtype_text(p['dtype'])}, {_plain(p['shape'])}, {p['dimension']})",
    "round": lambda eqn, p, x: f"jnp.round({x})" if "EVEN" in str(p["rounding_method"]) else None,
}
