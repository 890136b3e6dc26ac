"""Answers to arguments that a function does not have: the word that is meant, where other libraries have another."""

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

# For a word of others: our arguments of that meaning, and what to say of each. The first that a function has is named.
Meant = Mapping[str, Mapping[str, str]]


def by_word(rows: Mapping[str, Mapping[str, str]]) -> Meant:
    """Make a table of rows whose keys are several words in one text."""
    return {word: ours for words, ours in rows.items() for word in words.split()}


def check_names(function: str, names: Iterable[str], known: Iterable[str], meant: Meant) -> None:
    """Refuse an argument that a function does not have, with the word that is meant."""
    known = list(known)
    for name in names:
        if name not in known:
            raise TypeError(f"{function} has no argument {name!r}: {_remedy(name, known, meant)}")


def answers_names(meant: Meant, passes_to: Callable | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a decorator: the function refuses arguments that it does not have with the words that are meant.

    Args:
      meant: table of words.
      passes_to: what the function calls with the options that are not its own, if it takes any.
    """
    others = _names(passes_to) if passes_to else []

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        known = list(dict.fromkeys(_names(function) + others))

        @wraps(function)
        def call(*arguments: P.args, **options: P.kwargs) -> R:
            check_names(function.__name__, options, known, meant)
            return function(*arguments, **options)

        return call

    return decorate


def _names(function):
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def _remedy(name, known, meant):
    """Say what is meant: words of other libraries only where there is such an argument."""
    ours = meant.get(name, {})
    for argument, sentence in ours.items():
        if argument in known:
            return sentence
    close = [] if ours else difflib.get_close_matches(name, known, 1)
    return f"did you mean {close[0]}=?" if close else f"it takes {', '.join(known)}"
