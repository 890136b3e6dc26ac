"""The attacks of an evaluation: what each is given, and all that decides its result, as text."""

import hashlib
import inspect
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from diffprog.attack._engine import border
from diffprog.attack._norms import Norm

OURS = ("epsilon", "key", "batch_size", "image_ids", "bounds", "devices", "engine", "targeted", "criterion")


class Entry(NamedTuple):
    """An attack with its name in the evaluation."""

    name: str
    call: Callable
    fixed: bool  # it searches within budgets that it is given; else for the smallest perturbation
    options: dict[str, Any]  # what it is given besides the model, images, labels and their numbers
    text: dict[str, Any]  # the function and every argument, for JSON
    takes: Callable  # name of an option -> whether it takes that


def checked_attacks(attacks, norm: Norm, epsilons, options) -> list[Entry]:
    """An entry for each attack: a function of (model, images, labels, ...) or a functools.partial of one.

    options: what every attack is given if it takes it.
    """
    if not isinstance(attacks, dict) or not attacks:
        raise ValueError(
            f'attacks must be a dict from names to attacks; found {attacks!s:.60}: try {{"pgd": diffprog.attack.pgd}}'
        )
    return [_entry(name, call, norm, epsilons, options) for name, call in attacks.items()]


def _entry(name, call, norm, epsilons, options):
    if not (isinstance(name, str) and re.fullmatch(r"[\w +-][\w .+-]*", name)) or name == "clean":
        raise ValueError(
            f"an attack's name must be of letters, digits, spaces and .+-_; found {name!r}: files are named after it"
        )
    parameters = inspect.signature(call).parameters
    bound = getattr(call, "keywords", {})
    for option in OURS:
        if option in bound:
            raise ValueError(
                f"attack {name!r} must leave {option} to the evaluation; found {bound[option]!s:.40}: "
                "leave it out of the partial"
            )
    open_ended = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    takes = lambda option: option in parameters or open_ended
    given = {option: value for option, value in options.items() if takes(option)}
    fixed = "epsilon" in parameters
    if fixed:
        given["epsilon"] = np.asarray(epsilons)[:, None]
    if "norm" in parameters and "norm" not in bound:
        given["norm"] = norm
    elif fixed and bound.get("norm", norm) != norm:
        raise ValueError(
            f"attack {name!r} has budgets in {bound['norm'].name}, and the evaluation in {norm.name}: "
            "evaluate each norm by itself"
        )
    return Entry(name, call, fixed, given, _text(call, fixed, parameters, {**bound, **given}), takes)


def _text(call, fixed, parameters, given):
    known = {name: each.default for name, each in parameters.items() if each.default is not each.empty} | given
    hidden = {*OURS, "progress"} - {"engine"}
    return {
        "function": plain(getattr(call, "func", call)),
        "search": "within budgets" if fixed else "smallest perturbation",
        "arguments": {name: plain(value) for name, value in sorted(known.items()) if name not in hidden},
    }


def plain(value):
    """A setting as JSON has it, the same in every run."""
    if isinstance(value, str | int | float | None):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Norm):
        return value.name
    if isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        return jax.random.key_data(value).tolist()
    if isinstance(value, np.ndarray | jax.Array):
        found = np.asarray(value)
        digest = hashlib.sha256(found.tobytes()).hexdigest()[:16]
        return found.tolist() if found.size <= 32 else f"{found.dtype} {list(found.shape)} {digest}"
    if isinstance(value, dict):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if hasattr(value, "func"):
        return {"function": plain(value.func), "arguments": plain([*value.args, value.keywords])}
    return getattr(value, "__qualname__", type(value).__qualname__)  # without its module: a script is `__main__`


def checked_epsilons(epsilons):
    """Budgets as a float64 array [K]."""
    budgets, _ = border.checked_budgets(np.reshape(np.asarray(epsilons), (-1, 1)), 1)
    return budgets[:, 0].copy()
