"""The gradient of a `while_loop` by diffprog beside that of an equal `scan` by JAX, which has to know its length:
`python -m benchmarks.while_loop [--json FILE]`.

Per body, number of iterations n and of checkpoints K: compiled run time of value and gradient, ours / JAX's; the
temporary memory of both programs; how often our program runs the body, per iteration. A scan runs it once and keeps
everything; we run it at least twice, forward and where it is differentiated.
"""

import argparse
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import diffprog as dp
from benchmarks.timing import alternate, clock, write_json

BODIES = {
    "8 numbers": (8, lambda w, x: jnp.tanh(w[0] * x) + 0.1 * x),
    "matrix of 256": (256, lambda w, x: jnp.tanh(w @ x) + 0.1 * x),
    "100,000 numbers": (100_000, lambda w, x: jnp.sin(w[0] * x) + 0.1 * x),
}


def operands(size):
    rng = np.random.default_rng(0)
    rows = size if size <= 1000 else 1
    return jnp.asarray(rng.standard_normal((rows, size)) / np.sqrt(size), jnp.float32), jnp.ones(size, jnp.float32)


def by_while(body):
    def fun(w, x, n):
        return jnp.mean(lax.while_loop(lambda c: c[0] < n, lambda c: (c[0] + 1, body(w, c[1])), (0, x))[1] ** 2)

    return fun


def by_scan(body, n):
    return lambda w, x: jnp.mean(lax.scan(lambda x, _: (body(w, x), None), x, None, length=n)[0] ** 2)


def build(gradient, *args):
    """Trace and compile; return the program and the seconds."""
    start = time.perf_counter()
    program = jax.jit(gradient).lower(*args).compile()
    return program, time.perf_counter() - start


def counted(body, calls):
    def run(w, x):
        jax.debug.callback(lambda: calls.append(None))
        return body(w, x)

    return run


def evaluations(n, checkpoints) -> float:
    """Count how often the body runs, per iteration."""
    calls: list = []
    with dp.while_loop_memory(checkpoints=checkpoints):
        program, _ = build(dp.grad(by_while(counted(BODIES["8 numbers"][1], calls))), *operands(8), n)
    jax.block_until_ready(program(*operands(8), n))
    jax.effects_barrier()
    return len(calls) / n


def measure(name, n, all_checkpoints, seconds):
    size, body = BODIES[name]
    args = operands(size)
    scan, scan_compile = build(jax.value_and_grad(by_scan(body, n), (0, 1)), *args)
    for checkpoints in all_checkpoints:
        with dp.while_loop_memory(checkpoints=checkpoints):
            ours, compile_s = build(dp.value_and_grad(by_while(body), (0, 1)), *args, n)
        for a, b in zip(jax.tree.leaves(ours(*args, n)), jax.tree.leaves(scan(*args)), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * float(jnp.max(jnp.abs(b))))
        times = alternate({"ours": clock(ours, *args, n), "scan": clock(scan, *args)}, seconds)
        megabytes = [program.memory_analysis().temp_size_in_bytes / 1e6 for program in (ours, scan)]
        yield {
            "body": name,
            "n": n,
            "checkpoints": checkpoints,
            "ours_ms": 1000 * times["ours"],
            "scan_ms": 1000 * times["scan"],
            "ratio": times["ours"] / times["scan"],
            "ours_mb": megabytes[0],
            "scan_mb": megabytes[1],
            "ours_compile_s": compile_s,
            "scan_compile_s": scan_compile,
        }


def main(argv=None):
    parser = argparse.ArgumentParser(description="Time the gradient of a while_loop beside that of a scan.")
    parser.add_argument("--iterations", type=int, nargs="+", default=[10, 100, 1000], help="(10 100 1000)")
    parser.add_argument("--checkpoints", type=int, nargs="+", default=[8, 64], help="(8 64)")
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each comparison (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to this file too")
    options = parser.parse_args(argv)
    times_run = {(n, k): evaluations(n, k) for n in options.iterations for k in options.checkpoints}
    rows = []
    print(
        f"{'body':<16}{'n':>7}{'K':>5}{'runs of body / n':>18}{'ours ms':>10}{'scan ms':>10}{'ratio':>7}"
        f"{'ours MB':>10}{'scan MB':>10}{'compile s':>11}{'scan':>6}"
    )
    for name in BODIES:
        for n in options.iterations:
            for row in measure(name, n, options.checkpoints, options.seconds):
                rows.append(row | {"evaluations": times_run[n, row["checkpoints"]]})
                row = rows[-1]
                print(
                    f"{name:<16}{n:>7}{row['checkpoints']:>5}{row['evaluations']:>18.2f}{row['ours_ms']:>10.3f}"
                    f"{row['scan_ms']:>10.3f}{row['ratio']:>7.2f}{row['ours_mb']:>10.2f}{row['scan_mb']:>10.2f}"
                    f"{row['ours_compile_s']:>11.2f}{row['scan_compile_s']:>6.2f}",
                    flush=True,
                )
    if options.json:
        write_json(options.json, rows)


if __name__ == "__main__":
    main()
