"""Shapley values, KernelSHAP, Owen values and pairs, against games whose values are known, in double precision."""

from functools import cache
from itertools import combinations, permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog import attribute
from diffprog.attribute import baselines, features

ONES = lambda count: np.ones((1, count))
every_game = {  # v of who is present (n, players), and the Shapley values
    "glove": (lambda z: jnp.minimum(z[:, 0], jnp.maximum(z[:, 1], z[:, 2])), [2 / 3, 1 / 6, 1 / 6]),
    "unanimity, with a dummy": (lambda z: z[:, 0] * z[:, 2] * z[:, 3], [1 / 3, 0, 1 / 3, 1 / 3]),
    "majority": (lambda z: 1.0 * (z.sum(axis=1) >= 3), [0.2] * 5),
    # Costs of a runway as long as the longest of 1, 2, 4, 4 needs.
    "airport": (lambda z: jnp.max(z * jnp.array([1.0, 2, 4, 4]), axis=1), [0.25, 0.25 + 1 / 3, 19 / 12, 19 / 12]),
    # Weights 3, 2, 1, 1 with 4 votes to win: the first is decisive in second or third place, in half of the orders.
    "voting": (lambda z: 1.0 * (z @ jnp.array([3.0, 2, 1, 1]) >= 4), [1 / 2, 1 / 6, 1 / 6, 1 / 6]),
}
each_game = pytest.mark.parametrize("name", every_game)
RNG = np.random.default_rng(0)
FIRST, SECOND = RNG.normal(size=(12, 15)), RNG.normal(size=15)
ROWS = RNG.normal(size=(3, 12))


def net(x):
    # Arrays of JAX: of NumPy's, JAX remembers the type that they had first.
    return jnp.tanh(x @ jnp.asarray(FIRST)[: x.shape[1]]) @ jnp.asarray(SECOND)


def by_orders(value, count):
    """Shapley's own definition: the mean contribution over all orders."""
    credit = np.zeros(count)
    orders = list(permutations(range(count)))
    for order in orders:
        for place, player in enumerate(order):
            credit[player] += value(order[: place + 1]) - value(order[:place])
    return credit / len(orders)


def of_players(model, x):
    """The score with some players present, all others 0."""
    run = jax.jit(model)

    @cache
    def of(present):
        return float(run(np.where(np.isin(np.arange(x.size), list(present)), x, 0)[None])[0])

    return lambda present: of(frozenset(present))


@each_game
@pytest.mark.parametrize("method", [attribute.shapley, attribute.kernel_shap])
def test_games(x64, name, method):
    game, truth = every_game[name]
    found = method(game, ONES(len(truth)))
    np.testing.assert_allclose(found.values[0], truth, atol=1e-14)
    np.testing.assert_allclose(found.gap, 0, atol=1e-15)
    assert found.error is None and list(found.evaluations) == [2 ** len(truth)]


@pytest.mark.parametrize("method", [attribute.shapley, attribute.kernel_shap])
def test_a_network_by_definition(x64, method):
    found = method(net, ROWS[:, :5])
    for x, values in zip(ROWS[:, :5], found.values, strict=True):
        np.testing.assert_allclose(values, by_orders(of_players(net, x), 5), rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(found.gap, 0, atol=1e-13)


def test_one_feature_gets_all(x64):
    for method in (attribute.shapley, attribute.kernel_shap):
        found = method(lambda x: x[:, 0] ** 3, np.array([[2.0]]), baseline=1.0)
        np.testing.assert_array_equal(found.values, [[7]])


@pytest.mark.parametrize("samples", [60, 400])
@pytest.mark.parametrize("method", [attribute.shapley, attribute.kernel_shap])
def test_errors_say_how_far_samples_are_off(x64, method, samples):
    exact = attribute.shapley(net, ROWS)
    scaled = []
    for key in range(8):
        found = method(net, ROWS, samples=samples, key=key)
        scaled.append(np.asarray((found.values - exact.values) / found.error))
        np.testing.assert_allclose(found.gap, 0, atol=1e-13)
    # Near normal of variance 1: of 288 numbers, about 14 lie beyond 2, and the largest is at about 3.
    assert 0.7 < np.sqrt(np.mean(np.square(scaled))) < 1.3
    assert np.mean(np.abs(scaled) < 1.96) > 0.9


def test_errors_shrink_with_the_root_of_samples(x64):
    small, large = (attribute.shapley(net, ROWS, samples=samples, key=0).error for samples in (200, 3200))
    np.testing.assert_allclose(np.mean(small) / np.mean(large), 4, rtol=0.2)


def test_equal_coalitions_are_evaluated_once(x64):
    found = attribute.shapley(net, ROWS[:, :4], samples=1000, key=0)
    assert list(found.evaluations) == [16, 16, 16] and list(found.steps) == [1000, 1000, 1000]
    assert (found.error > 0).all()


def test_kernel_shap_takes_sizes_whole_before_it_draws(x64):
    """Of 12 features the 24 coalitions of 1 or 11 are among 100, and additive games are exact with any."""
    additive = lambda x: (x**3).sum(axis=1)
    found = attribute.kernel_shap(additive, ROWS, samples=100, key=0)
    np.testing.assert_allclose(found.values, ROWS**3, rtol=1e-10, atol=1e-12)
    assert (found.evaluations <= 102).all() and (found.evaluations > 80).all()


def test_a_pair_that_alone_decides_has_no_known_error(x64):
    """With 24 pairs of 12 features, key 13 tells two features apart by one of them only."""
    found = attribute.kernel_shap(net, ROWS[:1], samples=48, key=13)
    assert np.isinf(found.error).any() and np.isfinite(found.values).all()
    with pytest.raises(ValueError, match="samples=20 are too few to tell 12 features apart"):
        attribute.kernel_shap(net, ROWS, samples=20, key=0)


def test_data_stand_for_what_is_missing(x64):
    """The mean over baselines of the values with each (the marginal expectation)."""
    data = RNG.normal(size=(5, 4))
    found = attribute.shapley(net, ROWS[:, :4], baseline=data)
    each = [attribute.shapley(net, ROWS[:, :4], baseline=row) for row in data]
    np.testing.assert_allclose(found.values, np.mean([one.values for one in each], axis=0), rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(found.baseline_score, net(data).mean(), rtol=1e-14)
    assert list(found.evaluations) == [15 * 5 + 1] * 3
    # As many rows as examples: marked, they are data; unmarked, one for each example.
    marked = attribute.shapley(net, ROWS[:, :4], baseline=baselines.data(data[:3]))
    own = attribute.shapley(net, ROWS[:, :4], baseline=data[:3])
    np.testing.assert_allclose(marked.baseline_score, net(data[:3]).mean(), rtol=1e-14)
    np.testing.assert_allclose(own.baseline_score, net(data[:3]), rtol=1e-14)


def test_features_share_their_credit_evenly(x64):
    image = RNG.normal(size=(2, 4, 4, 3))
    model = lambda x: jnp.prod(x.sum(axis=3).reshape(-1, 2, 2, 2, 2).sum(axis=(2, 4)), axis=(1, 2))
    found = attribute.shapley(model, image, features=features.patches(2))
    assert found.per_feature.shape == (2, 4)
    np.testing.assert_allclose(found.values[:, 2:, :2].sum(axis=(1, 2, 3)), found.per_feature[:, 2], rtol=1e-12)
    np.testing.assert_allclose(np.ptp(found.values[:, 2:, :2], axis=(1, 2, 3)), 0, atol=1e-15)
    np.testing.assert_allclose(found.gap, 0, atol=1e-12)


def test_several_scores(x64):
    both = lambda x: jnp.stack([net(x), net(x) ** 2], axis=1)
    for options in ({}, {"samples": 20, "key": 0}):
        found = attribute.shapley(both, ROWS[:, :5], [0, 1], **options)
        for number in (0, 1):
            alone = attribute.shapley(both, ROWS[:, :5], number, **options)
            np.testing.assert_allclose(found.values[number], alone.values, rtol=1e-12)
            np.testing.assert_allclose(found.per_feature[number], alone.per_feature, rtol=1e-12)
            if options:
                np.testing.assert_allclose(found.error[number], alone.error, rtol=1e-12)


def test_too_many_features_are_refused():
    with pytest.raises(ValueError, match=r"shapley of 13 features has 2\^13 coalitions"):
        attribute.shapley(lambda x: x.sum(axis=1), np.ones((1, 13)))
    with pytest.raises(ValueError, match="need key="):
        attribute.shapley(lambda x: x.sum(axis=1), np.ones((1, 13)), samples=8)
    with pytest.raises(ValueError, match="give key="):
        attribute.kernel_shap(lambda x: x.sum(axis=1), np.ones((1, 13)), samples=200)


# ---------------------------------------------------------------- groups


def owen_by_orders(value, groups):
    """Owen's definition: the mean contribution over the orders in which groups stay together."""
    count = sum(map(len, groups))
    orders = [
        sum(order, ())
        for whole in permutations(groups)
        for order in _products([list(permutations(group)) for group in whole])
    ]
    credit = np.zeros(count)
    for order in orders:
        for place, player in enumerate(order):
            credit[player] += value(order[: place + 1]) - value(order[:place])
    return credit / len(orders)


def _products(choices):
    return [(first, *rest) for first in choices[0] for rest in _products(choices[1:])] if choices else [()]


def test_owen_values_by_definition(x64):
    groups = [(0, 3), (1,), (2, 4)]
    found = attribute.owen_values(net, ROWS[:, :5], groups=[0, 1, 2, 0, 2])
    for x, values in zip(ROWS[:, :5], found.values, strict=True):
        np.testing.assert_allclose(values, owen_by_orders(of_players(net, x), groups), rtol=1e-10, atol=1e-13)
    # Groups get the Shapley value of the game of groups.
    of_groups = attribute.shapley(net, ROWS[:, :5], features=np.array([0, 1, 2, 0, 2]))
    totals = np.stack([found.values[:, list(group)].sum(axis=1) for group in groups], axis=1)
    np.testing.assert_allclose(totals, of_groups.per_feature, rtol=1e-10)
    np.testing.assert_allclose(found.gap, 0, atol=1e-13)


def test_owen_values_of_a_tree(x64):
    # Groups of one, or a single group, are no groups at all.
    plain = attribute.shapley(net, ROWS[:, :5]).values
    for groups in ([0, 1, 2, 3, 4], [[0, 1, 2, 3, 4]], [0, [1], 2, 3, 4], np.zeros(5, int)):
        found = attribute.owen_values(net, ROWS[:, :5], groups=groups)
        np.testing.assert_allclose(found.values, plain, rtol=1e-10, atol=1e-13)
    tree = [[0, [1, 2]], [3, 4]]
    exact = attribute.owen_values(net, ROWS[:, :5], groups=tree)
    upper = attribute.owen_values(net, ROWS[:, :5], groups=[[0, 1], [2]], features=np.array([0, 1, 1, 2, 2]))
    np.testing.assert_allclose(exact.values[:, 0], upper.per_feature[:, 0], rtol=1e-10)
    np.testing.assert_allclose(exact.values[:, 1:3].sum(axis=1), upper.per_feature[:, 1], rtol=1e-10)
    drawn = attribute.owen_values(net, ROWS[:, :5], groups=tree, samples=2000, key=0)
    assert (np.abs(drawn.values - exact.values) < 4 * drawn.error + 1e-12).all()
    np.testing.assert_allclose(drawn.gap, 0, atol=1e-13)


def test_groups_that_do_not_fit():
    for groups, message in [
        ([[0, 1], [1, 2]], "each of the features 0 to 2 once"),
        ([0, 0], "an integer for each of 3 features"),
        ([[0, 1, 2], []], "must not be empty"),
        ([[0, 1], "x"], "whole numbers"),
    ]:
        with pytest.raises(ValueError, match=message):
            attribute.owen_values(lambda x: x.sum(axis=1), np.ones((1, 3)), groups=groups)
    with pytest.raises(ValueError, match="exact up to"):
        attribute.owen_values(lambda x: x.sum(axis=1), np.ones((1, 20)), groups=np.zeros(20, int))


# ---------------------------------------------------------------- pairs


def test_interactions_by_definition(x64):
    """Of both indices, from a sum over subsets written out, and from the definition by orders."""
    count, x = 4, ROWS[0, :4]
    value = of_players(net, x)
    found = attribute.shapley_interactions(net, x[None])
    taylor = attribute.shapley_interactions(net, x[None], index="taylor")
    together = lambda s, i, j: value((*s, i, j)) - value((*s, i)) - value((*s, j)) + value(s)
    for i, j in combinations(range(count), 2):
        others = [k for k in range(count) if k not in (i, j)]
        subsets = [s for size in range(count - 1) for s in combinations(others, size)]
        # Sizes 0, 1, 2 have the same weight in all; of one size, all subsets do.
        chances = {0: 1 / 3, 1: 1 / 6, 2: 1 / 3}
        mean = sum(chances[len(s)] * together(s, i, j) for s in subsets)
        np.testing.assert_allclose(found.values[0, i, j], mean / 2, rtol=1e-10)
        np.testing.assert_allclose(found.values[0, j, i], mean / 2, rtol=1e-10)
        orders = list(permutations(range(count)))
        before = [order[: min(order.index(i), order.index(j))] for order in orders]
        mean = np.mean([together(s, i, j) for s in before])
        np.testing.assert_allclose(taylor.values[0, i, j], mean / 2, rtol=1e-10)
    alone = [value((i,)) - value(()) for i in range(count)]
    np.testing.assert_allclose(np.diag(taylor.values[0]), alone, rtol=1e-10)
    shapley = attribute.shapley(net, x[None])
    np.testing.assert_allclose(found.values.sum(axis=2), shapley.values, rtol=1e-10)
    for each in (found, taylor):
        np.testing.assert_allclose(each.gap, 0, atol=1e-13)


@pytest.mark.parametrize("options", [{}, {"samples": 6, "key": 0}])
def test_a_product_is_all_interaction_and_a_sum_has_none(x64, options):
    x = np.array([[2.0, 3.0, 5.0]])
    product = attribute.shapley_interactions(lambda x: x[:, 0] * x[:, 1], x, index="taylor", **options)
    np.testing.assert_allclose(product.values[0], [[0, 3, 0], [3, 0, 0], [0, 0, 0]], atol=1e-14)
    for index in ("shapley", "taylor"):
        additive = attribute.shapley_interactions(lambda x: (x**2).sum(axis=1), x, index=index, **options)
        np.testing.assert_allclose(additive.values[0], np.diag([4, 9, 25]), atol=1e-13)


@pytest.mark.parametrize("index", ["shapley", "taylor"])
def test_sampled_interactions(x64, index):
    x = ROWS[:2, :5]
    exact = attribute.shapley_interactions(net, x, index=index)
    drawn = attribute.shapley_interactions(net, x, index=index, samples=600, key=1)
    assert (np.abs(drawn.values - exact.values) < 4 * drawn.error + 1e-12).all()
    assert (drawn.error < 0.2 * np.abs(exact.values).max()).all()
    np.testing.assert_allclose(drawn.gap, 0, atol=1e-12)
    several = attribute.shapley_interactions(lambda x: jnp.stack([net(x), x[:, 0]], 1), x, [0, 1], index=index)
    np.testing.assert_allclose(several.values[0], exact.values, rtol=1e-12)
    with pytest.raises(ValueError, match="index must be one of"):
        attribute.shapley_interactions(net, x, index="banzhaf")


def test_nothing_depends_on_the_batch_or_the_chunk():
    methods = {
        "exact": lambda *a, **o: attribute.shapley(*a, features=np.arange(12) // 2, **o),
        "orders": lambda *a, **o: attribute.shapley(*a, samples=30, key=0, **o),
        "kernel": lambda *a, **o: attribute.kernel_shap(*a, samples=60, key=0, **o),
        "owen": lambda *a, **o: attribute.owen_values(*a, groups=np.arange(12) // 3, **o),
        "pairs": lambda *a, **o: attribute.shapley_interactions(*a, samples=4, key=0, **o),
    }
    x = jax.random.normal(jax.random.key(0), (5, 12))
    model = lambda x: jnp.tanh(x @ jnp.asarray(FIRST, jnp.float32)) @ jnp.asarray(SECOND, jnp.float32)
    for name, method in methods.items():
        whole = method(model, x)
        for other in (method(model, x, chunk=600), method(model, x[::-1]), method(model, x[3:4])):
            rows = {5: slice(None), 1: slice(3, 4)}[len(other.score)]
            expected = whole.values[rows]
            expected = expected[::-1] if not np.array_equal(other.score, whole.score[rows]) else expected
            np.testing.assert_array_equal(other.values, expected, err_msg=name)
