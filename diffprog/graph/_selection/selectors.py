"""Read selectors, and find what they mean; the language is described in `diffprog.graph`."""

import difflib
import pathlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from diffprog.graph._selection.tap import LayerName, Leaf, ModuleOutput


class Site(Protocol):
    """What a selector looks at: a `Node` of a recording, or an operation that is being run."""

    primitive: str
    label: str
    path: str
    tap: str | None
    params: dict

    @property
    def source(self) -> Any:
        """The user's line, with `file` and `line`, or None."""

    @property
    def shape(self) -> Any:
        """Shape of the result, or list of the results' shapes."""

    @property
    def dtype(self) -> Any:
        """Type of the result, or list of the results' types."""


Selector = str | Callable[[Any], bool]
"""Which values are meant: text, or a function of one operation; `diffprog.graph` describes the language."""


AnySite = TypeVar("AnySite", bound=Site)


@dataclass(frozen=True)
class ParsedSelector:
    """A selector that was read.

    Attributes:
      original: the selector as the user wrote it.
      matches: whether it means a site.
      by_line: whether that depends on the source line.
      by_path: whether that depends on the path.
    """

    original: Selector
    matches: Callable[[Site], bool]
    by_line: bool = False
    by_path: bool = False


def parse(selector: "Selector | ParsedSelector") -> ParsedSelector:
    """Read a selector.

    Raises:
      TypeError: it is neither text nor a function.
      ValueError: it is empty.
    """
    if isinstance(selector, ParsedSelector):
        return selector
    if callable(selector):
        return ParsedSelector(selector, lambda site: bool(selector(site)), by_line=True, by_path=True)
    if not isinstance(selector, str):
        raise TypeError(
            "a selector is a tap's name, a primitive, a path, a line (file.py:31) or a function of an operation; "
            f"found {selector!r}"
        )
    if not selector.strip():
        raise ValueError('a selector is empty; write "*" for every operation')
    kind, colon, rest = selector.partition(":")
    if colon and kind in _KINDS:
        return _KINDS[kind](selector, rest)
    if re.fullmatch(r".*:\d+", selector):
        return _line(selector, selector)
    return _path(selector, selector) if "/" in selector else _name(selector, selector)


def select(selector: "Selector | ParsedSelector", sites: Iterable[AnySite]) -> list[AnySite]:
    """List the sites that a selector means, in order.

    Raises:
      ValueError: there is none; the message has the nearest names.
    """
    parsed, sites = parse(selector), list(sites)
    selected = [site for site in sites if parsed.matches(site)]
    if not selected:
        names = Names()
        for site in sites:
            names.add(site)
        raise ValueError(names.nothing_for(selector))
    return selected


def select_one(selector: "Selector | ParsedSelector", sites: Iterable[AnySite]) -> AnySite:
    """Return the only site that a selector means.

    Raises:
      ValueError: there is none, or more than one.
    """
    selected = select(selector, sites)
    if len(selected) > 1:
        places = ", ".join(dict.fromkeys(full_name(site) for site in selected[:4]))
        raise ValueError(f"{selector!r} means {len(selected)} values ({places}, ...): name one, by a tap for example")
    return selected[0]


# ---------------------------------------------------------------- kinds of selectors


def _name(selector, text):
    fits = pattern(text)

    def matches(site):
        if isinstance(site.tap, ModuleOutput):
            return fits(_last(site.path)) and text.strip("*") != ""
        if isinstance(site.tap, LayerName):
            return text in (site.tap, _last(site.tap))
        if site.tap is not None:
            return _fits_tap(fits, site.tap)
        return fits(site.primitive) or fits(site.label)

    return ParsedSelector(selector, matches)


def _tap(selector, text):
    fits = pattern(text)
    is_tap = lambda site: site.tap is not None and not isinstance(site.tap, ModuleOutput)
    return ParsedSelector(selector, lambda site: is_tap(site) and _fits_tap(fits, site.tap))


def _primitive(selector, text):
    fits = pattern(text)
    return ParsedSelector(selector, lambda site: site.tap is None and (fits(site.primitive) or fits(site.label)))


def _path(selector, text):
    fits, modules_too = pattern(text), _last(text).strip("*") != ""

    def matches(site):
        if isinstance(site.tap, ModuleOutput):
            return modules_too and fits(site.path)
        if isinstance(site.tap, LayerName):
            return text in (site.tap, _join(site.path, site.tap))
        if site.tap is not None:
            return fits(_join(site.path, site.tap))
        return fits(_join(site.path, site.primitive))

    return ParsedSelector(selector, matches, by_path=True)


def _line(selector, text):
    file, _, number = text.rpartition(":")
    wanted = pathlib.PurePath(file).parts[::-1]

    def matches(site):
        # A tap is written on a line as well, but a line means what is computed there.
        if site.source is None or site.tap is not None or str(site.source.line) != number:
            return False
        return pathlib.PurePath(site.source.file).parts[::-1][: len(wanted)] == wanted

    return ParsedSelector(selector, matches, by_line=True)


_KINDS = {"tap": _tap, "primitive": _primitive, "path": _path, "line": _line}


def pattern(text) -> Callable[[str], bool]:
    """Compile a text with `*` and `?` to a test whether all of a name or path fits it."""
    parts = re.split(r"(\*+|\?)", text)
    regular = "".join(".*" if p.startswith("*") else "." if p == "?" else re.escape(p) for p in parts)
    compiled = re.compile(regular, re.DOTALL)
    return lambda name: compiled.fullmatch(name) is not None


def _fits_tap(fits, tap):
    """Whether a tap's name fits, or the name of the whole pytree that it is in."""
    return fits(tap) or (isinstance(tap, Leaf) and fits(tap.whole))


def _last(path):
    return path.rpartition("/")[2]


def _join(path, name):
    return f"{path}/{name}" if path else name


# ---------------------------------------------------------------- what there is to select


def full_name(site: Site) -> str:
    """Join the path of a site with its tap's or primitive's name, by which a path selects it."""
    return site.path if isinstance(site.tap, ModuleOutput) else _join(site.path, site.tap or site.primitive)


class Names:
    """What could have been selected in a run, for the message about a selector that means nothing."""

    def __init__(self, with_lines: bool = True):
        """Start without names.

        Args:
          with_lines: whether to keep source lines too, which take time to find out.
        """
        self._with_lines = with_lines
        kinds = ("taps", "modules", "operations", "paths", "lines")
        self._names: dict[str, dict[str, None]] = {kind: {} for kind in kinds}  # a dict keeps the order

    def add(self, site: Site):
        """Note the names of a site."""
        if isinstance(site.tap, ModuleOutput):
            self._names["modules"][site.path] = None
        elif site.tap is not None:
            self._names["taps"][site.tap] = None
        else:
            self._names["operations"][site.primitive] = None
            self._names["paths"][full_name(site)] = None
            if self._with_lines and site.source is not None:
                self._names["lines"][str(site.source)] = None

    def nothing_for(self, selector) -> str:
        """Say in one sentence that no site fits a selector, with the nearest names."""
        if callable(selector):
            return f"the selector {getattr(selector, '__name__', selector)!r} says no to every operation of this run"
        return f"no value is selected by {selector!r}: {self._nearest(selector)}"

    def _nearest(self, selector):
        short = {_last(name): name for name in self._names["modules"]}
        names = [name for of_kind in self._names.values() for name in of_kind]
        near = difflib.get_close_matches(selector.strip("*/"), [*names, *short], n=3, cutoff=0.55)
        near = list(dict.fromkeys(short.get(name, name) for name in near))
        if near:
            return f"did you mean {' or '.join(map(repr, near))}?"
        for kind in ("taps", "modules", "operations"):
            if self._names[kind]:
                first = list(self._names[kind])
                return f"the {kind} of this run are {', '.join(map(repr, first[:6]))}" + (", ..." if first[6:] else "")
        return "the run has no operation"
