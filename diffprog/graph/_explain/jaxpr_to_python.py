"""Write a jaxpr as readable Python: one statement per operation, loops and branches as functions."""

from collections.abc import Callable, Iterable

import numpy as np

from diffprog._jax_internals import closed, scan_sizes
from diffprog._util.lists import split_list
from diffprog.graph._explain.operations import (
    OPERATORS,
    TAKE_NUMBERS,
    dtype_text,
    expression,
    literal,
    tuple_text,
    typed_literal,
)

_CALLS = ("jit", "closed_call", "core_closed_call", "remat2", "eval_jaxpr", "custom_jvp_call", "custom_vjp_call")


class Writer:
    """A writer of programs.

    Attributes:
      lines: the lines written so far.
      named: arrays and operations that have no short text, by their names in the text.
    """

    def __init__(self, name_of: Callable, comment_of: Callable):
        """Start without lines.

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
        """Make a name that nothing has yet."""
        base, count = wanted or "t", 1 if wanted is None else 0
        while (name := f"{base}{count or ''}") in self._taken:
            count += 1
        self._taken.add(name)
        return name

    def define(self, variable) -> str:
        """Give a variable of the jaxpr a name of its own."""
        self._names[variable] = self.fresh(self._name_of(variable))
        return self._names[variable]

    def alias(self, variable, text: str):
        """Let a variable of the jaxpr stand for a text."""
        self._names[variable] = text

    def read(self, atom) -> str:
        """Write a variable or literal of the jaxpr."""
        return literal(atom) if hasattr(atom, "val") else self._names[atom]

    def value(self, x, indent: str) -> str:
        """Name an array or another object; small arrays are written out."""
        name = self.fresh("constant")
        array = np.asarray(x) if isinstance(getattr(x, "dtype", None), np.dtype) else None
        if array is not None and array.size <= 64 and array.dtype.kind in "biuf" and np.all(np.isfinite(array)):
            text = np.array2string(array, separator=", ", threshold=64, floatmode="unique")
            self.lines.append(f"{indent}{name} = jnp.array({' '.join(text.split())}, {dtype_text(array.dtype)})")
        else:
            self.named[name] = x
        return name

    # ------------------------------------------------------------ programs

    def program(self, jaxpr, indent: str, needed: Iterable | None = None) -> list[str]:
        """Write the equations of a closed jaxpr whose arguments have names.

        Args:
          jaxpr: the closed jaxpr.
          indent: what stands before each line.
          needed: positions of the results that are asked for; all by default.

        Returns:
          The texts of the results.
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
        plain = name in OPERATORS or name in TAKE_NUMBERS
        operands = [self.read(v) if plain or not hasattr(v, "val") else typed_literal(v) for v in eqn.invars]
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
        """Write an operation that has no public function: a name for it, with its parameters bound."""
        name = self.fresh(eqn.primitive.name.replace("-", "_"))
        primitive, params = eqn.primitive, eqn.params
        self.named[name] = lambda *values: primitive.bind(*values, **params)
        return f"{name}({', '.join(operands)})"

    def _call(self, eqn, indent):
        """Write a function's body in place."""
        jaxpr = closed(next(eqn.params[key] for key in ("jaxpr", "call_jaxpr") if key in eqn.params))
        for inner, outer in zip(jaxpr.jaxpr.invars, eqn.invars, strict=True):
            self.alias(inner, typed_literal(outer) if hasattr(outer, "val") else self.read(outer))
        for outer, text in zip(eqn.outvars, self.program(jaxpr, indent), strict=True):
            self.alias(outer, text)

    # ------------------------------------------------------------ loops and branches

    def _function(self, kind, jaxpr, outer: list[str], parameters: list, indent) -> tuple[str, list]:
        """Define a function of a closed jaxpr; its last line, the `return`, is left to the caller.

        Args:
          kind: what its name begins with.
          jaxpr: the closed jaxpr.
          outer: names in the scope around of the jaxpr's first arguments.
          parameters: (name, number of arguments) of each of the function's own parameters, which are tuples.
          indent: what stands before each line.

        Returns:
          Its name, and the texts of its results.
        """
        name = self.fresh(kind)
        variables = list(jaxpr.jaxpr.invars)
        for variable, text in zip(variables, outer, strict=False):
            self.alias(variable, text)
        rest, signature, unpack = variables[len(outer) :], [], []
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
        self.lines.append(f"{indent}    return {tuple_text(results[:num_carry])}, {tuple_text(results[num_carry:])}")
        options = f", length={params['length']}" + (", reverse=True" if params["reverse"] else "")
        targets = [self.define(v) for v in eqn.outvars]
        left = f"{tuple_text(targets[:num_carry])}, {tuple_text(targets[num_carry:])}"
        self.lines.append(f"{indent}{left} = lax.scan({name}, {tuple_text(carry)}, {tuple_text(xs)}{options})")

    def _while(self, eqn, indent):
        params = eqn.params
        operands = [self.read(v) for v in eqn.invars]
        cond_consts, body_consts, carry = split_list(operands, [params["cond_nconsts"], params["body_nconsts"]])
        goes_on, results = self._function("goes_on", params["cond_jaxpr"], cond_consts, [("carry", len(carry))], indent)
        self.lines.append(f"{indent}    return {results[0]}")
        body, results = self._function("body", params["body_jaxpr"], body_consts, [("carry", len(carry))], indent)
        self.lines.append(f"{indent}    return {tuple_text(results)}")
        targets = tuple_text([self.define(v) for v in eqn.outvars])
        self.lines.append(f"{indent}{targets} = lax.while_loop({goes_on}, {body}, {tuple_text(carry)})")

    def _cond(self, eqn, indent):
        index, *operands = [self.read(v) for v in eqn.invars]
        names = []
        for jaxpr in eqn.params["branches"]:
            name, results = self._function("branch", jaxpr, operands, [], indent)
            self.lines.append(f"{indent}    return {tuple_text(results)}")
            names.append(name)
        targets = tuple_text([self.define(v) for v in eqn.outvars])
        self.lines.append(f"{indent}{targets} = lax.switch({index}, [{', '.join(names)}])")
