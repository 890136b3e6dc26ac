"""A recording of a run against values and gradients worked out otherwise."""

import jax
import jax.numpy as jnp
import numpy as np

import diffprog as dp


def test_nodes_values_and_gradients_of_a_small_program():
    recording = dp.record(lambda x, y: jnp.sin(x) * y + x)(jnp.float32(0.5), jnp.float32(2.0)).backward()
    assert [node.operation for node in recording.nodes] == ["input", "input", "sin", "mul", "add"]
    assert [node.inputs for node in recording.nodes] == [[], [], [0], [2, 1], [3, 0]]
    values = [0.5, 2, np.sin(0.5), 2 * np.sin(0.5), 2 * np.sin(0.5) + 0.5]
    np.testing.assert_allclose([node.value for node in recording.nodes], values, rtol=1e-6)
    np.testing.assert_allclose(
        [node.gradient for node in recording.nodes], [2 * np.cos(0.5) + 1, np.sin(0.5), 2, 1, 1], rtol=1e-6
    )
    np.testing.assert_allclose(recording.output, recording.nodes[-1].value)


def test_gradient_of_an_intermediate_value_is_that_of_the_rest_of_the_program():
    rest = lambda h: jnp.sum(jnp.tanh(h) ** 2)
    x = jnp.asarray([-1.0, -0.5, 0.1])
    recording = dp.record(lambda x: rest(jnp.exp(x)))(x).backward()
    (node,) = [node for node in recording.nodes if node.operation == "exp"]
    np.testing.assert_allclose(node.gradient, jax.grad(rest)(jnp.exp(x)), rtol=1e-6)


def test_what_the_output_does_not_use_has_no_gradient():
    recording = dp.record(lambda x: (jnp.cos(x), x * 2)[1])(jnp.float32(1.0)).backward()
    assert [(node.operation, node.gradient) for node in recording.nodes] == [
        ("input", 2.0), ("cos", None), ("mul", 1.0)]  # fmt: skip


def test_jitted_functions_are_recorded_operation_by_operation():
    recording = dp.record(jax.jit(lambda x: jnp.sin(jnp.exp(x))))(jnp.float32(1.0))
    assert [node.operation for node in recording.nodes] == ["input", "exp", "sin"]
