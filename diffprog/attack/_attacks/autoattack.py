"""AutoAttack: four attacks without a parameter to set, one after the other, each on what the others have left."""

from collections.abc import Callable
from importlib.metadata import version as installed
from typing import NamedTuple, Unpack

import jax
import numpy as np

from diffprog.attack._attacks.auto_pgd import apgd, apgd_targeted
from diffprog.attack._attacks.fab import fab
from diffprog.attack._attacks.square import square
from diffprog.attack._engine import border
from diffprog.attack._engine.method import ExpectationOverTransformation
from diffprog.attack._engine.result import AttackResult, either, within
from diffprog.attack._engine.run import Options
from diffprog.attack._losses import dlr
from diffprog.attack._norms import Norm, l1, l2, linf


class Member(NamedTuple):
    """An attack with its own arguments."""

    name: str
    attack: Callable
    arguments: dict
    minimal: bool = False  # it has no budget: what it finds counts where it is small enough


def members(version: str, norm: Norm) -> tuple[Member, ...]:
    """What a version of AutoAttack runs, in its order."""
    if version == "rand":
        return Member("apgd-ce", apgd, {}), Member("apgd-dlr", apgd, {"loss": dlr})
    restarts, targets = (5, 5) if norm is l1 else (1, 9)
    return (
        Member("apgd-ce", apgd, {"max_steps": 100, "restarts": restarts}),
        Member("apgd-t", apgd_targeted, {"max_steps": 100, "num_target_classes": targets}),
        Member("fab-t", fab, {"max_steps": 100, "num_target_classes": 9, "early_stop": False}, minimal=True),
        Member("square", square, {"max_steps": 5000, "p_init": 0.8}),
    )


VERSIONS = ("standard", "rand")


def autoattack(
    model: Callable | ExpectationOverTransformation,
    images,
    labels,
    *,
    key: jax.Array,
    norm: Norm = linf,
    epsilon=8 / 255,
    version: str = "standard",
    **options: Unpack[Options],
) -> AttackResult:
    """AutoAttack (Croce & Hein 2020b; in L1 Croce & Hein 2021) with the parameters of its authors' program.

    "standard": APGD on cross-entropy, APGD-T and FAB-T on nine targets, 100 steps each, and Square with 5000 windows;
    in L1, APGD with five restarts and APGD-T on five targets. "rand", for a model that draws: APGD on cross-entropy and
    on the difference of logits ratio, whose losses are means over the draws of an `ExpectationOverTransformation` (20,
    there).

    Each member attacks the images that the members before it have left standing, and stops at its first success; FAB-T
    runs once for all budgets, and counts where its perturbation is small enough. A model of K < 10 classes has K - 1
    targets. All four members run with two and three classes too: of three, the targeted ratio's scale is the lead on
    the third, and of two, where there is no ratio, it is the margin.

    Of the result, `attack` says the version, and diffprog's; `broken_by` [n] which member broke each image, ""
    where none did; steps and passes are sums over the members. Failures come back as the first member left them.

    options: as of every attack, but without `restarts`. Other arguments and errors are those of `pgd`; ValueError on a
    version that is not in `VERSIONS`.
    """
    border.checked_norm(norm, (linf, l2, l1))
    border.checked_choice(version, VERSIONS, "version")
    if version == "rand" and not isinstance(model, ExpectationOverTransformation):
        raise ValueError(
            f"version 'rand' is for a model that draws; found {model!s:.60}: "
            "wrap it in ExpectationOverTransformation, or leave out the version"
        )
    if "restarts" in options:
        raise ValueError(f"autoattack has restarts of its own; found restarts={options['restarts']}: leave it out")
    skip, whole = options.pop("skip", None), None
    for number, member in enumerate(members(version, norm)):
        left = _standing(whole, skip, member.minimal)
        arguments = {"early_stop": True, **options, "skip": left, **member.arguments}
        if not member.minimal:
            arguments["epsilon"] = epsilon
        found = member.attack(model, images, labels, key=jax.random.fold_in(key, number), norm=norm, **arguments)
        if member.minimal:
            found = within(found, norm, whole.epsilon)
        found = found._replace(broken_by=np.where(found.success, member.name, ""))
        whole = found if whole is None else either(whole, found)
    return whole._replace(attack=f"autoattack-{version}, diffprog {installed('diffprog')}")


def _standing(whole, skip, minimal):
    """What the next member leaves out: of one without a budget, what has been broken at every budget."""
    if whole is None:
        return skip
    broken = whole.success if skip is None else whole.success | np.asarray(skip, bool)
    return broken.all(axis=0) if minimal and broken.ndim == 2 else broken
