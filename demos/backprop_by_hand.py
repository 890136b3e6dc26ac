"""Backpropagation on paper: one gradient step of a two-layer network, with every number of the tape.

    python -m demos.backprop_by_hand

The network is x1 = W0 x0, x2 = tanh(x1), x3 = W1 x2 with the loss (x3 - y)^2 / 2. The program is recorded while it
runs; the values and gradients that are printed are read from the recording.
"""

import argparse

import jax
import numpy as np
from jax import lax

import diffprog as dp
from demos.command_line import add_engine

W0 = np.array([[1.0, -3.0], [0.2, 1.0]], np.float32)
W1 = np.array([1.0, -1.0], np.float32)
X0 = np.array([1.0, 0.1], np.float32)
TARGET = np.float32(0.5)

NAMES = ["W0", "W1", "x1 = W0 x0", "x2 = tanh(x1)", "x3 = W1 x2", "e = x3 - y", "e^2", "loss = e^2 / 2"]


def loss(w0, w1):
    x1 = lax.dot(w0, X0)
    x2 = lax.tanh(x1)
    x3 = lax.dot(w1, x2)
    error = lax.sub(x3, TARGET)
    return lax.mul(lax.square(error), np.float32(0.5))


def number(array) -> str:
    return np.array2string(np.asarray(array), formatter={"float_kind": lambda x: f"{x:.4f}"}, separator=", ").replace(
        "\n", ""
    )


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m demos.backprop_by_hand", description=__doc__.split("\n\n")[0])
    parser.add_argument("--step", type=float, default=0.2, help="length of the gradient step (default %(default)s)")
    add_engine(parser)  # jax has no tape to print: the update alone is shown
    options = parser.parse_args(argv)

    print(f"x0 = {number(X0)}   target y = {TARGET}   step = {options.step}\n")
    if options.engine == "jax":
        gradients = jax.grad(loss, argnums=(0, 1))(W0, W1)
        for name, gradient in zip(("W0", "W1"), gradients, strict=True):
            print(f"dL/d{name} = {number(gradient)}")
    else:
        recording = dp.record(loss)(W0, W1).backward()
        nodes = [node for node in recording.nodes if node.status == "live"]
        print("Forward, in the order in which the operations ran:")
        for name, node in zip(NAMES, nodes, strict=True):
            print(f"  {name:<16}{node.primitive:<14}{number(node.value)}")
        print("\nBackward, from the loss to the parameters:")
        for name, node in list(zip(NAMES, nodes, strict=True))[::-1]:
            print(f"  dL/d{name.split(' ')[0]:<12}{'':<14}{number(node.gradient)}")
        gradients = tuple(node.gradient for node in recording.inputs)

    print("\nUpdate, parameter - step * gradient:")
    for name, parameter, gradient in zip(("W0", "W1"), (W0, W1), gradients, strict=True):
        print(f"  new {name} = {number(parameter - options.step * gradient)}")


if __name__ == "__main__":
    main()
