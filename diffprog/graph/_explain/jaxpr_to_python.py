"""Write a jaxpr as readable Python: one statement per operation, loops and branches as functions."""

import keyword
from collections.abc import Callable, Iterable

import jax.numpy as jnp
import numpy as np

from diffprog._jax_internals import closed, scan_sizes
from diffprog._jax_internals.binding import equation_as_function
from diffprog._jax_internals.references import references_of
from diffprog._util.lists import split_list
from diffprog.graph._explain.operations import converted_number, expression
from diffprog.graph._explain.values import Operand, array_text, is_plain_array, tuple_text

_CALLS = tuple("jit closed_call core_closed_call call_apart remat2 eval_jaxpr custom_jvp_call custom_vjp_call".split())
_SAME = ("copy", "name")  # operations that return their operand
_TAKEN = {"jnp", "lax", "complex"}  # what the text calls


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
        self._operands: dict = {}
        self._taken: set[str] = set(_TAKEN)
        self._comment = None

    # ------------------------------------------------------------ names

    def fresh(self, wanted: str | None = None) -> str:
        """Make a name that nothing has yet."""
        base, count = wanted or "t", 1 if wanted is None else 0
        while (name := f"{base}{count or ''}") in self._taken or keyword.iskeyword(name):
            count += 1
        self._taken.add(name)
        return name

    def define(self, variable) -> str:
        """Give a variable of the jaxpr a name of its own."""
        name = self.fresh(self._name_of(variable))
        self._operands[variable] = Operand(variable.aval, name)
        return name

    def alias(self, variable, operand: Operand):
        """Let a variable of the jaxpr stand for a number, or for another variable."""
        self._operands[variable] = operand

    def read(self, atom) -> Operand:
        """Write a variable or literal of the jaxpr."""
        return Operand(atom.aval, number=atom.val) if _is_literal(atom) else self._operands[atom]

    def _read_all(self, atoms) -> list[Operand]:
        return [self.read(x) for x in atoms]

    def _constant(self, variable, x, indent: str):
        """Define an array or another object; small arrays are written out."""
        name = self.fresh("constant")
        self._operands[variable] = Operand(variable.aval, name)
        plain = is_plain_array(x)
        text = array_text(np.asarray(x).astype(variable.aval.dtype)) if plain else None
        if text is None:
            self.named[name] = jnp.asarray(x) if plain else x
        else:
            self.lines.append(f"{indent}{name} = {text}")

    # ------------------------------------------------------------ programs

    def program(self, jaxpr, indent: str, needed: Iterable | None = None) -> list[Operand]:
        """Write the equations of a closed jaxpr whose arguments have names.

        Args:
          jaxpr: the closed jaxpr.
          indent: what stands before each line.
          needed: positions of the results that are asked for; all by default.

        Returns:
          The results.
        """
        body = jaxpr.jaxpr
        wanted = body.outvars if needed is None else [body.outvars[i] for i in needed]
        used, alive = _used(body, wanted)
        for variable, x in zip(body.constvars, jaxpr.consts, strict=True):
            if variable in alive:
                self._constant(variable, x, indent)
        for eqn in used:
            self._equation(eqn, indent, alive)
        return self._read_all(wanted)

    def _equation(self, eqn, indent, alive):
        comment = self._comment_of(eqn)
        if comment and comment != self._comment:
            self.lines += ["", f"{indent}# {comment}"] if self._comment else [f"{indent}# {comment}"]
        self._comment = comment or self._comment
        name = eqn.primitive.name
        if name in _CALLS:
            return self._call(eqn, indent, alive)
        if name in ("scan", "while", "cond"):
            return getattr(self, f"_{name}")(eqn, indent)
        operands = self._read_all(eqn.invars)
        same = operands[0] if name in _SAME else converted_number(eqn, operands)
        if same is not None:
            return self.alias(eqn.outvars[0], same)
        text = expression(eqn, operands)
        if text is None:
            text = self._operation(eqn, operands)
        targets = [self.define(v) if v in alive else "_" for v in eqn.outvars]
        several = eqn.primitive.multiple_results
        self._assign(tuple_text(targets) if several else targets[0], text, indent)

    def _assign(self, targets, text, indent):
        """Write an assignment; an operation without results stands alone."""
        if targets.startswith("(") and targets.count("(") == 1 and targets != "()":
            targets = targets[1:-1]
        self.lines.append(f"{indent}{targets} = {text}" if targets != "()" else f"{indent}{text}")

    def _operation(self, eqn, operands) -> str:
        """Write an operation that has no public function: a name for it, with its parameters bound."""
        name = self.fresh(as_identifier(eqn.primitive.name))
        self.named[name] = equation_as_function(eqn)
        return f"{name}({', '.join(map(str, operands))})"

    def _call(self, eqn, indent, alive):
        """Write a function's body in place."""
        jaxpr = closed(next(eqn.params[key] for key in ("jaxpr", "call_jaxpr") if key in eqn.params))
        for inner, outer in zip(jaxpr.jaxpr.invars, eqn.invars, strict=True):
            self.alias(inner, self.read(outer))
        needed = [i for i, v in enumerate(eqn.outvars) if v in alive]
        for i, result in zip(needed, self.program(jaxpr, indent, needed), strict=True):
            self.alias(eqn.outvars[i], result)

    # ------------------------------------------------------------ loops and branches

    def _function(self, kind, jaxpr, outer: list[Operand], parameters: list, indent) -> tuple[str, list]:
        """Define a function of a closed jaxpr; its last line, the `return`, is left to the caller.

        Args:
          kind: what its name begins with.
          jaxpr: the closed jaxpr.
          outer: what the jaxpr's first arguments are in the scope around.
          parameters: (name, number of arguments) of each of the function's own parameters, which are tuples.
          indent: what stands before each line.

        Returns:
          Its name, and its results.
        """
        jaxpr = closed(jaxpr)
        name = self.fresh(kind)
        variables = list(jaxpr.jaxpr.invars)
        for variable, operand in zip(variables, outer, strict=False):
            self.alias(variable, operand)
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
        consts, carry, xs = split_list(self._read_all(eqn.invars), [num_consts, num_carry])
        arguments = [("carry", num_carry), ("row", len(xs))]
        name, results = self._function("step", params["jaxpr"], consts, arguments, indent)
        self.lines.append(f"{indent}    return {tuple_text(results[:num_carry])}, {tuple_text(results[num_carry:])}")
        options = f", length={params['length']}" + (", reverse=True" if params["reverse"] else "")
        targets = [self.define(v) for v in eqn.outvars]
        left = f"{tuple_text(targets[:num_carry])}, {tuple_text(targets[num_carry:])}"
        self.lines.append(f"{indent}{left} = lax.scan({name}, {tuple_text(carry)}, {tuple_text(xs)}{options})")

    def _while(self, eqn, indent):
        params = eqn.params
        operands = self._read_all(eqn.invars)
        cond_consts, body_consts, carry = split_list(operands, [params["cond_nconsts"], params["body_nconsts"]])
        goes_on, results = self._function("goes_on", params["cond_jaxpr"], cond_consts, [("carry", len(carry))], indent)
        self.lines.append(f"{indent}    return {results[0]}")
        body, results = self._function("body", params["body_jaxpr"], body_consts, [("carry", len(carry))], indent)
        self.lines.append(f"{indent}    return {tuple_text(results)}")
        targets = tuple_text([self.define(v) for v in eqn.outvars])
        self.lines.append(f"{indent}{targets} = lax.while_loop({goes_on}, {body}, {tuple_text(carry)})")

    def _cond(self, eqn, indent):
        platforms = _platforms(eqn)
        index, operands = eqn.invars[0], self._read_all(eqn.invars[1:])
        names = []
        for jaxpr in eqn.params["branches"]:
            name, results = self._function("branch", jaxpr, operands, [], indent)
            self.lines.append(f"{indent}    return {tuple_text(results)}")
            names.append(name)
        if platforms is None:
            text = f"lax.switch({self.read(index)}, [{', '.join(names)}])"
        else:
            named = [f"{p}={name}" for name, ps in zip(names, platforms, strict=True) for p in ps or ("default",)]
            text = f"lax.platform_dependent({', '.join(named)})"
        self._assign(tuple_text([self.define(v) for v in eqn.outvars]), text, indent)


def as_identifier(name: str, otherwise: str = "x") -> str:
    """Make an identifier of a name: params_w of "params['w']"."""
    text = "_".join(filter(None, "".join(c if f"_{c}".isidentifier() else "_" for c in name).split("_")))
    return text if text.isidentifier() else f"{otherwise}{text}"


def _is_literal(atom) -> bool:
    return hasattr(atom, "val")


def _platforms(eqn) -> tuple | None:
    """Get the platforms of each branch of a `lax.platform_dependent`; None for another equation."""
    return eqn.params.get("branches_platforms") if eqn.primitive.name == "cond" else None


def _used(body, wanted) -> tuple[list, set]:
    """Find the equations that the wanted results need, and all variables that these read or give.

    An operation that changes a mutable array is needed where that array is read later; what is an argument may be read
    outside.
    """
    alive = {v for v in wanted if not _is_literal(v)} | set(references_of(body))
    used = []
    for eqn in reversed(body.eqns):
        changes = eqn.effects and any(v in alive for v in references_of(eqn))
        if changes or any(v in alive for v in eqn.outvars):
            used.append(eqn)
            operands = eqn.invars if _platforms(eqn) is None else eqn.invars[1:]
            alive.update(v for v in operands if not _is_literal(v))
    return used[::-1], alive
