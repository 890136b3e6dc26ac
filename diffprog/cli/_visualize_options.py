"""The options of `diffprog visualize`."""

import argparse

from diffprog.cli._command_line import add_engine, command_parser, positive
from diffprog.models._zoo import NETWORKS
from diffprog.visualize._rendering.recipes import RECIPES


def make_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """Make the parser of the command line, with a parser for each subcommand."""
    parser = command_parser(prog, description)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, help="one of those above")
    for name, add_options in OPTIONS.items():
        command = commands.add_parser(name, description=HELP[name])
        command.add_argument("--network", choices=list(NETWORKS), default="efficientnet_lite0", help="(%(default)s)")
        add_options(command)
    return parser


HELP = {
    "render": "Pictures of units on one sheet; of ten chosen ones if no UNIT is given.",
    "layer": "A picture of every channel of a layer, as a page to search and a contact sheet.",
    "class": "Pictures of classes on one sheet.",
    "dream": "Change a photograph so that a layer or unit responds more, from coarse to fine.",
    "caricature": "What each of several layers makes of a photograph, drawn from noise.",
    "accentuate": "Move a photograph so that a unit responds more, and hold it near where it is.",
    "grid": "A small picture of what a layer says at each place of a photograph.",
    "atlas": "What a layer says about crops of many images, laid out so that similar things lie together.",
    "gallery": "Pictures of units with natural examples, scores and histories, as a page and a contact sheet.",
    "score": "Scores of pictures against crops of natural images; what they say stands in diffprog.visualize.Scores.",
    "list-layers": "The layers and their shapes.",
}


UNITS = "a class, layer:channel, layer:channel@row,column, a layer, or a sum of these with +"


def _common(parser, out, units="*"):
    if units:
        parser.add_argument("units", nargs=units, metavar="UNIT", help=UNITS)
    _drawing(parser, out)
    parser.add_argument("--recipe", choices=list(RECIPES), default="default", help="settings by name (%(default)s)")


def _drawing(parser, out, size="side of each picture in pixels (by the recipe)"):
    parser.add_argument("--size", type=positive, help=size)
    parser.add_argument(
        "--max-steps", "--steps", type=positive, metavar="N", help="steps of gradient ascent (by the recipe)"
    )
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same pictures, bit for bit (0)")
    if out:
        parser.add_argument("--out", default=out, metavar="PATH", help="where the result goes (%(default)s)")
    add_engine(parser)


def _render(parser):
    _common(parser, "out/feature_visualization.png")
    parser.add_argument(
        "--num-images",
        "--count",
        type=positive,
        default=1,
        metavar="N",
        help="pictures of each unit, made to differ (1)",
    )
    parser.add_argument("--diversity", type=float, default=2.0, help="weight of their difference (%(default)s)")
    parser.add_argument(
        "--diversity-layer", default="blocks.5", metavar="LAYER", help="where they differ (%(default)s)"
    )
    parser.add_argument(
        "--snapshots",
        type=_numbers,
        default=(),
        metavar="STEPS",
        help="show the pictures after so many steps: 1,16,64,256",
    )


def _class(parser):
    _render(parser)


def _layer(parser):
    parser.add_argument("layer", metavar="LAYER", help="list-layers shows them")
    parser.add_argument("--channels", type=_range, metavar="FIRST-LAST", help="only these, as 0-31 (all)")
    _pages(parser, "out/LAYER", units=None)


def _gallery(parser):
    _pages(parser, "out/gallery", units="+")


def _pages(parser, out, units):
    _common(parser, out, units)
    parser.add_argument(
        "--batch-size", type=positive, default=8, metavar="N", help="pictures drawn at once (%(default)s)"
    )
    parser.add_argument("--images", metavar="FOLDER", help="your images, for natural examples and scores (none)")


def _photograph(parser, out, size="the photograph's short side in pixels (as it is)"):
    parser.add_argument("photograph", metavar="PHOTOGRAPH", help="an image file")
    _drawing(parser, out, size)


def _dream(parser):
    _photograph(parser, "out/dream.png")
    parser.add_argument("--unit", default="blocks.9", metavar="UNIT", help="what to see more of (%(default)s)")
    parser.add_argument("--octaves", type=positive, default=4, help="sizes, from small to large (%(default)s)")
    parser.add_argument("--scale", type=float, default=1.4, help="of one size to the next (%(default)s)")
    parser.add_argument(
        "--learning-rate",
        "--rate",
        metavar="RATE",
        type=float,
        default=0.008,
        help="length of a step, of the range 0 .. 1 (%(default)s)",
    )
    parser.add_argument("--guide", metavar="IMAGE", help="see what this image has, in the layer --unit")
    parser.add_argument("--mask", metavar="IMAGE", help="change only where this image is white")
    parser.add_argument("--keep-colors", action="store_true", help="change brightness only")
    parser.add_argument(
        "--video", "--film", metavar="FILE", help="a video that zooms in, .gif or .webp; goes on where it was stopped"
    )
    parser.add_argument("--frames", type=positive, default=60, help="frames of the video (%(default)s)")


def _caricature(parser):
    _photograph(parser, "out/caricature.png", "side of the pictures in pixels (the network's)")
    parser.add_argument(
        "--layers",
        nargs="+",
        default=("blocks.2", "blocks.4", "blocks.7", "blocks.10", "blocks.14"),
        metavar="LAYER",
        help="from shallow to deep (%(default)s)",
    )


def _accentuate(parser):
    parser.add_argument("photograph", metavar="PHOTOGRAPH", help="an image file")
    parser.add_argument("units", nargs="+", metavar="UNIT", help=UNITS)
    _drawing(parser, "out/accentuate.png", "side of the pictures in pixels (the network's)")
    parser.add_argument("--hold", default="blocks.4", metavar="LAYER", help="where it stays near (%(default)s)")
    parser.add_argument("--strength", type=float, default=1.0, help="of the hold (%(default)s)")


def _grid(parser):
    _photograph(parser, "out/grid.png", "side of the photograph in pixels (the network's)")
    parser.add_argument("--layer", default="blocks.12", metavar="LAYER", help="(%(default)s)")
    parser.add_argument("--cells", type=_cells, metavar="ROWSxCOLUMNS", help="coarser than the layer, as 7x7")
    parser.add_argument("--sized", action="store_true", help="weaker responses are shown smaller")


def _atlas(parser):
    parser.add_argument("folder", metavar="FOLDER", help="images, also in its folders")
    _drawing(parser, "out/atlas.png", "side of the crops in pixels (the network's)")
    parser.add_argument("--layer", default="blocks.12", metavar="LAYER", help="(%(default)s)")
    parser.add_argument("--cells", type=_cells, default=(8, 8), metavar="ROWSxCOLUMNS", help="of the atlas (8x8)")
    parser.add_argument("--per-image", type=positive, default=4, help="places taken from each crop (%(default)s)")


def _score(parser):
    _common(parser, None, "+")
    parser.add_argument("--images", required=True, metavar="FOLDER", help="natural images to compare with")


def _list_layers(parser):
    parser.add_argument("--size", type=positive, help="side of the images in pixels (the network's)")


OPTIONS = {
    "render": _render,
    "layer": _layer,
    "class": _class,
    "dream": _dream,
    "caricature": _caricature,
    "accentuate": _accentuate,
    "grid": _grid,
    "atlas": _atlas,
    "gallery": _gallery,
    "score": _score,
    "list-layers": _list_layers,
}


# ---------------------------------------------------------------- kinds of arguments


def _numbers(text):
    if not all(part.isdecimal() for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"expected numbers with commas between, as 1,16,64; found {text!r}")
    return tuple(map(int, text.split(",")))


def _range(text):
    first, _, last = text.partition("-")
    if not first.isdecimal() or not (last or first).isdecimal():
        raise argparse.ArgumentTypeError(f"expected channels as 0-31, or one of them; found {text!r}")
    return int(first), int(last or first)


def _cells(text):
    rows, _, columns = text.partition("x")
    if not rows.isdecimal() or not columns.isdecimal() or not int(rows) or not int(columns):
        raise argparse.ArgumentTypeError(f"expected rows and columns as 7x7; found {text!r}")
    return int(rows), int(columns)
