"""What the loop promises for every attack: rows do not see each other, and end by themselves."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog.attack import evaluate, fgsm, l2, pgd

KEY = jax.random.key(3)
RNG = np.random.default_rng(5)
INNER, OUTER = RNG.normal(size=(20, 32)).astype(np.float32), RNG.normal(size=(32, 5)).astype(np.float32)
IMAGES = RNG.uniform(size=(24, 20)).astype(np.float32)


def model(x):
    return jnp.tanh((x - 0.5) @ INNER) @ OUTER


LABELS = np.asarray(model(IMAGES)).argmax(axis=1)


def attack(of=slice(None), model=model, **options):
    options = dict(key=KEY, epsilon=0.04, max_steps=12, engine="jax", image_ids=np.arange(24)[of]) | options
    return pgd(model, IMAGES[of], LABELS[of], **options)


def same(
    one, other, fields=("images", "success", "first_success", "steps", "queries", "backward_passes", "predictions")
):
    for field in fields:
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field), err_msg=field)


@pytest.mark.parametrize("early_stop", [False, True])
def test_order_mates_and_padding_change_no_bit(early_stop):
    """With an early stop the rows of a batch are at different steps, and finished ones wait for the others; the steps
    are so short that waiting rows would gain by going on."""
    options = dict(batch_size=8, early_stop=early_stop, step_size=0.004)
    whole = attack(**options)
    assert 0 < whole.success.sum() < 24
    shuffled = RNG.permutation(24)
    again = attack(shuffled, **options)
    same(
        again._replace(
            **{
                name: value[np.argsort(shuffled)]
                for name, value in again._asdict().items()
                if isinstance(value, np.ndarray)
            }
        ),
        whole,
    )
    few = attack(slice(5, 8), **options)  # five rows of padding
    same(
        few,
        whole._replace(
            **{name: value[5:8] for name, value in whole._asdict().items() if isinstance(value, np.ndarray)}
        ),
    )


def test_several_budgets_are_the_single_ones_made_monotone():
    budgets = np.array([0.01, 0.03, 0.04])
    together = attack(batch_size=8, epsilon=budgets[:, None], every_budget=True)
    alone = [attack(batch_size=8, epsilon=budget) for budget in budgets]
    np.testing.assert_array_equal(together.success, np.maximum.accumulate([each.success for each in alone]))
    np.testing.assert_array_equal(together.steps, [each.steps for each in alone])
    np.testing.assert_array_equal(together.first_success >= 0, together.success)
    assert np.all(together.distances["linf"] <= together.epsilon) and np.all(np.diff(together.robust_accuracy) <= 0)
    np.testing.assert_array_equal(together.epsilon, np.repeat(budgets[:, None], 24, axis=1))
    for one, each in zip(together.images, alone, strict=True):
        np.testing.assert_array_equal(one[each.success], each.images[each.success])


@pytest.mark.parametrize("restarts", [1, 3])
def test_the_smallest_budget_that_breaks_an_image_decides_the_larger_ones(restarts):
    options = dict(epsilon=np.array([0.005, 0.01, 0.015, 0.02, 0.03])[:, None], restarts=restarts)
    every, found = (attack(batch_size=8, every_budget=flag, **options) for flag in (True, False))
    np.testing.assert_array_equal(found.success, every.success)
    first = found.success.argmax(axis=0)  # the smallest such budget
    rank = np.arange(5)[:, None]
    decided = found.success & (rank > first)
    assert decided.any(axis=1)[1:].all() and (~found.success[-1]).any() and (found.success & (rank == first)).sum() > 5
    np.testing.assert_array_equal(found.from_smaller_budget, decided)
    same(
        found._replace(images=found.images[~decided], steps=found.steps[~decided], queries=found.queries[~decided]),
        every._replace(images=every.images[~decided], steps=every.steps[~decided], queries=every.queries[~decided]),
        ("images", "steps", "queries"),
    )
    assert not found.steps[decided].any() and not found.queries[decided].any()
    for image in np.flatnonzero(found.success[-1]):
        of_image = found.images[first[image] :, image]
        np.testing.assert_array_equal(of_image, np.broadcast_to(of_image[0], of_image.shape))
        assert np.all(found.distances["linf"][first[image] :, image] <= found.epsilon[first[image], image])
    is_wrong = np.asarray(model(found.images.reshape(-1, 20))).argmax(1).reshape(5, 24) != LABELS
    np.testing.assert_array_equal(is_wrong, found.success)


def test_what_a_batch_searches_ahead_changes_no_result():
    """With 24 slots the free ones run searches within budgets that a smaller one then decides."""
    budgets = np.array([0.005, 0.01, 0.015, 0.02, 0.03])[:, None]
    whole = attack(batch_size=24, epsilon=budgets)
    order = RNG.permutation(24)
    halves = [attack(half, batch_size=24, epsilon=budgets) for half in np.split(order, 2)]
    for field in ("images", "success", "first_success", "steps", "queries", "predictions", "from_smaller_budget"):
        parts = np.concatenate([getattr(half, field) for half in halves], axis=1)
        np.testing.assert_array_equal(parts[:, np.argsort(order)], getattr(whole, field), err_msg=field)


def test_a_success_that_is_refused_decides_nothing():
    """The criterion holds only in batches of a certain sum, as a criterion that rounding decides: first images that
    break within the smallest budget and are refused are searched within the larger ones."""
    calls = []

    def criterion(logits, labels):
        found = logits.argmax(-1) != labels
        if isinstance(logits, np.ndarray):  # the verdict; a search asks with tracers
            calls.append(len(logits))
            if len(calls) in (2, 3):  # after the clean images: the first verdict, and that at 8 bits
                found = np.zeros_like(found)
        return found

    budgets = np.array([0.02, 0.04, 0.06])[:, None]
    every = attack(epsilon=budgets)
    found = attack(epsilon=budgets, criterion=criterion)
    assert every.success[0].any() and not found.success[0].any()
    assert (
        len(calls) > 3 and np.all(found.success[1][every.success[0]]) and np.all(found.steps[1][every.success[0]] == 12)
    )


def ridge(x):
    """Class 1 lies between 0.52 and 0.56: one step of a larger budget goes beyond."""
    return jnp.stack([jnp.zeros(len(x)), 0.02 - jnp.abs(x[:, 0] - 0.54)], axis=1)


def test_a_budget_that_a_search_wastes_takes_the_success_of_a_smaller_one():
    image, budgets = np.full((1, 1), 0.5, np.float32), np.array([[0.01], [0.03], [0.2]])
    found = fgsm(ridge, image, np.zeros(1, int), epsilon=budgets, engine="jax", every_budget=True)
    np.testing.assert_array_equal(found.success[:, 0], [False, True, True])
    np.testing.assert_allclose(found.distances["linf"][:, 0], [0.01, 0.03, 0.03], rtol=1e-5)
    np.testing.assert_array_equal(found.images[2], found.images[1])
    np.testing.assert_array_equal(found.predictions[:, 0], [0, 1, 1])
    np.testing.assert_array_equal(found.from_smaller_budget[:, 0], [False, False, True])
    np.testing.assert_array_equal(found.steps[:, 0], 1)


def test_an_evaluation_warns_of_a_budget_that_a_search_wastes():
    images = np.full((8, 1), 0.5, np.float32)
    found = evaluate(
        ridge,
        images,
        np.zeros(8, int),
        attacks={"fgsm": fgsm},
        epsilons=[0.03, 0.2],
        batch_size=8,
        key=KEY,
        engine="jax",
    )
    assert found.robust_accuracy().tolist() == [0, 0]
    assert "fgsm alone breaks 0.0% of the images at budget 0.2" in found.warnings[-1].message


def test_an_evaluation_saves_searches_where_it_is_told_to():
    options = dict(epsilons=[0.01, 0.02, 0.03], batch_size=24, key=KEY, engine="jax")
    run = partial(pgd, max_steps=12)
    every, found = (
        evaluate(model, IMAGES, LABELS, attacks={"pgd": each}, **options)
        for each in (run, partial(run, every_budget=False))
    )
    np.testing.assert_array_equal(found.robust_accuracy(), every.robust_accuracy())
    assert 0 < found.robust_accuracy()[-1] < found.robust_accuracy()[0] < 1
    assert found.records["pgd"].steps.sum() < every.records["pgd"].steps.sum()
    assert not any(warning.code == "rising" for warning in found.warnings)


def test_a_finished_row_is_frozen_where_it_succeeded():
    stopped = attack(early_stop=True, batch_size=8)
    np.testing.assert_array_equal(stopped.steps[stopped.success], stopped.first_success[stopped.success] + 1)
    assert np.all(stopped.steps[~stopped.success] == 12)
    for image in np.flatnonzero(stopped.success)[:3]:  # as many steps and no more lead to the very same point
        steps = max(int(stopped.first_success[image]), 1)
        short = attack(slice(image, image + 1), max_steps=steps, batch_size=8)
        if stopped.first_success[image] == steps:
            np.testing.assert_array_equal(short.images[0], stopped.images[image])


def test_restarts_are_of_those_that_stand_and_only_help():
    once, thrice = attack(batch_size=8, max_steps=3), attack(batch_size=8, max_steps=3, restarts=3)
    assert np.all(thrice.success >= once.success)
    np.testing.assert_array_equal(thrice.steps, np.where(once.success, 3, thrice.steps))
    assert np.all(thrice.steps[~thrice.success & ~thrice.initially_wrong] == 9)
    np.testing.assert_array_equal(thrice.images[once.success], once.images[once.success])


def test_four_groups():
    wrong = LABELS.copy()
    wrong[:3] = (wrong[:3] + 1) % 5

    def broken(x):  # not a number for dark first pixels, as they come or as the attack makes them
        return jnp.where(x[:, :1] < 0.08, jnp.nan, model(x))

    result = pgd(broken, IMAGES, wrong, key=KEY, epsilon=0.04, max_steps=12, engine="jax")
    dark = IMAGES[:, 0] < 0.08
    assert dark.any() and not dark[:3].any()
    groups = np.stack([result.success, result.initially_wrong, result.nonfinite, result.failure])
    np.testing.assert_array_equal(groups.sum(axis=0), 1)
    np.testing.assert_array_equal(result.initially_wrong, np.arange(24) < 3)
    np.testing.assert_array_equal(result.clean_predictions == -1, dark)
    assert np.all(result.nonfinite[dark]) and not np.any(
        result.success & ~np.isfinite(broken(result.images)).all(axis=1)
    )
    np.testing.assert_array_equal(result.images[dark], IMAGES[dark])
    assert result.clean_accuracy == np.mean(~dark & (np.arange(24) >= 3))
    assert result.robust_accuracy == result.failure.mean()


def test_a_tie_is_no_success():
    """Both logits are equal everywhere: argmax says 0, and neither label can be left."""
    flat = lambda x: jnp.zeros((len(x), 2)) * x[:, :1]
    result = pgd(flat, IMAGES[:2], np.array([0, 0]), key=KEY, norm=l2, epsilon=1.0, max_steps=2, engine="jax")
    assert not result.success.any() and result.failure.all()


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_an_offset_of_the_logits_hides_little(offset):
    """10^4 leaves three digits after the point of float32 logits: the margin's gradient is exact all the same."""
    from diffprog.attack import margin

    lifted = lambda x: model(x) + offset
    found = pgd(lifted, IMAGES, LABELS, key=KEY, epsilon=0.04, max_steps=12, loss=margin, engine="jax", batch_size=24)
    plain = attack(loss=margin, batch_size=24)
    assert abs(int(found.success.sum()) - int(plain.success.sum())) <= 1
