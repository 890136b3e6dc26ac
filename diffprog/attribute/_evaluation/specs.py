"""The methods and measures of an evaluation: checked, described, and given their arguments."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple
from zlib import crc32

import jax
import numpy as np

from diffprog._util.content_digest import content_digest
from diffprog._util.resumable import describe
from diffprog._util.warning import warn
from diffprog.attribute import baselines, features, measures
from diffprog.attribute._core.attribution import Attribution
from diffprog.attribute._registry import METHODS
from diffprog.attribute.measures import MEASURES
from diffprog.attribute.measures._sensitivity import check_method

DECIDES_NOTHING = ("progress", "chunk")
WITH_MASKS = ("pointing_game", "energy")
DEFAULT = ("insertion", "deletion", "road", "mu_fidelity", "complexity")
CELLS = 9  # of the grid whose cells are taken away together, in each direction
STEPS = 40  # of insertion and deletion


class Spec(NamedTuple):
    """A method or a measure with its name in the evaluation.

    Attributes:
      name: in tables.
      function: that is called, with its options.
      base: the function's own name.
      description: the function and every argument, for JSON.
      content: digests of what a description does not tell: code, functions, objects.
    """

    name: str
    function: Callable[..., Any]
    base: str
    description: dict[str, Any]
    content: dict[str, str]

    def attribute(self, model: Any, inputs: Any, score: Any) -> Attribution:
        """Run a method."""
        try:
            return check_method(self.function(model, inputs, score))
        except Exception as error:
            error.add_note(f"This came from method {self.name!r}.")
            raise


def method_specs(methods: Any, key: jax.Array, baseline: Any, engine: str) -> list[Spec]:
    """Check methods, and bind what an evaluation gives them.

    Raises:
      ValueError: one is not known, or needs an argument that it is not given.
    """
    common = {"engine": engine} | ({} if baseline is None else {"baseline": baseline})
    return [_spec("method", name, *each, key, common) for name, each in _by_name("methods", methods, METHODS).items()]


def measure_specs(asked: Any, key: jax.Array, baseline: Any, rank: int, has_masks: bool, has_cells: bool) -> list[Spec]:
    """Check measures, and bind their defaults for inputs of a rank, with the axis of examples.

    Raises:
      ValueError: one is not known, or needs masks or cells.
    """
    if asked is None:
        asked = [name for name in DEFAULT if name != "road" or rank == 4]
        asked += [*(WITH_MASKS if has_masks else ()), *(("grid_pointing",) if has_cells else ())]
    found = _by_name("measures", asked, MEASURES)
    for one, other in (("insertion", "deletion"), ("deletion", "insertion")):  # neither is read alone
        if one in found and other not in found:
            found[other] = (found[one][0].replace(one, other), dict(found[one][1]))
    for name, (base, options) in found.items():
        defaults = _defaults(base, rank)
        defaults |= {} if baseline is None or "baseline" in defaults else {"baseline": baseline}
        takes = inspect.signature(getattr(measures, base)).parameters
        found[name] = (base, {option: value for option, value in defaults.items() if option in takes} | options)
        if base in WITH_MASKS and not has_masks:
            raise ValueError(f"measure {name!r} needs masks=, bool (n, height, width): where the objects are")
        if base == "grid_pointing" and not has_cells:
            raise ValueError(f"measure {name!r} needs cells=, int (n,): the number of the right picture of each mosaic")
    return [_spec("measure", name, *each, key, {}) for name, each in found.items()]


def _defaults(measure: str, rank: int) -> dict[str, Any]:
    """Give measures what suits many images, rather than one."""
    is_picture = rank == 4
    regions = {"features": features.grid(CELLS)} if is_picture else {}
    by_measure: dict[str, dict[str, Any]] = {
        "insertion": {"is_probability": True}
        | ({"baseline": baselines.rise_blur(), "steps": STEPS} if is_picture else {}),
        "deletion": {"is_probability": True} | ({"steps": STEPS} if is_picture else {}),
        "road": {"is_probability": True},
        "mu_fidelity": regions | {"samples": 100},
        "sensitivity_n": regions | {"samples": 50},
        "infidelity": regions | {"samples": 100, "perturbation": "removal", "is_scaled": True},
        "max_sensitivity": {"samples": 5},
        "randomization": {"steps": 5},
    }
    return by_measure.get(measure, {})


def _by_name(what: str, asked: Any, known: Mapping[str, Any]) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Read what is asked for: from its name to (name of a function, or a function; its options)."""
    if isinstance(asked, str) or not isinstance(asked, Mapping | Sequence) or not len(asked):
        raise ValueError(
            f"{what} must be names, or a dict from names to functions or options; found {asked!r:.60}: try "
            f"{list(known)[:3]}"
        )
    pairs = asked.items() if isinstance(asked, Mapping) else [(each, each) for each in asked]
    found = {}
    for name, given in pairs:
        if not (isinstance(name, str) and re.fullmatch(r"[\w +-][\w .,+-]*", name)):
            raise ValueError(f"a name in {what} must be of letters, digits, spaces and .,+-_; found {name!r:.60}")
        base, options = given if isinstance(given, tuple) and len(given) == 2 else (given, {})
        if isinstance(base, Mapping):
            base, options = name, base
        if isinstance(base, str) and base not in known:
            raise ValueError(f"{what} has no {base!r}: there are {', '.join(known)}")
        if what == "measures" and not isinstance(base, str):
            raise ValueError(f"measure {name!r} must be one of {', '.join(known)}, with options; found {base!r:.60}")
        if not (isinstance(base, str) or callable(base)) or not isinstance(options, Mapping):
            raise ValueError(
                f"{what}: {name!r} must be a name, a function of (model, inputs, score), options, or (name, options); "
                f"found {given!r:.60}"
            )
        found[name] = (base, dict(options))
    return found


def _spec(what, name, base, options, key, common):
    """Find the function, give it what it takes, and describe it."""
    function = _function(what, base) if isinstance(base, str) else base
    parameters, bound = inspect.signature(function).parameters, getattr(function, "keywords", {})
    given = {option: value for option, value in common.items() if option in parameters and option not in bound}
    if getattr(function, "__name__", "") == "grad_cam" and options.get("kind") != "score":
        given.pop("baseline", None)  # only what hides parts of the input takes one
    if "key" in parameters and "key" not in {**bound, **options}:
        # Of measures the base alone: all methods are measured by the same draws.
        given["key"] = jax.random.fold_in(key, np.uint32(crc32((name if what == "method" else base).encode())))
    given |= options
    _check_options(what, name, parameters, {*given, *bound})
    if given:
        function = partial(function, **given)
    defaults = {option: p.default for option, p in parameters.items() if p.default is not p.empty}
    decisive = {k: v for k, v in sorted({**defaults, **bound, **given}.items()) if k not in DECIDES_NOTHING}
    inner = function
    while isinstance(inner, partial):
        inner = inner.func
    description = {"function": describe(inner), "arguments": {k: describe(v) for k, v in decisive.items()}}
    content = _content(f"{what} {name!r}", {"function": inner, **decisive})
    return Spec(name, function, getattr(inner, "__name__", name), description, content)


def _function(what, name):
    from diffprog import attribute  # whose face imports this module

    return getattr(attribute if what == "method" else measures, name)


def _check_options(what, name, parameters, given):
    positional = list(parameters)[: 4 if what == "measure" else 3]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for option in given:
        if option not in parameters and not open_ended:
            raise ValueError(f"{what} {name!r} has no option {option!r}: it takes {', '.join(list(parameters)[3:])}")
    for option, parameter in parameters.items():
        keyword = parameter.kind is parameter.KEYWORD_ONLY or option not in positional
        if (
            parameter.default is parameter.empty
            and keyword
            and option not in given
            and parameter.kind
            not in (
                parameter.VAR_KEYWORD,
                parameter.VAR_POSITIONAL,
            )
        ):
            raise ValueError(
                f"{what} {name!r} needs {option}, which an evaluation does not give: give "
                f"({name!r}, {{{option!r}: ...}})"
            )


def _content(name, values):
    """Take digests of code and of those arguments that are no numbers and texts."""
    digests = {}
    for option, value in values.items():
        if not isinstance(value, int | float | str | None):
            digest = content_digest(value, f"{name}, {option}")
            digests[option] = digest.key
            if digest.unknown:
                warn(
                    f"{digest.unknown[0]}, which cannot be compared from run to run: no other run will go on with what "
                    f"{name} leaves in a directory"
                )
    return digests
