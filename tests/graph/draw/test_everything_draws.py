"""Every kind of value and program that can be recorded can be drawn, in all four ways."""

import json
import xml.etree.ElementTree as ElementTree

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import diffprog as dp
from diffprog.graph import _draw as draw
from diffprog.graph._draw.page_data import page_data

X = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)


def keys(x):
    key = jax.random.key(0)
    return jnp.sum(x * jax.random.normal(jax.random.split(key)[0], x.shape))


def complex_numbers(x):
    return jnp.sum(jnp.abs(jnp.fft.fft(x * (1 + 2j))))


def many_results(x):
    values, vectors = jnp.linalg.eigh(x @ x.T)
    return jnp.sum(values) + jnp.sum(vectors[0]), {"aux": x, "constant": 3}


def empty_arrays(x):
    return jnp.sum(x[:, :0]) + jnp.sum(x)


def loops(x):
    total = lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.sin(c[1])), (0, x))[1]
    return jnp.sum(lax.fori_loop(0, 2, lambda i, y: y * total, x))


def transformed(x):
    inner = jax.jit(jax.checkpoint(lambda row: jnp.tanh(row) * 2))
    return jnp.sum(jax.vmap(inner)(x)) + jnp.sum(jax.nn.relu(x))


def extremes(x):
    return jnp.sum(jnp.exp(1e30 * x)) + jnp.sum(jnp.log(x)) + jnp.float32(1e-45) * jnp.sum(x)


def nothing_used(x):
    return jnp.float32(2.0)


def the_input_itself(x):
    return x


PROGRAMS = [
    keys,
    complex_numbers,
    many_results,
    empty_arrays,
    loops,
    transformed,
    extremes,
    nothing_used,
    the_input_itself,
]


def cotangent_of(output):
    return None if np.shape(output) == () and not isinstance(output, tuple) else jax.tree.map(jnp.ones_like, output)


@pytest.mark.parametrize("keep", ["values", "summaries", "nothing"])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_it_draws(program, keep):
    recording = dp.record(program, keep=keep)(X)
    for differentiated in (False, True):
        if differentiated:
            recording.backward(cotangent_of(recording.output))
        for everything in (False, True):
            boxes = ElementTree.fromstring(draw.svg(recording, "*", everything=everything)).iter()
            drawn = {int(box.get("data-node")) for box in boxes if box.get("data-node")}
            assert not everything or drawn == {node.index for node in recording.nodes}
            assert draw.text(recording, "*", everything=everything, width=100).count("\n") >= len(drawn)
            assert draw.dot(recording, everything).count("[label=") >= len(drawn)
            json.dumps(page_data(recording, everything=everything, step_size=0.1), allow_nan=False)
