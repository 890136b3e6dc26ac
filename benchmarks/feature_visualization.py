"""Scores of pictures of ten fixed units, by each recipe: `python -m benchmarks.feature_visualization [--json FILE]`.

What the columns say stands in `diffprog.visualize.evaluation.Scores`; robust is under the same transforms (`lucid`) for
all recipes. Natural examples come from the four photographs in assets/ unless a folder is given. That is few: the
natural maximum is then a low bar, and the top crops of a unit have little in common, so that the path is often without
a scale ("-"). Give --images FOLDER with some hundreds for numbers to publish. Seconds are per picture, without
compilation. The recipe "pixels" is a baseline: plain pixels without transforms.
"""

import argparse
import time
from pathlib import Path

import jax

from benchmarks.timing import write_json
from diffprog import models
from diffprog.visualize import Recipe, channel, logit, pixels, recipe, render, score, top_activating_crops
from diffprog.visualize.evaluation import HEADER, medians
from diffprog.visualize.transforms import lucid, still

UNITS = (
    "blocks.1:3",
    "blocks.3:15",
    "blocks.5:11",
    "blocks.5:2",
    "blocks.8:3",
    "blocks.10:15",
    "blocks.12:11",
    "blocks.14:18",
    "volcano",
    "starfish",
)
RECIPES = ("default", "lucid", "distill", "maco", "pixels")
SHORT = ("default", "lucid", "maco", "pixels")  # without those that take thousands of steps
ASSETS = Path(__file__).parents[1] / "assets"
PHOTOGRAPHS = [ASSETS / name for name in ("astronaut.jpg", "chelsea.png", "coffee.jpg", "rocket.jpg")]
ELSEWHERE = ("efficientnet_lite1", "efficientnet_lite2")  # networks that are shown the pictures of classes
WARM_UP = 16  # steps: one block of the loop


def objective(unit):
    layer, separator, index = unit.rpartition(":")
    return channel(layer, int(index)) if separator else logit(unit)


def chosen(model, target, name):
    """The `Recipe` of that name; "pixels" is the baseline, plain pixels held still."""
    if name == "pixels":
        return Recipe(pixels(recipe(model, target).parameterization.height), still, 256)
    return recipe(model, target, name)


def measure(model, networks, unit, how, natural, number, options):
    """The `Scores` of one unit by one recipe."""
    key, target = jax.random.key(options.seed), objective(unit)
    drawn = lambda steps: render(model, target, num_images=options.pictures, key=key, **how.options | {"steps": steps})
    drawn(WARM_UP)  # so that compilation is not counted, as far as it is kept
    start = time.perf_counter()
    rendering = drawn(options.steps or how.steps)
    seconds = (time.perf_counter() - start) / len(rendering.scores) / options.pictures
    is_class = ":" not in unit
    return score(
        model,
        target,
        rendering,
        natural,
        key=key,
        transform=lucid,
        objective_index=number,
        seconds_per_step=seconds,
        siblings=rendering.images[1:],
        networks=networks if is_class else (),
        label=unit if is_class else None,
    )


def main(arguments=None):
    options = parser().parse_args(arguments)
    for name in options.recipes:
        if name not in RECIPES:
            raise SystemExit(f"there is no recipe {name!r}; choose from {', '.join(RECIPES)}")
    model, targets = models.load("efficientnet_lite0"), [objective(unit) for unit in options.units]
    networks = [models.load(name) for name in ELSEWHERE] if any(":" not in unit for unit in options.units) else []
    photographs = options.images or PHOTOGRAPHS
    natural, found = {}, []
    for name in options.recipes:
        print(f"\n{name:<14}{HEADER}")
        rows = []
        for number, (unit, target) in enumerate(zip(options.units, targets, strict=True)):
            how = chosen(model, target, name)
            size = how.parameterization.height
            if size not in natural:
                natural[size] = top_activating_crops(model, targets, photographs, size=size)
            rows.append(measure(model, networks, unit, how, natural[size], number, options))
            print(f"{unit:<14}{rows[-1]}", flush=True)
            found.append({"recipe": name, "unit": unit, "size": size, **rows[-1].as_dict()})
        print(f"{'median':<14}{medians(rows)}")
    images = {crop.name for each in natural.values() for crop in each.crops}
    print(
        f"\nnatural: {max(len(each.crops) for each in natural.values())} crops of {len(images)} photographs"
        + ("" if options.images else ", too few to publish: give --images FOLDER")
    )
    if options.json:
        write_json(options.json, found)


def parser():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", nargs="+", default=UNITS, metavar="UNIT", help="layer:channel, or a class")
    parser.add_argument(
        "--recipes", nargs="+", default=SHORT, metavar="NAME", help=f"of {' '.join(RECIPES)} ({' '.join(SHORT)})"
    )
    parser.add_argument("--steps", type=int, help="instead of each recipe's own")
    parser.add_argument("--pictures", type=int, default=2, help="of each unit, for the stability over seeds (2)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", metavar="FOLDER", help="photographs for natural examples")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to this file too")
    return parser


if __name__ == "__main__":
    main()
