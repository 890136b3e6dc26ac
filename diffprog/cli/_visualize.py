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

import sys
from collections.abc import Sequence

import jax

from diffprog import images, models
from diffprog.cli._command_line import launch
from diffprog.cli._visualize_options import make_parser
from diffprog.visualize import (
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
from diffprog.visualize.evaluation import HEADER, square_crops
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
ELSEWHERE = ("efficientnet_lite1", "efficientnet_lite2")  # networks that are shown the pictures of classes


def main(arguments: Sequence[str] | None = None, prog: str = "diffprog visualize") -> None:
    """Run the command."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] not in (*COMMANDS, "-h", "--help"):
        arguments = ["render", *arguments]
    launch(make_parser(prog, __doc__), lambda options: COMMANDS[options.command](options), arguments)


# ---------------------------------------------------------------- what the words on the command line mean


def objective(model, unit):
    """The objective that a word names."""
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


def caption(model, unit):
    """A unit's name under its picture, on two lines."""
    name, separator, index = unit.rpartition(":")
    if "+" in unit or unit in model.layers:
        return unit
    return f"{name}\nchannel {index}" if separator else f"class\n{model.labels[model.label_index(unit)].split(',')[0]}"


def units_of(options, model):
    return {unit: objective(model, unit) for unit in options.units}


def save_sheet(path, pictures, captions, columns=5):
    print(images.save_png(path, images.contact_sheet(pictures, captions, columns=min(len(pictures), columns))))


def photograph(model, options):
    """The photograph, of `--size` pixels on its short side."""
    found = images.read_image(options.photograph)
    size = options.size or min(found.shape[:2])
    return images.resize_short_side(found, size) if size != min(found.shape[:2]) else found


# ---------------------------------------------------------------- commands


def draw(options):
    """Units on a sheet, each from the same key, so that its neighbors do not matter."""
    model = models.load(options.network)
    chosen = [(unit, objective(model, unit)) for unit in options.units or SHEET]
    pictures, captions = [], []
    for number, (unit, target) in enumerate(chosen, 1):
        how = recipe(model, target, options.recipe, options.size).options
        if options.num_images > 1:
            target = target + options.diversity * diversity(options.diversity_layer)
        drawn = render(
            model,
            target,
            key=jax.random.key(options.seed),
            num_images=options.num_images,
            engine=options.engine,
            snapshots=options.snapshots,
            progress=f"{number}/{len(chosen)} {unit}",
            **how | ({"steps": options.max_steps} if options.max_steps else {}),
        )
        shown = {f"after {at} steps": each for at, each in drawn.snapshots.items()} or {"": drawn.images}
        for when, each in shown.items():
            pictures += list(each)
            captions += ["\n".join(filter(None, [caption(model, unit), when]))] * len(each)
    rows = len(options.snapshots or ()) or options.num_images
    save_sheet(options.out, pictures, captions, columns=rows if rows > 1 else 5)


def draw_layer(options):
    model = models.load(options.network)
    (name,) = model.check_layers([options.layer])
    count = model.layers[name][-1]
    first, last = options.channels or (0, count - 1)
    if not 0 <= first <= last < count:
        raise ValueError(f"{name} has channels 0 to {count - 1}; found {first}-{last}")
    _gallery(
        options,
        model,
        {f"{name}:{index}": channel(name, index) for index in range(first, last + 1)},
        options.out.replace("LAYER", name),
    )


def draw_gallery(options):
    model = models.load(options.network)
    _gallery(options, model, units_of(options, model), options.out)


def _gallery(options, model, objectives, folder):
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
        networks = [models.load(name) for name in ELSEWHERE if name != model.name]
        gallery.annotate(model, objectives, folder, options.images, networks=networks, progress="annotate")
    print(
        gallery.gallery_from(
            folder,
            title=f"What units of {model.name} respond to",
            about=f"recipe {options.recipe}, seed {options.seed}",
        )
    )


def draw_dream(options):
    model = models.load(options.network)
    picture = photograph(model, options)
    target = objective(model, options.unit)
    if options.guide:
        target = guide(model, options.unit, images.read_image(options.guide))
    how = {
        "octaves": options.octaves,
        "scale": options.scale,
        "steps": options.max_steps or 20,
        "learning_rate": options.learning_rate,
        "keep_colors": options.keep_colors,
        "engine": options.engine,
    }
    if options.mask:
        mask = images.resize(images.read_image(options.mask), *picture.shape[:2])
        how["mask"] = mask.mean(axis=-1)
    key = jax.random.key(options.seed)
    if options.video:
        how |= {"num_frames": options.frames, "progress": "video"}
        print(dream_video(model, target, picture, options.video, key=key, **how))
    else:
        print(images.save_png(options.out, dream(model, target, picture, key=key, progress=options.unit, **how).image))


def draw_caricature(options):
    model, pictures = models.load(options.network), []
    seen = images.network_crop(images.read_image(options.photograph), options.size or model.size)
    for name in options.layers:
        target = caricature(model, seen, name)
        how = recipe(model, target, "caricature", options.size).options
        drawn = render(
            model,
            target,
            key=jax.random.key(options.seed),
            engine=options.engine,
            progress=name,
            **how | ({"steps": options.max_steps} if options.max_steps else {}),
        )
        pictures.append(drawn.images[0])
    save_sheet(options.out, [seen, *pictures], ["photograph", *options.layers], columns=6)


def draw_accentuation(options):
    model = models.load(options.network)
    seen, pictures = images.network_crop(images.read_image(options.photograph), options.size or model.size), []
    for unit in options.units:
        drawn = accentuate(
            model,
            objective(model, unit),
            seen,
            key=jax.random.key(options.seed),
            layer=options.hold,
            strength=options.strength,
            steps=options.max_steps or 128,
            engine=options.engine,
            progress=unit,
        )
        pictures.append(drawn.images[0])
    save_sheet(options.out, [seen, *pictures], ["photograph", *(caption(model, unit) for unit in options.units)])


def draw_grid(options):
    model = models.load(options.network)
    seen = images.network_crop(images.read_image(options.photograph), options.size or model.size)
    grid = activation_grid(
        model,
        seen,
        options.layer,
        key=jax.random.key(options.seed),
        cells=options.cells,
        sized=options.sized,
        steps=options.max_steps or 96,
        engine=options.engine,
        progress=options.layer,
    )
    print(images.save_png(options.out, grid.picture))


def draw_atlas(options):
    model = models.load(options.network)
    crops = square_crops(options.folder, options.size or model.size)
    atlas = activation_atlas(
        model,
        crops,
        options.layer,
        key=jax.random.key(options.seed),
        grid=options.cells,
        per_image=options.per_image,
        steps=options.max_steps or 96,
        engine=options.engine,
        progress=options.layer,
    )
    print(images.save_png(options.out, atlas.picture))


def show_scores(options):
    """One row for each unit; two pictures are drawn of each, for the stability over seeds."""
    model, natural = models.load(options.network), {}
    objectives = units_of(options, model)
    networks = [models.load(name) for name in ELSEWHERE if name != model.name]
    key = jax.random.key(options.seed)
    print(f"{'unit':<16}{HEADER}")
    for number, (unit, target) in enumerate(objectives.items()):
        how = recipe(model, target, options.recipe, options.size).options
        steps = {"steps": options.max_steps} if options.max_steps else {}
        drawn = render(model, target, num_images=2, key=key, engine=options.engine, progress=unit, **how | steps)
        size = drawn.images.shape[1]
        if size not in natural:
            natural[size] = top_activating_crops(
                model, list(objectives.values()), options.images, size=size, progress="dataset examples"
            )
        label = class_of(target)
        found = score(
            model,
            target,
            drawn,
            natural[size],
            key=key,
            transform=lucid,
            objective_index=number,
            siblings=drawn.images[1:],
            networks=networks if label is not None else (),
            label=label,
        )
        print(f"{unit:<16}{found}", flush=True)


def list_layers(options):
    model = models.load(options.network)
    for name, shape in model.layers_at(options.size or model.size).items():
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
