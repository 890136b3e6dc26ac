"""Change a photograph by less than an eye can see, until a network takes it for something else.

    python -m demos.adversarial_attack
    python -m demos.adversarial_attack my_photo.jpg --target volcano --norm l2 --epsilon 1.5
"""

import argparse
from fractions import Fraction
from pathlib import Path

import jax
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from demos.command_line import add_engine, launch, positive
from diffprog import models
from diffprog.attack import l2, linf, pgd
from diffprog.images import network_crop, read_image, save_png

CAT = Path(__file__).resolve().parents[1] / "assets" / "chelsea.png"
NORMS = {"linf": linf, "l2": l2}
NAMES = {"linf": "L-infinity", "l2": "L2"}
BUDGETS = {"linf": "4/255", "l2": "1"}


def main(arguments=None):
    launch("adversarial_attack", parser(), run, arguments)


def parser():
    parser = argparse.ArgumentParser(
        prog="python -m demos.adversarial_attack",
        description="Find a small perturbation by projected gradient descent that makes EfficientNet-Lite0 see "
                    "something else in a photograph. Writes a picture of it and the perturbed image, reads that image "
                    "again and reports whether the attack survived saving.")
    parser.add_argument("image", nargs="?", default=CAT, help="any image file; its centre is used (default: a cat)")
    parser.add_argument("--target", default="ostrich", metavar="CLASS",
                        help="class to reach, by name or number, or none for any other than now (default: ostrich)")
    parser.add_argument("--norm", choices=NORMS, default="linf", help="how a perturbation is measured (default: linf)")
    parser.add_argument("--epsilon", type=budget, metavar="SIZE",
                        help="largest perturbation, for pixels from 0 to 1 (default: 4/255 for linf, 1 for l2)")
    parser.add_argument("--steps", type=positive, default=40, help="gradient steps (default: 40)")
    parser.add_argument("--seed", type=int, default=0, help="decides the random start (default: 0)")
    parser.add_argument("--out", type=Path, default="out/adversarial_attack.png", metavar="FILE",
                        help="where the picture goes; the perturbed image goes next to it (default: %(default)s)")
    add_engine(parser)
    return parser


def budget(text):
    try:
        size = Fraction(text)
    except (ValueError, ZeroDivisionError):
        size = Fraction(0)
    if size <= 0:
        raise argparse.ArgumentTypeError(f"expected a positive number such as 0.02 or 4/255; found {text!r}")
    return text


def run(options):
    options.out.parent.mkdir(parents=True, exist_ok=True)  # before the work: a bad place is refused at once
    photograph = network_crop(read_image(options.image))
    model = models.load("efficientnet_lite0")
    norm, epsilon = NORMS[options.norm], options.epsilon or BUDGETS[options.norm]
    targeted = options.target.lower() != "none"
    label = model.label_index(options.target) if targeted else model.top(photograph[None], 1)[0][0][1]

    result = pgd(model, photograph[None], [label], key=jax.random.key(options.seed), norm=norm,
                 epsilon=float(Fraction(epsilon)), steps=options.steps, targeted=targeted, engine=options.engine,
                 progress="attacking")
    if targeted and result.already[0]:
        raise ValueError(f"{options.image} is classified as {options.target} already: choose another --target")
    adversarial = result.images[0]
    saved = save_png(options.out.with_name(f"{options.out.stem}_image.png"), adversarial)
    reread = read_image(saved)
    noise, gain = magnified(adversarial - photograph)
    tops = model.top(np.stack([photograph, noise, adversarial, reread]), 3)
    top_photograph, _, top_adversarial, top_reread = tops
    survives = (top_reread[0][1] == label) == targeted
    size, size_reread = result.distances[options.norm][0], norm.measure((reread - photograph)[None])[0]

    print(f"photograph    {describe(top_photograph)}")
    print(f"perturbed     {describe(top_adversarial)}")
    print(f"perturbation  {NAMES[options.norm]} {measure(options.norm, size)}, at most {epsilon} allowed; "
          + (f"first success after {result.first_success[0]} of {options.steps} steps" if result.success[0] else
             f"no success in {options.steps} steps: allow more with --epsilon or --steps"))
    print(f"saved as PNG  {describe(top_reread)}, {NAMES[options.norm]} {measure(options.norm, size_reread)}: "
          + (f"the attack {'survives' if survives else 'does not survive'} saving" if result.success[0] else
             "nothing to survive"))
    captions = "photograph", f"perturbation, magnified {gain:.0f} times", "photograph + perturbation"
    note = (f"What {model.name} sees. The perturbation, at most {epsilon} in {NAMES[options.norm]} norm, was found by "
            f"{options.steps} steps of gradient descent on the photograph.")
    panels = list(zip(captions, (photograph, noise, adversarial), tops, strict=False))
    picture = save_png(options.out, draw(panels, note))
    print(f"picture in {picture}, perturbed image in {saved}")


def describe(top):
    name, _, probability = top[0]
    return f"{short(name)} {probability:.1%}"


def short(name):
    return name.split(",")[0]


def measure(norm, size):
    return f"{size * 255:.2f}/255" if norm == "linf" else f"{size:.3f}"


def magnified(perturbation):
    """The perturbation scaled until its largest value just fits, around grey; and the factor."""
    gain = max(0.5 / max(np.abs(perturbation).max(), 1e-9), 1)
    return np.clip(0.5 + gain * perturbation, 0, 1), gain


def draw(panels, note):
    """Three pictures in a row, `photograph + perturbation = result`, with what the network makes of them underneath."""
    figure = Figure(figsize=(12, 6), dpi=100, facecolor="white")
    width, gap, left = 0.29, 0.045, 0.02
    for index, (caption, image, top) in enumerate(panels):
        x = left + index * (width + gap)
        axes = figure.add_axes((x, 0.36, width, 0.58))
        axes.imshow(image, interpolation="nearest")
        axes.set_title(caption, fontsize=13)
        axes.axis("off")
        bars(figure.add_axes((x, 0.09, width, 0.25)), top)
        if index:
            figure.text(x - gap / 2, 0.65, "+="[index - 1], fontsize=26, ha="center", va="center", color="#444444")
    figure.text(0.5, 0.035, note, fontsize=11, ha="center", va="center", color="#444444")
    return pixels(figure)


def bars(axes, top):
    """Probabilities as labelled bars, the largest first and bold."""
    for row, (name, _, probability) in enumerate(top):
        weight = "bold" if row == 0 else "normal"
        axes.barh(-row, 1, height=0.22, color="#eeeeee")
        axes.barh(-row, probability, height=0.22, color="#0072B2" if row == 0 else "#9db8c9")
        axes.text(0, 0.2 - row, short(name), fontsize=12, va="bottom", weight=weight)
        axes.text(1, 0.2 - row, f"{probability:.1%}", fontsize=12, va="bottom", ha="right", weight=weight)
    axes.set(xlim=(0, 1), ylim=(-2.3, 0.8))
    axes.axis("off")


def pixels(figure):
    """A matplotlib figure as float32 [height, width, 3] in [0, 1]."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(np.float32) / 255


if __name__ == "__main__":
    main()
