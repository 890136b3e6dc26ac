"""Random programs with a NaN planted at a known line: the gradient's, behind a mask, or the value's own.

A planted statement takes the square root of a zero, normalizes a row of zeros, divides by an underflow; the next ones
use its result, and leave out what is not finite: the value is finite, the gradient is not. `ELEMENTWISE` and `ROWS`
are the singular functions, of operands that `ZEROS` makes; `HIDING` has the ways to leave them out.
"""

import linecache
import random
from collections.abc import Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from tests.random_programs.checks import Diffprog
from tests.random_programs.generator import argument
from tests.random_programs.operations import operation
from tests.random_programs.structures import REVERSE_ONLY, STRUCTURES
from tests.random_programs.writing import NAMESPACE, Block, Value, Writer, listing, tuple_of

MARK = "  # planted"
MAX_DEPTH = 2
SMALL = 2  # operations up to which all programs have one shape

# Operands {p} that are zero where {mask} is, and positive elsewhere. What is zero because a mask replaced it would not
# do: to there no gradient goes.
ZEROS = """
    ({x} ** 2 + 0.2) * {mask}
    jnp.abs({x} + 3) * {mask}
    jnp.exp({x}) * {mask}
    (1.5 + jnp.sin({x})) * {mask}
    jnp.square({x} - lax.stop_gradient({x})) + (0.3 + {x} ** 2) * {mask}
    jnp.abs({x} - ({x} + 1.25 * {mask}))
    lax.fori_loop(0, 2, lambda i, p: (p * {mask}).astype(p.dtype), 1.0 + {x} ** 2)
    jax.jit(lambda p: p * {mask})(2.0 + jnp.cos({x}))
"""

# What is not finite, or has no finite slope, where p is zero.
ELEMENTWISE = """
    jnp.sqrt({p})
    {p} ** 0.5
    {p} ** 0.25
    lax.rsqrt({p})
    1 / {p}
    {p} ** -1
    {p} ** -2.5
    jnp.reciprocal({p})
    jnp.log({p})
    jnp.log2({p})
    jnp.log10({p})
    jnp.cbrt({p})
    jnp.log1p({p} - 1)
    {p} * jnp.log({p})
    jnp.sin({p}) / {p}
    {p} / {p}
    jnp.expm1({p}) / {p}
    (1 - jnp.cos({p})) / {p} ** 2
    jnp.arctan2({p}, {p})
    jnp.arccosh(1 + {p})
    jnp.arcsin(1 / (1 + {p}))
    jnp.arccos(jnp.exp(-{p}))
    jnp.arctanh(1 / (1 + {p}))
    jax.scipy.special.erfinv(1 / (1 + {p}))
    jax.scipy.special.logit({p} / 40)
    jax.scipy.special.gammaln({p})
    jax.scipy.special.digamma({p})
    jax.scipy.special.betaln({p}, 1.5)
    jax.scipy.stats.gamma.logpdf({p}, 2.0)
    jnp.hypot({p}, {p})
    jnp.exp({p} / {p})
    jnp.tanh(1 / {p})
    jnp.sqrt({p} + {p})
    jax.jit(jnp.sqrt)({p})
    jnp.vectorize(jnp.sqrt)({p})
    jnp.where({p} > 0.3, {p}, jnp.sqrt({p}))
    jnp.exp(1e4 * ({p} == 0) + {p})
    jnp.sinh(1e4 * ({p} == 0) + {p})
    jnp.power({p}, jnp.full({p}.shape, 0.5))
    jnp.real(jnp.sqrt(lax.complex({p}, {p})))
    jnp.real(jnp.log(lax.complex({p}, 0 * {p})))
    root_by_jvp({p})
    root_by_vjp({p})
    jax.jit(root_by_vjp)({p})
    jax.nn.relu({p}) ** 0.5
    jax.checkpoint(jnp.log)({p})
    jax.grad(lambda q: jnp.sum(q ** 1.5))({p})
    jax.jvp(jnp.sqrt, ({p},), ({p} + 1,))[1]
"""

# Of the rows of {p}, those that are zero. The first is one number per row, the second one per element.
ROWS = """
    jnp.linalg.norm({p}, axis=-1, keepdims=True)
    {p} / jnp.linalg.norm({p}, axis=-1, keepdims=True)
    {p} / jnp.sum({p}, -1, keepdims=True)
    {p} / jnp.max({p}, -1, keepdims=True)
    jnp.std({p}, -1, keepdims=True)
    jax.nn.standardize({p}, -1, epsilon=0)
    jnp.sqrt(jnp.sum({p} ** 2, -1, keepdims=True))
    {p} * lax.rsqrt(jnp.mean({p} ** 2, -1, keepdims=True))
    jax.nn.softmax(jnp.where({mask} > 0, {p}, -jnp.inf), -1)
    jax.nn.logsumexp(jnp.log({p}), -1, keepdims=True)
    jax.vmap(lambda r: r / jnp.linalg.norm(r))({p})
    lax.map(lambda r: jnp.sqrt(jnp.sum(r)) + r, {p})
    jnp.log(jnp.prod({p}, -1, keepdims=True))
    jnp.linalg.norm({p}[:, None] - {p}[None], axis=-1)
    jnp.exp(jnp.mean(jnp.log({p}), -1, keepdims=True))
    lax.scan(lambda c, r: (c, jnp.sqrt(r)), 0.0, {p})[1]
    jnp.cumsum(jnp.sqrt({p}), -1)
    jnp.sqrt(jnp.sort({p}, -1))
    jnp.sqrt(jnp.einsum('ij,ij->i', {p}, {p}))[:, None]
"""

# Used on the way to the mask, row by row.
STEPS = """
    {s}
    {s}
    {s} * {c}
    {s} * jnp.cos({x})
    {s} + jnp.sin({x})
    jnp.tanh({s})
    {s} ** 2
    {s} / (1 + {x} ** 2)
    {s} + {p}
    jnp.concatenate([{s}, {s}], -1)
    {s} @ jnp.ones(({last}, 3), {s}.dtype)
    jnp.einsum('ij,kj->ik', {s}, jnp.cos(jnp.arange(2.0 * {last})).reshape(2, {last}).astype({s}.dtype))
    lax.conv_general_dilated({s}[:, None], jnp.ones((2, 1, 1), {s}.dtype), (1,), 'VALID')[:, 0]
    jnp.real(jnp.fft.fft({s}))
    jnp.cumsum({s}, -1)
    jnp.flip({s}, -1)
    jnp.sort({s}, -1)
    jnp.sum({s}, -1, keepdims=True)
    jax.nn.softmax({s}, -1)
    jax.jit(jnp.sin)({s})
    {s}.astype(jnp.float32)
"""

# Leave out rows {rows} of {s}; where {alive} is a mask per row.
HIDING = """
    jnp.where({alive}, {s}, 0.5)
    jnp.where(jnp.isfinite({s}) & {alive}, {s}, 0.5)
    lax.select(jnp.broadcast_to({alive}, {s}.shape), {s}, jnp.ones_like({s}))
    {s}[np.array({rows}, int)]
    {s}[jnp.array({rows}, int)]
    jnp.take({s}, np.array({rows}, int), axis=0)
    jnp.sum({s}, where={alive}, initial=0.0)
    jnp.max({s}, where={alive}, initial=-9.0)
    {s}.at[np.array({dead}, int)].set(0.25)
    {s}.at[jnp.array({dead}, int)].set(jnp.cos({x}[0]).ravel()[0])
    jax.vmap(lambda r, a: jnp.where(a, r, 1.0))({s}, {alive})
    jnp.concatenate([lax.dynamic_slice_in_dim({s}, i, 1, 0) for i in {rows}] or [jnp.ones((1, 1), {s}.dtype)])
    lax.scan(lambda t, ra: (t + jnp.sum(jnp.where(ra[1], ra[0], 0.0)), None), 0.0, ({s}, {alive}))[0]
    lax.map(lambda ra: lax.cond(ra[1], jnp.sin, jnp.ones_like, ra[0]), ({s}, jnp.ravel({alive})))
"""

# Values that are not finite and stay so.
OPEN = """
    jnp.log(-{p} - 0.1)
    jnp.sqrt(-1 - {p})
    0 * {p} / {p}
    jnp.arcsin(2 + {p})
    jnp.log({p})
    1 / {p}
    (-0.5 - {p}) ** 0.5
    jnp.exp(1e4 + {p})
    jnp.arccosh({p} / 40)
    jnp.log({p}) - jnp.log({p})
"""
ZEROS, ELEMENTWISE, ROWS, STEPS, HIDING, OPEN = (
    [line.strip() for line in text.strip().splitlines()] for text in (ZEROS, ELEMENTWISE, ROWS, STEPS, HIDING, OPEN)
)


@dataclass(frozen=True)
class Planted:
    """A program with a planted line, or a sound one.

    Attributes:
      source: of `def program(ad, ...)`, which returns a tuple.
      arguments: of the call.
      line: the number of the planted line; None of a sound program.
    """

    source: str
    arguments: tuple
    line: int | None

    def function(self, name: str):
        """The program as a function of its arguments to the sum of its real results, in a file of this name."""
        linecache.cache[name] = len(self.source), None, self.source.splitlines(True), name
        space = dict(NAMESPACE)
        exec(compile(self.source, name, "exec"), space)

        def total(*arguments):
            results = space["program"](Diffprog, *arguments)
            return sum(jnp.sum(x) for x in results if jnp.issubdtype(jnp.result_type(x), jnp.floating))

        return total


def planted_programs(seed: int, largest: int = 8) -> Iterator[Planted]:
    """Draw programs with a planted statement and up to so many others, other programs for every seed.

    Small ones are of one shape: op by op, each operation is compiled anew for each shape, which takes the time.
    """
    rng = random.Random(seed)
    while True:
        yield _program(rng, largest, planted=False)


def sound_programs(seed: int, largest: int = 8) -> Iterator[Planted]:
    """Draw programs as `planted_programs` does, in which nothing is planted."""
    rng = random.Random(seed)
    while True:
        yield _program(rng, largest, planted=True)


@jax.enable_x64(True)
def _program(rng, largest: int, planted: bool) -> Planted:
    """Write a program; `planted` says whether something is planted already, so that nothing will be."""
    number = rng.randint
    numbers = np.random.default_rng(number(0, 99))
    shapes = rng.choices([(3,), (), (2, 3), (3, 3)], k=number(1, 2)) if largest > SMALL else [(3, 2)]
    arguments = tuple(argument(numbers, shape) for shape in shapes)
    operations = number(1, largest)
    wait = number(0, operations - 1)

    def statement(block):
        nonlocal planted
        if not planted and writer.left <= wait and not block.isolated and not block.forward:
            planted = True
            plant(block)
        elif block.depth < MAX_DEPTH and number(0, 3) == 3:
            others = [] if block.forward else REVERSE_ONLY if block.depth else [*REVERSE_ONLY, sharded]
            block.choose([*STRUCTURES, *others])(block)
        else:
            block.let(operation(block))

    writer = Writer(number, operations, statement)
    top = Block(writer, [writer.new(jax.eval_shape(jnp.asarray, x)) for x in arguments])
    writer.fill(top, operations)
    if not planted:
        plant(top)
    results = top.results(1, "real") + top.results(1)
    lines = top.render(f"program(ad, {listing(top.params)})", tuple_of(results))
    line = next((i for i, text in enumerate(lines, 1) if text.endswith(MARK)), None)
    return Planted("\n".join(lines), arguments, line)


def sharded(block):
    """A function over the devices: one operation of the program, in which nothing is planted."""
    args = [block.real() for _ in range(block.number(1, 2))]
    name, results = block.function([x.type for x in args], kind="real", isolated=True, forward=True)
    mesh = "jax.make_mesh((1,), ('i',))"
    block.assign(results, f"jax.shard_map({name}, mesh={mesh}, in_specs=P(), out_specs=P())({listing(args)})")


def plant(block):
    """Add the planted statement to a block, with its operand before it and the mask after it."""
    x = block.real(low=1, high=2, suits=lambda shape: shape[0] > 1)
    if len(x.shape) == 1:
        x = block.let(f"{x}[:, None] + jnp.sin(jnp.arange(2.0))", limited=False)
    rows, last = x.shape
    alive = [block.flag() for _ in range(rows)]
    dead = block.number(0, rows - 1)
    alive[dead], alive[dead - 1] = False, True
    blanks = {"x": x, "c": 0.8124, "last": last}
    blanks["mask"] = f"np.array({[[float(a)] * last for a in alive]})"
    blanks["alive"] = f"np.array({[[a] for a in alive]})"
    blanks["rows"] = [i for i, a in enumerate(alive) if a]
    blanks["dead"] = [i for i, a in enumerate(alive) if not a]

    def write(expressions) -> Value:
        return block.let(block.choose(expressions).format_map(blanks), limited=False)

    blanks["p"] = write(ZEROS)
    if block.number(0, 9) == 9:
        block.carried = write(OPEN)
        block.lines[-1] += MARK
        return
    blanks["s"] = write(ELEMENTWISE + ROWS)
    block.lines[-1] += MARK
    if blanks["s"].shape == x.shape:
        blanks["s"] = write(STEPS)
    block.carried = write(HIDING)
