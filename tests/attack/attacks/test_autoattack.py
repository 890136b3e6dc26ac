from importlib.metadata import version

import jax
import numpy as np
import pytest

from diffprog.attack import ExpectationOverTransformation, apgd, autoattack, dlr, l1, l2, linf, pgd
from diffprog.attack._attacks.autoattack import members
from diffprog.attack._engine.result import at_budgets, best_of
from tests.attack.attacks.test_fast_gradient import network

KEY = jax.random.key(7)
BUDGETS = np.array([[0.02], [0.045], [0.06]])


@pytest.fixture(scope="module")
def problem():
    return network(seed=1)


@pytest.fixture(scope="module")
def attacked(problem):
    return autoattack(*problem, key=KEY, epsilon=BUDGETS, engine="jax")


def test_parameters_are_those_of_the_authors():
    names = ["apgd-ce", "apgd-t", "fab-t", "square"]
    for norm, restarts, targets in ((linf, 1, 9), (l2, 1, 9), (l1, 5, 5)):
        ce, targeted, fab, square = members("standard", norm)
        assert [each.name for each in (ce, targeted, fab, square)] == names
        assert ce.arguments == {"max_steps": 100, "restarts": restarts}
        assert targeted.arguments == {"max_steps": 100, "num_target_classes": targets}
        assert fab.arguments == {"max_steps": 100, "num_target_classes": 9, "early_stop": False}
        assert square.arguments == {"max_steps": 5000, "p_init": 0.8}
    assert [each.name for each in members("rand", linf)] == ["apgd-ce", "apgd-dlr"]
    assert members("rand", linf)[1].arguments == {"loss": dlr}


def test_it_is_never_weaker_than_pgd_with_ten_restarts(problem, attacked):
    weaker = pgd(*problem, key=KEY, epsilon=BUDGETS, max_steps=100, restarts=10, engine="jax")
    assert np.all(attacked.success >= weaker.success)
    assert 0 < attacked.success[0].sum() < attacked.success[2].sum()


def test_result_tells_the_truth(problem, attacked):
    model, images, labels = problem
    assert attacked.attack == f"autoattack-standard, diffprog {version('diffprog')}"
    for budget in range(3):
        after = np.asarray(model(attacked.images[budget])).argmax(axis=1)
        np.testing.assert_array_equal(attacked.success[budget], after != labels)
        largest = np.abs(attacked.images[budget].astype(np.float64) - images).max(axis=1)
        np.testing.assert_array_equal(attacked.distances["linf"][budget], largest)
        assert np.all(largest <= BUDGETS[budget])
    assert np.all(attacked.success[1:] >= attacked.success[:-1])
    np.testing.assert_array_equal(attacked.broken_by != "", attacked.success)


def test_members_attack_what_is_left(problem, attacked):
    """What APGD breaks, it is named for, and nobody asks about it again; what stands to the end is asked by all."""
    first = apgd(*problem, key=jax.random.fold_in(KEY, 0), epsilon=BUDGETS, early_stop=True, engine="jax")
    np.testing.assert_array_equal(attacked.broken_by == "apgd-ce", first.success)
    broken_everywhere = first.success.all(axis=0)
    np.testing.assert_array_equal(attacked.queries[:, broken_everywhere], first.queries[:, broken_everywhere])
    standing = attacked.failure
    assert standing.any() and np.all(attacked.queries[standing] >= 101 + 4 * 101 + 4 * 101 + 5001)
    np.testing.assert_array_equal(attacked.images[standing], first.images[standing])


def test_random_models(problem):
    model, images, labels = problem
    noisy = ExpectationOverTransformation(
        lambda x, key: model(x + 0.01 * jax.random.normal(key, x.shape)), num_samples=3
    )
    result = autoattack(noisy, images, labels, key=KEY, epsilon=0.06, version="rand", engine="jax")
    assert result.attack.startswith("autoattack-rand, ") and set(result.broken_by) <= {"apgd-ce", "apgd-dlr", ""}
    assert result.success.sum() >= 5 and np.all(result.distances["linf"] <= 0.06)


def test_best_of_takes_the_second_only_where_the_first_failed(problem):
    images = problem[1]
    one, two = (pgd(*problem, key=KEY, epsilon=epsilon, max_steps=3, engine="jax") for epsilon in (0.02, 0.06))
    one, two = (
        each._replace(broken_by=np.where(each.success, name, "")) for each, name in ((one, "one"), (two, "two"))
    )
    both = best_of(one, two)
    np.testing.assert_array_equal(both.success, one.success | two.success)
    np.testing.assert_array_equal(both.broken_by, np.where(one.success, "one", np.where(two.success, "two", "")))
    np.testing.assert_array_equal(both.images, np.where((both.broken_by == "two")[:, None], two.images, one.images))
    np.testing.assert_array_equal(both.queries, one.queries + two.queries)
    cut = at_budgets(two, linf, np.array([[0.01] * 7, [0.06] * 7]))
    assert not cut.success[0].any() and cut.images.shape == (2, *images.shape)
    np.testing.assert_array_equal(cut.success[1], two.success)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"version": "plus"}, "version must be one of 'standard', 'rand'; found 'plus'"),
        ({"version": "rand"}, "version 'rand' is for a model that draws; found"),
        ({"restarts": 3}, "autoattack has restarts of its own; found restarts=3"),
    ],
)
def test_bad_input_gets_one_sentence(problem, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        autoattack(*problem, key=KEY, **options)
