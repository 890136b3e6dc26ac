"""Act on selected values of a function while it runs, as if its source had been edited: `intervene` and `hook`.

`Intervention` is what they share with `activations` and `grad_at`. It intercepts the operations of a function where
they are called, and acts on those that are selected. Because it acts where the source is, in whatever `vmap`, gradient
or `jit` that may be, the four compose with each other and with JAX's and our transformations in any nesting. Of several
around one function the innermost acts first.
"""

import contextlib
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax

from diffprog._jax_internals import has_gradient, same_type, typeof
from diffprog._jax_internals.interception import Interceptor, Operation, intercepting
from diffprog._jax_internals.sources import as_path
from diffprog._jax_internals.tagging import Tag
from diffprog._transforms.arguments import check_callable, wraps
from diffprog.graph._recording.nodes import Frame
from diffprog.graph._selection.module_paths import named_modules
from diffprog.graph._selection.selectors import Names, ParsedSelector, Selector, parse


class RunningSite:
    """An operation that has just run, as a `Site` for selectors."""

    def __init__(self, operation: Operation, outer_scopes: int = 0):
        """Look at an operation.

        Args:
          operation: what has run.
          outer_scopes: how many of the scopes around it do not count for its path.
        """
        self._operation = operation
        self.primitive, self.params = operation.primitive.name, operation.params
        self.label = operation.function or operation.primitive.name
        self.path = as_path(operation.scopes[outer_scopes:])
        self.tap = operation.params["name"] if self.primitive == "name" else None
        self.single = not operation.primitive.multiple_results
        self.values = [operation.results] if self.single else list(operation.results)

    @property
    def source(self) -> Frame | None:
        """The line of the user that called it."""
        line = self._operation.user_line
        return line and Frame(*line)

    @property
    def shape(self):
        """Shape of its result, or the list of its results' shapes."""
        return self._one("shape")

    @property
    def dtype(self):
        """Type of its result, or the list of its results' types."""
        return self._one("dtype")

    def _one(self, name):
        attributes = [getattr(typeof(x), name, None) for x in self.values]
        return attributes[0] if self.single else attributes


class Intervention:
    """An action on the selected values of a function.

    Attributes:
      selectors: the selectors, parsed, in the order in which they were given.
      skips_unreachable: whether a value that cannot be taken out of where it is counts as not selected.
      replaces: whether values are replaced from outside, rather than perturbed.
    """

    skips_unreachable = False
    replaces = False

    def __init__(self, name: str, selectors: Iterable, act: Callable[[Any, tuple[int, ...], str], Any], floats: bool):
        """Parse the selectors.

        Args:
          name: the public function, for messages.
          selectors: which values to act on.
          act: value, positions of the selectors that mean it, what to call it in a message -> what takes its place.
          floats: whether only values that can have a gradient are meant.
        """
        self.selectors: list[ParsedSelector] = [parse(selector) for selector in selectors]
        self._name, self._act, self._floats = name, act, floats
        by_path, by_line = (any(getattr(s, by) for s in self.selectors) for by in ("by_path", "by_line"))
        self._looks_at = by_path, by_line, object()
        # Kept from run to run: a function that was compiled in an earlier one is not seen again.
        self._seen: set[int] = set()
        self._used: set[int] = set()
        self._names = Names(with_lines=by_line)

    @contextlib.contextmanager
    def intercepting(self):
        """Act meanwhile.

        Raises:
          ValueError: a selector meant nothing, at the end.
        """
        # Not kept, for it refers to this: what `act` closes over, tracers too, is to be free with its last user.
        with named_modules(), intercepting(Interceptor(self._see, *self._looks_at)):
            yield
        for i, selector in enumerate(self.selectors):
            if i not in self._seen:
                raise ValueError(self._names.nothing_for(selector.original))
            if i not in self._used:
                raise ValueError(
                    f"{self._name} takes values that can have a gradient; all that {selector.original!r} selects are "
                    "integers: select a float"
                )

    def _see(self, operation):
        if isinstance(operation.params.get("name"), Tag):
            return operation.results
        site = RunningSite(operation)
        self._names.add(site)
        chosen = tuple(i for i, selector in enumerate(self.selectors) if selector.matches(site))
        if not chosen:
            return operation.results
        self._seen.update(chosen)
        values = [self._one(value, chosen, site) for value in site.values]
        return values[0] if site.single else values

    def _one(self, value, chosen, site):
        if self._floats and not has_gradient(typeof(value)):
            return value
        self._used.update(chosen)
        return self._act(value, chosen, f"{site.label} in {site.path}" if site.path else site.label)


# ---------------------------------------------------------------- intervene, hook


def intervene(fun: Callable, interventions: Mapping[Selector, Callable]) -> Callable:
    """Replace selected values of a function going forward.

    Result and gradient are what they would be if the source of `fun` said `h = f(h)` in that place. Where a `vmap`,
    `scan` or `jit` is inside `fun`, `f` is mapped, repeated and staged with the rest.

    Args:
      fun: any function.
      interventions: selector (see `dp.graph`) -> function of the value to its replacement, of equal shape and
        dtype. If a selector means several values, each is replaced.

    Returns:
      A function of the same arguments. When it is called, a selector that means nothing is a ValueError with the
      nearest names, and a replacement of another shape or dtype a TypeError.

    Raises:
      TypeError: `fun` is no function, or `interventions` no dict of functions.
    """
    functions = _functions("intervene", fun, interventions)

    def act(value, chosen, place):
        for i in chosen:
            value = _replaced(functions[i], value, intervention.selectors[i].original, place)
        return value

    intervention = Intervention("intervene", interventions, act, floats=False)
    return _intercepted_function(fun, intervention, "function with interventions")


def hook(fun: Callable, hooks: Mapping[Selector, Callable]) -> Callable:
    """Show or replace the gradients of a function's selected values on the way back, whoever differentiates it.

    Args:
      fun: any function.
      hooks: selector (see `dp.graph`) -> function of the gradient with respect to the value. What it returns,
        of equal shape and dtype, goes on instead; None lets the gradient pass (to log it, for example with
        `jax.debug.print`). Compiled functions are staged once: there it sees tracers.

    Returns:
      A function of the same arguments. When it is called, a selector that means nothing is a ValueError with the
      nearest names. When it is differentiated, a replacement of another shape or dtype is a TypeError, and so is
      forward mode (`jax.jvp`), which has no way back.

    Raises:
      TypeError: `fun` is no function, or `hooks` no dict of functions.
    """
    functions = _functions("hook", fun, hooks)

    def act(value, chosen, place):
        for i in chosen:
            value = _hooked(value, functions[i], intervention.selectors[i].original, place)
        return value

    intervention = Intervention("hook", hooks, act, floats=True)
    return _intercepted_function(fun, intervention, "function with hooks")


def _functions(name, fun, by_selector):
    check_callable(fun)
    if not isinstance(by_selector, Mapping) or not by_selector:
        raise TypeError(f"{name} takes a dict of selectors and functions; found {by_selector!r}")
    for selector, function in by_selector.items():
        if not callable(function):
            raise TypeError(f"{name} takes a function for each selector; found {function!r} for {selector!r}")
    return list(by_selector.values())


def _intercepted_function(fun, intervention, what):
    @wraps(fun, what)
    def intercepted_fun(*args, **kwargs):
        with intervention.intercepting():
            return fun(*args, **kwargs)

    return intercepted_fun


def _replaced(function, value, selector, place, what="value"):
    result, expected = function(value), typeof(value)
    try:
        actual = typeof(result)
        result = result if same_type(actual, expected) else _as_dtype(result, actual, expected)
    except TypeError:
        message = f"the function for {selector!r} returned {result!r}; expected an array like its argument"
        raise TypeError(message) from None
    if result is None:
        raise TypeError(
            f"the function for {selector!r} takes a {what} of type {expected.str_short()} ({place}) and returned "
            f"{actual.str_short()}; it must keep shape and dtype"
        )
    return result


def _as_dtype(result, actual, expected):
    """Convert a Python number to the expected type; return None for anything of another type."""
    if not actual.weak_type or actual.shape != expected.shape:
        return None
    return jax.numpy.asarray(result, expected.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _hooked(value, function, selector, place):
    return value


def _hooked_forward(value, function, selector, place):
    return value, None


def _hooked_backward(function, selector, place, _, gradient):
    observed = lambda g: g if (replacement := function(g)) is None else replacement
    return (_replaced(observed, gradient, selector, place, "gradient"),)


_hooked.defvjp(_hooked_forward, _hooked_backward)
