"""The attacks of an evaluation: checked, described, and given their arguments."""

import inspect
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from diffprog._util.content_digest import content_digest
from diffprog._util.resumable import describe
from diffprog._util.warning import warn
from diffprog.attack._engine import spelling
from diffprog.attack._norms import Norm
from diffprog.attack._registry import ATTACKS

RESERVED = ("epsilon", "key", "batch_size", "image_ids", "bounds", "devices", "engine", "targeted", "criterion")
DECIDES_NOTHING = {*RESERVED, "progress"} - {"engine"}  # or is said of the evaluation as a whole


class AttackSpec(NamedTuple):
    """An attack with its name in the evaluation."""

    name: str
    attack: Callable[..., Any]
    within_budgets: bool  # it searches within budgets that it is given; otherwise for the smallest perturbation
    is_shared: bool  # one perturbation for all images of a batch: a result depends on the rest of the batch
    options: dict[str, Any]  # its arguments besides the model, images, labels, budgets and image ids
    description: dict[str, Any]  # the function and every argument, for JSON
    content: dict[str, str]  # digests of what a description does not tell: code, functions, objects
    takes_image_ids: bool

    def searches(self, epsilons: np.ndarray) -> np.ndarray:
        """List what it searches within: the budgets, or infinity alone."""
        return epsilons if self.within_budgets else np.array([np.inf])

    def call(self, model: Any, images: Any, labels: Any, budgets: np.ndarray, options: Mapping[str, Any]) -> list[Any]:
        """Attack images within all budgets at once; those that share a perturbation, within one after the other."""
        attack = partial(self.attack, model, images, labels, **options)
        if not self.within_budgets:
            results = [attack()]
        elif self.is_shared:
            results = [attack(epsilon=float(budget)) for budget in budgets]
        else:
            results = [attack(epsilon=budgets[:, None])]
        return [getattr(result, "result", result) for result in results]  # some return what they learned besides


def check_attacks(
    attacks: Mapping[str, Callable[..., Any]], norm: Norm, options: Mapping[str, Any]
) -> list[AttackSpec]:
    """Check the attacks. Each gets those of the `options` that it takes."""
    if not isinstance(attacks, Mapping) or not attacks:
        raise ValueError(
            f'attacks must be a dict from names to attacks; found {attacks!s:.60}: try {{"pgd": diffprog.attack.pgd}}'
        )
    return [_spec(name, attack, norm, options) for name, attack in attacks.items()]


def _spec(name: str, attack: Callable[..., Any], norm: Norm, options: Mapping[str, Any]) -> AttackSpec:
    """Check one attack, and describe it with all its arguments."""
    parameters, bound = _parameters(name, attack), getattr(attack, "keywords", {})
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    takes = lambda option: option in parameters or open_ended
    arguments = {option: value for option, value in options.items() if takes(option)}
    within_budgets = "epsilon" in parameters
    if "norm" in parameters and "norm" not in bound:
        arguments["norm"] = norm
    elif within_budgets and spelling.as_norm(bound.get("norm", norm)) != norm:
        raise ValueError(
            f"attack {name!r} has budgets in {_norm_name(bound['norm'])}, and the evaluation in {norm.name}: "
            "evaluate each norm by itself"
        )
    given = {*arguments, "epsilon", "image_ids", *list(parameters)[:3]}
    required = [
        option
        for option, parameter in parameters.items()
        if parameter.default is parameter.empty and parameter.kind in (parameter.KEYWORD_ONLY, _POSITIONAL)
    ]
    for option in required:
        if option not in given:
            raise ValueError(
                f"attack {name!r} needs {option}, which an evaluation does not give: "
                f"bind it with functools.partial(attack, {option}=...)"
            )
    function = getattr(attack, "func", attack)
    defaults = {option: p.default for option, p in parameters.items() if p.default is not p.empty}
    decisive = {
        option: value
        for option, value in sorted({**defaults, **bound, **arguments}.items())
        if option not in DECIDES_NOTHING
    }
    description = {
        "function": describe(function),
        "search": "within budgets" if within_budgets else "smallest perturbation",
        "arguments": {option: describe(value) for option, value in decisive.items()},
    }
    is_ours = (getattr(function, "__module__", None) or "").startswith("diffprog.")
    info = ATTACKS.get(getattr(function, "__name__", "")) if is_ours else None
    is_shared = info is not None and info.goal == "shared"
    if info is not None and within_budgets and "every_budget" not in bound:
        arguments["every_budget"] = True  # so that a search which larger budgets mislead is noticed
    content = _content(name, {"function": attack if isinstance(attack, partial) else function, **decisive})
    return AttackSpec(name, attack, within_budgets, is_shared, arguments, description, content, takes("image_ids"))


_POSITIONAL = inspect.Parameter.POSITIONAL_OR_KEYWORD


def _parameters(name: str, attack: Any) -> Mapping[str, inspect.Parameter]:
    """Check an attack's name and that it can be called; return its parameters."""
    if not (isinstance(name, str) and re.fullmatch(r"[\w +-][\w .+-]*", name)) or name == "clean":
        raise ValueError(
            f"an attack's name must be of letters, digits, spaces and .+-_; found {name!r}: files are named after it"
        )
    if not callable(attack):
        raise ValueError(
            f"attack {name!r} must be a function of model, images and labels; found {attack!r:.60}: "
            f"try diffprog.attack.{attack if attack in ATTACKS else 'pgd'}"
        )
    parameters = inspect.signature(attack).parameters
    for option in RESERVED:
        if option in (bound := getattr(attack, "keywords", {})):
            raise ValueError(
                f"attack {name!r} must leave {option} to the evaluation; found {bound[option]!s:.40}: "
                "leave it out of the partial"
            )
    return parameters


def _norm_name(norm: Any) -> str:
    return getattr(spelling.as_norm(norm), "name", repr(norm))


def _content(name: str, values: Mapping[str, Any]) -> dict[str, str]:
    """Take digests of an attack's code and of those arguments that are no numbers and texts."""
    digests = {}
    for option, value in values.items():
        if not isinstance(value, int | float | str | None):
            digest = content_digest(value, f"attack {name!r}, {option}")
            digests[option] = digest.key
            if digest.unknown:
                warn(
                    f"{digest.unknown[0]}, which cannot be compared from run to run: no other run will go on with what "
                    "this attack leaves in a directory"
                )
    return digests
