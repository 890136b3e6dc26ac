"""Draw what units of a pretrained ImageNet network respond to.

With no argument: one sheet of eight units, from shallow to deep, and two classes. Otherwise name what to draw:

    python -m demos.feature_visualization volcano                   a class, by name or number
    python -m demos.feature_visualization blocks.8:3 blocks.12:20   channels of layers (--list-layers shows them)
"""

import argparse

import jax

from demos.command_line import add_engine, launch, positive
from diffprog import images, models
from diffprog.visualize import channel, logit, recipe, render

SHEET = (
    "blocks.1:3", "blocks.3:15", "blocks.5:11", "blocks.5:2", "blocks.8:3",
    "blocks.10:15", "blocks.12:11", "blocks.14:18", "volcano", "starfish",
)  # fmt: skip
NETWORK = "efficientnet_lite0"
NAME = "feature_visualization"


def main(arguments=None):
    launch(NAME, parser(), run, arguments)


def parser():
    parser = argparse.ArgumentParser(
        prog=f"python -m demos.{NAME}",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("units", nargs="*", metavar="UNIT", help="a class name or number, or layer:channel")
    parser.add_argument("--list-layers", action="store_true", help="print the layers with their shapes and stop")
    parser.add_argument("--size", type=positive, help="side of each picture in pixels (128 to 224 by depth)")
    parser.add_argument("--steps", type=positive, help="steps of gradient ascent per picture (256)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same pictures, bit for bit (0)")
    parser.add_argument("--out", default=f"out/{NAME}.png", metavar="FILE", help="where the sheet goes (%(default)s)")
    add_engine(parser)
    return parser


def run(options):
    model = models.load(NETWORK)
    if options.list_layers:
        for name, shape in model.layers_at(options.size or model.size).items():
            print(f"{name:<22} {' x '.join(map(str, shape))}")
    else:
        print(images.save_png(options.out, draw(model, options)))


def objective(model, unit):
    """The objective that a word on the command line names, and its caption."""
    layer, separator, index = unit.rpartition(":")
    if not separator:
        return logit(unit), f"class\n{model.labels[model.label_index(unit)].split(',')[0]}"
    if not index.isdigit():
        raise ValueError(f"a unit is layer:channel, the channel a number; found {unit!r}")
    return channel(layer, int(index)).checked(model), f"{layer}\nchannel {index}"


def draw(model, options):
    """The sheet: one picture after the other, each from the same key, so that its neighbours do not matter."""
    units = options.units or SHEET
    chosen = [objective(model, unit) for unit in units]
    pictures = []
    for number, (unit, (target, _)) in enumerate(zip(units, chosen, strict=True), 1):
        image, shake, steps = recipe(model, target, options.size)
        rendering = render(model, target, key=jax.random.key(options.seed), image=image, shake=shake,
                           steps=options.steps or steps, engine=options.engine,
                           progress=f"{number}/{len(units)} {unit}")
        pictures.append(rendering.images[0])
    return images.contact_sheet(pictures, [caption for _, caption in chosen], columns=min(len(units), 5))


if __name__ == "__main__":
    main()
