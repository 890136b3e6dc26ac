"""Change a photograph by less than an eye can see, until a network takes it for something else.

    %(prog)s
    %(prog)s my_photo.jpg --target volcano --norm l2 --epsilon 1.5 --survive
    %(prog)s --attack ddn --target none
    %(prog)s --evaluate digits --network digits_robust --attack pgd,square --curve

A picture of the perturbation is written, and the perturbed image; that image is read again, to see if the attack
survived saving. With --evaluate the network is attacked on a data set, and a report is written.
"""

import argparse
import inspect
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np

from diffprog import attack, models
from diffprog._util.tables import text_table
from diffprog.attack._registry import ATTACKS, table
from diffprog.cli._command_line import add_engine, command_parser, launch, positive, short
from diffprog.fit import load_digits
from diffprog.images import network_crop, read_image, save_png
from diffprog.models import Model

CAT = Path(__file__).resolve().parent / "data" / "chelsea.png"
NAMES = {"linf": "L-infinity", "l2": "L2", "l1": "L1", "l0": "L0"}
BUDGETS = {"linf": "4/255", "l2": "1", "l1": "100", "l0": "2000"}
ON_PHOTOGRAPHS = [
    name for name, entry in ATTACKS.items() if entry.goal in ("budget", "minimum_norm") and name != "blended"
]


def main(arguments: Sequence[str] | None = None, prog: str = "diffprog attack") -> None:
    """Run the command."""
    launch(make_parser(prog), run, arguments)


def make_parser(prog: str) -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = command_parser(prog, __doc__)
    parser.add_argument("image", nargs="?", default=CAT, help="any image file; its center is used (default: a cat)")
    parser.add_argument(
        "--attack",
        default="pgd",
        metavar="NAME",
        type=attack_names,
        help="which attack (default: pgd); with --evaluate several, with commas between. See --list-attacks",
    )
    parser.add_argument("--list-attacks", action="store_true", help="print what each attack can do, and end")
    parser.add_argument(
        "--target",
        metavar="CLASS",
        help="class to reach, by name or number, or none for any other than now (default: ostrich, or "
        "none for an attack that takes no target)",
    )
    parser.add_argument("--norm", choices=NAMES, help="how a perturbation is measured (default: the attack's first)")
    parser.add_argument(
        "--epsilon",
        type=budget,
        metavar="SIZE",
        help="largest perturbation, for pixels from 0 to 1 (default: 4/255 for linf, 1 for l2, 100 for "
        "l1, 2000 for l0; a search for the smallest perturbation needs none)",
    )
    parser.add_argument(
        "--max-steps", "--steps", type=positive, metavar="N", help="steps of the attack (default: the attack's own)"
    )
    parser.add_argument(
        "--curve",
        action="store_true",
        help="attack at eight budgets up to --epsilon, and draw what becomes of the probabilities",
    )
    parser.add_argument(
        "--survive", action="store_true", help="report whether the attack outlives JPEG, a change of size and a crop"
    )
    parser.add_argument(
        "--evaluate",
        metavar="FOLDER",
        help="evaluate on the images FOLDER/CLASS/*, or on 'digits'; writes a report into --out, and "
        "goes on where it was stopped",
    )
    parser.add_argument(
        "--network",
        metavar="NAME",
        help="which network, with --evaluate: efficientnet_lite0, _lite1, _lite2, digits or "
        "digits_robust (default: efficientnet_lite0, and digits for the data set digits)",
    )
    parser.add_argument(
        "--batch-size", type=positive, default=32, metavar="N", help="images at once, with --evaluate (default: 32)"
    )
    parser.add_argument("--seed", type=int, default=0, help="decides every random draw (default: 0)")
    parser.add_argument(
        "--out",
        type=Path,
        default="out/adversarial_attack.png",
        metavar="FILE",
        help="where the picture goes, and the perturbed image next to it; with --evaluate the folder "
        "of the report, named like it without .png (default: %(default)s)",
    )
    add_engine(parser)
    return parser


def attack_names(text: str) -> list[str]:
    """Read names of attacks with commas between."""
    names = text.split(",")
    for name in names:
        if name not in ON_PHOTOGRAPHS:
            known = ", ".join(ON_PHOTOGRAPHS)
            raise argparse.ArgumentTypeError(f"no attack on photographs is called {name!r}; there are {known}")
    return names


def budget(text: str) -> str:
    """Check that a text is a positive number or fraction, and keep it as it is written."""
    try:
        size = Fraction(text)
    except (ValueError, ZeroDivisionError):
        size = Fraction(0)
    if size <= 0:
        raise argparse.ArgumentTypeError(f"expected a positive number such as 0.02 or 4/255; found {text!r}")
    return text


def run(options: argparse.Namespace) -> None:
    """List the attacks, evaluate a network or attack a photograph."""
    if options.list_attacks:
        print(table())
    elif options.evaluate:
        evaluate(options)
    elif len(options.attack) > 1:
        raise ValueError(f"a photograph takes one attack; found {len(options.attack)}: leave one in --attack")
    else:
        attack_photograph(options)


# ---------------------------------------------------------------- one photograph


class Task(NamedTuple):
    """What an attack on a photograph is to do."""

    model: Model
    photograph: np.ndarray  # (height, width, 3)
    label: int  # the class to reach, or to leave
    targeted: bool
    norm: attack.Norm
    epsilon: str | None  # the budget as it was written; None for the smallest perturbation


def attack_photograph(options: argparse.Namespace) -> None:
    """Attack a photograph, save it, and print what the network sees in the saved file."""
    from diffprog.cli import _pictures as pictures  # Matplotlib, which an evaluation does without

    options.out.parent.mkdir(parents=True, exist_ok=True)  # before the work: a bad place is refused at once
    photograph = network_crop(read_image(options.image))
    model = models.load("efficientnet_lite0")
    name = options.attack[0]
    target = options.target or ("ostrich" if ATTACKS[name].targeted else "none")
    targeted = target.lower() != "none"
    if targeted and not ATTACKS[name].targeted:
        raise ValueError(f"{name} takes no target; found {target!r}: leave out --target or say none")
    if options.curve and ATTACKS[name].goal != "budget":
        raise ValueError(f"--curve needs an attack within a budget; found {name}: leave it out")
    label = model.label_index(target) if targeted else model.top(photograph[None], 1)[0][0][1]
    norm = choose_norm(options, name)
    epsilon = (options.epsilon or BUDGETS[norm.name]) if ATTACKS[name].goal == "budget" else None
    task = Task(model, photograph, label, targeted, norm, epsilon)
    find = configure(options, name, norm, key=jax.random.key(options.seed), engine=options.engine)
    if targeted:
        find = partial(find, targeted=True)

    within = {"epsilon": float(Fraction(epsilon))} if epsilon else {}
    result = find(model, photograph[None], [label], progress="attacking", **within)
    if targeted and result.initially_wrong[0]:
        raise ValueError(f"{options.image} is classified as {target} already: choose another --target")
    report(task, result, options.out, pictures)
    if options.survive:
        survivals = attack.survives_distortions(model, result.images, np.array([label]), targeted=targeted)
        fates = {True: "the attack survives", False: "the attack is gone"}
        rows = [(name, fates[bool(survives[0] and result.success[0])]) for name, survives in survivals.items()]
        print("\n".join(text_table(rows)))
    if options.curve:
        curve(task, find, options.out, pictures)


def report(task: Task, result: attack.AttackResult, out: Path, pictures: ModuleType) -> None:
    """Save and read again the perturbed image; print and draw what the network sees."""
    adversarial, norm = result.images[0], task.norm
    saved = save_png(out.with_name(f"{out.stem}_image.png"), adversarial)
    reread = read_image(saved)
    noise, gain = pictures.magnified(adversarial - task.photograph)
    tops = task.model.top(np.stack([task.photograph, noise, adversarial, reread]), 3)
    passes = f"{result.queries[0]} forward and {result.backward_passes[0]} backward passes"
    if result.success[0]:
        outcome = f"first success after {result.first_success[0]} of {result.steps[0]} steps, {passes}"
        survives = (tops[3][0][1] == task.label) == task.targeted
        fate = f"the attack {'survives' if survives else 'does not survive'} saving"
    else:
        outcome = f"no success in {result.steps[0]} steps: allow more with --epsilon or --max-steps"
        fate = "nothing to survive"

    size = describe_size(norm, result.distances[norm.name][0])
    size_reread = describe_size(norm, norm.measure((reread - task.photograph)[None])[0])
    print(f"photograph    {describe_class(tops[0])}")
    print(f"perturbed     {describe_class(tops[2])}")
    print(f"perturbation  {size}{f', at most {task.epsilon} allowed' if task.epsilon else ''}; {outcome}")
    print(f"saved as PNG  {describe_class(tops[3])}, {size_reread}: {fate}")
    captions = "photograph", f"perturbation, magnified {gain:.0f} times", "photograph + perturbation"
    bound = f"at most {task.epsilon}" if task.epsilon else "as small as possible"
    note = (
        f"What {task.model.name} sees. The perturbation, {bound} in {NAMES[norm.name]} norm, was found by "
        f"{result.attack}."
    )
    panels = list(zip(captions, (task.photograph, noise, adversarial), tops, strict=False))
    picture = save_png(out, pictures.attack_panels(panels, note))
    print(f"picture in {picture}, perturbed image in {saved}")


def curve(task: Task, find: Callable, out: Path, pictures: ModuleType) -> None:
    """Print and draw the probabilities of the photograph's class and of the attack's at eight budgets."""
    model, photograph = task.model, task.photograph[None]
    budgets = float(Fraction(task.epsilon or 0)) * np.arange(1, 9) / 8
    result = find(model, photograph, [task.label], progress="curve", epsilon=budgets[:, None])
    images = np.concatenate([photograph, result.images[:, 0]])
    probabilities = np.asarray(jax.nn.softmax(model(images)))
    classes = [model.top(photograph, 1)[0][0][1], task.label if task.targeted else int(probabilities[-1].argmax())]
    series = {model.labels[label]: probabilities[:, label] for label in classes}
    sizes = ["0", *(format_size(task.norm, size) for size in budgets)]
    print(f"{NAMES[task.norm.name]:<14}" + "".join(f"{short(name)[:20]:>22}" for name in series))
    for row, size in enumerate(sizes):
        print(f"{size:<14}" + "".join(f"{values[row]:>22.1%}" for values in series.values()))
    picture = pictures.attack_curve(sizes, series, f"budget in {NAMES[task.norm.name]}")
    print(f"curve in {save_png(out.with_name(f'{out.stem}_curve.png'), picture)}")


def describe_class(top: Sequence[tuple[str, int, float]]) -> str:
    """Say the first class and its probability."""
    name, _, probability = top[0]
    return f"{short(name)} {probability:.1%}"


def describe_size(norm: attack.Norm, size: float) -> str:
    """Say the size of a perturbation and its norm."""
    return f"{NAMES[norm.name]} {format_size(norm, size)}"


def format_size(norm: attack.Norm, size: float) -> str:
    """Write the size of a perturbation in the units in which its norm is usually given."""
    return {"linf": f"{size * 255:.2f}/255", "l0": f"{size:.0f}"}.get(norm.name, f"{size:.3f}")


# ---------------------------------------------------------------- a data set


def evaluate(options: argparse.Namespace) -> None:
    """Evaluate a network on a data set, and write the report."""
    model = models.load(options.network or ("digits" if options.evaluate == "digits" else "efficientnet_lite0"))
    norm = choose_norm(options, options.attack[0])
    largest = float(Fraction(options.epsilon or BUDGETS[norm.name]))
    budgets = largest * (np.arange(1, 9) / 8 if options.curve else np.ones(1))
    images, labels = options.evaluate, None
    if options.evaluate == "digits":
        _, digits = load_digits()
        images, labels = digits.inputs.reshape(-1, 8, 8, 1), digits.labels
    for name in options.attack:
        if norm not in ATTACKS[name].norms:
            raise ValueError(f"{name} does not search in {norm.name}: evaluate each norm by itself, with --norm")
    folder = options.out.with_suffix("")
    evaluation = attack.evaluate(
        model,
        images,
        labels,
        attacks={name: configure(options, name, norm) for name in options.attack},
        epsilons=budgets,
        norm=norm,
        batch_size=options.batch_size,
        key=jax.random.key(options.seed),
        engine=options.engine,
        directory=folder,
        progress="evaluating",
    )
    print(evaluation)
    print(f"report in {folder / 'report.html'}")


# ---------------------------------------------------------------- both


def choose_norm(options: argparse.Namespace, name: str) -> attack.Norm:
    """Take the norm of the command line, or the attack's first."""
    norm = attack.NORMS[options.norm] if options.norm else ATTACKS[name].norms[0]
    if norm not in ATTACKS[name].norms:
        known = ", ".join(known.name for known in ATTACKS[name].norms)
        raise ValueError(f"{name} measures perturbations in {known}; found --norm {norm.name}: choose another")
    return norm


def configure(options: argparse.Namespace, name: str, norm: attack.Norm, **settings: Any) -> Callable:
    """Bind the command line's norm and number of steps, and further settings, to an attack."""
    find = getattr(attack, name)
    parameters = inspect.signature(find).parameters
    if "norm" in parameters:
        settings["norm"] = norm
    if options.max_steps:
        if "max_steps" not in parameters:
            raise ValueError(f"{name} takes no --max-steps; found {options.max_steps}: leave it out")
        settings["max_steps"] = options.max_steps
    return partial(find, **settings) if settings else find
