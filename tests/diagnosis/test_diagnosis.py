"""What a diagnosis says, word for word, and what it says of memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffprog as dp


def line_of(fun, offset):
    return f"test_diagnosis.py:{fun.__code__.co_firstlineno + offset}"


def distance(x):
    apart = x > 0
    length = jnp.sqrt(x)
    return jnp.sum(jnp.where(apart, length, 0.0))


def test_a_masked_square_root():
    said = str(dp.diagnose(distance)(jnp.array([4.0, 0.0, 1.0])))
    assert (
        said
        == f"""\
NaN in the backward pass: it spoils the gradient of x[1] (1 of 1 inputs)
  born at {line_of(distance, 2)}  length = jnp.sqrt(x)
  x[1] = 0
  gradient that arrives: 0 (masked by {line_of(distance, 3)}  return jnp.sum(jnp.where(apart, length, 0.0)))
  local slope: inf = 0.5 / sqrt(0); 0 * inf = nan
  fix: mask the operand, not only the result (double-where):
       safe = jnp.where(x > 0, x, 1.0)
       jnp.sqrt(x)  ->  jnp.where(x > 0, jnp.sqrt(safe), 0.0)"""
    )


def test_the_fix_mends():
    def mended(x):
        safe = jnp.where(x > 0, x, 1.0)
        return jnp.sum(jnp.where(x > 0, jnp.sqrt(safe), 0.0))

    x = jnp.array([4.0, 0.0, 1.0])
    assert dp.diagnose(mended)(x).healthy
    np.testing.assert_allclose(mended(x), distance(x))


def quantize(parameters, x):
    distances = jnp.sum((x[:, None] - parameters["codebook"]) ** 2, -1)
    nearest = jnp.argmin(distances, -1)
    chosen = jax.lax.stop_gradient(parameters["codebook"])[nearest]
    return jnp.sum((parameters["scale"] * x - chosen) ** 2)


def test_every_path_that_is_cut():
    parameters = {"codebook": jnp.array([[0.0, 1.0], [2.0, 3.0]]), "scale": jnp.float32(1.1)}
    (finding,) = dp.diagnose(quantize)(parameters, jnp.ones((5, 2))).findings
    assert (
        str(finding)
        == f"""\
no gradient: parameters['codebook']: every path to the output is cut
  path 1: argmin has no derivative at {line_of(quantize, 2)}  nearest = jnp.argmin(distances, -1)
  path 2: stop_gradient at {line_of(quantize, 3)}  chosen = jax.lax.stop_gradient(parameters["codebook"])[nearest]
  fix: weigh by a softmax instead of choosing (soft argmax), or pass the gradient straight through: \
soft + jax.lax.stop_gradient(hard - soft)"""
    )
    line = quantize.__code__.co_firstlineno + 2
    assert (finding.kind, finding.cut, finding.source.line) == ("zero", "structure", line)


def test_one_line_if_nothing_is_wrong():
    def loss(x):
        return jnp.sum(jnp.sin(x))

    assert str(dp.diagnose(loss)(jnp.ones(3))) == "nothing wrong: the gradient of loss is finite and reaches 1 input"


def test_the_iteration_of_a_loop():
    def shrink(x):
        body = lambda x, _: (jnp.sqrt(x - 1.0), None)
        return jax.lax.scan(body, x, None, length=4)[0]

    (finding,) = dp.diagnose(shrink)(3.0).findings
    assert finding.cause == "sqrt of a negative number"
    assert finding.node.iteration == (2,) and "iteration 2" in str(finding)


def test_what_is_not_a_scalar_is_summed_and_that_is_said():
    diagnosis = dp.diagnose(lambda x: {"a": jnp.sin(x), "b": jnp.argmax(x)})(jnp.ones(3))
    assert diagnosis.healthy and "sum of its results" in str(diagnosis)
    diagnosis = dp.diagnose(jax.grad(lambda x: jnp.sum(x**1.5)))(jnp.array([0.0, 1.0]))
    assert [f.kind for f in diagnosis.findings] == ["nan"]


# ---------------------------------------------------------------- memory


def test_residuals_are_what_the_rules_keep():
    def f(x):
        with jax.named_scope("inner"):
            y = jnp.sin(x)
            z = jnp.tanh(y)
        return jnp.sum(z * z)

    memory = dp.diagnose(f)(jnp.ones(1000, jnp.float32)).memory
    kept = {(r.maker.label, tuple(n.label for n in r.keepers)): r.bytes for r in memory.all}
    assert kept == {("x", ("sin",)): 4000, ("tanh", ("tanh", "mul")): 4000}
    assert memory.bytes == 4000
    assert "tanh at test_diagnosis.py" in str(memory)


def test_a_checkpoint_around_a_scope_saves_what_is_made_and_kept_in_it():
    def layer(x):
        return jnp.sin(jnp.sin(jnp.sin(x)))

    def f(x):
        with jax.named_scope("layer"):
            y = layer(x)
        return jnp.sum(y)

    x = jnp.ones(1000, jnp.float32)
    saved = dp.diagnose(f)(x).memory.by_path()
    assert saved == {"layer": 8000}  # of the three sines the arguments; the first is the input
    kept = lambda fun: sum(leaf.nbytes for leaf in jax.tree.leaves(dp.vjp(fun, x)[1]))
    plain = kept(lambda x: jnp.sum(jax.jit(layer)(x)))
    checkpointed = kept(lambda x: jnp.sum(jax.checkpoint(layer)(x)))
    assert plain - checkpointed == 8000


def test_memory_that_is_bounded_still_tells_of_nan():
    diagnosis = dp.diagnose(distance, max_bytes=0)(jnp.array([4.0, 0.0, 1.0]))
    assert diagnosis.findings[0].node.primitive == "sqrt" and any("summaries" in note for note in diagnosis.notes)


def test_half_precision():
    def overflow(x):
        return jnp.sum(x * jnp.float16(60000.0) * x)

    (finding,) = dp.diagnose(overflow)(jnp.full(3, 2.0, jnp.float16)).findings
    assert finding.cause == "overflow in mul"


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint])
def test_through_jit_and_checkpoint(wrap):
    (finding,) = dp.diagnose(wrap(distance))(jnp.array([4.0, 0.0, 1.0])).findings
    assert finding.source.line == distance.__code__.co_firstlineno + 2
