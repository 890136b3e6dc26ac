import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog.attack import l1, l2, linf, margin, square
from diffprog.attack._attacks.square import Region, hill, place, tiles, window_sides
from tests.attack.attacks.test_fast_gradient import linear_problem

KEY = jax.random.key(5)


def pictures(shape, seed=0):
    """Small networks that see a picture as a whole: two classes, far from the boundary."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(int(np.prod(shape)), 3)).astype(np.float32)
    images = rng.uniform(0.3, 0.7, size=(4, *shape)).astype(np.float32)
    model = lambda x: jnp.tanh((x - 0.5).reshape(len(x), -1) @ weights)
    return model, images, np.asarray(model(images)).argmax(axis=1)


@pytest.mark.not_under("strict", reason="calls what attacks call under JAX's defaults")
def test_windows_have_the_area_of_the_paper_and_fit_the_picture():
    for part in (0.8, 0.4, 0.05, 0.003):
        side = max(round((part * 32 * 32) ** 0.5), 1)
        assert [int(each) for each in window_sides((32, 32), part)] == [side, side]
        odd = max(side, 3) + (max(side, 3) % 2 == 0)
        assert [int(each) for each in window_sides((32, 32), part, min_side=3, odd=True)] == [odd, odd]
    assert [int(each) for each in window_sides((4, 40), 0.5)] == [4, 20]
    assert [int(each) for each in window_sides((40, 4), 0.5)] == [20, 4]
    assert [int(each) for each in window_sides((1, 50), 0.1)] == [1, 5]


def test_windows_reach_every_edge_and_differ():
    region = Region((0, 0), (5, 6))
    draw = jax.vmap(lambda key: place(key, (5, 6, 1), (3, 2), region).inside)
    inside = np.asarray(draw(jax.random.split(KEY, 600)))[..., 0]
    np.testing.assert_array_equal(inside.sum(axis=(1, 2)), 6)
    corners = {tuple(np.argwhere(each)[0]) for each in inside}
    assert corners == {(row, column) for row in range(3) for column in range(5)}
    counts = np.unique(inside.reshape(600, -1), axis=0, return_counts=True)[1]
    assert len(counts) == 15 and counts.min() > 15  # 40 expected


def hill_of_the_paper(tall, wide):
    """Andriushchenko et al. 2020, supplement: nested squares, added one by one."""

    def peak(tall, wide):
        values = np.zeros((tall, wide))
        for k in range(max(tall // 2, wide // 2) + 1):
            top, left = tall // 2 - k, wide // 2 - k
            values[max(top, 0) : top + 2 * k + 1, max(left, 0) : left + 2 * k + 1] += 1 / (k + 1) ** 2
        return values / np.linalg.norm(values)

    return np.concatenate([peak(tall // 2, wide), -peak(tall - tall // 2, wide)])


def test_hills_are_those_of_the_paper():
    seen = set()
    for seed in range(8):
        key = jax.random.key(seed)
        window = place(key, (9, 9, 1), (5, 5), Region((0, 0), (9, 9)))
        values = np.asarray(hill(key, window, (5, 5)))[..., 0]
        found = values[np.asarray(window.inside)[..., 0]].reshape(5, 5)
        upright = hill_of_the_paper(5, 5)
        standing = bool(np.allclose(found, upright, atol=1e-6))
        seen.add(standing)
        np.testing.assert_allclose(found, upright if standing else upright.T, atol=1e-6)
        assert np.count_nonzero(values) == 25
    assert seen == {True, False}


def test_tiles_are_equal_hills_in_the_middle():
    (rows, columns), heights = tiles(jax.random.key(0), (16, 21, 1))  # tiles of 3 by 4
    heights, one = np.asarray(heights)[..., 0], hill_of_the_paper(3, 4)
    whole = np.tile(one, (5, 5))
    lying = np.tile(hill_of_the_paper(4, 3).T, (5, 5))
    inner = heights[:15, :20]
    assert any(np.allclose(inner, each * 1 / 5, atol=1e-6) for each in (whole, lying))
    np.testing.assert_array_equal(heights[15:], 0)
    assert int(rows[14, 0]) == 4 and int(columns[0, 19]) == 4


def test_linear_score_is_raised_to_its_optimum():
    model, images, weights, _ = linear_problem()
    result = square(model, images, np.zeros(6, int), key=KEY, epsilon=0.1, max_steps=800, early_stop=False)
    best = 0.1 * np.abs(weights).sum()
    gained = (result.images.astype(np.float64) - images) @ weights
    assert np.all(gained > 0.99 * best) and np.all(gained <= best)
    np.testing.assert_array_equal(result.queries, 801)
    np.testing.assert_array_equal(result.backward_passes, 0)


@pytest.mark.parametrize(("norm", "shape"), [(linf, (9, 12, 2)), (l2, (9, 12, 2)), (l1, (9, 12, 2)), (l2, (20,))])
def test_budget_is_spent_and_no_image_depends_on_its_batch(norm, shape):
    model, images, labels = pictures(shape)
    epsilon = {"linf": 0.05, "l2": 0.4, "l1": 1.5}[norm.name]
    options = dict(key=KEY, norm=norm, epsilon=epsilon, max_steps=60, early_stop=False, batch_size=4)
    result = square(model, images, labels, **options)
    assert np.all(result.distances[norm.name] <= epsilon)
    np.testing.assert_allclose(result.distances[norm.name], epsilon, rtol=3e-5)  # the box is far away
    if norm is linf:
        np.testing.assert_allclose(np.abs(result.images - images), epsilon, atol=1e-6)
    start = square(model, images, labels, **{**options, "max_steps": 1})
    assert np.all(margin(model(result.images), labels) > margin(model(start.images), labels))
    alone = square(model, images[[3, 1]], labels[[3, 1]], image_ids=np.array([3, 1]), **options)
    np.testing.assert_array_equal(alone.images, result.images[[3, 1]])


@pytest.mark.parametrize("norm", [linf, l2])
def test_a_search_within_a_mask_is_that_of_the_region_alone(norm):
    """As strong, with other draws: the pixels around are constants of the network, and no window is spent on them."""
    model, images, labels = pictures((5, 6, 2))
    whole, mask = np.full((4, 12, 16, 2), 0.5, np.float32), np.zeros((12, 16, 1), bool)
    whole[:, 4:9, 7:13], mask[4:9, 7:13] = images, True
    options = dict(key=KEY, norm=norm, epsilon=0.05 if norm is linf else 0.4, max_steps=150, early_stop=False)
    alone = square(model, images, labels, **options)
    within = square(lambda x: model(x[:, 4:9, 7:13]), whole, labels, mask=mask, **options)
    np.testing.assert_array_equal(within.images[:, ~mask[..., 0]], 0.5)
    gain = lambda found: float(jnp.sum(margin(model(found), labels) - margin(model(images), labels)))
    assert gain(within.images[:, 4:9, 7:13]) > 0.95 * gain(alone.images)  # with windows all over, 0.65 and 0.88


def test_search_ends_with_the_first_success():
    model, images, labels = pictures((9, 12, 2))
    result = square(model, images, labels, key=KEY, epsilon=0.25, max_steps=60)
    assert result.success.any()
    np.testing.assert_array_equal(result.queries[result.success], result.first_success[result.success] + 1)
