"""Every public function that draws or measures."""

import functools

import jax
import numpy as np

import diffprog as dp
from diffprog import models
from diffprog.visualize import (
    accentuate,
    activation_atlas,
    activation_grid,
    channel,
    dream,
    fourier,
    layer,
    logit,
    neuron,
    objective,
    objectives,
    penalties,
    pixels,
    recipe,
    render,
    score,
    top_activating_crops,
    transforms,
)
from diffprog.visualize import parameterizations as forms
from tests.settings.entries import Entry

RANDOM = np.random.default_rng(0)
WEIGHTS = {
    "conv": RANDOM.normal(size=(3, 3, 3, 4)).astype(np.float32) / 3,
    "head": RANDOM.normal(size=(4, 3)).astype(np.float32),
}
PHOTOGRAPH = RANDOM.uniform(size=(16, 16, 3)).astype(np.float32)
PHOTOGRAPHS = list(RANDOM.uniform(size=(6, 16, 20, 3)).astype(np.float32))
KEY = jax.random.key(0, impl="threefry2x32")


def network(weights, images):
    x = jax.lax.conv_general_dilated(
        images, weights["conv"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return dp.tap(jax.numpy.tanh(x), "conv").mean((1, 2)) @ weights["head"]


@functools.cache
def model():
    return models.wrap(network, WEIGHTS, size=16, labels=["a", "b", "c"], mean=[0.1, 0.2, 0.3], std=0.5)


def drawn(target=None, **options):
    target = channel("conv", 1) if target is None else target
    options = {"key": KEY, "parameterization": fourier(16), "transform": transforms.still, "steps": 3, **options}
    found = render(model(), target, **options)
    return found.images, found.scores, found.reached


def moved():
    shaken = transforms.chain(transforms.pad(2), transforms.jitter(4), transforms.scale(0.9, 1.1), transforms.rotate(5))
    return shaken, transforms.flip(), transforms.blur(0.5, 1), transforms.noise(0.1, 0.1), transforms.color_shift()


def own(values):
    return values["conv"].mean((1, 2, 3)) + values["image"].mean((1, 2, 3))


def scored():
    target = channel("conv", 1)
    pictures = render(model(), target, key=KEY, parameterization=fourier(16), transform=None, steps=2)
    examples = top_activating_crops(model(), target, PHOTOGRAPHS, num_crops=3)
    found = score(model(), target, pictures, examples, key=KEY, transform=transforms.jitter(2))
    return examples.scores, {name: value for name, value in found.numbers().items() if np.isfinite(value)}


RUNS = {
    "network": lambda: (model()(PHOTOGRAPH[None]), model().activations(PHOTOGRAPH[None], "conv"), model().layers),
    "top": lambda: [p for _, _, p in model().top(PHOTOGRAPH[None])[0]],
    "wrap": lambda: models.wrap(lambda images: network(WEIGHTS, images), size=16)(PHOTOGRAPH[None]),
    "digits": lambda: render(models.load("digits"), logit("3"), key=KEY, steps=2).images,
    "render": lambda: drawn(transform=list(moved()), num_transforms=2),
    "render several": lambda: drawn([logit("b"), neuron("conv", 2), layer("conv")]),
    "render to a score": lambda: drawn(stop_at=-1.0),
    "render an objective of one's own": lambda: drawn(objective(own, ["conv", "image"])),
    "comparisons": lambda: drawn(
        channel("conv", 1)
        + objectives.diversity("conv")
        - objectives.alignment()
        - objectives.style_difference("conv", model().activations(PHOTOGRAPH[None], "conv")["conv"][0])
        + objectives.caricature(model(), PHOTOGRAPH, "conv")
        + objectives.guide(model(), "conv", PHOTOGRAPH)
        + objectives.cosine("conv", [1, 2, 3, 4])
        + objectives.log_probability("a"),
        num_images=2,
    ),
    "penalties": lambda: drawn(
        channel("conv", 1)
        - penalties.total_variation()
        - penalties.l1()
        - penalties.l2()
        - penalties.fine_detail()
        - penalties.boundary_complexity(2)
    ),
    "parameterizations": lambda: [
        drawn(parameterization=form, num_images=2)
        for form in (
            pixels(16),
            forms.pyramid(16, levels=3),
            forms.maco(16),
            forms.shared(fourier(16)),
            forms.masked(fourier(16), np.eye(16), PHOTOGRAPH),
        )
    ],
    "cppn": lambda: drawn(parameterization=forms.cppn(16, layers=2, units=4)),
    "alpha": lambda: drawn(
        channel("conv", 1) - penalties.opacity(),
        parameterization=forms.alpha(fourier(16)),
        transform=transforms.chain(transforms.blend(), transforms.crop(12)),
    ),
    "start": lambda: drawn(start=PHOTOGRAPH),
    **{
        f"recipe {name}": lambda name=name: drawn(
            **recipe(model(), channel("conv", 1), name, 16)._replace(steps=2, num_transforms=1).options
        )
        for name in ("default", "lucid", "distill", "maco")
    },
    "accentuate": lambda: accentuate(model(), logit("c"), PHOTOGRAPH, key=KEY, steps=2, layer="conv").images,
    "dream": lambda: dream(model(), layer("conv"), PHOTOGRAPH, key=KEY, octaves=2, steps=2, tile=12, overlap=2).image,
    "grid": lambda: activation_grid(model(), PHOTOGRAPH, "conv", key=KEY, cells=(1, 2), side=8, steps=2).picture,
    "atlas": lambda: (
        activation_atlas(
            model(), PHOTOGRAPHS, "conv", key=KEY, grid=(1, 2), side=8, steps=2, layout=lambda rows: rows[:, :2]
        ).picture
    ),
    "score": scored,
    "facets": lambda: [
        facet.objective.score(model(), model().activations(PHOTOGRAPH[None], "conv"))
        for facet in objectives.facets(model(), logit("a"), PHOTOGRAPHS, "conv", 2, key=KEY)
    ],
}
# Pictures after a few steps of Adam, whose first step is the gradient's sign: rounding shows in some pixels.
ENTRIES = [Entry(name, run, atol=5e-3, rtol=1e-3) for name, run in RUNS.items()]
