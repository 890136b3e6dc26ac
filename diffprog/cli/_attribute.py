"""Show where a network's answer comes from: many methods on one photograph, side by side.

    %(prog)s
    %(prog)s my_photo.jpg --class tabby --against lynx --method integrated_gradients deeplift
    %(prog)s --method smooth_gradient --directory out/smooth --json
    %(prog)s --text "A cat sits on the mat." "A kitten is resting on a rug."
    %(prog)s --evaluate photographs --method gradient deeplift lime
    %(prog)s --list-methods

Orange speaks for the class, blue against it. Under each map stands what is missing to completeness: what the credit
does not add up to, of the score minus that of a black picture. The sheet is written anew after every method, so that
Ctrl-C keeps those that are done.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from diffprog import attribute, models
from diffprog._util.files import check_writable, write_text
from diffprog._util.tables import text_table
from diffprog.attribute import Attribution, pictures
from diffprog.attribute._draw.maps import maps_of
from diffprog.cli._attack import CAT
from diffprog.cli._attribution_recipes import BASELINES, RECIPES, table
from diffprog.cli._command_line import add_engine, command_parser, launch, short
from diffprog.images import network_crop, read_image, save_png
from diffprog.models import Model
from diffprog.models._labels import suggest
from diffprog.visualize.objectives import logit

EVALUATED = ("gradient", "gradient_times_input", "integrated_gradients", "deeplift", "occlusion")
ON_SHEET = 16  # methods of the sheet that is drawn if none is named
SMOOTH = 2.0  # pixels: on a sheet, neighbors of opposite signs would only look gray


def main(arguments: Sequence[str] | None = None, prog: str = "diffprog attribute") -> None:
    """Run the command."""
    launch(make_parser(prog), run, arguments)


def make_parser(prog: str) -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = command_parser(prog, __doc__)
    parser.add_argument("image", nargs="?", default=CAT, help="any image file; its center is used (default: a cat)")
    parser.add_argument(
        "--class",
        dest="label",
        metavar="CLASS",
        help="class to explain, by name or number (default: the one that the network answers)",
    )
    parser.add_argument(
        "--against", metavar="CLASS", help="explain why not this class: the difference of the two logits"
    )
    parser.add_argument(
        "--method",
        nargs="+",
        metavar="NAME",
        type=method_names,
        help=f"which methods, one or several (default: {ON_SHEET} of them). See --list-methods",
    )
    parser.add_argument(
        "--text",
        nargs=2,
        metavar=("FIRST", "SECOND"),
        help="explain instead which words, and pairs of words, make two texts alike to MiniLM; writes similarity.html",
    )
    parser.add_argument(
        "--evaluate",
        metavar="FOLDER",
        help="measure how good the methods are on the images FOLDER/CLASS/*, where CLASS is a name or a number, and "
        f"write a report into --directory, which a call that was interrupted goes on with (default methods: "
        f"{', '.join(EVALUATED)})",
    )
    parser.add_argument("--list-methods", action="store_true", help="print what each method does, and end")
    parser.add_argument(
        "--baseline",
        choices=BASELINES,
        help="what the picture is compared with, where the method's name does not say it (default: black)",
    )
    parser.add_argument(
        "--network",
        choices=["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"],
        default="efficientnet_lite0",
        help="which network (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="decides every random draw (default: 0)")
    parser.add_argument(
        "--directory",
        default="out/attribution",
        metavar="FOLDER",
        help="where the pictures go: sheet.png, and one for each method (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON, and nothing else")
    add_engine(parser)
    return parser


def method_names(text: str) -> list[str]:
    """Read names of methods, with commas between or not."""
    names = [name.strip().replace("-", "_") for name in text.split(",") if name.strip()]
    for name in names:
        if name not in RECIPES:
            raise argparse.ArgumentTypeError(f"there is no method {name!r}; {suggest(name, RECIPES)}")
    return names


def run(options: argparse.Namespace) -> None:
    """List the methods, or attribute."""
    if options.list_methods:
        print(table())
    elif options.text:
        attribute_texts(options)
    elif options.evaluate:
        evaluate(options)
    else:
        attribute_photograph(options)


def attribute_texts(options: argparse.Namespace) -> None:
    """Explain why two texts are alike, in the terminal and on a page."""
    folder = check_writable(options.directory, "--directory")
    found = attribute.similarity(models.load_text(), *options.text)
    drawn = pictures.similarity(found)
    page = drawn.save(folder / "similarity.html")
    if options.json:
        numbers = asdict(found) | {"credit": [each.tolist() for each in found.credit], "pairs": found.pairs.tolist()}
        print(json.dumps(numbers, indent=1))
        return
    # A file or a pipe gets no colors.
    print(drawn.text if sys.stdout.isatty() else re.sub(r"\x1b\[[\d;]*m", "", drawn.text))
    print(f"page in {page}")


def evaluate(options: argparse.Namespace) -> None:
    """Measure methods on a folder of labeled images, and write a report."""
    folder = check_writable(options.directory, "--directory")
    names = list(dict.fromkeys(name for group in options.method or () for name in group)) or list(EVALUATED)
    by_recipe = lambda name: partial(_by_recipe, name, options.baseline, options.seed, options.engine)
    evaluation = attribute.evaluate(
        models.load(options.network),
        options.evaluate,
        methods={name: by_recipe(name) for name in names},
        key=options.seed,
        directory=folder,
        engine=options.engine,
        progress=None if options.json else "evaluate",
    )
    if options.json:
        print((folder / "report.json").read_text())
        return
    print(evaluation)
    print(f"page in {folder / 'report.html'}")


def _by_recipe(name: str, baseline: str | None, seed: int, engine: str, model: Any, inputs: Any, score: Any):
    """Attribute as the command does for one photograph."""
    return RECIPES[name].run(model, inputs, score, BASELINES[baseline]() if baseline else None, seed, engine, None)


def attribute_photograph(options: argparse.Namespace) -> None:
    """Attribute a photograph by each method, and write the sheet after each."""
    folder = check_writable(options.directory, "--directory")  # before the work: a bad place is refused at once
    photograph = read_image(options.image)
    model = models.load(options.network)
    image = network_crop(photograph, model.shape[0])
    names = [name for group in options.method or () for name in group] or list(RECIPES)[:ON_SHEET]
    names = list(dict.fromkeys(names))
    (answer,) = model.top(image[None], 1)
    label = model.label_index(options.label) if options.label else answer[0][1]
    score, what = explained(model, label, options.against)
    seen = f"{short(answer[0][0])} {answer[0][2]:.0%}"
    baseline = BASELINES[options.baseline]() if options.baseline else None
    quiet = options.json
    if not quiet:
        print(f"{model.name} sees {seen}; explained is {what}")
    done: dict[str, Attribution] = {}
    report: dict[str, Any] = {"image": str(options.image), "network": model.name, "answer": seen, "score": what}
    with tqdm(names, unit="method", disable=quiet, leave=False) as bar:
        for name in bar:
            bar.set_description(name)
            start, wall = time.process_time(), time.perf_counter()
            progress = None if quiet else name
            settings = (baseline, options.seed, options.engine, progress)
            done[name] = RECIPES[name].run(model, image[None], score, *settings)
            facts = numbers_of(done[name])
            facts |= {"cpu_seconds": time.process_time() - start, "seconds": time.perf_counter() - wall}
            report.setdefault("methods", {})[name] = facts
            save(folder, name, image, done, report, model, what, seen)
    if quiet:
        print(json.dumps(report, indent=1))
    else:
        print("\n".join(text_table(rows_of(report), "<>>>>")))
        print(f"sheet in {folder / 'sheet.png'}, one picture for each method beside it")


def explained(model: Model, label: int, against: str | None) -> tuple[Any, str]:
    """Make the score, and say what it is: the logit of a class, or the difference of two."""
    name = short(model.labels[label])
    if against is None:
        return label, f"the logit of {name}"
    other = model.label_index(against)
    if other == label:
        raise ValueError(f"--against must be another class than {name}: choose one that it is mistaken for")
    return logit(label) - logit(other), f"the logit of {name} minus that of {short(model.labels[other])}"


def numbers_of(result: Attribution) -> dict[str, Any]:
    """Collect the numbers of a result for one picture."""
    first = lambda array: None if array is None else float(np.asarray(array)[0])
    maps = maps_of(result)[0]
    return {
        "score": first(result.score),
        "baseline_score": first(result.baseline_score),
        "sum": float(maps.sum()),
        "gap": first(result.gap),
        "evaluations": int(np.asarray(result.evaluations)[0]),
        "converged": None if result.converged is None else bool(np.asarray(result.converged)[0]),
        "unruled": list(result.unruled),
    }


def save(
    folder: Path,
    name: str,
    image: np.ndarray,
    done: dict[str, Attribution],
    report: dict[str, Any],
    model: Model,
    what: str,
    seen: str,
) -> None:
    """Write the picture of the last method, the sheet of all so far, and the numbers; each whole or not at all."""
    save_png(folder / f"{name}.png", pictures.draw(done[name], image[None], title=f"{RECIPES[name].title}: {what}"))
    titles = {key: RECIPES[key].title for key in done}
    lines = {titles[key]: [spent(report["methods"][key])] for key in done}
    drawn = pictures.sheet(
        image,
        {titles[key]: result for key, result in done.items()},
        title=f"Where {what} comes from, by {len(done)} methods",
        picture_lines=(seen, f"what {model.name} sees"),
        lines=lines,
        smooth=SMOOTH,
    )
    save_png(folder / "sheet.png", drawn)
    write_text(folder / "attribution.json", json.dumps(report, indent=1))


def spent(facts: dict[str, Any]) -> str:
    """Say what a map took: compilation included, as one waits for it."""
    count = facts["evaluations"]
    return f"{count} evaluation{'s' if count != 1 else ''}, {facts['cpu_seconds']:.0f} s of CPU"


def rows_of(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """Write the numbers of all methods as rows of a table."""
    rows: list[tuple[str, ...]] = [("method", "sum", "gap", "evaluations", "CPU s")]
    for name, facts in report["methods"].items():
        # Without an axiom a sum over pixels means nothing.
        total, gap = ("-", "-") if facts["gap"] is None else (f"{facts['sum']:.4g}", f"{facts['gap']:+.3g}")
        rows.append((name, total, gap, str(facts["evaluations"]), f"{facts['cpu_seconds']:.1f}"))
    return rows
