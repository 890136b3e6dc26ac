"""What compiled programs hold at their peak: the compiler's own figure, by the lines of this file."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import diffprog as dp
from diffprog._jax_internals.compiled_memory import (
    BACKWARD,
    FORWARD,
    RECOMPUTED,
    Held,
    HeldByLine,
    lines_at_peak,
    memory_over_time,
    occupancy,
)
from diffprog._jax_internals.sources import RawFrame


def chain(layers, x):
    for w in layers:
        x = jnp.sqrt(1 + x @ w)  # line of the chain
    return jnp.sum(x**2)


def recurrence(layers, x):
    def step(state, w):
        return jnp.tanh(state @ w), None  # line of the step

    return jnp.sum(lax.scan(step, x, jnp.stack(layers))[0] ** 2)


def line_of(comment: str) -> int:
    with open(__file__, encoding="utf-8") as file:
        return 1 + next(i for i, line in enumerate(file) if line.rstrip().endswith(f"# {comment}"))


LAYERS, X = [np.eye(32, dtype=np.float32) + i / 100 for i in range(8)], np.ones((512, 32), np.float32)
ACTIVATION = 4 * X.size


def compiled(gradient):
    return jax.jit(gradient).lower(LAYERS, X).compile()


@pytest.mark.parametrize("grad", [jax.grad, dp.grad])
@pytest.mark.parametrize("program", [chain, recurrence])
def test_the_peak_is_the_compilers_figure_and_most_of_it_the_line_that_makes_it(program, grad):
    executable = compiled(grad(program))
    lines = lines_at_peak(executable)
    held = executable.memory_analysis().temp_size_in_bytes
    assert 0.999 * held <= sum(line.bytes for line in lines) <= held
    assert lines == sorted(lines, key=lambda line: -line.bytes)
    line = line_of("line of the chain" if program is chain else "line of the step")
    by_line = {line.frame and (line.frame.file, line.frame.line): line.bytes for line in lines}
    assert by_line[__file__, line] >= 7 * ACTIVATION  # of seven layers at the least


def test_the_passes_follow_each_other():
    phases = memory_over_time(compiled(dp.grad(chain))).phases
    assert phases.index(BACKWARD) > phases.index(FORWARD)
    assert FORWARD not in phases[len(phases) - phases[::-1].index(FORWARD) :]
    assert phases.count(BACKWARD) >= 15  # dots of eight layers and their inputs
    assert RECOMPUTED not in phases


def test_the_backward_pass_is_at_the_lines_of_the_forward_pass_as_with_jax():
    ours, theirs = (memory_over_time(compiled(grad(chain))) for grad in (dp.grad, jax.grad))
    lines = lambda memory: {held.frame.line for held in memory.held if held.phase == BACKWARD}
    assert lines(ours) == lines(theirs) == {line_of("line of the chain")}
    in_loop = memory_over_time(compiled(dp.grad(recurrence)))
    assert line_of("line of the step") in {held.frame.line for held in in_loop.held if held.phase == BACKWARD}


@pytest.mark.parametrize("grad", [jax.grad, dp.grad])
def test_lines_are_those_of_the_program_itself_though_another_has_the_same_loop(grad):
    def same_again(layers, x):
        return jnp.sum(lax.scan(lambda state, w: (jnp.tanh(state @ w), None), x, jnp.stack(layers))[0] ** 2)

    lines_at_peak(compiled(grad(recurrence)))
    code = same_again.__code__
    for line in lines_at_peak(compiled(grad(same_again))):
        assert line.frame.line == code.co_firstlineno + 1 and "same_again" in line.frame.function


def loop(layers, x):
    last = lax.while_loop(lambda s: s[0] < 100, lambda s: (s[0] + 1, jnp.sin(s[1] @ layers[0])), (0, x))
    return jnp.sum(last[1])


@pytest.mark.parametrize(
    "gradient",
    [
        dp.grad(lambda layers, x: jax.checkpoint(chain)(layers, x)),
        jax.grad(lambda layers, x: jax.checkpoint(chain)(layers, x)),
        dp.grad(chain, memory=0.7),
        dp.grad(recurrence, memory=0.7),
        dp.grad(loop),
    ],
    ids=["checkpoint", "JAX's checkpoint", "plan", "plan of a scan", "while loop"],
)
def test_what_the_backward_pass_computes_again_is_named(gradient):
    memory = memory_over_time(compiled(gradient))
    assert memory.phases.count(RECOMPUTED) >= 1
    assert {held.phase for held in memory.held if held.bytes >= ACTIVATION} >= {RECOMPUTED, BACKWARD}


def test_buffers_in_one_place_count_once():
    frame = (RawFrame("f.py", 1, "f", False),)
    held = [
        Held(100, 0, 0, 5, frame, "", FORWARD),
        Held(40, 100, 1, 3, frame, "", FORWARD),
        Held(60, 20, 2, 4, frame, "", BACKWARD),  # in a part of the first, which is there again after it
    ]
    assert [(time, *occupied) for time, occupied in occupancy(held)] == [
        (0, 100, 0, 0),
        (1, 100, 40, 0),
        (2, 40, 40, 60),
        (3, 40, 0, 60),
        (4, 100, 0, 0),
        (5, 0, 0, 0),
    ]


@pytest.mark.parametrize(
    ("function", "where"),
    [
        ("attention", "model.py:41 (attention)"),
        ("Block.__call__", "model.py:41 (Block.__call__)"),
        ("train.<locals>.loss.<locals>.<lambda>", "model.py:41 (loss)"),
        ("<module>", "model.py:41"),
    ],
)
def test_lines_in_words(function, where):
    assert HeldByLine(8, RawFrame("src/model.py", 41, function, False)).where == where
    assert HeldByLine(8, None).where == "an unknown line"


def test_branches_loops_and_integers_are_followed():
    def program(layers, x):
        x = lax.cond(x[0, 0] > 0, lambda x: jnp.sin(x @ layers[0]), lambda x: jnp.cos(x), x)
        x, firsts = lax.scan(lambda c, i: (jnp.tanh(c @ layers[1]) + i, c[0]), x, jnp.arange(6))
        x = lax.while_loop(lambda s: s[0] < 5, lambda s: (s[0] + 1, jnp.sin(s[1])), (0, x))[1]
        return jnp.sum(x) + jnp.sum(firsts)

    executable = compiled(dp.grad(program))
    held = executable.memory_analysis().temp_size_in_bytes
    assert 0.9 * held <= sum(line.bytes for line in lines_at_peak(executable)) <= held
