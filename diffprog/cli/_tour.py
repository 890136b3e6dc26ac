"""Reverse mode built from nothing, from a chain to a graph.

    %(prog)s
    %(prog)s 3 4

Each stop is a few lines of Python that run, and each is held against diffprog's tracer before the next begins. The
order is the lecture's: a chain of scalars, a chain of vectors, a value that is used twice, a graph recorded while a
program runs. `NB` marks what the real tracer (`diffprog/_tracer/`, about 600 lines) does beyond the stop.
"""

import argparse
import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax

import diffprog as dp
from diffprog._jax_internals.sources import count_as_user_code
from diffprog.cli._command_line import command_parser, launch

count_as_user_code(__file__)  # a recording names these lines, also where diffprog is an installed package


def agree(name, ours, theirs):
    """Print both; stop the tour if they differ."""
    ours, theirs = np.asarray(ours, np.float32), np.asarray(theirs, np.float32)
    if ours.shape != theirs.shape or not np.allclose(ours, theirs, rtol=1e-5, atol=1e-6):
        raise AssertionError(f"{name}: by hand {ours}, by the tracer {theirs}")
    show = lambda x: np.array2string(x, precision=6, separator=", ").replace("\n", "")
    print(f"  {name:<10} by hand {show(ours)}   by the tracer {show(theirs)}")


# ---------------------------------------------------------------- 1


def a_chain_of_numbers():
    """1. A chain of scalar functions: multiply the local derivatives.

    z = sin(exp(x^2)). The chain rule is a product; reverse mode multiplies it from the result's end.
    """
    x = 0.6
    a = x**2
    b = math.exp(a)
    z = math.sin(b)
    dz = 1.0
    db = dz * math.cos(b)
    da = db * b
    dx = da * 2 * x
    agree("z", z, jnp.sin(jnp.exp(x**2)))
    agree("dz/dx", dx, dp.grad(lambda x: jnp.sin(jnp.exp(x**2)))(x))


# ---------------------------------------------------------------- 2


def a_chain_of_vectors():
    """2. A chain of vector functions: the local derivatives are Jacobians.

    loss = sum((tanh(W x))^2). Multiplied from the loss's end, every product is a row vector times a matrix (a
    vector-Jacobian product), never matrix times matrix; and no Jacobian need be written down: for tanh it is diagonal,
    for W x it is W, and what comes back to W is the outer product of g and x.
    """
    w = np.array([[1.0, -2.0], [0.5, 0.3], [-0.7, 0.1]])
    x = np.array([0.4, 0.9])
    h = w @ x
    y = np.tanh(h)
    g = 2 * y  # d loss / dy
    g = g * (1 - y * y)  # d loss / dh, by the diagonal Jacobian of tanh
    dx, dw = g @ w, np.outer(g, x)

    def loss(w, x):
        return jnp.sum(jnp.tanh(w @ x) ** 2)

    their_dw, their_dx = dp.grad(loss, argnums=(0, 1))(jnp.asarray(w), jnp.asarray(x))
    agree("dloss/dx", dx, their_dx)
    agree("dloss/dW", dw, their_dw)


# ---------------------------------------------------------------- 3


def a_value_used_twice():
    """3. A value that is used twice: its gradients add up.

    z = a b + sin(a), with a = x^2 and b = 3 x: x reaches z on three paths. The derivative is the sum over the paths of
    the product along each; gathered at a and at x, it is a sum wherever a value was used more than once.
    """
    x = 1.3
    a, b = x**2, 3 * x
    da = b  # from the product
    da += math.cos(a)  # and from the sine
    db = a
    dx = da * 2 * x
    dx += db * 3

    agree("dz/dx", dx, dp.grad(lambda x: x**2 * (3 * x) + jnp.sin(x**2))(x))


# ---------------------------------------------------------------- 4


class Value:
    """A number that remembers how it was made: the values it came from and the local derivative to each.

    NB: the tracer keeps a closure per operation, not a number: so it can send back arrays, and run the backward pass
    in any JAX trace (under jit, vmap, or another gradient).
    """

    def __init__(self, number, sources=()):
        self.number, self.sources, self.gradient = number, sources, 0.0

    def __add__(self, other):
        return Value(self.number + other.number, [(self, 1.0), (other, 1.0)])

    def __mul__(self, other):
        return Value(self.number * other.number, [(self, other.number), (other, self.number)])

    def tanh(self):
        y = math.tanh(self.number)
        return Value(y, [(self, 1 - y * y)])


def backward(result):
    """Visit every value after all that use it (depth first), and send its whole gradient to its sources.

    Returns the number of values.

    NB: the tracer numbers its nodes as they are made and sorts by number; it is not recursive.
    """
    order, seen = [], set()

    def visit(value):
        if id(value) not in seen:
            seen.add(id(value))
            for source, _ in value.sources:
                visit(source)
            order.append(value)

    visit(result)
    result.gradient = 1.0
    for value in reversed(order):
        for source, local in value.sources:
            source.gradient += local * value.gradient
    return len(order)


def a_graph():
    """4. Any program: record the graph while it runs, then walk it backwards.

    The loop below is ordinary Python. Whatever it does on the way, the graph that it leaves behind has no cycles, and
    in the order of recording every value comes after its sources; so one walk from the end suffices, for any number
    of inputs.
    """
    x, w = Value(0.5), Value(-1.2)
    state = x
    for _ in range(4):
        state = (state * w + x).tanh() * state
    backward(state)

    def program(x, w):
        state = x
        for _ in range(4):
            state = jnp.tanh(state * w + x) * state
        return state

    dx, dw = dp.grad(program, argnums=(0, 1))(0.5, -1.2)
    agree("result", state.number, program(0.5, -1.2))
    agree("d/dx", x.gradient, dx)
    agree("d/dw", w.gradient, dw)


# ---------------------------------------------------------------- 5


def the_order_matters():
    """5. Why the order: a value may send its gradient on only when all of it has arrived.

    x -> a -> z and x -> a -> b -> z. Sending from a before b has answered loses a path; sending twice costs a walk per
    path, and there are 2^n paths through n stages like this one.
    """
    x = Value(0.7)
    value, stages = x, 30
    for _ in range(stages):
        value = value + value * Value(0.1)
    visited = backward(value)
    agree("d/dx", x.gradient, dp.grad(lambda x: _stages(x, stages))(0.7))
    print(f"  in closed form 1.1^{stages} = {1.1**stages:.6f}; {2**stages:,} paths, {visited} values visited once")


def _stages(x, num_stages):
    for _ in range(num_stages):
        x = x + x * 0.1
    return x


# ---------------------------------------------------------------- 6


def the_tape():
    """6. The real thing: the tracer's own tape of stop 3, read through `dp.record`."""

    def program(x):
        a, b = lax.square(x), lax.mul(x, 3.0)
        return lax.add(lax.mul(a, b), lax.sin(a))

    recording = dp.record(program)(1.3).backward()
    for node in recording.nodes:
        sources = ", ".join(f"v{used.index}" for used in node.inputs) or "-"
        numbers = f"value {node.value:8.5f}   gradient {node.gradient:8.5f}"
        print(f"  v{node.index}  {node.primitive:<8}from {sources:<8}{numbers}")
    agree("dz/dx", 2 * 1.3 * (3 * 1.3 + math.cos(1.3**2)) + 3 * 1.3**2, recording.nodes[0].gradient)


STOPS = (a_chain_of_numbers, a_chain_of_vectors, a_value_used_twice, a_graph, the_order_matters, the_tape)


def main(arguments: Sequence[str] | None = None, prog: str = "diffprog tour") -> None:
    """Run the command."""
    parser = command_parser(prog, __doc__)
    parser.add_argument("stops", type=int, nargs="*", metavar="N", help=f"stops to make, 1 to {len(STOPS)} (all)")
    launch(parser, run, arguments)


def run(options: argparse.Namespace) -> None:
    """Print and run the chosen stops."""
    for number in options.stops:
        if not 1 <= number <= len(STOPS):
            raise ValueError(f"there is no stop {number}: choose from 1 to {len(STOPS)}")
    for stop in [STOPS[n - 1] for n in options.stops] or STOPS:
        title, _, text = (stop.__doc__ or "").partition("\n")
        print(f"{title}\n{text.rstrip()}\n" if text.strip() else f"{title}\n")
        stop()
        print()
