"""See every node and every edge: a program's graph as text, SVG, Graphviz and a page to walk through.

    %(prog)s
    %(prog)s --example nan --out out/nan
    %(prog)s --function mypackage.mymodule:myfunction

The program is recorded while it runs, with the gradient of its output at every node. The tree is printed; graph.svg,
graph.dot and graph.html are written. Open graph.html in a browser, click, and press the space bar.

A function of yours takes no argument and returns (function, arguments): the function to record, which returns a scalar,
and the tuple of arrays or pytrees at which to do so.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import diffprog as dp
from diffprog._jax_internals.sources import count_as_user_code
from diffprog._util.files import write_text
from diffprog._util.promotion import own_promotion
from diffprog.cli._command_line import command_parser, launch, load_function
from diffprog.images import network_crop, read_image

count_as_user_code(__file__)  # a recording names these lines, also where diffprog is an installed package

CAT = Path(__file__).resolve().parent / "data" / "chelsea.png"


def mlp(rng):
    """Compute the loss of a network of three layers on four examples."""
    sizes = {"first": (2, 8), "second": (8, 8), "last": (8, 3)}
    parameters = {
        name: {"w": np.float32(rng.normal(size=size) / size[0] ** 0.5), "b": np.zeros(size[1], np.float32)}
        for name, size in sizes.items()
    }

    @own_promotion()
    def loss(parameters, x, labels):
        for name in sizes:
            with jax.named_scope(name):
                x = x @ parameters[name]["w"] + parameters[name]["b"]
                x = x if name == "last" else jnp.tanh(x)
        with jax.named_scope("loss"):
            return -jnp.mean(jnp.sum(jax.nn.log_softmax(x) * labels, axis=1))

    labels = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    return loss, (parameters, np.float32(rng.normal(size=(4, 2))), labels)


def rnn(rng):
    """Run a recurrent network over ten steps by `lax.scan`."""
    w, u, xs = (np.float32(rng.normal(size=size) / 2) for size in ((4, 4), (4, 2), (10, 2)))

    def energy(w, u, xs):
        def step(h, x):
            h = jnp.tanh(w @ h + u @ x)
            return h, h

        with jax.named_scope("rnn"):
            _, hs = lax.scan(step, jnp.zeros(4), xs)
        return jnp.sum(hs**2)

    return energy, (w, u, xs)


def nan(rng):
    """Sum distances, of which one is zero: its square root makes the gradient NaN, although `where` leaves it out."""

    def total(points):
        squares = jnp.sum(points**2, axis=1)
        distances = jnp.where(squares > 0, jnp.sqrt(squares), 0.0)
        return jnp.sum(distances)

    return total, (np.float32([[0, 0], [3, 4], [1, 0]]),)


def efficientnet(rng):
    """Compute the log-probability of a class on a photograph, by a pretrained network; arrays become summaries."""
    model = dp.models.load("efficientnet_lite0")
    images = jnp.asarray(network_crop(read_image(CAT), model.size))[None]
    label = model.label_index("tabby")

    def score(parameters, images):
        return jax.nn.log_softmax(model.apply(parameters, images))[0, label]

    return score, (model.parameters, images)


EXAMPLES = {"mlp": mlp, "rnn": rnn, "nan": nan, "efficientnet": efficientnet}
UPDATED: dict[str, str | list[str]] = {"mlp": "parameters*", "rnn": ["w", "u"], "efficientnet": "parameters*"}


def main(arguments: Sequence[str] | None = None, prog: str = "diffprog record") -> None:
    """Run the command."""
    parser = command_parser(prog, __doc__)
    examples = "; ".join(f"{name}: {(make.__doc__ or name).rstrip('.').lower()}" for name, make in EXAMPLES.items())
    parser.add_argument("--example", choices=EXAMPLES, help=f"{examples} (default: mlp)")
    parser.add_argument("--function", metavar="MODULE:NAME", help="record this function instead")
    parser.add_argument("--out", default="out/graph", help="folder for the files (default: %(default)s)")
    parser.add_argument("--open", metavar="GLOB", help="groups to draw open, 'blocks/*'; '*' for all")
    parser.add_argument("--step-size", type=float, default=0.1, help="step along the gradient (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of random numbers (default: %(default)s)")
    launch(parser, run, arguments)


def run(options: argparse.Namespace) -> None:
    """Record, print the tree and write the drawings."""
    if options.function and options.example:
        raise ValueError("give either --example or --function, not both")
    example = options.example or ("" if options.function else "mlp")
    updated = UPDATED.get(example, "*")
    if options.function:
        fun, args = load_function(options.function)
    else:
        fun, args = EXAMPLES[example](np.random.default_rng(options.seed))
    record = partial(dp.record, keep="summaries") if example == "efficientnet" else dp.record  # arrays take too much
    recording = record(fun)(*args).backward()
    print(recording.text(open=options.open))
    out = Path(options.out)
    write_text(out / "graph.svg", recording.svg(open=options.open))
    write_text(out / "graph.dot", recording.dot())
    recording.html(out / "graph.html", open=options.open, step_size=options.step_size, update=updated)
    print(f"\nwritten: {', '.join(str(out / name) for name in ('graph.svg', 'graph.dot', 'graph.html'))}")
