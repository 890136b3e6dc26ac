"""Slices of objectives: values, directions, projections, and what the pictures show."""

import io

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

from diffprog.optimize import Descent, directions, landscape
from diffprog.optimize._landscape.shading import shading
from diffprog.optimize._landscape.webpage import page_data

UNITS = [jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])]


def rosenbrock(p):
    return 100 * (p[1] - p[0] ** 2) ** 2 + (1 - p[0]) ** 2


def loss(p, data):
    hidden = jnp.tanh(data @ p["first"]["kernel"] + p["first"]["bias"])
    return jnp.mean((hidden @ p["last"]["kernel"] - 1) ** 2)


def network():
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    parameters = {"first": {"kernel": draw(3, 5), "bias": draw(5)}, "last": {"kernel": draw(5, 2)}, "steps": 7}
    return parameters, draw(20, 3)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_values_are_the_objective_on_the_grid(batch_size):
    center = jnp.array([1.0, 0.5])
    found = landscape(rosenbrock, center, UNITS, extent=[(-2, 1), 1.5], num_points=9, batch_size=batch_size)
    x, y = np.linspace(-2, 1, 9), np.linspace(-1.5, 1.5, 9)
    np.testing.assert_allclose(found.coordinates, [x, y])
    expected = [[float(rosenbrock(np.array([1 + a, 0.5 + b]))) for a in x] for b in y]
    np.testing.assert_allclose(found.values, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.center_value, 25, rtol=1e-6)


def test_one_direction_makes_a_line_and_complex_parameters_move():
    center = {"z": jnp.array([1 + 1j]), "x": jnp.array(2.0), "name": "n"}
    direction = {"z": jnp.array([1j]), "x": jnp.array(0.0), "name": "n"}
    objective = lambda p: jnp.sum(jnp.abs(p["z"]) ** 2) + p["x"]
    found = landscape(objective, center, direction, num_points=5)
    np.testing.assert_allclose(found.values, 1 + (1 + np.linspace(-1, 1, 5)) ** 2 + 2, rtol=1e-6)


def test_filter_normalization_moves_each_neuron_by_its_length_and_no_bias():
    parameters, _ = network()
    for vector in directions.filter_normalized(parameters, key=3).vectors:
        for layer in ("first", "last"):
            kernel, moved = parameters[layer]["kernel"], vector[layer]["kernel"]
            np.testing.assert_allclose(jnp.linalg.norm(moved, axis=0), jnp.linalg.norm(kernel, axis=0), rtol=1e-5)
            assert not np.allclose(moved, kernel)
        assert np.all(vector["first"]["bias"] == 0) and vector["steps"] == 7
    one, two = directions.filter_normalized(parameters, key=3).vectors
    assert not np.allclose(one["first"]["kernel"], two["first"]["kernel"])


def test_filter_normalization_knows_where_a_layer_has_its_outputs():
    model = eqx.nn.MLP(3, 2, 4, 2, key=jax.random.key(0))
    (vector,) = directions.filter_normalized(model, num_directions=1).vectors
    for layer, moved in zip(model.layers, vector.layers, strict=True):
        expected = jnp.linalg.norm(layer.weight, axis=1)  # (outputs, inputs)
        np.testing.assert_allclose(jnp.linalg.norm(moved.weight, axis=1), expected, rtol=1e-5)
        assert np.all(moved.bias == 0)
    convolution = {"kernel": jnp.ones((3, 3, 2, 6)), "scale": jnp.ones(6)}
    (vector,) = directions.filter_normalized(convolution, num_directions=1).vectors
    np.testing.assert_allclose(jnp.sum(vector["kernel"] ** 2, axis=(0, 1, 2)), 18, rtol=1e-5)
    (vector,) = directions.filter_normalized(convolution, num_directions=1, output_axis=0).vectors
    np.testing.assert_allclose(jnp.sum(vector["kernel"] ** 2, axis=(1, 2, 3)), 36, rtol=1e-5)
    (vector,) = directions.filter_normalized(jnp.array([3.0, 4.0]), num_directions=1).vectors
    np.testing.assert_allclose(jnp.linalg.norm(vector), 5, rtol=1e-6)


def test_a_random_slice_does_not_depend_on_the_scale_of_a_network():
    """A layer times 10 and the next over 10 is the same ReLU network: its slice is the same, too."""
    rng = np.random.default_rng(0)
    data, targets = (
        jnp.asarray(rng.normal(size=(30, 4)), jnp.float32),
        jnp.asarray(rng.normal(size=(30, 1)), jnp.float32),
    )
    weights = [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((4, 8), (8, 1))]
    objective = lambda p: jnp.mean((jax.nn.relu(data @ p[0]) @ p[1] - targets) ** 2)
    plain = landscape(objective, weights, num_points=11, key=5)
    scaled = landscape(objective, [weights[0] * 10, weights[1] / 10], num_points=11, key=5)
    np.testing.assert_allclose(plain.values, scaled.values, rtol=1e-4)


def test_random_walk_shares():
    walk = np.cumsum(np.random.default_rng(0).normal(size=(300, 4000)), axis=0)
    centered = walk - walk.mean(axis=0)
    spectrum = np.linalg.eigvalsh(centered @ centered.T)[::-1]
    shares = directions.random_walk_shares(300)
    np.testing.assert_allclose((spectrum / spectrum.sum())[:4], shares[:4], rtol=0.05)
    np.testing.assert_allclose(shares.sum(), 1)
    np.testing.assert_allclose(directions.random_walk_shares(100_000)[:2], [6 / np.pi**2, 6 / np.pi**2 / 4], rtol=1e-4)


@pytest.mark.parametrize("stacked", [True, False])
def test_principal_components_of_a_path(stacked):
    rng = np.random.default_rng(1)
    points = (rng.normal(size=(12, 3)) * [3, 1, 0.1]) @ np.linalg.qr(rng.normal(size=(6, 6)))[0][:3]
    trees = [{"a": jnp.asarray(p[:4], jnp.float32), "b": jnp.asarray(p[4:], jnp.float32)} for p in points]
    path = jax.tree.map(lambda *x: jnp.stack(x), *trees) if stacked else trees
    found = directions.pca(path)
    rows = np.stack([np.concatenate([v["a"], v["b"]]) for v in found.vectors])
    np.testing.assert_allclose(rows @ rows.T, np.eye(2), atol=1e-5)
    _, scales, components = np.linalg.svd(points - points.mean(axis=0))
    np.testing.assert_allclose(np.abs(rows @ components[:2].T), np.eye(2), atol=1e-4)
    share = scales[0] ** 2 / np.sum(scales**2)
    assert f"{share:.1%}" in found.notes[0] and f"{share:.1%}" in found.names[0]
    assert f"{directions.random_walk_shares(12)[0]:.1%}" in found.notes[0]


def test_path_is_projected_and_its_distance_is_told():
    path = jnp.array([[2.0, 3.0, 0.5], [1.0, 1.0, 0.2], [0.0, 0.5, 0.0]])
    skew = [jnp.array([1.0, 0.0, 0.0]), jnp.array([1.0, 1.0, 0.0])]  # neither orthogonal nor of length 1
    found = landscape(lambda p: jnp.sum(p**2), jnp.zeros(3), skew, path=path, num_points=5)
    np.testing.assert_allclose(found.path, [[-1, 3], [0, 1], [-0.5, 0.5]], atol=1e-6)
    np.testing.assert_allclose(found.path_distances, [0.5, 0.2, 0], atol=1e-6)
    np.testing.assert_allclose(found.path_values, np.sum(np.asarray(path) ** 2, axis=1), rtol=1e-6)
    low, high = found.coordinates[1][[0, -1]]
    assert low < 0 and high > 3  # what is shown has the path in it
    assert any("0.5 away" in note for note in found.notes)


def test_hessian_directions_curve_as_their_eigenvalues():
    matrix = jnp.asarray(np.diag([5.0, 1.0, -2.0]), jnp.float32)
    center = jnp.array([0.3, 0.0, 0.4])
    found = landscape(lambda x: x @ matrix @ x / 2, center, "hessian", num_points=3, extent=1.0)
    second = lambda row: row[0] - 2 * row[1] + row[2]
    np.testing.assert_allclose([second(found.values[1]), second(found.values[:, 1])], [5, -2], rtol=1e-3)
    assert "largest eigenvalue, 5" in found.directions.names[0]


def test_path_of_descent_by_its_components():
    parameters, data = network()
    trainable = {name: parameters[name] for name in ("first", "last")}
    loop = Descent(lambda p, step: (loss(p, step.data), p), optax.sgd(0.1), has_aux=True)
    state, history = loop.run(loop.init(trainable), 30, data=data)
    found = landscape(loss, state.parameters, "pca", data=data, path=history.aux, num_points=11)
    np.testing.assert_allclose(found.path_values, history.value, rtol=1e-4)
    np.testing.assert_allclose(found.center_value, loss(state.parameters, data), rtol=1e-5)
    assert found.path.shape == (30, 2)


# ---------------------------------------------------------------- shades and pictures


@pytest.mark.parametrize(
    "values, scale, is_log",
    [
        (np.linspace(-1, 1, 50) ** 2, "auto", False),
        (np.geomspace(1e-3, 1e3, 50), "auto", True),
        (np.geomspace(1e-3, 1e3, 50) - 5, "auto", True),
        (np.geomspace(1e-3, 1e3, 50), "linear", False),
        (np.linspace(-1, 1, 50), "log", True),
        (np.full(50, 3.0), "auto", False),
        (np.full(50, np.nan), "auto", False),
    ],
)
def test_shades_rise_with_values_and_levels_are_between(values, scale, is_log):
    found = shading(values, scale)
    assert found.is_logarithmic == is_log
    shades = found.shade(np.sort(values))
    if np.isfinite(values).all() and np.ptp(values):
        assert shades[0] == 0 and shades[-1] == 1 and np.all(np.diff(shades) >= 0)
        assert np.all(np.diff(found.levels()) > 0)
        np.testing.assert_allclose(np.diff(found.shade(found.levels())), 1 / 15, rtol=1e-6)
        assert values.min() < found.levels()[0] and found.levels()[-1] < values.max()
    else:
        assert np.isnan(shades).all() == np.isnan(values).all()


@pytest.fixture(scope="module")
def plane():
    path = jnp.array([[0.8, -0.8], [0.5, -0.2], [0.1, 0.3], [-0.3, 0.5]])
    objective = lambda p: jnp.where(p[0] > 0.95, jnp.nan, (p[0] + 0.3) ** 2 + 2 * (p[1] - 0.5) ** 2)
    return landscape(objective, jnp.zeros(2), UNITS, path=path, extent=1.0, num_points=21)


def test_png_is_dark_at_the_minimum_and_bright_at_the_corner(plane):
    picture = Image.open(io.BytesIO(plane.png(width=720, title="bowl")))
    assert picture.size == (720, 600) and picture.format == "PNG"
    gray = np.asarray(picture.convert("L"), float)
    assert gray[:, :40].mean() > 200  # margins are white, labels aside
    assert any("not finite" in note for note in plane.notes)


def test_animation_grows_by_the_path(plane, tmp_path):
    for suffix in (".gif", ".png", ".webp"):
        film = Image.open(plane.animation(tmp_path / f"film{suffix}", width=600))
        assert film.n_frames == 4
        frames = []
        for index in range(4):
            film.seek(index)
            frames.append(np.asarray(film.convert("RGB"), int))
        orange = [np.sum((f[..., 0] > 200) & (f[..., 1] < 170) & (f[..., 2] < 90)) for f in frames]
        assert np.all(np.diff(orange) > 10), orange


def test_pictures_of_a_line(tmp_path):
    path = jnp.linspace(1, 0, 5)[:, None] * jnp.array([[1.0, 1.0]])
    found = landscape(rosenbrock, jnp.zeros(2), [jnp.ones(2)], path=path, num_points=15)
    assert found.png(tmp_path / "line.png").stat().st_size > 5000
    assert Image.open(found.animation(tmp_path / "line.gif", width=200)).n_frames == 5
    text = found.html(tmp_path / "line.html").read_text()
    assert "http" not in text.replace('http-equiv="Content-Security-Policy"', "")


def test_page_data_are_the_values(plane):
    data = page_data(plane)
    assert data["values"][0][-1] is None and data["values"][3][4] == plane.values[3, 4]
    assert data["path"] == plane.path.tolist() and data["axes"][1][0] == -1


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(directions="tsne"), "directions 'tsne' are not known; use one of 'random', 'pca', 'hessian'"),
        (dict(directions="pca"), "needs the path"),
        (dict(directions=[jnp.ones(2)] * 3), "one or two pytrees like the center"),
        (dict(directions=[jnp.ones(3)]), "of 2 numbers; found 3"),
        (dict(extent=(1, -1)), "extent must be a positive number"),
        (dict(scale="sqrt"), "scale 'sqrt' is not known"),
        (dict(num_points=1), "num_points must be a whole number of at least 2"),
        (dict(directions="pca", path=[jnp.ones(2)] * 2), "at least 3 points; found 2"),
        (dict(path=[]), "path has no points"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        landscape(rosenbrock, jnp.ones(2), **arguments)


def test_animations_need_a_path_and_a_known_ending(plane, tmp_path):
    with pytest.raises(ValueError, match="call landscape with path="):
        landscape(rosenbrock, jnp.ones(2), num_points=3).animation(tmp_path / "film.gif")
    with pytest.raises(ValueError, match=r"path must end in \.gif, \.webp, \.png"):
        plane.animation(tmp_path / "film.mp4")
