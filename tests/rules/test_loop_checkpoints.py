"""What the gradient of a `while_loop` costs: evaluations of the body, and memory."""

import math

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import diffprog as dp


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def fewest_evaluations(n, checkpoints):
    """Revolve's number for a known length (Griewank and Walther 2000, eq. 4), each reversed iteration once more, and
    one for the value at the end."""
    r = next(r for r in range(1, n + 1) if math.comb(checkpoints + r, r) >= n)
    return r * n - math.comb(checkpoints + r, r - 1) + n + 1


def evaluations(n, checkpoints):
    """How often the body runs, by a model of what `loop_checkpoints` says that it does."""
    kept, stride, room, at = [], 1, checkpoints, 0
    while at < n:
        if len(kept) >= room:
            odd = [p for p in kept if p // stride % 2 == 1]
            if not odd:
                stride, room = 2 * stride, max(room - 1, checkpoints // 2 + 1)
                odd = [p for p in kept if p // stride % 2 == 1]
            if odd:
                kept.remove(odd[0])
        if at % stride == 0 and len(kept) < room:
            kept.append(at)
        at = min(n, (at // stride + 1) * stride)
    total, end = n, n
    while end > 0:
        while kept[-1] < end - 1:
            start, length, free = kept[-1], end - kept[-1], checkpoints + 1 - len(kept)
            if length - 1 <= free:
                kept += range(start + 1, end)
            elif free == 1:
                kept.append(end - 1)
            else:
                r = next(r for r in range(length) if math.comb(free + r, r) >= length)
                kept.append(start + min(max(1, length * r // (free + r)), length - 1))
            total += kept[-1] - start
        kept.pop()
        end -= 1
        total += 1
    return total


@pytest.mark.parametrize("checkpoints", [8, 16, 64])
def test_nearly_as_few_evaluations_as_if_the_length_were_known(checkpoints):
    lengths = sorted({int(1.2**k) for k in range(1, 61)})  # up to 56,000
    ratios = [evaluations(n, checkpoints) / fewest_evaluations(n, checkpoints) for n in lengths]
    assert max(ratios) < 1.13
    assert all(evaluations(n, checkpoints) == 2 * n for n in range(1, checkpoints + 1))


def test_the_body_runs_as_often_as_stated():
    ran = []

    def fun(x, n):
        def body(c):
            jax.debug.callback(lambda i: ran.append(int(i)), c[0])
            return c[0] + 1, jnp.sin(c[1]) * 1.1

        return lax.while_loop(lambda c: c[0] < n, body, (0, x))[1]

    for checkpoints, lengths in ((1, [6]), (3, [3, 40]), (8, [100, 300])):
        with dp.while_loop_memory(checkpoints=checkpoints):
            compiled = jax.jit(dp.grad(fun))
            for n in lengths:
                ran.clear()
                jax.block_until_ready(compiled(0.3, n))
                jax.effects_barrier()
                assert len(ran) == evaluations(n, checkpoints), (checkpoints, n)
    ran.clear()
    dp.grad(fun)(0.3, 5)  # op by op, nothing is repeated
    jax.effects_barrier()
    assert sorted(ran) == [0, 1, 2, 3, 4]


def test_memory_is_what_was_allowed():
    """The number of iterations is an argument of the compiled program: its memory cannot depend on it."""
    x = jnp.ones(100_000)
    state = x.size * 8

    def fun(x, n):
        body = lambda c: (c[0] + 1, jnp.sin(c[1]) * 1.1, c[2])
        return jnp.sum(lax.while_loop(lambda c: c[0] < n, body, (0, x, x))[1])

    def temporary(grad, checkpoints):
        with dp.while_loop_memory(checkpoints=checkpoints):
            return jax.jit(grad).lower(x, 5).compile().memory_analysis().temp_size_in_bytes / state

    for checkpoints in (4, 20):  # the checkpoints (not of what stays the same), and a few working copies
        assert checkpoints + 1 <= temporary(dp.grad(fun), checkpoints) < checkpoints + 4
    second = dp.grad(lambda x, n: jnp.sum(dp.grad(fun)(x, n)))
    assert temporary(second, 20) < 2 * 21 + 6  # the carry has doubled, and nothing else
    by_scan = lambda x: jnp.sum(lax.scan(lambda c, _: (jnp.sin(c) * 1.1, None), x, None, length=100)[0])
    scan = jax.jit(jax.grad(by_scan)).lower(x).compile().memory_analysis().temp_size_in_bytes / state
    assert scan >= 100
