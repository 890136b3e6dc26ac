import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog.optimize import ENGINES, value_and_grad
from diffprog.visualize import channel, pixels, render
from diffprog.visualize._rendering.dead_units import redirect_rectifiers
from diffprog.visualize.penalties import l2
from diffprog.visualize.transforms import still
from tests.visualize import small

MODEL = small.model()


def draw(objective):
    """Without transforms, in pixels: nothing but the gradient moves a picture."""
    return render(
        MODEL,
        objective,
        key=jax.random.key(0),
        parameterization=pixels(12),
        transform=still,
        steps=40,
        learning_rate=0.3,
    )


RECTIFIERS = {
    "jax.nn.relu": (jax.nn.relu, np.inf),
    "jax.nn.relu6": (jax.nn.relu6, 6.0),
    "jnp.maximum": (lambda x: jnp.maximum(x, 0), np.inf),
    "jnp.clip": (lambda x: jnp.clip(x, 0, 6), 6.0),
    "lax.clamp": (lambda x: jax.lax.clamp(jnp.float32(0), x, jnp.float32(6)), 6.0),
    "jitted": (jax.jit(lambda x: jax.nn.relu(x)), np.inf),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", RECTIFIERS)
def test_where_nothing_gets_through_what_points_inside_does(name, engine):
    """Values stay; an image that is off everywhere gets the gradient that switches it on, another one its own."""
    rectifier, high = RECTIFIERS[name]
    collect = lambda parameters, images, names: {
        "units": rectifier(images) * jnp.broadcast_to(parameters, images.shape)
    }
    off = np.full((2, 2, 3), -1.0, np.float32)
    on = off.copy()
    on[0, 0, 0] = 1
    saturated = off + 10
    images, weights = np.stack([off, on, saturated]), np.array([1.0, -2.0, 3.0], np.float32)
    total = lambda images: jnp.sum(redirect_rectifiers(collect)(weights, images, ["units"])["units"])
    value, gradient = jax.jit(value_and_grad(engine)(total))(images)
    np.testing.assert_allclose(value, np.sum(np.clip(images, 0, high) * weights))
    expected = np.zeros_like(images)
    expected[0] = np.maximum(weights, 0)  # up, out of zero
    expected[1, 0, 0, 0] = 1
    expected[2] = weights if high == np.inf else np.minimum(weights, 0)  # down, from six
    np.testing.assert_allclose(gradient, expected)


def test_only_dead_pictures_are_revived():
    together = draw([channel("units", 1), channel("units", 2)])
    alone = draw(channel("units", 1))
    np.testing.assert_array_equal(together.was_dead, [False, True])
    np.testing.assert_allclose(together.images[0], alone.images[0], atol=1e-5)
    assert together.scores[-1, 1] > 0.5 and together.scores[0, 1] == 0


def test_a_dead_unit_is_revived_beside_a_penalty():
    """The penalty moves the picture, and the unit is dead all the same."""
    drawn = draw(channel("units", 2) - 0.01 * l2())
    assert drawn.was_dead[0] and drawn.term_histories[0]["units:2"][-1] > 0.5


def test_a_revived_picture_stops_at_its_level_too():
    how = {
        "key": jax.random.key(0),
        "parameterization": pixels(12),
        "transform": still,
        "learning_rate": 0.3,
        "steps": 64,
    }
    free = render(MODEL, channel("units", 2), **how)
    step = int(np.argmax(free.scores[:, 0] > 0.05))
    assert step > 0
    stopped = render(MODEL, channel("units", 2), stop_at=0.05, snapshots=(2, step), **how)
    assert (stopped.reached[0], stopped.was_dead[0]) == (step, True)
    np.testing.assert_allclose(stopped.images, stopped.snapshots[step], atol=1e-6)
    shorter = render(MODEL, channel("units", 2), **how | {"steps": step})
    np.testing.assert_allclose(stopped.images, shorter.images, atol=1e-5)
