"""Every warning has a model or a result that provokes it, and one beside it that does not."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog import attack
from diffprog.attack._engine.loop import BatchedModel, placement
from diffprog.attack._engine.oracle import Oracle
from diffprog.attack._evaluation.checks import ask_model, check_model, check_results
from diffprog.attack._evaluation.results import AttackRecord, Evaluation
from tests.attack.evaluation import job

WEIGHTS = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
IMAGES = np.random.default_rng(1).uniform(size=(8, 6)).astype(np.float32)
DRAWS = np.random.default_rng(5)

plain = lambda x: x @ WEIGHTS
fresh = lambda x: x @ WEIGHTS + 0.1 * DRAWS.normal(size=5)  # other numbers in every call
normalizing = lambda x: (x - x.mean(axis=0)) @ WEIGHTS
certain = lambda x: 15 * plain(x)
rounding = lambda x: jnp.round(x * 8) / 8 @ WEIGHTS
three = lambda x: x @ WEIGHTS[:, :3]
random = attack.ExpectationOverTransformation(lambda x, key: x @ WEIGHTS + jax.random.normal(key, (5,)), num_samples=3)


@pytest.mark.parametrize(
    ("model", "codes"),
    [
        (plain, []),
        (fresh, ["randomized"]),
        (normalizing, ["batch-dependent"]),
        (certain, ["saturated"]),
        (rounding, ["zero-gradient"]),
        (three, ["few-classes"]),
        (random, []),
    ],
    ids=["plain", "fresh", "normalizing", "certain", "rounding", "three", "random"],
)
def test_models(model, codes):
    oracle = Oracle(model, False, None, "jax")
    keys = jax.random.split(jax.random.key(0), 8)
    logits_of = BatchedModel(oracle, placement(8), "threefry2x32")
    labels = logits_of(IMAGES, np.asarray(jax.random.key_data(keys))).argmax(axis=1)
    answers = ask_model(logits_of, IMAGES, labels, keys, (0, 1))
    found = check_model(answers)
    assert [warning.code for warning in found] == codes
    assert all(": " in warning.message and warning.message.endswith(".") for warning in found)
    if model is certain:  # what the probability of the label lacks to 1, in float64
        logits = IMAGES.astype(np.float64) @ (15.0 * WEIGHTS)
        exact = np.log(np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1))
        assert f"For {np.mean(exact < 2.0**-25):.0%} of the first images" in found[0].message
    if model is plain:  # one in eight is no more than one in five, and two are
        few, more = (answers._replace(labels=np.where(first(right, 8), labels, (labels + 1) % 5)) for right in (1, 2))
        assert not check_model(more)
        (warning,) = check_model(few)
        assert warning.code == "chance" and warning.message.startswith("12% of the first images are classified as lab")
    if model is rounding:
        assert "for 100% of the first images" in found[0].message
    if model is plain:  # the margin is linear: its gradient is a difference of two columns
        second, best = np.argsort(IMAGES @ WEIGHTS, axis=1)[:, -2:].T
        np.testing.assert_allclose(answers.slope, np.abs(WEIGHTS[:, second] - WEIGHTS[:, best]).max(axis=0), rtol=1e-5)


def record(broken, *, size=0.05, first=2, gradients=1, **fields):
    """Of searches at two budgets: bool [2, n] says which images were broken."""
    broken = np.asarray(broken, bool)
    zeros, no = np.zeros(broken.shape, int), np.zeros(broken.shape, bool)
    return AttackRecord(
        **{
            "success": broken,
            "success_8bit": broken,
            "exceeded": no,
            "from_smaller_budget": no,
            "size": np.broadcast_to(np.array([[0.05], [0.1]]) if size is None else size, broken.shape),
            "predictions": zeros,
            "nonfinite": no,
            "initially_wrong": no[0],
            "first_success": np.where(broken, first, -1),
            "steps": zeros,
            "queries": zeros + 1,
            "backward_passes": zeros + gradients,
            "seconds": np.zeros(1),
            "compile_seconds": np.zeros(1),
            **fields,
        }
    )


def evaluation(outcomes, steps=100):
    count = outcomes[next(iter(outcomes))].success.shape[1]
    steps = steps if isinstance(steps, dict) else dict.fromkeys(outcomes, steps)
    attacks = {
        name: {
            "function": "pgd",
            "search": "within budgets",
            "arguments": {"max_steps": steps[name], "of": name if len(set(steps.values())) == 1 else ""},
        }
        for name in outcomes
    }
    return Evaluation(
        "linf",
        np.array([0.05, 0.1]),
        np.ones(count, int),
        np.ones(count, int),
        outcomes,
        (),
        (),
        {"attacks": attacks},
        {},
    )


def first(count, of=200):
    return np.arange(of) < count


def test_black_box_attacks_should_not_win():
    seeing = record([first(50), first(80)], size=None)
    found = lambda blind: check_results(evaluation({"seeing": seeing, "blind": blind}))
    assert not found(record([first(40), first(80)], size=None, gradients=0))
    assert not found(record([first(60), first(90)], size=None))  # it has gradients, too
    (warning,) = found(record([first(51), first(90)], size=None, gradients=0))
    assert warning.code == "black-box"
    assert "blind, which uses no gradients, leaves 55.0% at budget 0.1" in warning.message
    assert "all attacks by gradient 60.0%" in warning.message
    assert not check_results(evaluation({"blind": record([first(51), first(90)], size=None, gradients=0)}))


def test_a_search_that_still_succeeds_at_its_end_has_too_few_steps():
    late = np.where(np.arange(200) < 8, 90, 89)
    found = lambda first_success, steps=100: check_results(
        evaluation({"pgd": record([first(100), first(100)], first=first_success)}, steps)
    )
    assert not found(np.where(np.arange(200) < 5, 90, 89))
    (warning,) = found(late)
    assert warning.code == "few-steps" and "16 of 200 successes of pgd came in the last tenth" in warning.message
    assert not found(late, steps=None) and not found(late // 50, steps=2)


def test_more_steps_should_do_better_and_not_by_much():
    steps = {"ten": 10, "hundred": 100}
    found = lambda *broken: check_results(
        evaluation({name: record([first(each)] * 2) for name, each in zip(steps, broken, strict=True)}, steps)
    )
    assert not found(100, 103) and not found(100, 100)
    (warning,) = found(100, 110)
    assert warning.code == "few-steps" and "hundred leaves 5.0 points less than ten" in warning.message
    (warning,) = found(104, 100)
    assert warning.code == "more-steps" and "hundred leaves 2.0 points more than ten" in warning.message


def test_a_larger_budget_should_break_more():
    found = lambda small, large, from_smaller_budget=0: check_results(
        evaluation(
            {
                "pgd": record(
                    [first(small), first(large)], from_smaller_budget=np.stack([first(0), first(from_smaller_budget)])
                )
            }
        )
    )
    assert not found(50, 60) and not found(50, 49) and not found(50, 50, from_smaller_budget=1)
    (warning,) = found(50, 44)
    assert warning.code == "rising" and "breaks 22.0% of the images at budget 0.1, and 25.0% at the smaller 0.05" in (
        warning.message
    )
    (warning,) = found(50, 50, from_smaller_budget=6)  # 6 of them were taken from the smaller budget
    assert warning.code == "rising" and "breaks 22.0%" in warning.message


def test_results_that_break_their_promises():
    good = evaluation({"pgd": record([first(5), first(9)])})
    assert not check_results(good)
    (warning,) = check_results(replace(good, clean_predictions=np.where(first(3), -1, 1)))
    assert warning.code == "not-finite" and "for 3 images as they are" in warning.message
    late = evaluation({"pgd": record([first(5), first(9)], nonfinite=np.stack([first(0), first(2)]))})
    (warning,) = check_results(late)
    assert warning.code == "not-finite" and "2 more on the way of pgd" in warning.message
    (warning,) = check_results(
        evaluation({"pgd": record([first(5), first(9)], exceeded=np.stack([first(4), first(0)]))})
    )
    assert warning.code == "exceeded" and "4 successes of pgd are larger than their budget" in warning.message


def test_successes_that_fresh_draws_undo_are_told():
    found = lambda kept, seen=40: check_results(
        evaluation(
            {"fmn": record([first(kept)] * 2, first_success=np.where(first(seen), 2, -1) * np.ones((2, 1), int))}
        )
    )
    assert not found(40) and not found(38)  # 4 of 80
    (warning,) = found(30)
    assert warning.code == "undone" and "20 of 80 successes of fmn were none" in warning.message


def test_what_a_careless_attack_returns_is_measured():
    """It claims to have stayed within budgets that it exceeds."""

    def careless(model, images, labels, *, epsilon, **options):
        return job.claimed(np.stack([images + 0.3, images]), np.stack([first(3, len(labels)), first(0, len(labels))]))

    images = np.minimum(job.IMAGES[:8], 0.6)
    labels = job.numpy_logits(images).argmax(axis=1)
    found = attack.evaluate(
        job.model,
        images,
        labels,
        attacks={"careless": careless},
        epsilons=[0.1, 0.2],
        batch_size=8,
        key=jax.random.key(0),
        engine="jax",
    )
    assert "exceeded" in [warning.code for warning in found.warnings]
    np.testing.assert_array_equal(found.records["careless"].exceeded.sum(axis=1), [3, 0])
    assert found.robust_accuracy().tolist() == [1, 1] and not found.worst_cases
