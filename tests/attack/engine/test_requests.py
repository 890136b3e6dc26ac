"""Attacks as people call them: words of other libraries, keys, norms, budgets, bounds, labels and criteria."""

import inspect
import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog import attack
from diffprog.attack._registry import ATTACKS

KEY = jax.random.key(0)
IMAGES = np.tile(np.float32([0.6, 0.4]), (4, 1))
LABELS = np.zeros(4, int)
model = lambda images: 5 * images


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("eps", "epsilon="),
        ("epsilons", "epsilon="),
        ("alpha", "step_size="),
        ("nb_iter", "max_steps="),
        ("clip_max", "bounds="),
        ("seed", "key="),
        ("restart", "restarts="),
    ],
)
def test_words_of_other_libraries_are_answered_with_ours(word, meant):
    with pytest.raises(TypeError, match=f"^bim has no argument '{word}': .*{meant}"):
        attack.bim(model, IMAGES, LABELS, **{word: 0.1})


@pytest.mark.parametrize(
    ("name", "word", "meant"),
    [
        ("ddn", "eps", "it seeks the smallest perturbation, .* at which epsilon it succeeds"),
        ("ddn", "alpha", "it takes model, images, labels"),
        ("jsma", "steps", "it takes model, images, labels"),
        ("patch", "lr", "learning_rate="),
        ("square", "n_queries", "max_queries="),
        ("pgd", "max_queries", "max_steps="),
        ("hop_skip_jump", "max_eval", "max_num_evals="),
        ("hop_skip_jump", "starts", "starting_points="),
        ("evaluate", "epsilon", "the budgets are epsilons="),
        ("adversarial_training", "eps", "the budget is epsilon="),
    ],
)
def test_no_attack_is_said_to_have_what_it_has_not(name, word, meant):
    with pytest.raises(TypeError, match=f"^{name} has no argument '{word}': .*{meant}"):
        getattr(attack, name)(**{word: 0.1})


@pytest.mark.parametrize(("name", "norm"), [("linf", attack.linf), ("Linf", attack.linf), ("l2", attack.l2)])
def test_norms_by_name(name, norm):
    found, expected = (attack.fgsm(model, IMAGES, LABELS, norm=n, epsilon=0.1).images for n in (name, norm))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("order", "norm"), [(np.inf, attack.linf), (2, attack.l2), (1.0, attack.l1)])
def test_norms_by_order(order, norm):
    found, expected = (attack.fgsm(model, IMAGES, LABELS, norm=n, epsilon=0.1).images for n in (order, norm))
    np.testing.assert_array_equal(found, expected)


def test_a_norm_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"norm must be one of linf, l2, l1.*'l7'"):
        attack.fgsm(model, IMAGES, LABELS, norm="l7")


def test_seeds_and_legacy_keys_are_keys():
    images = np.full((3, 4), 0.5, np.float32)
    noise = lambda key: attack.pgd(lambda x: x[:, :2] * np.float32([1, 0.9]), images, np.zeros(3, int), key=key).images
    expected = noise(jax.random.key(7))
    for key in (7, np.int64(7), jax.random.PRNGKey(7)):
        np.testing.assert_array_equal(noise(key), expected)


@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
def test_draws_of_an_image_do_not_depend_on_its_batch(impl):
    images, labels = np.full((8, 6), 0.5, np.float32), np.zeros(8, int)
    narrow = lambda x: x[:, :2] * np.float32([1, 0.5])
    key = jax.random.key(0, impl=impl)
    whole, parts = (
        attack.pgd(narrow, images, labels, key=key, epsilon=1e-3, batch_size=size).images for size in (8, 2)
    )
    np.testing.assert_allclose(whole, parts, atol=1e-7)


# ---------------------------------------------------------------- budgets


@pytest.mark.parametrize("name", ["fgsm", "pgd", "apgd", "square", "spsa", "mi_fgsm", "additive_noise"])
def test_within_a_budget_of_zero_the_image_is_the_image(name):
    alone = getattr(attack, name)(model, IMAGES, LABELS, key=KEY, epsilon=0)
    np.testing.assert_array_equal(alone.images, IMAGES)
    assert alone.robust_accuracy == alone.clean_accuracy == 1 and not alone.queries.any()
    each = getattr(attack, name)(model, IMAGES, LABELS, key=KEY, epsilon=np.array([0, 0.3, 0, 0.3]))
    assert not each.success[[0, 2]].any() and (each.images[[0, 2]] == IMAGES[[0, 2]]).all()
    several = attack.pgd(model, IMAGES, LABELS, key=KEY, epsilon=np.array([[0.0], [0.3]]))
    assert several.robust_accuracy.tolist() == [1, 0]


@pytest.mark.parametrize("norm", [attack.linf, attack.l2, attack.l1])
def test_an_infinite_budget_leaves_the_bounds_alone(norm):
    images = np.random.default_rng(0).uniform(0, 0.9, (4, 16)).astype(np.float32)
    mean = lambda x: jnp.stack([0 * x.sum(1) + 0.7, x.mean(1)], 1)
    result = attack.pgd(mean, images, np.zeros(4, int), key=KEY, norm=norm, epsilon=np.inf)
    assert result.success.all() and np.isinf(result.epsilon).all()
    with pytest.raises(ValueError, match="epsilon must be finite where values have no bounds"):
        attack.pgd(mean, images, np.zeros(4, int), key=KEY, norm=norm, epsilon=np.inf, bounds=None)


def test_a_budget_for_other_pixels_is_questioned():
    with pytest.warns(attack.AttackWarning, match=r"epsilon must be at most 1 in linf.*found 8: .*try 8 / 255"):
        attack.bim(model, IMAGES, LABELS, epsilon=8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attack.bim(model, IMAGES, LABELS, epsilon=1)
        attack.bim(lambda x: x / 51, IMAGES * 255, LABELS, epsilon=8, bounds=(0, 255))


def test_a_step_size_is_one_number_or_one_of_each_image():
    for sizes in (np.float32([0.1, 0.2]), [[0.1], [0.2]], np.array(["a"] * len(IMAGES))):
        with pytest.raises(ValueError, match="step_size must be one number, or one per image"):
            attack.bim(model, IMAGES, LABELS, step_size=sizes)
    for number in (-0.1, 0, np.nan, "a", [0.1] * (len(IMAGES) - 1) + [-0.1], [np.nan] * len(IMAGES)):
        with pytest.raises(ValueError, match="step_size must be a positive number"):
            attack.bim(model, IMAGES, LABELS, step_size=number)
    one, other = (attack.bim(model, IMAGES, LABELS, step_size=s).images for s in (0.01, jnp.float32(0.01)))
    np.testing.assert_array_equal(one, other)


TAKE_STEPS = [name for name in ATTACKS if "step_size" in inspect.signature(getattr(attack, name)).parameters]


QUICK = ("pgd", "spsa", "carlini_wagner")  # one of each way to take steps; the others are in the slow tier


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in TAKE_STEPS
        if ATTACKS[name].goal != "shared"
    ],
)
def test_each_image_has_the_step_size_that_is_given_for_it(name):
    """Whatever else is in the batch, and at every budget."""
    parameters = inspect.signature(getattr(attack, name)).parameters
    options = dict(key=KEY, batch_size=len(IMAGES), max_steps=4)
    options |= {"epsilon": np.array([[0.02], [0.2]]), "every_budget": True} if "epsilon" in parameters else {}
    options |= {"num_samples": 4} if "num_samples" in parameters else {}
    sizes = np.array([0.004, 0.02, 0.07, 0.013])
    network, pictures = (lambda x: model(x.reshape(len(x), -1))), IMAGES.reshape(4, 1, 2, 1)
    run = lambda size: getattr(attack, name)(network, pictures, LABELS, step_size=size, **options)
    together = run(sizes)
    images = lambda result: np.moveaxis(result.images, -pictures.ndim, 0)
    for image, size in enumerate(sizes):
        np.testing.assert_array_equal(images(together)[image], images(run(size))[image])
    if name == "pgd":
        assert not np.array_equal(together.images, run(sizes[0]).images)


# ---------------------------------------------------------------- bounds


def test_bounds_may_differ_between_columns():
    low, high = np.float32([0, 18, -1]), np.float32([1, 99, 1])
    rows = np.float32([[0.5, 40, 0.2], [0.9, 97, -0.8]])
    table = lambda x: x @ jnp.float32([[1, -1], [0.01, -0.01], [-1, 1]]) + jnp.float32([0.5, 0])
    result = attack.fgsm(table, rows, np.zeros(2, int), epsilon=10.0, bounds=(low, high))
    np.testing.assert_allclose(result.images, np.clip(rows + 10 * np.float32([-1, -1, 1]), low, high), atol=1e-5)
    levels = (result.images - low) / (high - low) * 255
    assert result.success_8bit.shape == (2,) and np.isfinite(levels).all()
    with pytest.raises(ValueError, match="bounds must be numbers, or broadcast to one image"):
        attack.fgsm(table, rows, np.zeros(2, int), bounds=(np.zeros(5), np.ones(5)))
    with pytest.raises(ValueError, match="images must be within the bounds; 1 of 2 are not"):
        attack.fgsm(table, rows + np.float32([[0, 0, 0], [1, 0, 0]]), np.zeros(2, int), bounds=(low, high))


@pytest.mark.parametrize("bounds", [None, (-np.inf, np.inf), (-np.inf, 100)])
@pytest.mark.parametrize("name", ["fgsm", "carlini_wagner", "ddn", "fmn", "deepfool", "ead", "lbfgs"])
def test_values_without_bounds(name, bounds):
    """On a linear model: FGSM's step, and the exact distance to the plane between two classes."""
    features = np.float32([[0.3, -2.5, 7.0], [-1.0, 0.5, -4.0]])
    weights = np.float32([[1, -1], [-1, 1], [1, -1]])
    labels = (features @ weights).argmax(1)
    slope = np.where(labels == 0, -1, 1)[:, None] * np.float32([2, -2, 2])
    run = lambda **options: getattr(attack, name)(lambda x: x @ weights, features, labels, bounds=bounds, **options)
    if name == "fgsm":
        np.testing.assert_allclose(run(epsilon=3.0).images, features + 3 * np.sign(slope), atol=1e-5)
        return
    gap = np.abs((features @ weights) @ [1, -1])
    norm = "l1" if name == "ead" else "l2"
    exact = gap / (np.abs(slope).max(1) if norm == "l1" else np.linalg.norm(slope, axis=1))
    result = run()
    assert result.success.all()
    # DeepFool steps 2 % beyond the plane of its last step, and EAD weighs L2 along with L1.
    np.testing.assert_allclose(result.distances[norm], exact, rtol=0.06 if name in ("ead", "deepfool") else 0.01)


# ---------------------------------------------------------------- labels, losses and criteria


def test_several_labels_per_image_with_a_loss_and_a_criterion():
    images = np.float32([[0.6, 0.9, 0.45], [0.1, 0.95, 0.05], [0.55, 0.35, 0.6]])
    network = lambda x: 4 * (x - 0.5)
    tags = (np.asarray(network(images)) > 0).astype(int)
    options = {
        "loss": lambda logits, labels: jnp.sum(jax.nn.softplus(jnp.where(labels > 0, -logits, logits)), axis=-1),
        "criterion": lambda logits, labels: jnp.any((logits > 0) != (labels > 0), axis=-1),
    }
    result = attack.fgsm(network, images, tags, epsilon=0.2, **options)
    np.testing.assert_allclose(result.images, np.clip(images - 0.2 * (2 * tags - 1), 0, 1), atol=1e-6)
    assert result.success.tolist() == [True, False, True]


def test_a_regression_with_a_loss_and_a_criterion():
    """A linear model: the largest error within epsilon is the dual norm of the weights times it."""
    weights = np.float32([0.5, -1, 2])
    images = np.full((2, 3), 0.5, np.float32)
    truth = images @ weights
    loss = lambda found, labels: (found - labels) ** 2
    criterion = lambda found, labels: jnp.abs(found - labels) > 0.3
    small, large = (
        attack.pgd(lambda x: x @ weights, images, truth, key=KEY, epsilon=e, loss=loss, criterion=criterion)
        for e in (0.08, 0.09)
    )
    assert not small.success.any() and large.success.all()  # 3.5 * 0.08 = 0.28, 3.5 * 0.09 = 0.315


def test_one_class_per_pixel_with_a_loss_and_a_criterion():
    images = np.full((2, 3, 3, 1), 0.6, np.float32)
    network = lambda x: jnp.concatenate([x, 1 - x], axis=-1)
    labels = np.zeros((2, 3, 3), int)
    lead = lambda logits, labels: (logits[..., 1] - logits[..., 0]) * jnp.where(labels == 0, 1, -1)
    result = attack.bim(
        network,
        images,
        labels,
        epsilon=0.11,
        loss=lambda logits, labels: lead(logits, labels).sum((1, 2)),
        criterion=lambda logits, labels: (lead(logits, labels) > 0).all((1, 2)),
    )
    assert result.success.all()


GENERATOR = np.random.default_rng(0)
WEIGHTS = GENERATOR.standard_normal((30, 6)) / 3
POINTS = GENERATOR.uniform(0.35, 0.65, (6, 30)).astype(np.float32)
linear = lambda images: (images - 0.5) @ jnp.asarray(WEIGHTS, jnp.float32)


def _exact(z, label, k):
    """Find the smallest change in L2 after which k classes lead the label: over all sets of active constraints."""
    shortest = np.inf
    for classes in itertools.combinations([c for c in range(6) if c != label], k):
        normals, gaps = (WEIGHTS[:, classes] - WEIGHTS[:, [label]]).T, z[label] - z[list(classes)]
        for active in itertools.chain.from_iterable(itertools.combinations(range(k), n) for n in range(1, k + 1)):
            rows = normals[list(active)]
            way = rows.T @ np.linalg.solve(rows @ rows.T, gaps[list(active)])
            if (normals @ way >= gaps - 1e-9).all():
                shortest = min(shortest, np.linalg.norm(way))
    return shortest


@pytest.mark.parametrize("name", ["carlini_wagner", "ddn", "fmn"])
def test_a_criterion_steers_the_search_for_the_smallest_perturbation(name):
    logits = (POINTS.astype(float) - 0.5) @ WEIGHTS
    labels = logits.argmax(1)
    not_in_top_2 = lambda z, of: jnp.sum(z > jnp.take_along_axis(z, of[:, None], 1), axis=-1) >= 2
    loss = attack.top_k_margin(2)
    result = getattr(attack, name)(linear, POINTS, labels, criterion=not_in_top_2, loss=loss)
    exact = [_exact(z, label, 2) for z, label in zip(logits, labels, strict=True)]
    assert result.success.all()
    assert np.median(result.distances["l2"] / exact) < 1.05


@pytest.mark.parametrize("name", ["carlini_wagner", "ddn", "fmn", "ead", "lbfgs", "sigma_zero"])
def test_a_search_that_would_not_follow_its_criterion_is_refused(name):
    criterion = lambda logits, labels: logits.argmax(-1) == 3
    with pytest.raises(ValueError, match=f"{name} follows its loss.*loss= that is above 0 exactly where the criterion"):
        getattr(attack, name)(linear, POINTS, np.zeros(6, int), criterion=criterion)
    with pytest.raises(ValueError, match="deepfool goes to the nearest of the classes"):
        attack.deepfool(linear, POINTS, np.zeros(6, int), criterion=criterion)
    with pytest.raises(TypeError, match="apply_universal has no argument 'loss'"):
        attack.apply_universal(linear, POINTS, np.zeros(6, int), np.zeros(30), loss=attack.margin)


def test_bounds_with_an_axis_of_images_and_of_one_side():
    low, high = np.float32([[0, 0.1]]), np.float32([[1, 0.9]])
    for name in ("ddn", "bim"):  # one rounds to levels between the bounds, the other does not
        found, expected = (
            getattr(attack, name)(model, IMAGES, LABELS, bounds=bounds).images
            for bounds in ((low, high), (low[0], high[0]))
        )
        np.testing.assert_array_equal(found, expected)
    one_side = attack.fgsm(model, IMAGES, LABELS, epsilon=0.5, bounds=(0.3, None)).images
    assert one_side.min() == np.float32(0.3)
    with pytest.raises(ValueError, match="bounds must be numbers, or broadcast to one image"):
        attack.bim(model, IMAGES, LABELS, bounds=(np.zeros((4, 2)), np.ones((4, 2))))


# ---------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"epsilon": None}, "epsilon must be a number of at least 0; found None: give infinity for no budget"),
        ({"targeted": LABELS}, r"targeted must be True or False; found ndarray of shape \(4,\): .* are the labels"),
        ({"targeted": "yes"}, "targeted must be True or False; found yes"),
        ({"early_stop": 2}, "early_stop must be True or False; found 2"),
        ({"skip": [1, 0, 0, 0]}, r"skip must be of booleans, one for each of 4 images.*; found int64 of shape \(4,\)"),
        ({"skip": [True, False]}, r"skip must be of booleans, one for each of 4 images.*; found bool of shape \(2,\)"),
        ({"devices": "cpu"}, r"devices must be devices of JAX; found cpu: try jax.devices\(\)"),
        ({"progress": 3}, "progress must be True or False; found 3"),
    ],
)
def test_options_that_would_mean_something_else_are_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        attack.bim(model, IMAGES, LABELS, **options)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("mi_fgsm", {"decay": -1}, "decay must be a number of at least 0; found -1"),
        ("square", {"p_init": 2}, r"p_init must be a number in \(0, 1\]; found 2"),
        ("ddn", {"gamma": 2}, r"gamma must be a number in \(0, 1\]; found 2"),
        ("fmn", {"gamma": "a"}, r"gamma must be a number in \(0, 1\]; found 'a'"),
        (
            "hop_skip_jump",
            {"starting_points": IMAGES[:3]},
            r"starting_points must have the shape of the images, \(4, 2\)",
        ),
        ("hop_skip_jump", {"starting_points": np.uint8(IMAGES)}, "starting_points must be float32 in .* found uint8"),
    ],
)
def test_numbers_outside_of_their_range_are_refused(name, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        getattr(attack, name)(model, IMAGES, LABELS, **options, **({} if name == "ddn" else {"key": KEY}))


def test_switches_devices_and_captions_as_people_write_them():
    budgets = {"epsilon": [[0.05], [0.2]]}
    expected = attack.bim(model, IMAGES, LABELS, early_stop=True, **budgets)
    found = attack.bim(model, IMAGES, LABELS, early_stop=1, devices=jax.devices()[0], progress=np.True_, **budgets)
    np.testing.assert_array_equal(found.images, expected.images)
    skipped = attack.bim(model, IMAGES, LABELS, epsilon=0.2, skip=[True, False, False, False])
    assert skipped.success.tolist() == [False, True, True, True]


def test_one_starting_point_for_all_images():
    start = [0.2, 0.9]
    found = [
        attack.hop_skip_jump(model, IMAGES, LABELS, key=KEY, starting_points=points, max_steps=2)
        for points in (start, np.float32([start] * 4))
    ]
    np.testing.assert_array_equal(found[0].images, found[1].images)
    assert found[0].success.all()


# ---------------------------------------------------------------- models


def test_modules_of_flax_without_variables_get_a_sentence():
    linen = pytest.importorskip("flax.linen")

    class Net(linen.Module):
        train: bool = False

        @linen.compact
        def __call__(self, images):
            hidden = linen.BatchNorm(use_running_average=not self.train)(linen.Dense(4)(images))
            return linen.Dense(3)(linen.Dropout(0.5, deterministic=not self.train)(hidden))

    images, labels = np.full((2, 5), 0.5, np.float32), np.zeros(2, int)
    for module in (Net(), Net().apply):
        with pytest.raises(ValueError, match=r"lambda images: module.apply\(variables, images\)"):
            attack.fgsm(module, images, labels)
    variables = Net().init(jax.random.key(0), images)
    with pytest.raises(ValueError, match="a Flax module in training mode"):
        attack.fgsm(lambda x: Net(train=True).apply(variables, x), images, labels)
    attack.fgsm(lambda x: Net().apply(variables, x), images, labels)
    with pytest.raises(ValueError, match="a Flax module without its variables"):
        attack.least_likely(Net(), images)


def test_modules_of_flax_nnx_and_equinox_in_training_mode_get_a_sentence():
    nnx, eqx = pytest.importorskip("flax.nnx"), pytest.importorskip("equinox")
    images, labels = np.full((2, 5), 0.5, np.float32), np.zeros(2, int)
    with pytest.raises(ValueError, match="a Flax NNX module in training mode"):
        attack.fgsm(nnx.BatchNorm(5, rngs=nnx.Rngs(0)), images, labels)
    with pytest.raises(ValueError, match=r"an Equinox module in training mode.*eqx.nn.inference_mode\(module\)"):
        attack.fgsm(jax.vmap(eqx.nn.Dropout(0.5)), images, labels)
