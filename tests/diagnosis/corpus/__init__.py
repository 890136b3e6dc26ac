"""Programs whose gradient is broken, each by a mistake that somebody made, and programs like them that are not.

A broken program says what is to be found: the kind, some words of the cause, and, in its text, the line: the one that
ends in the comment `# here`. All are functions without arguments that return (function, arguments).
"""

import inspect
from collections.abc import Callable
from typing import NamedTuple


class Program(NamedTuple):
    """A program to diagnose.

    Attributes:
      name: as on the command line.
      make: () -> (function, tuple of arguments).
      kind, cause: what a diagnosis is to say; None of a program in which nothing is wrong.
      after: what the mistake is modeled on, as "jax#5039".
    """

    name: str
    make: Callable
    kind: str | None = None
    cause: str | None = None
    after: str = ""

    @property
    def line(self) -> int | None:
        """The number of the line that is to be named, None if it is an input's or nothing is wrong."""
        lines, first = inspect.getsourcelines(self.make)
        found = [first + i for i, line in enumerate(lines) if line.rstrip().endswith("# here")]
        return found[0] if found else None


broken: dict[str, Program] = {}
healthy: dict[str, Program] = {}


def breaks(kind: str, cause: str, after: str = ""):
    """Register the decorated function as a broken program, in which a finding of this kind and cause is expected."""

    def register(make):
        broken[make.__name__] = Program(make.__name__, make, kind, cause, after)
        return make

    return register


def works(make):
    """Register the decorated function as a program in which nothing is wrong."""
    healthy[make.__name__] = Program(make.__name__, make)
    return make
