import jax
import numpy as np
import pytest

from diffprog.visualize import accentuate, channel, fourier, logit, recipe, render
from diffprog.visualize.transforms import lucid, still
from tests.visualize import small

MODEL = small.model()
PHOTOGRAPH = np.random.default_rng(0).uniform(0.2, 0.8, size=(12, 12, 3)).astype(np.float32)


def test_every_recipe_excites_its_unit_on_a_small_network():
    for name in ("default", "lucid", "distill", "maco"):
        target = logit("two")
        how = recipe(MODEL, target, name, 12).options | {"steps": 64}
        drawn = render(MODEL, target, key=jax.random.key(0), **how)
        assert drawn.scores[-4:].mean() > drawn.scores[:4].mean() + 0.05, name


def test_recipes_are_as_their_sources_say():
    pictures = {name: recipe(MODEL, channel("units", 0), name) for name in ("lucid", "distill")}
    assert (pictures["lucid"].parameterization, pictures["lucid"].transform, pictures["lucid"].steps) == (
        fourier(128),
        lucid,
        512,
    )
    assert (pictures["distill"].steps, pictures["distill"].transform.size(40, 40)) == (2560, (40, 40))
    maco = recipe(MODEL, channel("units", 0), "maco")
    assert (maco.optimizer is recipe(MODEL, logit("two"), "maco").optimizer, maco.num_transforms) == (True, 8)
    with pytest.raises(ValueError, match="there is no recipe 'macaw'; did you mean 'maco'"):
        recipe(MODEL, channel("units", 0), "macaw")


def test_accentuation_brings_out_a_unit_and_holds_the_photograph():
    unit = channel("units.pre", 0)
    how = {"key": jax.random.key(0), "transform": still, "steps": 24}
    loose, tight = (accentuate(MODEL, unit, PHOTOGRAPH, strength=s, **how) for s in (0.0, 30.0))
    score = lambda image: float(unit.score(MODEL, MODEL.activations(image[None], ["units.pre"]))[0])
    assert score(loose.images[0]) > score(tight.images[0]) > score(PHOTOGRAPH)
    apart = lambda drawn: np.abs(drawn.images[0] - PHOTOGRAPH).mean()
    assert apart(tight) < 0.3 * apart(loose)
    held = accentuate(MODEL, unit, PHOTOGRAPH, layer="logits", strength=30.0, **how)
    logits = lambda image: np.asarray(MODEL(image[None]))[0]
    assert (
        np.abs(logits(held.images[0]) - logits(PHOTOGRAPH)).max()
        < np.abs(logits(loose.images[0]) - logits(PHOTOGRAPH)).max()
    )
