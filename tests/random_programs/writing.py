"""Writing a random program: variables with their types, blocks of statements, and choices drawn for them."""

import re
from dataclasses import dataclass
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name


@jax.custom_jvp
def root_by_jvp(x):
    return jnp.sqrt(x)


@root_by_jvp.defjvp
def _root_jvp(primals, tangents):
    (x,), (t,) = primals, tangents
    return jnp.sqrt(x), 0.5 * t / jnp.sqrt(x)


@jax.custom_vjp
def root_by_vjp(x):
    return jnp.sqrt(x)


root_by_vjp.defvjp(lambda x: (jnp.sqrt(x), x), lambda x, g: (0.5 * g / jnp.sqrt(x),))

NAMESPACE = {"jax": jax, "jnp": jnp, "np": np, "lax": lax, "partial": partial, "checkpoint_name": checkpoint_name}
NAMESPACE |= {"P": jax.sharding.PartitionSpec, "root_by_jvp": root_by_jvp, "root_by_vjp": root_by_vjp}
KINDS = {"real": jnp.floating, "integer": jnp.integer, "boolean": np.bool_}
MAX_SIZE, MAX_AXES = 64, 3


@dataclass(frozen=True)
class Value:
    """A variable of the program; in an expression it is its name."""

    name: str
    type: jax.ShapeDtypeStruct

    @property
    def shape(self):
        return self.type.shape

    def is_a(self, kind) -> bool:
        return jnp.issubdtype(self.type.dtype, KINDS[kind])

    def __str__(self):
        return self.name


def listing(names) -> str:
    return ", ".join(map(str, names))


def tuple_of(names) -> str:
    return f"({listing(names)},)" if len(names) == 1 else f"({listing(names)})"


class Writer:
    """Draws choices, names values and counts the operations that are left.

    Attributes:
      number: (low, high) -> an integer from low to high, both included.
      statement: adds one statement to a block.
    """

    def __init__(self, number, left, statement):
        self.number, self.left, self.statement, self.count, self.types = number, left, statement, 0, {}

    def new(self, type) -> Value:
        self.count += 1
        self.types[f"v{self.count}"] = type
        return Value(f"v{self.count}", type)

    def fill(self, block, most):
        """Add statements to a block: at most so many, and while any are left."""
        for _ in range(most):
            if self.left > 0:
                self.left -= 1
                self.statement(block)


class Block:
    """The body of a function that is being written: parameters, lines, and the values that it sees.

    Args:
      outer: the block that holds the function.
      isolated: whether it sees its parameters alone.
      forward: whether JAX's forward mode is to pass through it.

    Attributes:
      carried: a value on which the first of its results is to depend; None if any results will do.
    """

    def __init__(self, writer, params, outer=None, isolated=False, forward=False):
        self.writer, self.params, self.lines, self.own = writer, params, [], list(params)
        self.seen = [] if isolated or not outer else outer.values
        self.depth = outer.depth + 1 if outer else 0
        self.isolated = isolated or bool(outer and outer.isolated)
        self.forward = forward or bool(outer and outer.forward)
        self.carried = None
        self._inner_carries = False

    @property
    def values(self) -> list:
        return [*self.seen, *self.own]

    # Choices.

    def choose(self, options):
        return options[self.number(0, len(options) - 1)]

    def number(self, low, high) -> int:
        return self.writer.number(low, high)

    def flag(self) -> bool:
        return self.number(0, 1) == 1

    def real(self, low=0, high=MAX_AXES, suits=lambda shape: True) -> Value:
        """A floating-point value with so many axes, the last ones more often; or a new one made of another."""
        reals = [v for v in self.values if v.is_a("real")]
        found = [v for v in reals if low <= len(v.shape) <= high and suits(v.shape)]
        if not found:
            return self.let(f"jnp.resize({self.choose(reals) if reals else 0.5}, {(2, 2, 3)[3 - max(low, 0) :]})")
        return self.choose(found[-4:] if self.flag() else found)

    def integer(self) -> str:
        """An integer scalar, from 0 to 2 or so."""
        found = [v for v in self.values if v.is_a("integer")]
        return f"jnp.sum(jnp.abs({self.choose(found)}) % 3)" if found else f"jnp.sum({self.real()} > 0.2193)"

    def predicate(self) -> str:
        found = [str(v) for v in self.values if v.is_a("boolean") and v.shape == ()]
        return self.choose([f"jnp.sum({self.real()}) > 0.1357", "True", "np.bool_(False)", *found])

    # Statements.

    def let(self, expression, limited=True) -> Value:
        """Add `variable = expression`, cut down where its value would be empty or too large."""
        if limited:
            expression = _limited(expression, self.infer(expression).shape)
        value = self.writer.new(self.infer(expression))
        self.lines.append(f"{value} = {expression}")
        self.own.append(value)
        return value

    def infer(self, expression) -> jax.ShapeDtypeStruct:
        names = sorted(set(re.findall(r"\bv\d+\b", expression)))
        known = {v.name: v.type for v in self.values}
        types = [known[name] for name in names]
        for i, name in enumerate(names):
            expression = re.sub(rf"\b{name}\b", f"x{i}", expression)
        return _infer(expression, *types)

    def assign(self, types, expression):
        """Add `variables = expression`, a tuple or list of these types."""
        values = [self.writer.new(t) for t in types]
        self.lines.append(f"{tuple_of(values) if len(values) == 1 else listing(values)} = {expression}")
        self.own += values
        if self._inner_carries:
            self.carried, self._inner_carries = values[0], False

    # Functions.

    def results(self, count, kind=None) -> list:
        """The last value and others of the block."""
        own = [v for v in self.own if kind is None or v.is_a(kind)]
        if count == 0:
            return []
        if not own:
            own = [self.let(f"jnp.cos({self.real()})")]
        last = own[-1] if self.carried is None else self._with_carried(own[-1])
        return [last, *(self.choose(own) for _ in range(count - 1))]

    def _with_carried(self, last) -> Value:
        if not last.is_a("real"):
            return self.carried
        return self.let(f"{last} + jnp.mean({self.carried}).astype({last}.dtype)", limited=False)

    def fit(self, value, type) -> Value:
        """`value` in another shape or dtype."""
        expression = str(value)
        if value.shape != type.shape:
            expression = f"jnp.resize({expression}, {type.shape})"
        if value.type.dtype != type.dtype:
            expression = f"jnp.asarray({expression}, '{type.dtype}')"
        return value if expression == str(value) else self.let(expression, limited=False)

    def render(self, signature, returned) -> list[str]:
        return [f"def {signature}:", *("    " + line for line in [*self.lines, f"return {returned}"])]

    def function(
        self,
        params,
        results=None,
        most=2,
        more=False,
        kind=None,
        isolated=False,
        forward=False,
        unpack=None,
        returned=tuple_of,
        above=(),
    ):
        """Write a local function of a few statements.

        Args:
          params: types of its parameters.
          results: types to which its results are fitted; None for any, `most` of them.
          more: whether there may be another result after these.
          kind: what its results have to be, if it is not any.
          unpack: the names of its parameters, and how they are taken apart; if not one by one.
          returned: results -> expression.
          above: decorators.

        Returns:
          its name, the types of its results.
        """
        block = Block(self.writer, [self.writer.new(t) for t in params], self, isolated, forward)
        self.writer.fill(block, self.number(1, 6))
        if results is None:
            found = block.results(self.number(1, most), kind)
        else:
            found = [block.fit(v, t) for v, t in zip(block.results(len(results)), results, strict=True)]
            found += block.results(1) if more and self.flag() else []
        self._inner_carries |= block.carried is not None
        signature = listing(block.params)
        if unpack:
            signature, pattern = unpack[0], unpack[1](block.params)
            block.lines.insert(0, f"{pattern} = {signature}")
        self.writer.count += 1
        name = f"f{self.writer.count}"
        self.lines += [*above, *block.render(f"{name}({signature})", returned(found))]
        return name, [v.type for v in found]


def _limited(expression, shape) -> str:
    if np.prod(shape) == 0:
        return f"jnp.sum({expression})"
    if np.prod(shape) > MAX_SIZE:
        return f"jnp.ravel({expression})[:6]"
    return f"jnp.ravel({expression})" if len(shape) > MAX_AXES else expression


@lru_cache(10_000)
def _infer(expression, *types):
    names = ", ".join(f"x{i}" for i in range(len(types)))
    return jax.eval_shape(eval(f"lambda {names}: jnp.asarray({expression})", dict(NAMESPACE)), *types)
