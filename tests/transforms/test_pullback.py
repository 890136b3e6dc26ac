"""What `vjp` returns: what it keeps can be replaced, and gradients go where they are asked to go, as with `jax.vjp`."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import diffprog as dp

X, W = jnp.ones((3, 4)), jnp.arange(16.0).reshape(4, 4)


def layer(x, w):
    return 2.0 * ((1.0 * x) @ w)


def test_arguments_kept_are_replaceable():
    for wrap in (lambda f: f, jax.jit):
        y, pull = wrap(lambda x, w: dp.vjp(layer, x, w))(X, W)
        g = jnp.ones_like(y)
        pull.args_res[1] = None
        with pytest.raises(ValueError, match=r"reads args_res\[1\], which was taken out: put the array back"):
            pull(g)
        pull.args_res[1] = W[:2]
        with pytest.raises(
            ValueError, match=r"reads args_res\[1\] as float\d+\[4,4\], and a value of type float\d+\[2,4\]"
        ):
            pull(g)
        pull.args_res[1] = W + 1
        dx, dw = pull(g)
        np.testing.assert_allclose(dx, 2 * np.ones((3, 4)) @ np.asarray(W + 1).T)
        np.testing.assert_allclose(dw, 2 * np.asarray(X).T @ np.ones((3, 4)))


def test_what_is_taken_out_is_kept_nowhere():
    w = W + 1
    _, pull = dp.vjp(layer, X, w)
    pull.args_res[1] = None
    gone = weakref.ref(w)
    del w
    gc.collect()
    assert gone() is None


def test_residuals_are_arguments_or_opaque():
    _, pull = dp.vjp(jnp.sin, 3.0)
    assert len(pull.opaque_residuals) == 1 and not jax.tree.leaves(pull.args_res)
    np.testing.assert_allclose(pull(1.0)[0], np.cos(3.0), rtol=1e-6)
    _, pull = dp.vjp(lambda a, b: a * b, 3.0, 2.0)
    assert pull.opaque_residuals == [] and pull.args_res == [3.0, 2.0]
    pull.args_res = [5.0, 7.0]
    np.testing.assert_allclose(pull(1.0), (7.0, 5.0))
    assert len(pull.jaxpr.eqns) == 2
    _, pull = dp.vjp(lambda tree: tree["a"] * tree["b"][0], {"a": 2.0, "b": [3.0]})
    pull.args_res = [{"a": 5.0, "b": [7.0]}]
    assert pull(1.0) == ({"a": 7.0, "b": [5.0]},)


def test_arguments_that_the_caller_keeps():
    _, pull = dp.vjp(layer, X, W, saveable_args=(True, False))
    with pytest.raises(ValueError, match=r"args_res\[1\]"):
        pull(jnp.ones((3, 4)))
    pull.args_res[1] = W
    np.testing.assert_allclose(pull(jnp.ones((3, 4)))[0], 2 * np.ones((3, 4)) @ np.asarray(W).T)
    with pytest.raises(ValueError, match="saveable_args must be a boolean, or booleans in containers like"):
        dp.vjp(layer, X, W, saveable_args=(True,))


def test_arguments_without_a_gradient_by_request():
    (_, _), pull = dp.vjp(lambda x, y: (x * y, {"y": 2 * y}), 3.0, 2.0, in_nzs=(True, False))
    assert pull.out_nzs == (True, {"y": False})
    np.testing.assert_allclose(pull((1.0, {"y": 1.0})), (2.0, 0.0))


def test_gradients_are_added_to_mutable_arrays():
    """Over micro-batches: what was there, and the sum."""

    def accumulate(batches):
        total = jax.new_ref(jnp.ones(3))

        def step(_, batch):
            loss, pull = dp.vjp(lambda w: jnp.sum(jnp.sin(w) * batch), jnp.zeros(3))
            (left,) = pull.with_refs(total)(jnp.ones_like(loss))
            assert isinstance(left, jax.ad.GradRef)
            return None, loss

        lax.scan(step, None, batches)
        return jax.freeze(total)

    batches = jnp.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]])
    for wrap in (lambda f: f, jax.jit):
        np.testing.assert_allclose(wrap(accumulate)(batches), [12.0, 23.0, 34.0])
    np.testing.assert_allclose(jax.vmap(accumulate)(jnp.stack([batches, 2 * batches]))[1], [23.0, 45.0, 67.0])
    # The derivative of the sum of gradients: of sum_i b_i in each element.
    np.testing.assert_allclose(dp.grad(lambda b: accumulate(b)[1])(batches), [[0, 1, 0], [0, 1, 0]])


def test_each_gradient_goes_where_it_is_asked_to_go():
    x = jnp.arange(3.0)
    _, pull = dp.vjp(lambda x, y: x * y, x, x + 1)
    total = jax.new_ref(jnp.ones(3))
    one, other = pull.with_refs(jax.ad.DontWant(), jax.ad.GradValue())(jnp.ones(3))
    assert isinstance(one, jax.ad.DidntWant)
    np.testing.assert_allclose(other, x)
    one, _ = pull.with_refs(total, jax.ad.DontWant())(jnp.ones(3))
    assert isinstance(one, jax.ad.GradRef)
    np.testing.assert_allclose(total[...], x + 2)
    assert len(jax.make_jaxpr(lambda g: pull.with_refs(jax.ad.DontWant(), jax.ad.GradValue())(g)[1])(x).eqns) == 1
    with pytest.raises(ValueError, match="with_refs was given targets of the structure"):
        pull.with_refs(total)
    with pytest.raises(ValueError, match=r"a mutable array of type Ref.* for a gradient of type float\d+\[3\]"):
        pull.with_refs(jax.new_ref(1.0), total)


def test_a_slice_is_added_to_its_place_alone():
    """Where a row was read, the gradient adds to that row of the mutable array; no array of its size is made."""
    total = jax.new_ref(jnp.ones((1000, 2)))
    for start in (3, 997, 2000):  # the last two are clamped, as reading is
        _, pull = dp.vjp(lambda x, i: lax.dynamic_slice(x, (i, 0), (5, 2)), jnp.zeros((1000, 2)), start)
        pull.with_refs(total, jax.ad.DontWant())(jnp.ones((5, 2)))
        expected = np.ones((1000, 2))
    run = lambda g: dp.vjp(lambda x: x[3], jnp.zeros((1000, 2)))[1].with_refs(total)(g) and None
    assert "[1000,2] = " not in str(jax.make_jaxpr(run)(jnp.ones(2)).eqns[-1])
    expected[3:8] += 1
    expected[995:] += 2
    np.testing.assert_allclose(total[...], expected)


def test_mutable_arguments():
    """A reference's gradient is that of what was in it; where it is written to, that of the last content goes in."""

    def scale(ref, x):
        ref[...] = x * ref[...]
        return ref[...] * x

    for first in (0.0, 1.0):
        ref, gradient = jax.new_ref(2.0), jax.new_ref(first)
        y, pull = dp.vjp(scale, ref, 3.0)
        _, dx = pull.with_refs(gradient, jax.ad.GradValue())(1.0)
        assert (float(y), float(ref[...])) == (18.0, 6.0)
        # r' = x r and y = x r': dy/dr + first dr'/dr, and dy/dx + first dr'/dx
        np.testing.assert_allclose((gradient[...], dx), (9.0 + 3 * first, 12.0 + 2 * first))
    with pytest.raises(ValueError, match="argument 0 of scale is a mutable array, and its gradient can only be added"):
        pull(1.0)
    with pytest.raises(ValueError, match="argument 0 of scale is a mutable array, and with_refs was given GradValue"):
        pull.with_refs(jax.ad.GradValue(), jax.ad.GradValue())
    with pytest.raises(TypeError, match="grad takes values; found a mutable array"):
        dp.grad(scale)(ref, 3.0)
    with pytest.raises(ValueError, match="hold one mutable array twice"):
        dp.vjp(lambda a, b: a[...], ref, ref)


def test_more_than_one_cotangent():
    _, pull = dp.vjp(layer, X, W)
    with pytest.raises(TypeError, match=r"the pullback of layer takes one cotangent.*called with 2 arguments"):
        pull(X, X)
