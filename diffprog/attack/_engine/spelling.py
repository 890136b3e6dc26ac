"""What people call an argument who come from other libraries: torchattacks, Foolbox, ART, CleverHans, AutoAttack."""

import difflib
from collections.abc import Iterable
from typing import Any

import numpy as np

from diffprog.attack._norms import NORMS

BUDGET = "the budget is epsilon=, 8 / 255 for instance where pixels are in [0, 1]"
LENGTH = "the length of a step is step_size="
STEPS = "the number of steps is max_steps="
BOUNDS = "the lowest and the highest value are bounds=(lowest, highest)"
KEY = "random draws come from key=jax.random.key(0)"
TARGET = "classes to reach are labels, with targeted=True"
START = "pgd starts at a random point, and bim at the image"

MEANT = {
    **dict.fromkeys(("eps", "epsilons", "budget", "radius", "max_norm"), BUDGET),
    **dict.fromkeys(("alpha", "eps_step", "eps_iter", "stepsize", "rel_stepsize", "abs_stepsize", "lr"), LENGTH),
    **dict.fromkeys(("steps", "nb_iter", "n_iter", "num_iter", "max_iter", "num_steps", "iterations"), STEPS),
    **dict.fromkeys(("clip_min", "clip_max", "clip_values", "clip", "min_val", "max_val"), BOUNDS),
    **dict.fromkeys(("seed", "rng", "random_state", "rng_key", "prng_key"), KEY),
    **dict.fromkeys(("target", "targets", "y_target", "target_labels", "target_classes"), TARGET),
    **dict.fromkeys(("random_start", "rand_init", "rand_minmax", "num_random_init"), START),
    **dict.fromkeys(("ord", "p", "distance", "lp"), "the norm is norm=, attack.linf for instance"),
    **dict.fromkeys(("batch", "bs"), "rows of a compiled batch are batch_size="),
    **dict.fromkeys(("x", "inputs", "image"), "what is attacked is images"),
    **dict.fromkeys(("y", "y_true", "label", "criterion_labels"), "the classes are labels"),
    **dict.fromkeys(("kappa",), "the lead that a success needs is confidence="),
    **dict.fromkeys(("c", "const"), "the first weight of the loss is initial_const="),
    **dict.fromkeys(("n_restarts", "num_restarts", "nb_restarts"), "searches from fresh starts are restarts="),
    **dict.fromkeys(("verbose", "pbar"), "a progress bar has a caption, progress="),
}


def check_names(attack: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Refuse an argument that an attack does not have, with the word that is meant."""
    known = list(known)
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            remedy = MEANT.get(name) or (f"did you mean {close[0]}=?" if close else f"it takes {', '.join(known)}")
            raise TypeError(f"{attack} has no argument {name!r}: {remedy}")


def as_norm(norm: Any) -> Any:
    """Read a norm by its name, or by its order as NumPy and ART have it; anything else is given back."""
    if isinstance(norm, str):
        name = norm.lower().replace("_", "").replace("-", "")
        return NORMS.get({"inf": "linf", "linfinity": "linf"}.get(name, name), norm)
    if isinstance(norm, int | float | np.number) and not isinstance(norm, bool):
        return NORMS.get("linf" if norm == np.inf else f"l{norm:g}", norm)
    return norm
