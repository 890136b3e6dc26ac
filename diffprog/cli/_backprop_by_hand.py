"""Backpropagation on paper: one gradient step of a two-layer network, with every number of the tape.

    %(prog)s
    %(prog)s --step-size 0.5 --page step.html

The network is x1 = W0 x0, x2 = tanh(x1), x3 = W1 x2 with the loss (x3 - y)^2 / 2. The program is recorded while it
runs; the derivation that is printed is read from the recording, and so is the page that is written, on which the step
can be walked through: forward, back, and the update.
"""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from jax import lax

import diffprog as dp
from diffprog._jax_internals.sources import count_as_user_code
from diffprog.cli._command_line import add_engine, command_parser, launch

count_as_user_code(__file__)  # a recording names these lines, also where diffprog is an installed package

W0 = np.array([[1.0, -3.0], [0.2, 1.0]], np.float32)
W1 = np.array([1.0, -1.0], np.float32)
X0 = np.array([1.0, 0.1], np.float32)
TARGET = np.float32(0.5)


def loss(W0, W1):
    x1 = lax.dot(W0, X0)
    x2 = lax.tanh(x1)
    x3 = lax.dot(W1, x2)
    e = lax.sub(x3, TARGET)
    e2 = lax.square(e)
    return lax.mul(e2, np.float32(0.5))


def number(array) -> str:
    text = np.array2string(np.asarray(array), formatter={"float_kind": lambda x: f"{x:.4g}"}, separator=", ")
    return " ".join(text.split())


def main(arguments: Sequence[str] | None = None, prog: str = "diffprog backprop-by-hand") -> None:
    """Run the command."""
    parser = command_parser(prog, __doc__)
    parser.add_argument("--step-size", type=float, default=0.2, help="step along the gradient (default: %(default)s)")
    page = Path("out/backprop_by_hand.html")
    parser.add_argument("--page", type=Path, default=page, metavar="FILE", help="the page (default: %(default)s)")
    add_engine(parser)  # jax has no tape to print: the update alone is shown
    launch(parser, run, arguments)


def run(options):
    """Print the derivation and the update, and write the page."""
    if options.engine == "jax":
        gradients = jax.grad(loss, argnums=(0, 1))(W0, W1)
    else:
        recording = dp.record(loss)(W0, W1).backward()
        print(recording.explain())
        gradients = [node.gradient for node in recording.inputs]
    print(f"\nUpdate: parameter - {options.step_size:g} * gradient")
    for name, parameter, gradient in zip(("W0", "W1"), (W0, W1), gradients, strict=True):
        print(f"  new {name} = {number(parameter - np.float32(options.step_size) * gradient)}")
    if options.engine != "jax":
        recording.html(options.page, step_size=options.step_size)
        print(f"\nwrote {options.page}: open it in a browser and press the space bar")
