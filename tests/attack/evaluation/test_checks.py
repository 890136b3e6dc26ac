"""Every warning has a model or a result that provokes it, and one beside it that does not."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog import attack
from diffprog.attack._engine.loop import BatchedModel, placement
from diffprog.attack._engine.oracle import Oracle
from diffprog.attack._evaluation.attacks import check_attacks
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
            "invalid": no,
            "no_gradient": no,
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


IMAGES_HERE = np.minimum(job.IMAGES[:8], 0.6)
LABELS_HERE = job.numpy_logits(IMAGES_HERE).argmax(axis=1)


def of_attack(returned, **options):
    """Evaluate an attack that returns these images, or the result of this function, whatever it is asked."""
    mine = lambda model, images, labels, *, key, epsilon: returned(epsilon) if callable(returned) else returned
    return attack.evaluate(
        job.model,
        IMAGES_HERE,
        LABELS_HERE,
        **{"attacks": {"mine": mine}, "epsilons": [0.1, 0.2], "key": jax.random.key(0), "engine": "jax", **options},
    )


def is_broken(images):
    return job.numpy_logits(images).argmax(axis=-1) != LABELS_HERE


def test_what_a_careless_attack_returns_is_measured():
    """It claims to have stayed within budgets that it exceeds, and to have succeeded where it has not."""
    far = IMAGES_HERE + np.float32(0.3)
    claims = np.stack([first(3, 8), first(0, 8)])
    found = of_attack(job.claimed(np.stack([far, IMAGES_HERE]), claims))
    assert "exceeded" in [warning.code for warning in found.warnings]
    np.testing.assert_array_equal(found.records["mine"].exceeded, [is_broken(far), first(0, 8)])
    assert is_broken(far).any() and found.robust_accuracy().tolist() == [1, 1] and not found.worst_cases


def test_success_is_what_the_evaluated_model_says():
    near = IMAGES_HERE + np.random.default_rng(0).choice([-0.09, 0.09], IMAGES_HERE.shape).astype(np.float32)
    near = near.clip(0, 1)
    broken = is_broken(near)
    assert 0 < broken.sum() < 8
    for claim in (first(0, 8), first(8, 8)):
        found = of_attack(job.claimed(np.stack([near, near]), np.stack([claim, claim])))
        np.testing.assert_array_equal(found.records["mine"].success, [broken, broken])
        np.testing.assert_array_equal(found.records["mine"].predictions[0], job.numpy_logits(near).argmax(axis=-1))
        assert found.accuracy("mine").tolist() == [1 - broken.mean()] * 2
    plain = of_attack(np.stack([near, near]))  # an attack may return no more than images
    assert plain.accuracy("mine").tolist() == found.accuracy("mine").tolist()
    one = of_attack(near, epsilons=0.1)
    assert one.accuracy("mine").tolist() == [1 - broken.mean()]
    smallest = lambda model, images, labels, *, key: near  # it takes no budget
    found = of_attack(None, attacks={"smallest": smallest}, epsilons=[0.05, 0.1])
    assert found.accuracy("smallest").tolist() == [1, 1 - broken.mean()]


def test_a_success_within_the_rounding_of_its_budget_counts():
    step = np.float32(0.1)  # a little more than 0.1, and the sum is rounded
    signs = np.random.default_rng(1).choice([-1, 1], (200, *IMAGES_HERE.shape)).astype(np.float32)
    near = next(images for images in IMAGES_HERE + step * signs if is_broken(images).sum() >= 2)
    size = np.abs(near.astype(np.float64) - IMAGES_HERE).max(axis=1)
    assert (size > 0.1).all() and (size < 0.1 + 1e-6).all()
    low, high = float(near.min()), float(near.max())
    found = of_attack(near, epsilons=0.1, bounds=(min(low, 0), max(high, 1)))
    np.testing.assert_array_equal(found.records["mine"].success[0], is_broken(near))
    assert found.minimum_norm[is_broken(near)].max() == 0.1
    too_far = IMAGES_HERE + np.float32(1.001) * (near - IMAGES_HERE)
    assert is_broken(too_far).any()
    assert not of_attack(too_far, epsilons=0.1, bounds=(-1, 2)).records["mine"].success.any()


def test_what_is_no_image_does_not_count():
    far = np.clip(IMAGES_HERE + np.random.default_rng(1).choice([-0.19, 0.19], IMAGES_HERE.shape), -1, 2)
    far = far.astype(np.float32)
    far[2, 0], far[3, 0] = np.nan, np.inf
    outside = (far < 0).any(axis=1) | (far > 1).any(axis=1) | ~np.isfinite(far).all(axis=1)
    assert 2 < outside.sum() < 8
    found = of_attack(far, epsilons=0.2)
    record = found.records["mine"]
    np.testing.assert_array_equal(record.invalid[0], outside)
    expected = is_broken(np.nan_to_num(far)) & ~outside
    assert expected.any()
    np.testing.assert_array_equal(record.success[0], expected)
    np.testing.assert_array_equal(record.nonfinite[0], [False, False, True, True, *[False] * 4])
    assert found.counts("mine")["nonfinite"] == [2]
    warning = next(warning for warning in found.warnings if warning.code == "invalid")
    assert f"{outside.sum()} images that mine returned are not finite or leave the bounds (0.0, 1.0)" in warning.message


@pytest.mark.parametrize(
    ("returned", "shape"),
    [
        (IMAGES_HERE, r"float32 \(8, 16\)"),
        (np.zeros((2, 8, 4, 4), np.float32), r"float32 \(2, 8, 4, 4\)"),
        (np.zeros((2, 8, 16), np.uint8), r"uint8 \(2, 8, 16\)"),
        (None, r"object \(\)"),
        ((IMAGES_HERE, [True]), r"object \(\)"),
    ],
)
def test_an_attack_that_returns_something_else_is_told(returned, shape):
    with pytest.raises(ValueError, match=rf"attack 'mine' must return images of shape \(2, 8, 16\).*found {shape}: "):
        of_attack(returned)


def test_an_error_in_an_attack_names_it():
    with pytest.raises(ZeroDivisionError) as caught:
        of_attack(lambda epsilon: 1 / 0)
    assert caught.value.__notes__ == ["This came from attack 'mine' on images 0 to 7."]


def test_a_budget_of_zero_is_the_clean_accuracy_and_an_infinite_one_no_budget():
    spec = next(iter(check_attacks({"mine": attack.fgsm}, attack.linf, {})))
    record_at = lambda **fields: record([first(5), first(9)], **fields)
    groups = record_at(size=None).groups([0.0, 0.05, np.inf])
    assert groups["failure"].sum(axis=1).tolist() == [200, 195, 191]  # no failure is a success of infinite size
    assert spec.within_budgets and not spec.is_shared


def test_models_whose_answers_are_not_finite_nearby_are_told():
    """A defense that answers NaN off its grid of gray levels, and one with a root of 0."""
    grid = np.tile(np.float32([10, 6, 4, 2]) / 16, (8, 1))
    off_grid = lambda x: jnp.abs(x * 16 - jnp.round(x * 16)).max(1, keepdims=True) > 1e-3
    for model, code in (
        (lambda x: jnp.where(off_grid(x), jnp.nan, 5 * x), "not-finite-nearby"),
        (lambda x: jnp.sqrt(jnp.abs(x - x[:, ::-1] * 0 - grid[0])) + x, "not-finite-gradient"),
        (lambda x: 5 * x, None),
    ):
        mine = lambda model, images, labels, *, key, epsilon: images
        labels = np.asarray(model(grid)).argmax(axis=1)
        found = attack.evaluate(
            model, grid, labels, attacks={"mine": mine}, epsilons=[0.03], key=jax.random.key(0), engine="jax"
        )
        codes = [warning.code for warning in found.warnings if warning.code.startswith("not-finite")]
        assert codes == ([code] if code else []), codes


def test_a_criterion_decides_in_place_of_the_class():
    """Broken is what is not among the two best classes: of the images as they are and as they come back."""
    images = np.random.default_rng(3).uniform(size=(8, 6)).astype(np.float32)
    logits = images.astype(np.float64) @ WEIGHTS
    second = np.argsort(logits, axis=1)[:, -2]
    lost = np.where(np.arange(8) < 2, np.argsort(logits, axis=1)[:, 0], second)  # two are broken from the start
    beyond_two = lambda logits, labels: (logits > jnp.take_along_axis(logits, labels[:, None], 1)).sum(1) >= 2
    seen = []

    def mine(model, images, labels, *, key, epsilon, criterion):
        seen.append(criterion)
        return np.clip(images - np.ravel(epsilon)[0] * np.sign(WEIGHTS[:, labels].T), 0, 1).astype(np.float32)

    ask = lambda **how: attack.evaluate(
        plain, images, lost, attacks={"mine": mine}, epsilons=0.3, key=jax.random.key(0), engine="jax", **how
    )
    found = ask(criterion=beyond_two)
    returned = np.clip(images - 0.3 * np.sign(WEIGHTS[:, lost].T), 0, 1).astype(np.float32)
    rank = lambda images: (images @ WEIGHTS > (images @ WEIGHTS)[np.arange(8), lost][:, None]).sum(1)
    assert found.clean_accuracy == np.mean(rank(images) < 2) == 0.75
    expected = np.mean((rank(images) < 2) & (rank(returned) < 2))
    assert found.accuracy("mine").tolist() == [expected] and 0 < expected < 0.75
    assert seen == [beyond_two] and "chance" not in [warning.code for warning in found.warnings]


def test_an_evaluation_takes_what_attacks_take():
    """Budgets of 0 and infinity, bounds of columns or none, norms by name and seeds, against the closed form."""
    images = np.random.default_rng(3).uniform(-2, 2, size=(8, 6)).astype(np.float32)
    labels = (images.astype(np.float64) @ WEIGHTS).argmax(axis=1)
    logits = images.astype(np.float64) @ WEIGHTS
    other = np.where(np.arange(5) == labels[:, None], -np.inf, logits)
    slope = np.abs(WEIGHTS[:, labels].T[:, None] - WEIGHTS.T[None]).sum(axis=2)  # [n, classes], of each class's gap
    nearest = np.where(np.isfinite(other), (logits.max(axis=1)[:, None] - other) / np.maximum(slope, 1e-9), np.inf)
    expected = lambda epsilon: np.mean(nearest.min(axis=1) >= epsilon)
    ask = lambda **how: attack.evaluate(
        plain, images, labels, attacks={"pgd": partial(attack.pgd, loss=attack.margin, max_steps=8)}, **how
    )
    epsilons = [0, 0.2, 0.5]
    found = ask(epsilons=epsilons, key=0, norm="linf", bounds=None)
    assert found.accuracy("pgd").tolist() == [expected(epsilon) for epsilon in epsilons]
    assert found.accuracy("pgd")[0] == found.clean_accuracy == 1 > found.accuracy("pgd")[1]
    columns = np.float32([-3, -3, -3, -3, -3, -3]), np.float32([3, 3, 3, 3, 3, 4])
    found = ask(epsilons=epsilons, key=jax.random.PRNGKey(0), bounds=columns)
    assert found.accuracy("pgd").tolist() == [expected(epsilon) for epsilon in epsilons]
    assert "pgd" in str(found)
    found = ask(epsilons=[0.2, np.inf], key=0, bounds=(-3, 3))
    assert found.accuracy("pgd").tolist() == [expected(0.2), 0]


def test_many_labels_are_evaluated_by_loss_and_criterion(tmp_path):
    """Each of five labels is on where its logit is positive; broken is what says so of another set."""
    images = np.random.default_rng(3).uniform(size=(8, 6)).astype(np.float32)
    labels = images @ WEIGHTS > 0
    other_set = lambda logits, labels: ((logits > 0) != labels).any(axis=1)
    loss = lambda logits, labels: jnp.max(jnp.where(labels, -logits, logits), axis=1)
    pgd = partial(attack.pgd, loss=loss, max_steps=8)
    ask = lambda: attack.evaluate(
        plain,
        images,
        labels,
        attacks={"pgd": pgd},
        epsilons=[0.02, 0.1],
        key=0,
        criterion=other_set,
        directory=tmp_path,
    )
    found = ask()
    weakest = (np.abs(images.astype(np.float64) @ WEIGHTS) / np.abs(WEIGHTS).sum(axis=0)).min(axis=1)
    assert found.clean_accuracy == 1
    assert found.accuracy("pgd").tolist() == [np.mean(weakest >= 0.02), np.mean(weakest >= 0.1)] != [1, 1]
    assert ask().accuracy("pgd").tolist() == found.accuracy("pgd").tolist()
    assert found.worst_cases and (tmp_path / "report.html").is_file()


def test_what_a_search_could_not_see_is_told():
    """Attacks that met no gradient, or NaN, say so in the result; the report keeps it."""
    blind = partial(attack.pgd, max_steps=3)
    steps = lambda x: 5 * (jnp.round(x * 8) @ WEIGHTS)
    labels = np.asarray(steps(IMAGES)).argmax(axis=1)
    ask = lambda model, labels, images=IMAGES: attack.evaluate(
        model, images, labels, attacks={"pgd": blind}, epsilons=0.01, key=0
    )
    with pytest.warns(attack.AttackWarning):
        codes = [warning.code for warning in ask(steps, labels).warnings]
    assert "no-gradient" in codes and "zero-gradient" in codes
    grid = np.tile(np.float32([10, 6]) / 16, (4, 1))
    defense = lambda x: jnp.where(jnp.abs(x * 16 - jnp.round(x * 16)).max(1, keepdims=True) > 1e-3, jnp.nan, 5 * x)
    with pytest.warns(attack.AttackWarning):
        found = ask(defense, np.zeros(4, int), grid)
    assert found.counts("pgd")["nonfinite"] == [4] and found.accuracy("pgd").tolist() == [0]
