"""Acting on selected values of a function while it runs, as if its source had been edited.

`Probe` intercepts the operations of a function where they are called and acts on those that are selected: the common
part of `intervene`, `hook`, `activations` and `grad_at`. Because it acts where the source is, in whatever `vmap`,
gradient or `jit` that may be, the four compose with each other and with JAX's and our transformations in any nesting.
Of several around one function the innermost acts first.
"""

import contextlib
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax

from diffprog._jax_internals import has_gradient, same_type, typeof
from diffprog._jax_internals.interception import Interceptor, Operation, intercepting
from diffprog._jax_internals.tagging import Tag
from diffprog._transforms.arguments import check_callable, wraps
from diffprog.graph._recording.nodes import Frame
from diffprog.graph._selection.module_paths import named_modules
from diffprog.graph._selection.selectors import Names, Selector, selector


class RunningSite:
    """An operation that has just run, as selectors look at it."""

    def __init__(self, operation: Operation):
        self._operation = operation
        self.primitive, self.params = operation.primitive.name, operation.params
        self.label = operation.function or operation.primitive.name
        self.path = operation.path
        self.tap = operation.params["name"] if self.primitive == "name" else None
        self.single = not operation.primitive.multiple_results
        self.values = [operation.results] if self.single else list(operation.results)

    @property
    def source(self) -> Frame | None:
        line = self._operation.user_line
        return line and Frame(*line)

    @property
    def shape(self):
        return self._one("shape")

    @property
    def dtype(self):
        return self._one("dtype")

    def _one(self, name):
        found = [getattr(typeof(x), name, None) for x in self.values]
        return found[0] if self.single else found


class Probe:
    """Watches a function and acts on its selected values.

    Attributes:
      selectors: as they were read, in the order in which they were given.
    """

    def __init__(self, name: str, selectors: Iterable, act: Callable[[Any, tuple[int, ...], str], Any], floats: bool):
        """
        Args:
          name: of the public function, for messages.
          act: value, positions of the selectors that mean it, what to call it in a message -> what takes its place.
          floats: whether only values that can have a gradient are meant.
        """
        self.selectors: list[Selector] = [selector(given) for given in selectors]
        self._name, self._act, self._floats = name, act, floats
        by_path, by_line = (any(getattr(s, by) for s in self.selectors) for by in ("by_path", "by_line"))
        self._interceptor = Interceptor(self._see, by_path, by_line)
        # Kept from run to run: a function that was compiled in an earlier one is not seen again.
        self._seen, self._used, self._names = set(), set(), Names(with_lines=by_line)

    @contextlib.contextmanager
    def intercepting(self):
        """Acts meanwhile. Raises ValueError at the end for a selector that meant nothing."""
        with named_modules(), intercepting(self._interceptor):
            yield
        for i, chosen in enumerate(self.selectors):
            if i not in self._seen:
                raise ValueError(self._names.nothing_for(chosen.given))
            if i not in self._used:
                raise ValueError(
                    f"{self._name} takes values that can have a gradient; all that {chosen.given!r} selects are "
                    "integers: select a float"
                )

    def _see(self, operation):
        if isinstance(operation.params.get("name"), Tag):
            return operation.results
        site = RunningSite(operation)
        self._names.add(site)
        chosen = tuple(i for i, each in enumerate(self.selectors) if each.matches(site))
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


def intervene(fun: Callable, interventions: Mapping) -> Callable:
    """`fun`, with each selected value replaced going forward.

    The result is what `fun` would return, and its gradient what that would be, if its source said `h = f(h)` in that
    place. Where a `vmap`, `scan` or `jit` is inside `fun`, `f` is mapped, repeated and staged with the rest.

    Args:
      fun: any function.
      interventions: selector (see `dp.graph`) -> function of the value to its replacement, of the same
        shape and dtype. A selector that means several values has each replaced.

    Raises, when called:
      ValueError: a selector means nothing; the message has the nearest names.
      TypeError: a replacement has another shape or dtype.
    """
    functions = _functions("intervene", fun, interventions)

    def act(value, chosen, place):
        for i in chosen:
            value = _replaced(functions[i], value, probe.selectors[i].given, place)
        return value

    probe = Probe("intervene", interventions, act, floats=False)
    return _intercepted_function(fun, probe, "function with interventions")


def hook(fun: Callable, hooks: Mapping) -> Callable:
    """`fun`, with each selected value's gradient shown or replaced on the way back, whoever differentiates it.

    Args:
      fun: any function.
      hooks: selector (see `dp.graph`) -> function of the gradient with respect to the value. What it
        returns, of the same shape and dtype, goes on instead; None lets the gradient pass (to log it, for example with
        `jax.debug.print`). Compiled functions are staged once: there it sees tracers.

    Raises, when called or differentiated:
      ValueError: a selector means nothing; the message has the nearest names.
      TypeError: a replacement has another shape or dtype; or `fun` is differentiated in forward mode (`jax.jvp`), which
        has no way back.
    """
    functions = _functions("hook", fun, hooks)

    def act(value, chosen, place):
        for i in chosen:
            value = _hooked(value, functions[i], probe.selectors[i].given, place)
        return value

    probe = Probe("hook", hooks, act, floats=True)
    return _intercepted_function(fun, probe, "function with hooks")


def _functions(name, fun, given):
    check_callable(fun)
    if not isinstance(given, Mapping) or not given:
        raise TypeError(f"{name} takes a dict of selectors and functions; found {given!r}")
    for chosen, function in given.items():
        if not callable(function):
            raise TypeError(f"{name} takes a function for each selector; found {function!r} for {chosen!r}")
    return list(given.values())


def _intercepted_function(fun, probe, what):
    @wraps(fun, what)
    def intercepted_fun(*args, **kwargs):
        with probe.intercepting():
            return fun(*args, **kwargs)

    return intercepted_fun


def _replaced(function, value, given, place, what="value"):
    result, expected = function(value), typeof(value)
    try:
        found = typeof(result)
        result = result if same_type(found, expected) else _as_dtype(result, found, expected)
    except TypeError:
        message = f"the function for {given!r} returned {result!r}; expected an array like its argument"
        raise TypeError(message) from None
    if result is None:
        raise TypeError(
            f"the function for {given!r} takes a {what} of type {expected.str_short()} ({place}) and returned "
            f"{found.str_short()}; it must keep shape and dtype"
        )
    return result


def _as_dtype(result, found, expected):
    """A Python number's worth of the type that is expected, None for what is of another type."""
    if not found.weak_type or found.shape != expected.shape:
        return None
    return jax.numpy.asarray(result, expected.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _hooked(value, function, given, place):
    return value


def _hooked_forward(value, function, given, place):
    return value, None


def _hooked_backward(function, given, place, _, gradient):
    observed = lambda g: g if (found := function(g)) is None else found
    return (_replaced(observed, gradient, given, place, "gradient"),)


_hooked.defvjp(_hooked_forward, _hooked_backward)
