"""Draw what units of a pretrained ImageNet network respond to.

    %(prog)s
    %(prog)s volcano blocks.8:3
    %(prog)s dream photo.jpg --unit blocks.9

Without arguments, ten chosen units are drawn on one sheet. With a command, whose options COMMAND --help shows:

    render volcano blocks.8:3        a class and a channel, on one sheet (the word render may be left out)
    layer blocks.5                   every channel of a layer, as a page to search; goes on where it was stopped
    class volcano "golden retriever" classes, as a sheet
    dream photo.jpg                  what a layer sees in a photograph, more and more of it; a video with --video
    caricature photo.jpg             what each layer makes of a photograph
    accentuate photo.jpg volcano     what a unit sees in a photograph, brought out
    grid photo.jpg                   a small picture of what the network sees at each place
    atlas FOLDER                     what it sees in many images, similar things together
    gallery volcano blocks.8:3       a page with pictures, examples from your images, and scores
    score volcano blocks.8:3         scores against natural images
    list-layers                      the layers and their shapes

A UNIT is a class by name or number ("volcano", 980), a channel of a layer ("blocks.8:3"), a neuron at a row and a
column ("blocks.8:3@4,5"), a whole layer ("blocks.8"), or a sum of these ("volcano+blocks.8:3").
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffprog import images, models
from diffprog._util.files import check_writable
from diffprog.cli._command_line import launch
from diffprog.cli._visualize_options import make_parser
from diffprog.models import Model
from diffprog.visualize import (
    Objective,
    accentuate,
    activation_atlas,
    activation_grid,
    channel,
    dream,
    dream_video,
    gallery,
    layer,
    logit,
    neuron,
    recipe,
    render,
    render_all,
    score,
    top_activating_crops,
)
from diffprog.visualize.evaluation import HEADER, DatasetExamples, square_crops
from diffprog.visualize.objectives import caricature, class_of, diversity, guide
from diffprog.visualize.transforms import lucid

SHEET = (
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
ELSEWHERE = ("efficientnet_lite1", "efficientnet_lite2")  # do they see the class in a picture of it?


def main(arguments: Sequence[str] | None = None, prog: str = "diffprog visualize") -> None:
    """Run the command."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] not in (*COMMANDS, "-h", "--help"):
        arguments = ["render", *arguments]
    launch(make_parser(prog, __doc__), run, arguments)


def run(options: argparse.Namespace) -> None:
    """Run a command, whose places to read and write are looked at before the work."""
    out = getattr(options, "video", None) or getattr(options, "out", None)
    if options.command in ("layer", "gallery"):
        check_writable(page_folder(options), "--out")
    elif out is not None:
        if not getattr(options, "video", None):
            images.image_format(out)
        check_writable(Path(out).parent, "the folder of --out")
    for folder in (getattr(options, "images", None), getattr(options, "folder", None)):
        if folder is not None and not Path(folder).is_dir():
            raise ValueError(f"{folder} is no folder; give a folder of images")
    COMMANDS[options.command](options)


def page_folder(options: argparse.Namespace) -> str:
    """Name the folder of a page: in `--out`, the word LAYER stands for the layer's name."""
    return re.sub(r"(?<![A-Za-z])LAYER(?![A-Za-z])", lambda _: getattr(options, "layer", ""), options.out)


# ---------------------------------------------------------------- what the words on the command line mean


def objective(model: Model, unit: str) -> Objective:
    """Make the objective that a word names."""
    terms = [_single(model, word.strip()) for word in unit.split("+")]
    return sum(terms[1:], terms[0]).check(model)


def _single(model, word):
    name, separator, index = word.rpartition(":")
    if not separator:
        return layer(word) if word in model.layers else logit(word)
    index, _, place = index.partition("@")
    row_column = place.split(",") if place else []
    if not all(number.lstrip("-").isdigit() for number in (index, *row_column)) or len(row_column) not in (0, 2):
        raise ValueError(f"a unit is layer:channel or layer:channel@row,column, numbers but the layer; found {word!r}")
    return neuron(name, int(index), *map(int, row_column)) if place else channel(name, int(index))


def caption(model: Model, unit: str) -> str:
    """Write a unit's name on two lines."""
    name, separator, index = unit.rpartition(":")
    if "+" in unit or unit in model.layers:
        return unit
    return f"{name}\nchannel {index}" if separator else f"class\n{model.labels[model.label_index(unit)].split(',')[0]}"


def objectives_of(options: argparse.Namespace, model: Model) -> dict[str, Objective]:
    """Make the objectives of the units on the command line."""
    return {unit: objective(model, unit) for unit in options.units}


def other_networks(model: Model) -> list[Model]:
    """Load the networks that are shown the pictures of classes."""
    return [models.load(name) for name in ELSEWHERE if name != model.name]


def render_settings(
    options: argparse.Namespace, model: Model, target: Objective, recipe_name: str | None = None
) -> dict[str, Any]:
    """Collect the options of `render`: those of a recipe, and those of the command line."""
    settings = dict(recipe(model, target, recipe_name or options.recipe, options.size).options)
    if options.max_steps:
        settings["steps"] = options.max_steps
    return settings | {"key": jax.random.key(options.seed), "engine": options.engine}


def save_sheet(path: str, pictures: Sequence[np.ndarray], captions: Sequence[str], columns: int = 5) -> None:
    """Save pictures on one sheet, and print where."""
    print(images.save_png(path, images.contact_sheet(pictures, captions, columns=min(len(pictures), columns))))


def read_photograph(options: argparse.Namespace) -> np.ndarray:
    """Read the photograph, and bring its short side to `--size` pixels."""
    photograph = images.read_image(options.photograph)
    differs = options.size and options.size != min(photograph.shape[:2])
    return images.resize_short_side(photograph, options.size) if differs else photograph


def read_crop(options: argparse.Namespace, model: Model) -> np.ndarray:
    """Read the center of the photograph, of `--size` pixels or the network's."""
    return images.network_crop(images.read_image(options.photograph), options.size or model.shape[0])


# ---------------------------------------------------------------- commands


def draw(options: argparse.Namespace) -> None:
    """Draw units on a sheet, each from one key, so that its neighbors do not matter; Ctrl-C keeps those drawn."""
    model = models.load(options.network)
    targets = {unit: objective(model, unit) for unit in options.units or SHEET}
    pictures: list[np.ndarray] = []
    captions: list[str] = []
    try:
        for number, (unit, target) in enumerate(targets.items(), 1):
            rows = draw_rows(options, model, target, f"{number}/{len(targets)} {unit}")
            for moment, row in rows.items():
                pictures += list(row)
                captions += ["\n".join(filter(None, [caption(model, unit), moment]))] * len(row)
    finally:
        columns = len(options.snapshots or ()) or options.num_images
        if pictures:
            save_sheet(options.out, pictures, captions, columns=columns if columns > 1 else 5)


def draw_rows(options: argparse.Namespace, model: Model, target: Objective, progress: str) -> dict[str, np.ndarray]:
    """Draw the pictures of one unit: {what to say of the moment: pictures}."""
    settings = render_settings(options, model, target)
    if options.num_images > 1:
        target = target + options.diversity * diversity(options.diversity_layer)
    drawn = render(
        model, target, num_images=options.num_images, snapshots=options.snapshots, progress=progress, **settings
    )
    return {f"after {step} steps": row for step, row in drawn.snapshots.items()} or {"": drawn.images}


def draw_layer(options: argparse.Namespace) -> None:
    """Draw the channels of a layer as a page."""
    model = models.load(options.network)
    (name,) = model.check_layers([options.layer])
    num_channels = model.layers[name][-1]
    first, last = options.channels or (0, num_channels - 1)
    if not 0 <= first <= last < num_channels:
        raise ValueError(f"{name} has channels 0 to {num_channels - 1}; found {first}-{last}")
    objectives = {f"{name}:{index}": channel(name, index) for index in range(first, last + 1)}
    write_page(options, model, objectives, page_folder(options))


def draw_gallery(options: argparse.Namespace) -> None:
    """Draw units as a page."""
    model = models.load(options.network)
    write_page(options, model, objectives_of(options, model), options.out)


def write_page(options: argparse.Namespace, model: Model, objectives: dict[str, Objective], folder: str) -> None:
    """Draw objectives into a folder, add examples from images if there are any, and write the page."""
    render_all(
        model,
        objectives,
        folder,
        seed=options.seed,
        name=options.recipe,
        size=options.size,
        steps=options.max_steps,
        batch_size=options.batch_size,
        engine=options.engine,
        progress="pictures",
    )
    if options.images:
        networks = other_networks(model)
        gallery.annotate(model, objectives, folder, options.images, networks=networks, progress="annotate")
    title = f"What units of {model.name} respond to"
    print(gallery.gallery_from(folder, title=title, about=f"recipe {options.recipe}, seed {options.seed}"))


def draw_dream(options: argparse.Namespace) -> None:
    """Dream on a photograph, as a picture or as a video."""
    model = models.load(options.network)
    photograph = read_photograph(options)
    target = objective(model, options.unit)
    if options.guide:
        target = guide(model, options.unit, images.read_image(options.guide))
    settings = {
        "key": jax.random.key(options.seed),
        "octaves": options.octaves,
        "scale": options.scale,
        "steps": options.max_steps or 20,
        "learning_rate": options.learning_rate,
        "keep_colors": options.keep_colors,
        "engine": options.engine,
    }
    if options.mask:
        mask = images.resize(images.read_image(options.mask), *photograph.shape[:2])
        settings["mask"] = mask.mean(axis=-1)
    if options.video:
        settings |= {"num_frames": options.frames, "progress": "video"}
        print(dream_video(model, target, photograph, options.video, **settings))
    else:
        picture = dream(model, target, photograph, progress=options.unit, **settings).image
        print(images.save_png(options.out, picture))


def draw_caricature(options: argparse.Namespace) -> None:
    """Draw what several layers make of a photograph."""
    model = models.load(options.network)
    photograph, pictures = read_crop(options, model), []
    for name in options.layers:
        target = caricature(model, photograph, name)
        settings = render_settings(options, model, target, "caricature")
        pictures.append(render(model, target, progress=name, **settings).images[0])
    save_sheet(options.out, [photograph, *pictures], ["photograph", *options.layers], columns=6)


def draw_accentuation(options: argparse.Namespace) -> None:
    """Draw a photograph with what units see in it brought out."""
    model = models.load(options.network)
    photograph, pictures = read_crop(options, model), []
    for unit in options.units:
        drawn = accentuate(
            model,
            objective(model, unit),
            photograph,
            key=jax.random.key(options.seed),
            layer=options.hold,
            strength=options.strength,
            steps=options.max_steps or 128,
            engine=options.engine,
            progress=unit,
        )
        pictures.append(drawn.images[0])
    captions = ["photograph", *(caption(model, unit) for unit in options.units)]
    save_sheet(options.out, [photograph, *pictures], captions)


def draw_grid(options: argparse.Namespace) -> None:
    """Draw a small picture for each place of a photograph."""
    model = models.load(options.network)
    grid = activation_grid(
        model,
        read_crop(options, model),
        options.layer,
        key=jax.random.key(options.seed),
        cells=options.cells,
        sized=options.sized,
        steps=options.max_steps or 96,
        engine=options.engine,
        progress=options.layer,
    )
    print(images.save_png(options.out, grid.picture))


def draw_atlas(options: argparse.Namespace) -> None:
    """Draw an atlas of many images."""
    model = models.load(options.network)
    atlas = activation_atlas(
        model,
        square_crops(options.folder, options.size or model.shape[0]),
        options.layer,
        key=jax.random.key(options.seed),
        grid=options.cells,
        per_image=options.per_image,
        steps=options.max_steps or 96,
        engine=options.engine,
        progress=options.layer,
    )
    print(images.save_png(options.out, atlas.picture))


def show_scores(options: argparse.Namespace) -> None:
    """Print a row of scores for each unit, of two pictures: the second shows the stability over seeds."""
    model = models.load(options.network)
    objectives, networks = objectives_of(options, model), other_networks(model)
    examples: dict[int, DatasetExamples] = {}  # by the size of the pictures
    print(f"{'unit':<16}{HEADER}")
    for index, (unit, target) in enumerate(objectives.items()):
        drawn = render(model, target, num_images=2, progress=unit, **render_settings(options, model, target))
        size = drawn.images.shape[1]
        if size not in examples:
            examples[size] = top_activating_crops(
                model, list(objectives.values()), options.images, size=size, progress="dataset examples"
            )
        label = class_of(target)
        scores = score(
            model,
            target,
            drawn,
            examples[size],
            key=jax.random.key(options.seed),
            transform=lucid,
            objective_index=index,
            siblings=drawn.images[1:],
            networks=networks if label is not None else (),
            label=label,
        )
        print(f"{unit:<16}{scores}", flush=True)


def list_layers(options: argparse.Namespace) -> None:
    """Print the layers and their shapes."""
    model = models.load(options.network)
    for name, shape in model.layers_at(options.size or model.shape[0]).items():
        print(f"{name:<22} {' x '.join(map(str, shape))}")


COMMANDS = {
    "render": draw,
    "layer": draw_layer,
    "class": draw,
    "dream": draw_dream,
    "caricature": draw_caricature,
    "accentuate": draw_accentuation,
    "grid": draw_grid,
    "atlas": draw_atlas,
    "gallery": draw_gallery,
    "score": show_scores,
    "list-layers": list_layers,
}
