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
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

import jax
import numpy as np

from diffprog import attack, models
from diffprog.attack._registry import ATTACKS, table
from diffprog.cli._command_line import add_engine, command_parser, launch, positive, short
from diffprog.fit import load_digits
from diffprog.images import network_crop, read_image, save_png

CAT = Path(__file__).resolve().parent / "data" / "chelsea.png"
NAMES = {"linf": "L-infinity", "l2": "L2", "l1": "L1", "l0": "L0"}
BUDGETS = {"linf": "4/255", "l2": "1", "l1": "100", "l0": "2000"}
ON_PHOTOGRAPHS = [
    name for name, each in ATTACKS.items() if each.goal in ("budget", "minimum_norm") and name != "blended"
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


def attack_names(text):
    names = text.split(",")
    for name in names:
        if name not in ON_PHOTOGRAPHS:
            known = ", ".join(ON_PHOTOGRAPHS)
            raise argparse.ArgumentTypeError(f"no attack on photographs is called {name!r}; there are {known}")
    return names


def budget(text):
    try:
        size = Fraction(text)
    except (ValueError, ZeroDivisionError):
        size = Fraction(0)
    if size <= 0:
        raise argparse.ArgumentTypeError(f"expected a positive number such as 0.02 or 4/255; found {text!r}")
    return text


def run(options):
    if options.list_attacks:
        print(table())
    elif options.evaluate:
        evaluate(options)
    elif len(options.attack) > 1:
        raise ValueError(f"a photograph takes one attack; found {len(options.attack)}: leave one in --attack")
    else:
        attack_photograph(options)


# ---------------------------------------------------------------- one photograph


def attack_photograph(options):
    from diffprog.cli import _pictures as pictures  # Matplotlib, which an evaluation does without

    options.out.parent.mkdir(parents=True, exist_ok=True)  # before the work: a bad place is refused at once
    photograph = network_crop(read_image(options.image))
    model = models.load("efficientnet_lite0")
    name = options.attack[0]
    target = options.target or ("ostrich" if ATTACKS[name].targeted else "none")
    targeted = target.lower() != "none"
    if targeted and not ATTACKS[name].targeted:
        raise ValueError(f"{name} takes no target; found {target!r}: leave out --target or say none")
    label = model.label_index(target) if targeted else model.top(photograph[None], 1)[0][0][1]
    norm = norm_of(options, name)
    epsilon = options.epsilon or BUDGETS[norm.name]
    find = configured(options, name, norm, targeted)
    within = {"epsilon": float(Fraction(epsilon))} if ATTACKS[name].goal == "budget" else {}

    result = find(model, photograph[None], [label], progress="attacking", **within)
    if targeted and result.initially_wrong[0]:
        raise ValueError(f"{options.image} is classified as {target} already: choose another --target")
    report(options, pictures, model, norm, photograph, result, label, targeted, epsilon if within else None)
    if options.survive:
        for what, held in attack.survives_distortions(model, result.images, [label], targeted=targeted).items():
            print(f"{what:<24}{'the attack survives' if held[0] and result.success[0] else 'the attack is gone'}")
    if options.curve:
        curve(options, pictures, model, norm, photograph, find, label, targeted, epsilon)


def report(options, pictures, model, norm, photograph, result, label, targeted, epsilon):
    adversarial, name = result.images[0], norm.name
    saved = save_png(options.out.with_name(f"{options.out.stem}_image.png"), adversarial)
    reread = read_image(saved)
    noise, gain = pictures.magnified(adversarial - photograph)
    tops = model.top(np.stack([photograph, noise, adversarial, reread]), 3)
    survives = (tops[3][0][1] == label) == targeted
    allowed = f", at most {epsilon} allowed" if epsilon else ""
    size_reread = norm.measure((reread - photograph)[None])[0]
    passes = f"{result.queries[0]} forward and {result.backward_passes[0]} backward passes"

    print(f"photograph    {describe(tops[0])}")
    print(f"perturbed     {describe(tops[2])}")
    print(
        f"perturbation  {NAMES[name]} {measure(name, result.distances[name][0])}{allowed}; "
        + (
            f"first success after {result.first_success[0]} of {result.steps[0]} steps, {passes}"
            if result.success[0]
            else f"no success in {result.steps[0]} steps: allow more with --epsilon or --max-steps"
        )
    )
    print(
        f"saved as PNG  {describe(tops[3])}, {NAMES[name]} {measure(name, size_reread)}: "
        + (
            f"the attack {'survives' if survives else 'does not survive'} saving"
            if result.success[0]
            else "nothing to survive"
        )
    )
    captions = "photograph", f"perturbation, magnified {gain:.0f} times", "photograph + perturbation"
    bound = f"at most {epsilon} in {NAMES[name]} norm" if epsilon else f"as small as possible in {NAMES[name]} norm"
    note = f"What {model.name} sees. The perturbation, {bound}, was found by {result.attack}."
    panels = list(zip(captions, (photograph, noise, adversarial), tops, strict=False))
    picture = save_png(options.out, pictures.attack_panels(panels, note))
    print(f"picture in {picture}, perturbed image in {saved}")


def curve(options, pictures, model, norm, photograph, find, label, targeted, epsilon):
    """The photograph's own class and the attack's at eight budgets, as a table and as a picture."""
    own = model.top(photograph[None], 1)[0][0]
    if ATTACKS[options.attack[0]].goal != "budget":
        raise ValueError(f"--curve needs an attack within a budget; found {options.attack[0]}: leave it out")
    budgets = float(Fraction(epsilon)) * np.arange(1, 9) / 8
    result = find(model, photograph[None], [label], progress="curve", epsilon=budgets[:, None])
    probabilities = np.asarray(jax.nn.softmax(model(result.images[:, 0])))
    reached = label if targeted else int(probabilities[-1].argmax())
    series = {
        own[0]: [own[2], *probabilities[:, own[1]]],
        model.labels[reached]: [float(jax.nn.softmax(model(photograph[None]))[0, reached]), *probabilities[:, reached]],
    }
    sizes = ["0", *(measure(norm.name, size) for size in budgets)]
    print(f"{NAMES[norm.name]:<14}" + "".join(f"{short(name)[:20]:>22}" for name in series))
    for row, size in enumerate(sizes):
        print(f"{size:<14}" + "".join(f"{values[row]:>22.1%}" for values in series.values()))
    place = options.out.with_name(f"{options.out.stem}_curve.png")
    print(f"curve in {save_png(place, pictures.attack_curve(sizes, series, f'budget in {NAMES[norm.name]}'))}")


# ---------------------------------------------------------------- a data set


def evaluate(options):
    model = models.load(options.network or ("digits" if options.evaluate == "digits" else "efficientnet_lite0"))
    norm = norm_of(options, options.attack[0])
    largest = float(Fraction(options.epsilon or BUDGETS[norm.name]))
    budgets = largest * np.arange(1, 9) / 8 if options.curve else [largest]
    images, labels = options.evaluate, None
    if options.evaluate == "digits":
        _, digits = load_digits()
        images, labels = digits.inputs.reshape(-1, 8, 8, 1), digits.labels
    attacks = {}
    for name in options.attack:
        if norm not in ATTACKS[name].norms:
            raise ValueError(f"{name} does not search in {norm.name}: evaluate each norm by itself, with --norm")
        attacks[name] = configured(options, name, norm, None)
    folder = options.out.with_suffix("")
    found = attack.evaluate(
        model,
        images,
        labels,
        attacks=attacks,
        epsilons=budgets,
        norm=norm,
        batch_size=options.batch_size,
        key=jax.random.key(options.seed),
        engine=options.engine,
        directory=folder,
        progress="evaluating",
    )
    print(found)
    print(f"report in {folder / 'report.html'}")


# ---------------------------------------------------------------- both


def norm_of(options, name):
    norm = attack.NORMS[options.norm] if options.norm else ATTACKS[name].norms[0]
    if norm not in ATTACKS[name].norms:
        known = ", ".join(each.name for each in ATTACKS[name].norms)
        raise ValueError(f"{name} measures perturbations in {known}; found --norm {norm.name}: choose another")
    return norm


def configured(options, name, norm, targeted):
    """The attack with what the command line says of it; in an evaluation (`targeted` None) the rest is not ours."""
    find = getattr(attack, name)
    takes = inspect.signature(find).parameters
    given = {"norm": norm} if "norm" in takes else {}
    if options.max_steps:
        if "max_steps" not in takes:
            raise ValueError(f"{name} takes no --max-steps; found {options.max_steps}: leave it out")
        given["max_steps"] = options.max_steps
    if targeted is None:
        return partial(find, **given) if given else find
    if targeted:
        given["targeted"] = True
    return partial(find, key=jax.random.key(options.seed), engine=options.engine, **given)


def describe(top):
    name, _, probability = top[0]
    return f"{short(name)} {probability:.1%}"


def measure(norm, size):
    return {"linf": f"{size * 255:.2f}/255", "l0": f"{size:.0f}"}.get(norm, f"{size:.3f}")
