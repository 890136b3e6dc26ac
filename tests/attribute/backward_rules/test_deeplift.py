"""DeepLIFT: the sum is exact for every operation, and results do not depend on how a function is spelled."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from diffprog import attribute
from tests.attribute.backward_rules.programs import RELUS, attention, dense, wave

ASSETS = Path(__file__).parents[3] / "assets"
pytestmark = pytest.mark.usefixtures("x64")


def points():
    return wave(3, 6, phase=0.3) * 2, wave(3, 6, phase=1.9)


W = np.asarray(np.sin(np.arange(48) * 1.7 + 0.8).reshape(6, 8) / 2)

EXACT = {
    "attention": attention,
    "softmax": lambda x: jax.nn.softmax(x @ W)[:, 1],
    "softmax by hand": lambda x: (jnp.exp(x @ W) / jnp.exp(x @ W).sum(-1, keepdims=True))[:, 1],
    "far softmax": lambda x: jax.nn.softmax(200 * x @ W)[:, 1],
    "log_softmax": lambda x: jax.nn.log_softmax(x @ W)[:, 1],
    "logsumexp": lambda x: jax.nn.logsumexp(x @ W, -1),
    "standard deviation": lambda x: x.std(1),
    "norm": lambda x: (x / jnp.linalg.norm(x, axis=1, keepdims=True)).sum(1),
    "silu": lambda x: jax.nn.silu(x @ W).sum(1),
    "gelu": lambda x: jax.nn.gelu(x @ W, approximate=False).sum(1),
    "hard swish": lambda x: jax.nn.hard_swish(x @ W).sum(1),
    "selu": lambda x: jax.nn.selu(x @ W).sum(1),
    "softplus by hand": lambda x: jnp.log1p(jnp.exp(x @ W)).sum(1),
    "relu6": lambda x: jax.nn.relu6(3 * x @ W).sum(1),
    "cube": lambda x: ((x @ W) ** 3).sum(1),
    "rounding": lambda x: jnp.round(3 * x).sum(1),
    "product": lambda x: (x[:, :3] * x[:, 3:]).sum(1),
    "product of six": lambda x: jnp.prod(x, 1),
    "running product": lambda x: jnp.cumprod(x @ W, 1).sum(1),
    "quotient": lambda x: (x[:, :3] / (2 + x[:, 3:] ** 2)).sum(1),
    "power": lambda x: (abs(x[:, :3]) ** x[:, 3:]).sum(1),
    "atan2": lambda x: jnp.arctan2(x[:, :3], x[:, 3:]).sum(1),
    "minimum": lambda x: jnp.minimum(x[:, :3], x[:, 3:]).sum(1),
    "clamp between values": lambda x: jnp.clip(x[:, :2], x[:, 2:4], x[:, 4:] + 1).sum(1),
    "choice": lambda x: jnp.where(x[:, :3] > x[:, 3:], x[:, :3] ** 2, 3.0 * x[:, 3:]).sum(1),
    "comparison": lambda x: (x[:, :3] > x[:, 3:]).astype(x.dtype).sum(1),
    "maximum": lambda x: (x @ W).max(-1),
    "median": lambda x: jnp.median(x @ W, 1),
    "sort": lambda x: (jnp.sort(x @ W, -1) ** 2 * jnp.arange(8)).sum(-1),
    "top_k": lambda x: lax.top_k(x @ W, 3)[0].sum(-1),
    "running maximum": lambda x: (lax.cummax(x @ W, axis=1) * jnp.arange(8)).sum(1),
    "running minimum from behind": lambda x: (lax.cummin(x @ W, axis=1, reverse=True) * jnp.arange(8)).sum(1),
    "max pooling": lambda x: lax.reduce_window(
        (x @ W).reshape(-1, 2, 4, 1), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 1, 2, 1), "SAME"
    ).sum((1, 2, 3)),
    "dilated max pooling": lambda x: lax.reduce_window(
        x @ W, -jnp.inf, lax.max, (1, 3), (1, 2), ((0, 0), (1, 2)), (1, 2), (1, 3)
    ).sum(1),
    "any": lambda x: jnp.where((x > 0.9).any(1), x.sum(1), 2.0),
    "spectrum": lambda x: (abs(jnp.fft.rfft(x)) ** 2).sum(1),
    "jit": lambda x: jax.jit(lambda x: jnp.tanh(x @ W) * jax.nn.relu(x @ W))(x).sum(1),
    "checkpoint": lambda x: jax.checkpoint(lambda x: jnp.tanh(x @ W) * jax.nn.relu(x @ W))(x).sum(1),
    "branches by row": lambda x: jax.vmap(
        lambda row: lax.cond(row.sum() > 0, lambda r: (r**2).sum(), lambda r: r.sum(), row)
    )(x),
    "branch": lambda x: lax.cond(x[0, 0] * 0 < 1, lambda x: (x**2).sum(1), lambda x: x.sum(1), x),
    "scan": lambda x: lax.scan(lambda c, w: (jnp.tanh(c @ w), c.sum(-1)), x, jnp.stack([W @ W.T / 4] * 4))[1].sum(0),
    "fori_loop": lambda x: lax.fori_loop(0, 3, lambda i, c: jnp.sin(c @ W @ W.T / 4) + i, x).sum(1),
    "while_loop": lambda x: lax.while_loop(lambda c: c[1] < 5, lambda c: (jnp.tanh(1.3 * c[0]), c[1] + 1), (x, 0))[
        0
    ].sum(1),
}


@pytest.mark.parametrize("name", EXACT)
def test_differences_add_up(name):
    x, baseline = points()
    found = attribute.deeplift(EXACT[name], x, baseline=baseline)
    size = float(abs(found.score).max() + abs(found.baseline_score).max() + abs(found.values).sum())
    np.testing.assert_allclose(found.gap, 0, atol=1e-14 * size)
    assert found.unruled == ()


@pytest.mark.parametrize("engine", ["diffprog", "jax"])
def test_either_engine_hands_the_credit_back(engine):
    x, baseline = points()
    found = attribute.deeplift(attention, x, baseline=baseline, engine=engine)
    np.testing.assert_allclose(found.gap, 0, atol=1e-13)


def test_a_function_with_its_own_derivative_is_looked_into():
    @jax.custom_vjp
    def square(x):
        return x * x

    square.defvjp(lambda x: (x * x, None), lambda _, g: (jnp.full_like(g, jnp.nan),))

    @jax.custom_jvp
    def cube(x):
        return x**3

    cube.defjvp(lambda x, t: (x[0] ** 3, 1e9 * t[0]))
    x, baseline = points()
    found = attribute.deeplift(lambda x: (square(x) + cube(x)).sum(1), x, baseline=baseline)
    np.testing.assert_allclose(found.values, x**2 + x**3 - baseline**2 - baseline**3, rtol=1e-13)


@pytest.mark.parametrize("rule", ["rescale", "reveal_cancel"])
@pytest.mark.parametrize("spelling", RELUS)
def test_a_relu_has_one_rule_however_it_is_spelled(spelling, rule):
    x, baseline = points()
    run = lambda activation: attribute.deeplift(dense(activation), x, baseline=baseline, rule=rule)
    expected, found = run(RELUS["max(x, 0)"]), run(RELUS[spelling])
    np.testing.assert_allclose(found.values, expected.values, atol=1e-14)
    np.testing.assert_allclose(found.gap, 0, atol=1e-14)


def test_at_the_kink_it_is_the_slope_on_the_left():
    """In every spelling, as jax.nn.relu has it: both ends are at zero, and the two inputs' differences cancel."""
    for activation in RELUS.values():
        found = attribute.deeplift(lambda x, f=activation: f(x[:, 0] - x[:, 1]) + x[:, 2], jnp.ones((1, 3)))
        np.testing.assert_allclose(found.values, [[0, 0, 1]], atol=1e-14)


def smooth_by_hand():
    half = jnp.sqrt(jnp.asarray(0.5))
    return {
        "softplus": (jax.nn.softplus, lambda x: jnp.log(1 + jnp.exp(x))),
        "gelu": (lambda x: jax.nn.gelu(x, approximate=False), lambda x: 0.5 * x * (1 + lax.erf(x * half))),
        "silu": (jax.nn.silu, lambda x: x / (1 + jnp.exp(-x))),
    }


@pytest.mark.parametrize("name", ["softplus", "gelu", "silu"])
def test_smooth_functions_have_one_rule_too(name):
    library, by_hand = smooth_by_hand()[name]
    x, baseline = points()
    run = lambda activation: attribute.deeplift(dense(activation), x, baseline=baseline).values
    np.testing.assert_allclose(run(by_hand), run(library), atol=1e-13)


def test_one_unit_is_the_secant():
    w, x, b = wave(6, phase=0.4), *points()
    found = attribute.deeplift(lambda x: jax.nn.relu(x @ w), x, baseline=b)
    z, z0 = x @ w, b @ w
    slope = (jax.nn.relu(z) - jax.nn.relu(z0)) / (z - z0)
    np.testing.assert_allclose(found.values, (x - b) * w * slope[:, None], rtol=1e-12)


def test_a_linear_function_gives_its_terms():
    w, x, b = wave(6, phase=0.4), *points()
    found = attribute.deeplift(lambda x: x @ w + 5.0, x, baseline=b)
    np.testing.assert_allclose(found.values, (x - b) * w, rtol=1e-14)


@pytest.mark.parametrize(
    "minimum", [lambda a, b: jnp.minimum(a, b), lambda a, b: a - jax.nn.relu(a - b)], ids=["min", "by a relu"]
)
def test_a_minimum_by_either_rule(minimum):
    x = jnp.asarray([[2.0, 1.0]])
    f = lambda x: minimum(x[:, 0], x[:, 1])
    np.testing.assert_allclose(attribute.deeplift(f, x).values, [[0, 1]], atol=1e-15)
    np.testing.assert_allclose(attribute.deeplift(f, x, rule="reveal_cancel").values, [[0.5, 0.5]], atol=1e-15)


def test_reveal_cancel_by_hand():
    rng = np.random.default_rng(0)
    first, bias, second, last = (rng.normal(size=size) for size in ((4, 5), 5, (5, 6), 6))
    x, b = rng.normal(size=4), rng.normal(size=4)
    found = attribute.deeplift(
        lambda x: jax.nn.relu(jax.nn.relu(x @ first + jnp.broadcast_to(bias, (1, 5))) @ second) @ last,
        jnp.asarray(x)[None],
        baseline=jnp.asarray(b)[None],
        rule="reveal_cancel",
    )
    up, down, relu = (lambda a: np.maximum(a, 0)), (lambda a: np.minimum(a, 0)), (lambda a: np.maximum(a, 0))
    terms = lambda p, n, w: (p @ up(w) + n @ down(w), p @ down(w) + n @ up(w))
    back = lambda p, n, w: (up(w) @ p + down(w) @ n, up(w) @ n + down(w) @ p)

    def share(z, p, n):
        rise = (relu(z + p) - relu(z) + relu(z + p + n) - relu(z + n)) / 2
        fall = (relu(z + n) - relu(z) + relu(z + p + n) - relu(z + p)) / 2
        return rise, fall

    z1 = b @ first + bias
    p1, n1 = terms(up(x - b), down(x - b), first)
    rise1, fall1 = share(z1, p1, n1)
    p2, n2 = terms(rise1, fall1, second)
    rise2, fall2 = share(relu(z1) @ second, p2, n2)
    over = lambda a, b: np.divide(a, b, out=np.zeros_like(a), where=b != 0)
    positive, negative = back(last * over(rise2, p2), last * over(fall2, n2), second)
    positive, negative = back(positive * over(rise1, p1), negative * over(fall1, n1), first)
    np.testing.assert_allclose(found.values[0], up(x - b) * positive + down(x - b) * negative, rtol=1e-12)
    np.testing.assert_allclose(found.gap, 0, atol=1e-14)


def test_a_bias_free_network_from_zero_is_gradient_times_input():
    network, (x, _) = dense(jax.nn.relu, bias=0.0), points()
    gradient = jax.grad(lambda x: network(x).sum())(x)
    np.testing.assert_allclose(attribute.deeplift(network, x).values, x * gradient, atol=1e-14)


def test_axioms():
    """Symmetry, dummy, linearity in the function, and the reversal of a function that does not see it."""
    x, b = points()
    x = x.at[:, 1].set(x[:, 0])
    b = b.at[:, 1].set(b[:, 0])
    f = lambda x: jax.nn.gelu(x[:, 0] + x[:, 1]) * x[:, 2] + jnp.maximum(x[:, 0], x[:, 1])
    g = lambda x: jnp.tanh(x[:, 0] * x[:, 3])
    of = lambda f, x=x, b=b: attribute.deeplift(f, x, baseline=b).values
    np.testing.assert_allclose(of(f)[:, 0], of(f)[:, 1], rtol=1e-14)
    np.testing.assert_array_equal(of(f)[:, 3:], 0)
    np.testing.assert_allclose(of(lambda x: 2 * f(x) - g(x)), 2 * of(f) - of(g), atol=1e-14)
    peaks = lambda x: x.min(1) + x.max(1) * jax.nn.relu(x).sum(1)
    np.testing.assert_allclose(of(peaks, x[:, ::-1], b[:, ::-1])[:, ::-1], of(peaks), atol=1e-14)


@pytest.mark.parametrize("rule", ["rescale", "reveal_cancel"])
@pytest.mark.parametrize("spelling", ["times rsqrt", "over a root", "flax"])
def test_normalization_from_a_baseline_without_variance(spelling, rule):
    """There 1 / sqrt(variance + epsilon) is 1000: halves of a product would be large credits that cancel."""
    import flax.linen as nn

    norm = {
        "times rsqrt": lambda h, variance: h * lax.rsqrt(variance + 1e-6),
        "over a root": lambda h, variance: h / jnp.sqrt(variance + 1e-6),
        "flax": lambda h, variance: nn.LayerNorm(use_bias=False, use_scale=False).apply({}, h),
    }[spelling]

    def network(x):
        h = x - x.mean(1, keepdims=True)
        return jnp.tanh(norm(h, (h**2).mean(1, keepdims=True))) @ wave(6, phase=0.1)

    found = attribute.deeplift(network, points()[0], rule=rule)
    np.testing.assert_allclose(found.gap, 0, atol=1e-12)
    assert (abs(found.values).sum(1) < 10).all()


def test_ties_share_alike():
    found = attribute.deeplift(lambda x: x.max(1), jnp.asarray([[2.0, 2.0, 1.0]]), baseline=0.0)
    np.testing.assert_allclose(found.values, [[1, 1, 0]], atol=1e-15)


def test_tiny_differences_are_not_divided_by():
    """In single precision, a step of one unit in the last place: the derivative, and no rounding noise.

    The slope is taken four units below the point: that is 5e-7 of x, times the second derivative.
    """
    x = jnp.linspace(0.5, 3, 50, dtype=jnp.float32)[:, None]
    for f, derivative in ((jnp.exp, jnp.exp), (lambda x: jnp.log1p(jnp.exp(x)), jax.nn.sigmoid), (jnp.sin, jnp.cos)):
        b = jnp.nextafter(x, jnp.float32(0))
        found = attribute.deeplift(lambda x, f=f: f(x)[:, 0], x, baseline=b)
        np.testing.assert_allclose(found.values / (x - b), derivative(x), rtol=3e-6, atol=2e-6)


def test_what_has_no_rule_is_named_and_measured():
    x, b = points()

    def choose(x):
        return jnp.take_along_axis(x, jnp.argmax(x, 1)[:, None], 1)[:, 0]

    found = attribute.deeplift(choose, x, baseline=b)
    line = choose.__code__.co_firstlineno + 1
    assert found.unruled[0] == f"argmax at test_deeplift.py:{line}"
    assert float(abs(found.gap).max()) > 0.01
    assert "argmax" in repr(found)
    stopped = attribute.deeplift(lambda x: (x * lax.stop_gradient(x)).sum(1), x, baseline=b)
    assert [each.split(" at ")[0] for each in stopped.unruled] == ["stop_gradient"]
    rows = lambda x: jax.vmap(lambda r: lax.while_loop(lambda c: (c**2).sum() < 50, lambda c: 1.3 * c, r))(x)[:, 0]
    looped = attribute.deeplift(rows, 1.5 * x, baseline=b / 2)
    assert "number of iterations depends on the points" in looped.unruled[0]


def test_nothing_depends_on_the_batch():
    x, b = points()
    run = lambda x, b, **options: attribute.deeplift(attention, x, baseline=b, **options).values
    whole = run(x, b)
    for i in range(3):
        np.testing.assert_array_equal(run(x[i : i + 1], b[i : i + 1])[0], whole[i])
    np.testing.assert_array_equal(run(x[::-1], b[::-1])[::-1], whole)
    np.testing.assert_array_equal(run(x, b, chunk=2), whole)


def test_several_scores_come_from_one_pass():
    x, b = points()
    network = lambda x: jnp.tanh(x @ W)
    both = attribute.deeplift(network, x, [2, 5], baseline=b)
    for i, index in enumerate((2, 5)):
        one = attribute.deeplift(network, x, index, baseline=b)
        np.testing.assert_allclose(both.values[i], one.values, rtol=1e-13)
        np.testing.assert_allclose(both.gap[i], 0, atol=1e-14)


def test_places_inside_the_model_get_the_credit():
    import diffprog as dp

    x, b = points()
    network = lambda x: jax.nn.relu(dp.tap(jnp.tanh(x @ W), "hidden") ** 2 @ W.T).sum(1)
    found = attribute.deeplift(network, x, baseline=b, at="hidden")
    behind = lambda h: jax.nn.relu(h**2 @ W.T).sum(1)
    expected = attribute.deeplift(behind, jnp.tanh(x @ W), baseline=jnp.tanh(b @ W))
    np.testing.assert_allclose(found.values["hidden"], expected.values, atol=1e-14)
    np.testing.assert_allclose(found.gap, 0, atol=1e-14)


def test_a_layer_that_is_used_twice():
    x, b = points()
    layer = lambda h: jax.nn.relu(h @ W @ W.T)
    found = attribute.deeplift(lambda x: layer(layer(x)).sum(1), x, baseline=b)
    copies = attribute.deeplift(lambda x: jax.nn.relu(jax.nn.relu(x @ W @ W.T) @ W @ W.T).sum(1), x, baseline=b)
    np.testing.assert_allclose(found.values, copies.values, rtol=1e-13)


def test_a_rule_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match="rule must be one of 'rescale', 'reveal_cancel'; found 'deep'"):
        attribute.deeplift(lambda x: x.sum(1), points()[0], rule="deep")


@pytest.mark.slow
def test_the_gap_on_a_real_network_is_rounding():
    from diffprog import images, models

    with jax.enable_x64(False):
        model = models.load("efficientnet_lite0")
        cat = images.network_crop(images.read_image(ASSETS / "chelsea.png"))[None]
        starts = {"black": 0.0, "grey": 0.5, "mean": np.broadcast_to(cat.mean((1, 2), keepdims=True), cat.shape)}
        for baseline in starts.values():
            found = attribute.deeplift(model, cat, 282, baseline=baseline)
            assert abs(float(found.gap[0])) < 1e-5 * float(found.score[0])
            assert found.unruled == ()
