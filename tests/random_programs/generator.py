"""Random well-typed JAX programs, as source code.

A program is a list of statements, each of which applies an operation (`operations.py`) or a transformation of a local
function (`structures.py`) to earlier values. What runs is what is printed when it fails: a Python function to paste
into a test. It receives `ad`, the engine that differentiates it (`checks.py`), for what has to differ between two.
"""

from dataclasses import dataclass
from functools import partial

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.random_programs.checks import TOLERANCE, TOLERANCE_FLOAT32, WAYS, check
from tests.random_programs.operations import operation
from tests.random_programs.structures import REVERSE_ONLY, STRUCTURES
from tests.random_programs.writing import NAMESPACE, Block, Writer, listing, tuple_of

MAX_DEPTH = 3
EAGER_SIZE = 12  # op by op, each new shape of each operation is compiled on its own: slow


@dataclass(frozen=True)
class Program:
    """A program and how the engines are compared on it.

    Attributes:
      source: of `def program(ad, ...)`, which returns a tuple.
      types: of its variables.
    """

    source: str
    arguments: tuple
    types: dict
    way: str
    jit: bool

    def check(self):
        space = dict(NAMESPACE)
        exec(self.source, space)
        tolerance = TOLERANCE_FLOAT32 if "float32" in self.source else TOLERANCE
        check(space["program"], self.arguments, self.way, self.jit, tolerance)

    def __repr__(self):
        written = tuple_of([repr(x) if isinstance(x, float) else f"np.{x!r}" for x in self.arguments])
        return f"{self.source}\n\ncheck(program, {written}, {self.way!r}, jit={self.jit})\n"


@st.composite
def programs(draw) -> Program:
    """Programs of about 5 to 60 operations, the short ones more often; one in ten is compared op by op."""
    way = draw(st.sampled_from(list(WAYS)))
    jit = draw(st.integers(0, 9)) < 9
    largest = draw(st.sampled_from([10, 15, 25, 60])) if jit else EAGER_SIZE
    with jax.enable_x64(True):
        return Program(*_write(draw, largest), way, jit)


def for_each(count, number, do):
    """Call `do` with so many programs, others for every `number`. Clears JAX's caches, which would fill the memory."""

    @seed(number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # `reduce.py` shrinks, faster
        suppress_health_check=list(HealthCheck),
    )
    @given(programs())
    def each(program):
        do(program)

    each()
    jax.clear_caches()


def _write(draw, largest):
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    shapes = draw(st.lists(st.sampled_from([(3,), (), (2, 3), "float", (2, 1, 3), (3, 3)]), min_size=1, max_size=3))
    integers = ["integer"] if draw(st.booleans()) else []
    arguments = tuple(map(partial(argument, rng), [*shapes, *integers]))
    number = lambda low, high: draw(st.integers(low, high))
    writer = Writer(number, number(5, largest), _statement)
    block = Block(writer, [writer.new(jax.eval_shape(jnp.asarray, x)) for x in arguments])
    writer.fill(block, largest)
    results = block.results(block.number(1, 2), "real") + block.results(block.number(0, 2))
    source = "\n".join(block.render(f"program(ad, {listing(block.params)})", tuple_of(results)))
    return source, arguments, writer.types


def argument(rng, shape):
    if shape == "float":
        return round(float(rng.uniform(-1, 1)), 3)
    if shape == "integer":
        return rng.integers(0, 3, 2)
    return np.asarray(np.round(rng.uniform(-1.5, 1.5, shape), 3))


def _statement(block):
    if block.depth < MAX_DEPTH and block.number(0, 4) == 4:
        block.choose(STRUCTURES if block.forward else STRUCTURES + REVERSE_ONLY)(block)
    else:
        block.let(operation(block))
