"""AutoAttack: four attacks without a parameter to set, one after the other, each on what the others have left."""

from collections.abc import Callable
from importlib.metadata import version as installed
from typing import Any, NamedTuple, Unpack

import jax
import numpy as np
from jax.typing import ArrayLike

from diffprog.attack._attacks.auto_pgd import apgd, apgd_targeted
from diffprog.attack._attacks.fab import fab
from diffprog.attack._attacks.square import square
from diffprog.attack._engine import validation
from diffprog.attack._engine.options import Options, documents_options
from diffprog.attack._engine.oracle import ExpectationOverTransformation, Model
from diffprog.attack._engine.result import AttackResult, at_budgets, best_of
from diffprog.attack._losses import dlr
from diffprog.attack._norms import Norm, l1, l2, linf


class Member(NamedTuple):
    """An attack with its own arguments."""

    name: str
    attack: Callable[..., AttackResult]
    arguments: dict[str, Any]
    is_minimum_norm: bool = False  # it has no budget: what it finds counts where it is small enough


def members(version: str, norm: Norm) -> tuple[Member, ...]:
    """List what a version of AutoAttack runs, in its order."""
    if version == "rand":
        return Member("apgd-ce", apgd, {}), Member("apgd-dlr", apgd, {"loss": dlr})
    restarts, num_target_classes = (5, 5) if norm is l1 else (1, 9)
    return (
        Member("apgd-ce", apgd, {"max_steps": 100, "restarts": restarts}),
        Member("apgd-t", apgd_targeted, {"max_steps": 100, "num_target_classes": num_target_classes}),
        Member("fab-t", fab, {"max_steps": 100, "num_target_classes": 9, "early_stop": False}, is_minimum_norm=True),
        Member("square", square, {"max_steps": 5000, "p_init": 0.8}),
    )


VERSIONS = ("standard", "rand")


@documents_options
def autoattack(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array,
    norm: Norm = linf,
    epsilon: ArrayLike = 8 / 255,
    version: str = "standard",
    **options: Unpack[Options],
) -> AttackResult:
    """Attack by AutoAttack, with the parameters of its authors' program.

    Each member attacks the images that the members before it have left standing, and stops at its first success. FAB-T
    runs once for all budgets, and counts where its perturbation is small enough. A model of K < 10 classes has K - 1
    target classes. With three classes the targeted ratio's scale is the lead on the third; with two there is no ratio,
    only the margin.

    Args:
      model: (images (n, ...)) -> logits (n, classes); for "rand" an `ExpectationOverTransformation`.
      images: (n, ...), floats within the bounds.
      labels: (n,), int; classes to leave.
      key: random key.
      norm: `linf`, `l2` or `l1`.
      epsilon: budget in the norm's units; one number, one per image (n,), or several at once (K, 1).
      version: "standard": APGD on cross-entropy, APGD-T and FAB-T on nine target classes, 100 steps each, and Square
        with 5000 windows; in L1, APGD with five restarts and APGD-T on five classes. "rand", for a model that draws
        random numbers: APGD on cross-entropy and on `dlr`, whose losses are means over the draws.
      **options: shared options.

    Returns:
      What became of each image. `attack` names the version, and diffprog's; `broken_by` (n,) the member that broke
      each image, "" where none did. Steps and passes are sums over the members. Failures come back as the first member
      left them.

    Raises:
      ValueError: the version is not known, or `restarts` is given: the members have their own.

    References:
      Croce & Hein 2020b; in L1 Croce & Hein 2021.
    """
    validation.check_norm(norm, (linf, l2, l1))
    validation.check_choice(version, VERSIONS, "version")
    if version == "rand" and not isinstance(model, ExpectationOverTransformation):
        raise ValueError(
            f"version 'rand' is for a model that draws; found {model!s:.60}: "
            "wrap it in ExpectationOverTransformation, or leave out the version"
        )
    if "restarts" in options:
        raise ValueError(f"autoattack has restarts of its own; found restarts={options['restarts']}: leave it out")
    skip, whole = options.pop("skip", None), None
    for index, member in enumerate(members(version, norm)):
        broken = _to_skip(whole, skip, member.is_minimum_norm)
        arguments = {"early_stop": True, **options, "skip": broken, **member.arguments}
        if not member.is_minimum_norm:
            arguments["epsilon"] = epsilon
        result = member.attack(model, images, labels, key=jax.random.fold_in(key, index), norm=norm, **arguments)
        if whole is not None and member.is_minimum_norm:
            result = at_budgets(result, norm, whole.epsilon)
        result = result._replace(broken_by=np.where(result.success, member.name, ""))
        whole = result if whole is None else best_of(whole, result)
    assert whole is not None  # there is always a member
    return whole._replace(attack=f"autoattack-{version}, diffprog {installed('diffprog')}")


def _to_skip(whole, skip, is_minimum_norm):
    """Tell what the next member leaves out; a member without a budget, what is broken at every budget."""
    if whole is None:
        return skip
    broken = whole.success if skip is None else whole.success | np.asarray(skip, bool)
    return broken.all(axis=0) if is_minimum_norm and broken.ndim == 2 else broken
