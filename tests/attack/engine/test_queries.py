"""`max_queries`: no search asks more, by its own figure and by the count of a model that is outside of JAX."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog import attack
from diffprog.attack._registry import ATTACKS

pytestmark = [
    pytest.mark.usefixtures("quick_to_compile"),
    pytest.mark.filterwarnings("ignore:hop_skip_jump found no adversarial point"),
]
KEY = jax.random.key(3)
BLIND = [name for name, info in ATTACKS.items() if info.access != "gradients"]
OPTIONS = {
    "spsa": {"num_samples": 7},
    "nes": {"num_samples": 7},
    "additive_noise": {"num_samples": 60},
    "hop_skip_jump": {"initial_num_evals": 20},
    "blended": {"towards": "noise"},
}
SHAPE = (6, 6, 1)
RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0.3, 0.7, (5, *SHAPE)).astype(np.float32)
WEIGHTS = RNG.normal(size=36).astype(np.float32)


class Counting:
    """Two classes beside a plane, decided in NumPy; it remembers every point that it was asked about."""

    def __init__(self, gap=0.0):
        self.points = set()
        self.move(gap)

    def move(self, gap):
        """Put the plane so far behind the nearest image, in units of the lead."""
        self.bias = np.float32((IMAGES.reshape(5, 36) @ WEIGHTS).max() + gap)

    def __call__(self, images):
        result = jax.ShapeDtypeStruct((*images.shape[:-3], 2), jnp.float32)
        return jax.pure_callback(self.answer, result, images, vmap_method="broadcast_all")

    def answer(self, images):
        images = np.asarray(images)
        rows = images.reshape(-1, 36)
        self.points.update(row.tobytes() for row in rows)
        lead = (rows @ WEIGHTS - self.bias).reshape(images.shape[:-3])
        return np.stack([0 * lead, lead], axis=-1).astype(np.float32)


@pytest.mark.parametrize("name", BLIND)
def test_no_search_asks_more_than_it_may(name):
    model = Counting()
    call = partial(getattr(attack, name), model, key=KEY, **OPTIONS.get(name, {}))
    for gap, max_queries, restarts in ((0.4, 15, 1), (0.4, 150, 1), (4.0, 37, 3)):
        model.move(gap)
        found = call(IMAGES, np.zeros(5, int), max_queries=max_queries, restarts=restarts)
        assert found.queries.min() > 0 and found.queries.max() <= max_queries

    model.points.clear()
    found = call(IMAGES[:1], np.zeros(1, int), max_queries=100)
    # Besides, the image itself was looked at, and what is returned, in bytes too. Some ask about a point twice.
    assert 3 < len(model.points) <= found.queries[0] + 3 <= 103


@pytest.mark.parametrize("name", BLIND)
def test_a_limit_that_is_not_reached_changes_nothing(name):
    model = lambda x: jnp.stack([jnp.zeros(len(x)), x.reshape(len(x), 36) @ WEIGHTS - 1], axis=-1)
    options = OPTIONS.get(name, {}) | ({"max_steps": 6} if name in ("square", "hop_skip_jump", "spsa", "nes") else {})
    labels = np.asarray(model(IMAGES)).argmax(1)
    free, limited = (
        getattr(attack, name)(model, IMAGES, labels, key=KEY, max_queries=limit, **options) for limit in (None, 10**10)
    )
    np.testing.assert_allclose(free.images, limited.images, atol=1e-6)  # of two programs
    np.testing.assert_array_equal(free.queries, limited.queries)


def test_a_search_spends_what_it_is_allowed():
    robust = lambda x: jnp.zeros((len(x), 2)).at[:, 0].set(1 + x.mean(axis=(1, 2, 3)))
    labels, expected = np.zeros(5, int), {"square": 41, "spsa": 31}
    for name, spent in expected.items():
        found = getattr(attack, name)(
            robust, IMAGES, labels, key=KEY, max_queries=41, early_stop=False, **OPTIONS.get(name, {})
        )
        np.testing.assert_array_equal(found.queries, spent)  # of spsa two steps of 15, and a last look


def test_each_budget_has_its_own_limit():
    model = Counting(1.0)
    found = attack.square(
        model, IMAGES, np.zeros(5, int), key=KEY, epsilon=[[0.001], [0.2]], max_queries=20, every_budget=True
    )
    assert found.queries.shape == (2, 5) and found.queries.max() == 20


def test_hop_skip_jump_comes_near_the_plane_within_its_limit():
    model = Counting(0.4)
    found = [
        attack.hop_skip_jump(model, IMAGES, np.zeros(5, int), key=KEY, max_queries=limit, initial_num_evals=60)
        for limit in (100, 3000)
    ]
    exact = (model.bias - IMAGES.reshape(5, 36).astype(float) @ WEIGHTS) / np.linalg.norm(WEIGHTS)
    few, many = (each.distances["l2"] / exact for each in found)
    assert all(each.success.all() for each in found) and many.max() < 1.1 and (many < few).all()
    assert (found[1].queries > 2900).all()


@pytest.mark.parametrize("word", ["n_queries", "num_queries", "query_limit", "query_budget"])
def test_words_of_other_libraries_mean_max_queries(word):
    for name in ("square", "hop_skip_jump", "spatial"):
        with pytest.raises(TypeError, match=f"^{name} has no argument '{word}': .*max_queries="):
            getattr(attack, name)(**{word: 100})


def test_limits_that_make_no_sense_are_refused():
    model = Counting(1.0)
    with pytest.raises(ValueError, match="max_queries must be a whole number of at least 1; found 0"):
        attack.square(model, IMAGES, np.zeros(5, int), key=KEY, max_queries=0)
    with pytest.raises(ValueError, match="max_queries must be at least 257, what a step of spsa costs; found 100"):
        attack.spsa(model, IMAGES, np.zeros(5, int), key=KEY, max_queries=100)
    with pytest.raises(TypeError, match=r"pgd has no argument 'max_queries': .* max_steps="):
        attack.pgd(model, IMAGES, np.zeros(5, int), key=KEY, max_queries=100)
