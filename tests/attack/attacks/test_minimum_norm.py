"""Searches for the smallest perturbation, on linear models: what they should find is known."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog.attack import NORMS, carlini_wagner, ddn, deepfool, ead, fmn, jsma, l0, l1, l2, lbfgs, linf, sigma_zero
from diffprog.attack._attacks.deepfool import BEYOND
from diffprog.attack._engine.bisection import advance, first_round, limits
from tests.attack.linear import nearest, problem, smallest

pytestmark = pytest.mark.usefixtures("quick_to_compile")
KEY = jax.random.key(5)
CASES = {  # attack, norm, the largest ratio to the best, options
    "lbfgs": (lbfgs, "l2", 1.05, {}),  # between three classes the cross-entropy does not point to the nearest boundary
    "carlini_wagner": (carlini_wagner, "l2", 1.01, {}),
    "ddn": (ddn, "l2", 1.05, {"levels": None, "max_steps": 200}),
    "fmn l2": (fmn, "l2", 1.01, {"norm": l2}),
    "fmn linf": (fmn, "linf", 1.01, {"norm": linf}),
    "fmn l1": (fmn, "l1", 1.05, {"norm": l1}),
    "ead": (ead, "l1", 1.05, {"decision_rule": "l1", "beta": 0.1}),
    "deepfool l2": (deepfool, "l2", 1.05, {"norm": l2}),
    "deepfool linf": (deepfool, "linf", 1.05, {"norm": linf}),
    "fmn l0": (fmn, "l0", None, {"norm": l0}),
    "sigma_zero": (sigma_zero, "l0", None, {}),
    "jsma": (jsma, "l0", None, {"gamma": 1.0}),
}
CHANGEABLE = np.arange(25) > 0


@lru_cache
def run(name, rows=tuple(range(11))):
    """The attack on these images of the problem; element 0 must not change."""
    model, images, labels = shared()
    attack, _, _, options = CASES[name]
    rows = list(rows)
    return attack(
        model,
        images[rows],
        labels[rows],
        key=KEY,
        mask=CHANGEABLE,
        batch_size=11,
        image_ids=np.array(rows),
        engine="jax",
        **options,
    )


@lru_cache
def shared():
    return problem(classes=3)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case[2]])
def test_size_is_that_of_the_nearest_crossing(name):
    """Of the class that was reached; and never less than the nearest of all."""
    model, images, labels = shared()
    _, norm, factor, _ = CASES[name]
    result, crossed = run(name), slice(0, 10)
    assert result.success[crossed].all()
    best = smallest(model, images[crossed], labels[crossed], result.predictions[crossed], norm)
    assert np.all(result.distances[norm][crossed] <= factor * best)
    assert np.all(result.distances[norm][crossed] >= (1 - 1e-5) * nearest(model, images, labels, norm)[crossed])


@pytest.mark.parametrize("name", ["fmn l0", "sigma_zero"])
def test_fewest_elements(name):
    """The greedy choice is optimal here; each attack finds it for all images but a few, where it takes one more."""
    model, images, labels = shared()
    result = run(name)
    best = nearest(model, images, labels, "l0")[:10]
    extra = result.distances["l0"][:10] - best
    assert result.success[:10].all() and extra.min() == 0 and extra.max() <= 1
    assert np.sum(extra == 0) >= 8
    assert best.max() > 2


@pytest.mark.parametrize("name", CASES)
def test_image_in_a_flat_place_comes_back_as_it_was(name):
    """Nothing succeeds there: the gradient is zero, and what could change it is masked. That is a failure, and not of
    its batch mates."""
    _, images, _ = shared()
    result = run(name)
    assert not result.success[10] and result.failure[10] and result.first_success[10] == -1
    np.testing.assert_array_equal(result.images[10], images[10])
    assert all(sizes[10] == 0 for sizes in result.distances.values())
    np.testing.assert_array_equal(result.failure, ~result.success)


@pytest.mark.parametrize("name", CASES)
def test_result_says_what_was_done_to_each_image(name):
    model, images, labels = shared()
    result = run(name)
    assert np.isfinite(result.images).all() and result.images.min() >= 0 and result.images.max() <= 1
    np.testing.assert_array_equal(result.images[:, 0], images[:, 0])
    exact = result.images.astype(np.float64) - images
    for norm in NORMS.values():
        np.testing.assert_array_equal(result.distances[norm.name], norm.measure(exact))
    np.testing.assert_array_equal(result.predictions, np.asarray(model(result.images)).argmax(axis=1))
    np.testing.assert_array_equal(result.success, result.predictions != labels)
    assert np.all(result.queries >= result.steps) and np.all(result.backward_passes > 0)


@pytest.mark.parametrize("name", CASES)
def test_no_image_depends_on_its_batch(name):
    """Others beside it, in another order: bit for bit."""
    together, some = run(name), [7, 10, 2]
    apart = run(name, tuple(some))
    np.testing.assert_array_equal(apart.images, together.images[some])
    for field in ("success", "steps", "queries", "backward_passes", "first_success"):
        np.testing.assert_array_equal(getattr(apart, field), getattr(together, field)[some], err_msg=field)


def test_each_image_ends_by_itself():
    for name in ("lbfgs", "carlini_wagner", "ead", "deepfool l2"):
        assert len(set(run(name).steps)) > 2, name


@pytest.mark.parametrize("name, targeted", [("carlini_wagner", False), ("ead", True)])
def test_confidence_is_the_lead_that_is_reached(name, targeted):
    model, images, labels = problem(classes=2) if targeted else shared()
    attack, norm, factor, options = CASES[name]
    wanted = 1 - labels if targeted else labels
    result = attack(model, images[:10], wanted[:10], confidence=2.0, targeted=targeted, engine="jax", **options)
    np.testing.assert_array_equal(result.success, (result.predictions == wanted[:10]) == targeted)
    logits = np.sort(np.asarray(model(result.images[result.success]), np.float64), axis=1)
    assert result.success.sum() >= 5 and np.all(logits[:, -1] - logits[:, -2] >= 2 - 1e-5)
    np.testing.assert_array_equal(result.images[~result.success], images[:10][~result.success])
    best = smallest(model, images[:10], labels[:10], result.predictions, norm, lead=2.0)
    assert np.all((result.distances[norm] <= factor * best)[result.success])


@pytest.mark.not_under("strict", reason="calls what attacks call under JAX's defaults")
@pytest.mark.parametrize("binary_search_steps", [9, 10])
def test_weights_are_those_of_the_authors_bisection(binary_search_steps):
    """Their program in loops: tenfold until the first success, then halves; of ten or more searches, the last is
    at the smallest weight that has succeeded."""
    for succeeds in (0.0007, 0.3, 40.0, 1e9):
        low, high, weight, expected = 0.0, 1e10, 1e-3, []
        for number in range(binary_search_steps):
            weight = high if binary_search_steps >= 10 and number == binary_search_steps - 1 and high < 1e10 else weight
            expected.append(weight)
            low, high = (low, weight) if weight >= succeeds else (weight, high)
            weight = (low + high) / 2 if high < 1e10 else 10 * weight
        numbers, tried = limits(1e-3, binary_search_steps, 2), []
        rounds, over = first_round(numbers), False
        while not over:
            tried.append(float(rounds.weight))
            rounds, ended, _ = advance(
                rounds, numbers, tried[-1] >= succeeds, False
            )  # what is found at any step counts
            rounds, ended, over = advance(rounds, numbers, rounds.succeeded, False)
            assert ended
        np.testing.assert_allclose(tried, expected, rtol=1e-5)


@pytest.mark.parametrize("attack", [ddn, fmn])
def test_a_zero_gradient_is_replaced_by_a_random_direction(attack):
    """The class changes on a sphere, and the logits are constant on both sides: the sphere's radius is found."""

    def model(x):
        inside = jnp.sum((x - 0.5) ** 2, axis=1, keepdims=True) < 0.2**2
        return jnp.where(inside, jnp.array([1.0, -1.0]), jnp.array([-1.0, 1.0]))

    images, options = np.full((2, 16), 0.5, np.float32), {"levels": None, "init_norm": 0.5} if attack is ddn else {}
    result = attack(model, images, np.zeros(2, int), key=KEY, mask=np.arange(16) > 2, engine="jax", **options)
    assert result.success.all() and np.all(np.abs(result.distances["l2"] / 0.2 - 1) < 0.05)
    assert not np.any(result.images[:, :3] != 0.5) and np.abs(result.images[0] - result.images[1]).max() > 0.01


def plain_deepfool(image, label, weights, steps, candidates, overshoot, holds_the_box):
    """Algorithm 2 with loops, on sin(5 x) @ weights: the candidates are those of each step, and the overshoot is of the
    whole way. The box cuts off the point; or else elements at the box stay out of the steps, and it cuts off both."""
    point, total = image.astype(np.float64), 0
    for _ in range(steps + 1):  # of the last point, too, the verdict is taken
        logits = np.sin(5 * point) @ weights
        if logits.argmax() != label:
            return point
        ways = []
        for other in [each for each in np.argsort(-logits) if each != label][:candidates]:
            slope = 5 * np.cos(5 * point) * (weights[:, other] - weights[:, label])
            slope[holds_the_box & (((point == 1) & (slope > 0)) | ((point == 0) & (slope < 0)))] = 0
            gap = logits[label] - logits[other] + BEYOND * np.abs(logits).max()
            ways.append(gap / (slope @ slope) * slope)
        total = total + min(ways, key=np.linalg.norm)
        if holds_the_box:
            total = np.clip(image + total, 0, 1) - image
        point = np.clip(image + (1 + overshoot) * total, 0, 1)
    return None


@pytest.mark.parametrize("max_steps", [50, 3])
def test_deepfool_takes_the_steps_of_the_paper(max_steps):
    """With a box, the smaller success of two searches."""
    rng = np.random.default_rng(23)  # of which one image tells the candidates of each step from those of the first
    weights = rng.normal(size=(12, 8)).astype(np.float32)
    images = rng.uniform(-0.2, 1.2, size=(16, 12)).clip(0, 1).astype(np.float32)
    model = lambda x: jnp.sin(5 * x) @ weights
    labels = np.asarray(model(images)).argmax(axis=1)
    result = deepfool(model, images, labels, max_steps=max_steps, num_candidates=2, overshoot=0.05, engine="jax")
    smaller_first, first_fails, expected = 0, 0, []
    for image, label in zip(images, labels, strict=True):
        arguments = image, label, weights.astype(np.float64), max_steps, 2, 0.05
        found = [plain_deepfool(*arguments, holds_the_box) for holds_the_box in (False, True)]
        sizes = [np.inf if point is None else np.linalg.norm(point - image) for point in found]
        smaller_first, first_fails = smaller_first + (sizes[0] < 0.999 * sizes[1]), first_fails + (found[0] is None)
        expected.append(image if min(sizes) == np.inf else found[np.argmin(sizes)])
    assert result.success.mean() > 0.8 and np.mean(result.steps >= 3) > 0.2
    assert smaller_first >= 3 and (max_steps == 50) == (first_fails == 0)
    np.testing.assert_allclose(result.images, expected, atol=2e-5)


def plain_ead(image, slope, weight, beta, steps):
    """Equations 6 to 8 of the paper, for two classes whose logits differ by slope . image: the best of all iterates
    until the objective stalls."""
    point = ahead = image.astype(np.float64)
    best, before = (image, np.inf), np.inf
    for step in range(steps):
        size = np.sum((point - image) ** 2) + beta * np.sum(np.abs(point - image))
        if slope @ point > 0 and size < best[1]:
            best = point, size
        if step % (steps // 10) == 0:
            objective = size + weight * max(-slope @ point, 0)
            if objective > 0.9999 * before:
                break
            before = objective
        gradient = 2 * (ahead - image) - weight * slope * (slope @ ahead < 0)
        moved = ahead - 0.01 * np.sqrt(1 - step / steps) * gradient
        up, down = np.minimum(moved - beta, 1), np.maximum(moved + beta, 0)
        new = np.where(moved - image > beta, up, np.where(moved - image < -beta, down, image))
        ahead = np.clip(new + step / (step + 3) * (new - point), 0, 1)
        point = new
    return best


def test_ead_takes_the_steps_of_the_paper():
    model, images, labels = problem(classes=2)
    slopes = (model.weights[:, 1] - model.weights[:, 0]).astype(np.float64) * (1 - 2 * labels[:, None])
    result = ead(
        model, images[:4], labels[:4], binary_search_steps=1, max_steps=60, initial_const=20.0, beta=0.02, engine="jax"
    )
    for row in range(4):
        expected, size = plain_ead(images[row], slopes[row], 20.0, 0.02, 60)
        assert result.success[row] and np.isfinite(size)
        np.testing.assert_allclose(result.images[row], expected, atol=2e-5)


def test_ddn_tries_images_that_a_file_can_hold():
    model, images, labels = shared()
    images = (images * 255).round().astype(np.float32) / 255
    options = dict(key=KEY, mask=CHANGEABLE, batch_size=11, engine="jax")
    result = ddn(model, images[:10], labels[:10], **options)
    levels = result.images.astype(np.float64) * 255
    np.testing.assert_allclose(levels, levels.round(), atol=1e-4)
    assert result.success.all() and result.success_8bit.all()
    assert not run("ddn").success_8bit[:10].all()  # where nothing is rounded, rounding undoes it
    plain, coarse = (
        ddn(model, images[:10], labels[:10], max_steps=1, init_norm=3.0, levels=levels, **options)
        for levels in (None, 16)
    )
    assert np.sum(plain.success & coarse.success) >= 5
    both = plain.images[plain.success & coarse.success][:, 1:]
    np.testing.assert_allclose(coarse.images[plain.success & coarse.success][:, 1:], np.rint(15 * both) / 15, atol=1e-6)


@pytest.mark.parametrize("attack", [lbfgs, ddn, deepfool])
def test_targeted_search_finds_the_nearest_point_of_the_target(attack):
    """With two classes a target is the other class."""
    model, images, labels = problem(classes=2)
    images, labels = images[:10], labels[:10]
    options = {"levels": None} if attack is ddn else {}
    result = attack(model, images, 1 - labels, targeted=True, engine="jax", **options)
    assert np.all(result.predictions == 1 - labels) and result.success.all()
    factor = 1.05 if attack is deepfool else 1.01
    assert np.all(result.distances["l2"] <= factor * smallest(model, images, labels, 1 - labels, "l2"))


def plain_jsma(image, target, jacobian, predict, theta, steps):
    """The paper's algorithms 2 and 3, with loops; `jacobian` is constant."""
    image, alpha, beta = image.copy(), jacobian[:, target], jacobian.sum(axis=1) - jacobian[:, target]
    for _ in range(steps):
        if predict(image) == target:
            break
        best, chosen = 0.0, None
        for p in range(len(image)):
            for q in range(p + 1, len(image)):
                a, b = alpha[p] + alpha[q], beta[p] + beta[q]
                if image[p] < 1 and image[q] < 1 and a > 0 and b < 0 and -a * b > best:
                    best, chosen = -a * b, [p, q]
        if chosen is None:
            break
        image[chosen] = np.minimum(image[chosen] + theta, 1)
    return image if predict(image) == target else None


def test_jsma_changes_the_pairs_of_the_paper():
    rng = np.random.default_rng(1)
    weights = (rng.normal(size=(12, 3)) - 0.3).astype(np.float32)
    images = rng.uniform(0.1, 0.6, size=(8, 12)).astype(np.float32)
    labels = (images @ weights).argmax(axis=1)
    targets = (labels + 1) % 3
    result = jsma(lambda x: x @ jnp.asarray(weights), images, targets, theta=0.2, gamma=0.5, targeted=True)
    expected = [
        plain_jsma(image, target, weights, lambda x: np.argmax(x @ weights), np.float32(0.2), 3)
        for image, target in zip(images, targets, strict=True)
    ]
    np.testing.assert_array_equal(result.success, [each is not None for each in expected])
    assert 2 <= result.success.sum() < 8
    for found, image in zip(
        result.images[result.success], [each for each in expected if each is not None], strict=True
    ):
        np.testing.assert_allclose(found, image, atol=1e-6)


@pytest.mark.parametrize(
    "attack, options", [(ead, {"initial_const": 1e-3}), (fmn, {}), (sigma_zero, {"max_steps": 100})]
)
def test_pixels_in_other_units_have_the_same_search(attack, options):
    """Lengths are parts of a pixel's range; the weight is in units of a length squared."""
    model, images, labels = problem(classes=2)
    small = attack(model, images, labels, key=KEY, engine="jax", **options)
    options = {name: value * 256**2 if name == "initial_const" else value for name, value in options.items()}
    large = attack(lambda x: model(x / 256), images * 256, labels, key=KEY, engine="jax", bounds=(0, 256), **options)
    np.testing.assert_array_equal(large.success, small.success)
    np.testing.assert_allclose(large.images / 256, small.images, atol=1e-5)
    assert small.success.sum() >= 10


def test_what_makes_no_sense_is_refused():
    model, images, labels = shared()
    for attack, options, message in (
        (carlini_wagner, {"confidence": -1.0}, "confidence must be a number of at least 0"),
        (carlini_wagner, {"binary_search_steps": 0}, "binary_search_steps must be a whole number"),
        (ead, {"decision_rule": "l2"}, "decision_rule must be one of 'elastic_net', 'l1'; found 'l2'"),
        (deepfool, {"norm": l1}, "norm must be one of l2, linf"),
        (lbfgs, {"history_size": 0}, "history_size must be a whole number"),
        (sigma_zero, {"sigma": 0.0}, "sigma must be a positive number"),
    ):
        with pytest.raises(ValueError, match=message):
            attack(model, images, labels, **options)
