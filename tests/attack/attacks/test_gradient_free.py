import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog.attack import l2, linf, nes, spsa
from diffprog.attack._attacks.fast_gradient import State
from diffprog.attack._engine.method import Example
from diffprog.attack._engine.oracle import Oracle, query_differences, sum_in_groups

pytestmark = pytest.mark.usefixtures("quick_to_compile")
KEY = jax.random.key(3)


def test_sums_of_any_length_are_the_plain_sums():
    term = lambda k: (k.astype(jnp.float32) + 1, jnp.stack([k, k * k]))
    for at_once in (1, 4):
        some = jax.jit(lambda count: sum_in_groups(term, count, at_once))
        for count in (1, 7, 8):
            for total, pair in (some(count), sum_in_groups(term, count, at_once)):
                assert float(total) == count * (count + 1) / 2
                np.testing.assert_array_equal(pair, [sum(range(count)), sum(k * k for k in range(count))])


@pytest.mark.not_under("strict", reason="calls what attacks call under JAX's defaults")
@pytest.mark.parametrize("draw", [jax.random.rademacher, jax.random.normal])
def test_the_estimate_is_the_gradient_of_a_quadratic(draw):
    """Central differences of a quadratic are exact; what is left is the spread over directions, which is known."""
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(3, 3)).astype(np.float32)
    images = rng.uniform(0.3, 0.7, size=(4, 3)).astype(np.float32)

    def model(x):
        return jnp.stack([jnp.zeros(len(x)), jnp.einsum("ni,ij,nj->n", x, matrix, x)], axis=-1)

    samples = 4000
    lower, upper = np.zeros_like(images), np.ones_like(images)
    lower[:, 2] = upper[:, 2] = images[:, 2]  # masked
    zeros = jnp.zeros(4, jnp.int32)
    examples = Example(images, zeros, zeros, jnp.ones(4), lower, upper, jax.random.split(KEY, 4))
    look = jax.jit(
        lambda keys: query_differences(draw, samples)(
            Oracle(model, False, None, "jax"),
            lambda logits, labels: logits[:, 1],
            State(jnp.asarray(images)),
            examples,
            (jnp.float32(0.02),),
            keys,
        )
    )
    view = look(examples.key)
    exact = images @ (matrix + matrix.T)
    exact[:, 2] = 0
    size = np.linalg.norm(exact, axis=1, keepdims=True)
    np.testing.assert_allclose(view.gradient, exact, atol=float(5 * 1.5 * size.max() / np.sqrt(samples)))
    assert np.all(np.asarray(view.gradient)[:, 2] == 0)
    assert view.queries == 1 + 2 * samples and view.backward_passes == 0
    np.testing.assert_allclose(look(examples.key[::-1]).gradient[0], exact[0], atol=float(7.5 * size.max() / 63))


@pytest.mark.parametrize(("attack", "norm"), [(spsa, linf), (nes, l2)])
def test_a_plane_is_crossed_just_beyond_its_distance(attack, norm):
    rng = np.random.default_rng(1)
    weights = rng.normal(size=12).astype(np.float32)
    images = rng.uniform(0.02, 0.9, size=(5, 12)).astype(np.float32)
    bias = -np.float32((images @ weights).max() + 0.2)

    def model(x):  # which knows no images outside of the bounds: one such probe, and the estimate would be NaN
        score = jnp.where(jnp.all((x >= 0) & (x <= 1), axis=-1), x @ weights + bias, jnp.nan)
        return jnp.stack([jnp.zeros(len(x)), score], axis=-1)

    gaps = -(images @ weights + bias)
    smallest = gaps / (np.abs(weights).sum() if norm is linf else np.linalg.norm(weights))
    beyond, short = (
        attack(
            model,
            images,
            np.zeros(5, int),
            key=KEY,
            norm=norm,
            epsilon=factor * smallest,
            max_steps=12,
            num_samples=40,
            batch_size=4,
        )
        for factor in (1.08, 0.99)
    )
    assert beyond.success.all() and not short.success.any()
    assert np.all(short.distances[norm.name] <= 0.99 * smallest)
    np.testing.assert_array_equal(short.queries, 12 * 81 + 1)
    np.testing.assert_array_equal(short.backward_passes, 0)
    alone = attack(
        model,
        images[[3]],
        np.zeros(1, int),
        key=KEY,
        norm=norm,
        epsilon=1.08 * smallest[[3]],
        max_steps=12,
        num_samples=40,
        image_ids=np.array([3]),
        batch_size=4,
    )
    np.testing.assert_array_equal(alone.images[0], beyond.images[3])


def test_bad_numbers_get_one_sentence():
    model, images = (lambda x: x), np.full((1, 3), 0.5, np.float32)
    for options, sentence in (
        ({"num_samples": 0}, "num_samples must be a whole number of at least 1; found 0"),
        ({"delta": -1.0}, "delta must be a positive number; found -1.0"),
    ):
        with pytest.raises(ValueError, match=sentence):
            spsa(model, images, np.zeros(1, int), key=KEY, **options)
