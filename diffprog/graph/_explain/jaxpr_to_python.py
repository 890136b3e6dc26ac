"""A jaxpr as readable Python: one statement per operation, with JAX's public functions and Python's operators."""

from collections.abc import Callable, Iterable

import numpy as np

from diffprog._jax_internals import closed, scan_sizes
from diffprog._util.lists import split_list

_OPERATORS = {
    "add": "+",
    "add_any": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "pow": "**",
    "and": "&",
    "or": "|",
    "xor": "^",
    "gt": ">",
    "lt": "<",
    "ge": ">=",
    "le": "<=",
    "eq": "==",
    "ne": "!=",
}
_LAX = {
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "cbrt",
    "ceil",
    "complex",
    "conj",
    "cos",
    "cosh",
    "digamma",
    "erf",
    "erf_inv",
    "erfc",
    "exp",
    "exp2",
    "expm1",
    "floor",
    "imag",
    "is_finite",
    "lgamma",
    "log",
    "log1p",
    "logistic",
    "max",
    "min",
    "nextafter",
    "real",
    "rem",
    "rsqrt",
    "sign",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "stop_gradient",
    "tan",
    "tanh",
}
# Besides operators, what is written with plain numbers among its operands; elsewhere these have their dtype.
_TAKE_NUMBERS = {"select_n", "broadcast_in_dim", "dynamic_slice", "dynamic_update_slice", "convert_element_type"}
_CALLS = ("jit", "closed_call", "core_closed_call", "remat2", "eval_jaxpr", "custom_jvp_call", "custom_vjp_call")


class Writer:
    """Writes a program.

    Attributes:
      lines: what was written.
      named: objects that have no short text, by the name that the text has for them: arrays, operations.
    """

    def __init__(self, name_of: Callable, comment_of: Callable):
        """
        Args:
          name_of: variable of the jaxpr -> a name, None for any.
          comment_of: equation -> a comment that stands before the first of those that share it.
        """
        self.lines: list[str] = []
        self.named: dict[str, object] = {}
        self._name_of, self._comment_of = name_of, comment_of
        self._names: dict = {}
        self._taken: set[str] = {"jnp", "lax"}
        self._comment = None

    # ------------------------------------------------------------ names

    def fresh(self, wanted: str | None = None) -> str:
        """A name that nothing has yet."""
        base, count = wanted or "t", 1 if wanted is None else 0
        while (name := f"{base}{count or ''}") in self._taken:
            count += 1
        self._taken.add(name)
        return name

    def define(self, variable) -> str:
        self._names[variable] = self.fresh(self._name_of(variable))
        return self._names[variable]

    def alias(self, variable, text: str):
        self._names[variable] = text

    def read(self, atom) -> str:
        return _literal(atom) if hasattr(atom, "val") else self._names[atom]

    def value(self, x, indent: str) -> str:
        """A name for an array or an object: small arrays are written out."""
        name = self.fresh("constant")
        array = np.asarray(x) if isinstance(getattr(x, "dtype", None), np.dtype) else None
        if array is not None and array.size <= 64 and array.dtype.kind in "biuf" and np.all(np.isfinite(array)):
            text = np.array2string(array, separator=", ", threshold=64, floatmode="unique")
            self.lines.append(f"{indent}{name} = jnp.array({' '.join(text.split())}, {_dtype(array.dtype)})")
        else:
            self.named[name] = x
        return name

    # ------------------------------------------------------------ programs

    def program(self, jaxpr, indent: str, needed: Iterable | None = None) -> list[str]:
        """Write the equations of a closed jaxpr whose arguments have names; returns the texts of its results.

        Args:
          needed: positions of the results that are asked for; all by default.
        """
        body = jaxpr.jaxpr
        for variable, x in zip(body.constvars, jaxpr.consts, strict=True):
            self.alias(variable, self.value(x, indent))
        wanted = [v for i, v in enumerate(body.outvars) if needed is None or i in set(needed)]
        alive = {v for v in wanted if not hasattr(v, "val")}
        used = []
        for eqn in reversed(body.eqns):
            if any(v in alive for v in eqn.outvars):
                used.append(eqn)
                alive.update(v for v in eqn.invars if not hasattr(v, "val"))
        for eqn in reversed(used):
            self._equation(eqn, indent, alive)
        return [self.read(v) for v in wanted]

    def _equation(self, eqn, indent, alive):
        comment = self._comment_of(eqn)
        if comment and comment != self._comment:
            self.lines += ["", f"{indent}# {comment}"] if self._comment else [f"{indent}# {comment}"]
        self._comment = comment or self._comment
        name = eqn.primitive.name
        if name in _CALLS:
            return self._call(eqn, indent)
        if name in ("scan", "while", "cond"):
            return getattr(self, f"_{name}")(eqn, indent)
        plain = name in _OPERATORS or name in _TAKE_NUMBERS
        operands = [self.read(v) if plain or not hasattr(v, "val") else _typed(v) for v in eqn.invars]
        if name in ("copy", "name"):
            return self.alias(eqn.outvars[0], operands[0])
        text = expression(eqn, operands)
        if text is None:
            text = self._operation(eqn, operands)
        targets = ", ".join(self.define(v) if v in alive else "_" for v in eqn.outvars)
        self.lines.append(
            f"{indent}{targets}{',' if eqn.primitive.multiple_results and len(eqn.outvars) == 1 else ''} = {text}"
        )

    def _operation(self, eqn, operands) -> str:
        """An operation that has no public function: a name for it, with its parameters bound."""
        name = self.fresh(eqn.primitive.name.replace("-", "_"))
        primitive, params = eqn.primitive, eqn.params
        self.named[name] = lambda *values: primitive.bind(*values, **params)
        return f"{name}({', '.join(operands)})"

    def _call(self, eqn, indent):
        """A function's body, in place."""
        jaxpr = closed(next(eqn.params[key] for key in ("jaxpr", "call_jaxpr") if key in eqn.params))
        for inner, outer in zip(jaxpr.jaxpr.invars, eqn.invars, strict=True):
            self.alias(inner, _typed(outer) if hasattr(outer, "val") else self.read(outer))
        for outer, text in zip(eqn.outvars, self.program(jaxpr, indent), strict=True):
            self.alias(outer, text)

    # ------------------------------------------------------------ loops and branches

    def _function(self, kind, jaxpr, given: list[str], parameters: list, indent) -> tuple[str, list]:
        """Define a function of a closed jaxpr: the first of its arguments are the `given` names of the scope around.

        Args:
          parameters: how many arguments stand in each tuple of the function's own.

        Returns:
          its name, and the texts of its results; the last line, what it returns, is left to the caller.
        """
        name = self.fresh(kind)
        variables = list(jaxpr.jaxpr.invars)
        for variable, text in zip(variables, given, strict=False):
            self.alias(variable, text)
        rest, signature, unpack = variables[len(given) :], [], []
        for argument, count in parameters:
            argument, mine, rest = self.fresh(argument), rest[:count], rest[count:]
            names = [self.define(v) for v in mine]
            signature.append(argument)
            if names:
                unpack.append(f"{indent}    {', '.join(names)}{',' if len(names) == 1 else ''} = {argument}")
        self.lines += [f"{indent}def {name}({', '.join(signature)}):", *unpack]
        before, self._comment = self._comment, None
        results = self.program(jaxpr, indent + "    ")
        self._comment = before
        return name, results

    def _scan(self, eqn, indent):
        params, (num_consts, num_carry) = eqn.params, scan_sizes(eqn.params)
        operands = [self.read(v) for v in eqn.invars]
        consts, carry, xs = split_list(operands, [num_consts, num_carry])
        arguments = [("carry", num_carry), ("row", len(xs))]
        name, results = self._function("step", params["jaxpr"], consts, arguments, indent)
        self.lines.append(f"{indent}    return {_tuple(results[:num_carry])}, {_tuple(results[num_carry:])}")
        options = f", length={params['length']}" + (", reverse=True" if params["reverse"] else "")
        targets = [self.define(v) for v in eqn.outvars]
        left = f"{_tuple(targets[:num_carry])}, {_tuple(targets[num_carry:])}"
        self.lines.append(f"{indent}{left} = lax.scan({name}, {_tuple(carry)}, {_tuple(xs)}{options})")

    def _while(self, eqn, indent):
        params = eqn.params
        operands = [self.read(v) for v in eqn.invars]
        cond_consts, body_consts, carry = split_list(operands, [params["cond_nconsts"], params["body_nconsts"]])
        goes_on, results = self._function("goes_on", params["cond_jaxpr"], cond_consts, [("carry", len(carry))], indent)
        self.lines.append(f"{indent}    return {results[0]}")
        body, results = self._function("body", params["body_jaxpr"], body_consts, [("carry", len(carry))], indent)
        self.lines.append(f"{indent}    return {_tuple(results)}")
        targets = _tuple([self.define(v) for v in eqn.outvars])
        self.lines.append(f"{indent}{targets} = lax.while_loop({goes_on}, {body}, {_tuple(carry)})")

    def _cond(self, eqn, indent):
        index, *operands = [self.read(v) for v in eqn.invars]
        names = []
        for jaxpr in eqn.params["branches"]:
            name, results = self._function("branch", jaxpr, operands, [], indent)
            self.lines.append(f"{indent}    return {_tuple(results)}")
            names.append(name)
        targets = _tuple([self.define(v) for v in eqn.outvars])
        self.lines.append(f"{indent}{targets} = lax.switch({index}, [{', '.join(names)}])")


def _tuple(texts) -> str:
    return f"({', '.join(texts)}{',' if len(texts) == 1 else ''})"


def _literal(atom) -> str:
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


def _typed(atom) -> str:
    """A number with its dtype, for where an array is asked for."""
    return f"jnp.{'bool_' if atom.aval.dtype == bool else atom.aval.dtype.name}({_literal(atom)})"


def _plain(x):
    """Whole numbers and tuples of them, Python's own."""
    return tuple(map(_plain, x)) if isinstance(x, (tuple, list)) else int(x)


def _dtype(dtype) -> str:
    return f"jnp.{np.dtype(dtype).name}" if np.dtype(dtype).name != "bool" else "bool"


# ---------------------------------------------------------------- operations


def expression(eqn, operands: list[str]) -> str | None:
    """An operation as a Python expression; None if there is none."""
    name = eqn.primitive.name
    if name in _OPERATORS and not _is_boolean(eqn, name):
        return f"{_base(operands[0]) if name == 'pow' else operands[0]} {_OPERATORS[name]} {operands[1]}"
    if name in _LAX:
        return f"lax.{name}({', '.join(operands)})"
    write = _writers.get(name)
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
    wide = f", preferred_element_type={_dtype(eqn.outvars[0].aval.dtype)}"
    return f"lax.dot_general({x}, {y}, {numbers}{wide})"


def _broadcast(eqn, params, x, *_):
    shape, dims = _plain(params["shape"]), _plain(params["broadcast_dimensions"])
    if hasattr(eqn.invars[0], "val"):
        return f"jnp.full({shape}, {x}, {_dtype(eqn.outvars[0].aval.dtype)})"
    given = tuple(eqn.invars[0].aval.shape)
    if dims == tuple(range(len(shape) - len(given), len(shape))):
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
    return f"{x}.astype({_dtype(params['new_dtype'])})"


def _scattering(function):
    return lambda eqn, p, x, at, new: f"lax.{function}({x}, {at}, {new}, {_indexing(p)})"


def _gather(eqn, params, x, indices):
    return f"lax.gather({x}, {indices}, slice_sizes={_plain(params['slice_sizes'])}, {_indexing(params)})"


def _indexing(params) -> str:
    mode = {"FILL_OR_DROP": "fill", "CLIP": "clip", "PROMISE_IN_BOUNDS": "promise_in_bounds"}[params["mode"].name]
    return f'dimension_numbers=lax.{params["dimension_numbers"]!r}, mode="{mode}"'


_writers: dict[str, Callable] = {
    "neg": lambda eqn, p, x: f"-{x}",
    "not": lambda eqn, p, x: f"~{x}",
    "integer_pow": lambda eqn, p, x: f"{_base(x)} ** {p['y']}",
    "reduce_sum": _reduction("sum"),
    "reduce_max": _reduction("max"),
    "reduce_min": _reduction("min"),
    "reduce_prod": _reduction("prod"),
    "reduce_and": _reduction("all"),
    "reduce_or": _reduction("any"),
    "argmax": lambda eqn, p, x: f"lax.argmax({x}, {p['axes'][0]}, {_dtype(p['index_dtype'])})",
    "argmin": lambda eqn, p, x: f"lax.argmin({x}, {p['axes'][0]}, {_dtype(p['index_dtype'])})",
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
    "dynamic_slice": lambda eqn, p, x, *at: f"lax.dynamic_slice({x}, {_tuple(at)}, {_plain(p['slice_sizes'])})",
    "dynamic_update_slice": lambda eqn, p, x, new, *at: f"lax.dynamic_update_slice({x}, {new}, {_tuple(at)})",
    "gather": _gather,
    "scatter": _scattering("scatter"),
    "scatter-add": _scattering("scatter_add"),
    "select_n": _select,
    "clamp": lambda eqn, p, low, x, high: f"lax.clamp({low}, {x}, {high})",
    "convert_element_type": _convert,
    "iota": lambda eqn, p: f"lax.broadcasted_iota({_dtype(p['dtype'])}, {_plain(p['shape'])}, {p['dimension']})",
    "round": lambda eqn, p, x: f"jnp.round({x})" if "EVEN" in str(p["rounding_method"]) else None,
}
