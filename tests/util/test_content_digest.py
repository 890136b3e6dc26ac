"""What a function or an object is, by content: equal where it does the same, in every process, and else different."""

import contextlib
import enum
import itertools
import subprocess
import sys
import threading
from collections import OrderedDict, deque
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffprog import attack
from diffprog._util.content_digest import content_digest
from diffprog.visualize import transforms

SCALE, CALLS, COUNTS = 2.0, [], {"n": 0}
WEIGHTS = {"w": np.arange(3.0)}


def text(value):
    found = content_digest(value)
    assert not found.unknown and found.key == found.text
    return found.text


def scaled(x):
    return SCALE * x


def through_another(x):
    return scaled(x) + 1


def counting(x):
    CALLS.append(x)
    COUNTS["n"] += 1
    counting.calls += 1
    return 2 * x


counting.calls = 0


def of_weights(x):
    return x @ WEIGHTS["w"]


def reading_its_log(x):
    CALLS.append(x)
    return len(CALLS)


class Attack:
    def __init__(self, step, log=None):
        self.step, self.calls, self.log = step, 0, log if log is not None else []

    @cached_property
    def half(self):
        return self.step / 2

    def __call__(self, x):
        self.calls += 1
        self.log.append(x)
        return self.step * x


class Compiling:
    """It compiles in its first call."""

    def __init__(self, step):
        self.step, self.compiled = step, None

    def __call__(self, x):
        if self.compiled is None:
            self.compiled = jax.jit(lambda x: self.step * x)
        return self.compiled(x)


COMPILED = None


def compiling(x):
    global COMPILED
    if COMPILED is None:
        COMPILED = jax.jit(lambda x: SCALE * x)
    return COMPILED(x)


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self, a):
        self.a = a


@dataclass(frozen=True)
class Settings:
    rate: float
    data: np.ndarray


class Color(enum.Enum):
    RED = 1
    BLUE = 2


def maker(step, data=(1, 2)):
    def inner(x, y=step, *, z=data):
        return x + y + step + z[0]

    return inner


def recursive(depth):
    def count(n):
        return 0 if n == 0 else depth + count(n - 1)

    return count


def test_functions_are_known_by_what_they_do():
    first = text(lambda x: x + 1)

    def documented(x):
        """Add one."""
        return x + 1

    def documented_otherwise(x):
        """Sum."""

        return x + 1  # on another line

    assert text(lambda x: x + 1) == first
    assert text(documented) == text(documented_otherwise)
    others = [lambda x: x + 2, lambda x: x - 1, lambda x: x + 1.0, lambda x: jnp.sin(x), lambda x: jnp.cos(x)]
    others += [lambda x, y=1: x + y, lambda x, y=2: x + y, lambda x, *, y=2: x + y, lambda x: (lambda: x + 1)()]
    others += [lambda x: (lambda: x + 2)(), lambda x: x in {"a", "b"}, lambda x: x in {"a", "c"}]
    assert len({first, *map(text, others)}) == len(others) + 1


def test_a_function_without_a_module_is_known_by_what_it_does():
    def made(source):
        names = {}
        exec(source, names)
        return names["f"]

    first, again, other = map(made, ("f = lambda x: x + 1", "f = lambda x: x + 1", "f = lambda x: x + 2"))
    assert first.__module__ is None or first.__module__ == "builtins"
    assert content_digest(first) == content_digest(again) != content_digest(other)


def test_what_a_function_closes_over_counts():
    assert text(maker(1)) == text(maker(1)) != text(maker(2))
    assert text(maker(1, (1, 3))) != text(maker(1))
    assert text(recursive(3)) == text(recursive(3)) != text(recursive(4))  # it refers to itself
    array = np.arange(3.0)
    of_array = lambda array: lambda x: x @ array
    assert text(of_array(array)) == text(of_array(array.copy())) != text(of_array(array + 1))
    assert text(of_array(jnp.float32([1, 2]))) == text(of_array(np.float32([1, 2])))
    assert text(of_array(array)) != text(of_array(array.astype(np.float32)))
    assert text(partial(maker, 1)) != text(partial(maker, 2)) != text(partial(maker, data=2))
    assert text(jax.jit(maker(1))) == text(jax.jit(maker(1))) != text(jax.jit(maker(2)))
    assert text(jax.vmap(maker(1))) == text(jax.vmap(maker(1))) != text(jax.vmap(maker(2)))
    assert text(lru_cache(maker(1))) != text(lru_cache(maker(2)))
    assert text(attack.fgsm) != text(attack.pgd)
    assert text(transforms.chain(transforms.jitter(3))) == text(transforms.chain(transforms.jitter(3)))
    assert text(transforms.chain(transforms.jitter(3))) != text(transforms.chain(transforms.jitter(4)))
    assert text(optax.adam(0.1)) == text(optax.adam(0.1)) != text(optax.adam(0.2))


def test_a_context_manager_as_decorator_counts_by_what_made_it():
    @contextlib.contextmanager
    def scaled(factor):
        yield factor

    def decorated(factor):
        @scaled(factor)
        def run(x):
            return x

        return run

    digest = content_digest(decorated(2))
    assert digest.unknown == ()
    assert digest.key == content_digest(decorated(2)).key != content_digest(decorated(3)).key


def test_globals_count_where_they_are_read(monkeypatch):
    before = {function: text(function) for function in (scaled, through_another, counting, of_weights, reading_its_log)}
    counting(1)
    assert text(counting) == before[counting]  # its log and counters changed, which it does not read
    assert text(reading_its_log) != before[reading_its_log]
    monkeypatch.setitem(WEIGHTS, "w", np.arange(3.0) + 1)
    assert text(of_weights) != before[of_weights]
    monkeypatch.setattr(sys.modules[__name__], "SCALE", 3.0)
    assert text(scaled) != before[scaled] and text(through_another) != before[through_another]
    assert text(counting) == before[counting]


def test_what_a_first_call_compiles_does_not_count(monkeypatch):
    one = Compiling(1.0)
    before = [text(one), text(compiling)]
    assert one(2.0) == 2 and compiling(2.0) == 4
    assert [text(one), text(compiling)] == before and text(Compiling(2.0)) != before[0]
    monkeypatch.setattr(sys.modules[__name__], "SCALE", 3.0)
    assert text(compiling) != before[1]


def test_counters_in_enclosing_functions_do_not_count():
    def make(step):
        calls, total = 0, {"n": 0}

        def count(x):
            nonlocal calls
            calls += 1
            total["n"] += x
            return step * x

        return count

    count = make(1)
    before = text(count)
    count(3)
    assert text(count) == before == text(make(1)) != text(make(2))


def test_a_users_module_counts_by_what_is_read_of_it():
    def module(source):
        made = ModuleType("of_the_user")
        exec(source, made.__dict__)
        return made

    def network(network):
        return lambda x: network.forward(x)

    source = "unread = 1\ndef helper(x): return {}\ndef forward(x): return helper(x)"
    first, again, other = (module(source.format(code)) for code in ("2 * x", "2 * x", "3 * x"))
    again.unread = 2
    assert text(network(first)) == text(network(again)) != text(network(other))
    assert text(lambda x: np.sin(x)) != text(lambda x: np.cos(x))


def test_objects_count_by_class_and_attributes():
    one = Attack(1)
    before = text(one)
    one(3)
    assert one.half == 0.5 and one.calls == 1 and text(one) == before == text(Attack(1, ["x"])) != text(Attack(2))
    assert text(one.__call__) != text(Attack(2).__call__)
    assert text(Slotted(1)) == text(Slotted(1)) != text(Slotted(2))
    assert text(Settings(0.1, np.ones(2))) == text(Settings(0.1, np.ones(2)))
    assert (
        len({text(x) for x in (Settings(0.1, np.ones(2)), Settings(0.2, np.ones(2)), Settings(0.1, np.ones(3)))}) == 3
    )
    assert text(Color.RED) == text(Color.RED) != text(Color.BLUE)
    lines = ["class A:", "    def __call__(self, x): return {}", "made = A()"]
    made = []
    for code in ("x", "x", "-x"):
        space = {"__name__": "of_the_user"}
        exec("\n".join(lines).format(code), space)
        made.append(space["made"])
    assert text(made[0]) == text(made[1]) != text(made[2])


def test_values_and_containers_count_by_content():
    values = [None, 1, 1.0, "1", b"1", [1], {"a": 1}, {"a": 2}, {1, 2}, {1, 3}, range(3), range(4), slice(1), slice(2)]
    values += [Path("a"), Path("b"), np.dtype("f4"), np.dtype("f8"), np.float32(1), np.ones(2), np.ones((2, 1))]
    values += [
        jax.random.key(0),
        jax.random.key(1),
        jnp.sin,
        jnp.cos,
        np.sin,
        np.cos,
        np.random,
        itertools,
        OrderedDict,
    ]
    values += [
        deque([1]),
        deque([2]),
        np.random.default_rng(0),
        np.random.default_rng(1),
        ...,
        jnp.float32,
        jnp.bfloat16,
    ]
    assert len({text(value) for value in values}) == len(values)
    assert text([1, "a"]) == text((1, "a"))
    assert text({"a": 1, "b": 2}) == text({"b": 2, "a": 1})
    assert text({"x", "y", "z"}) == text({"z", "y", "x"})
    assert text(threading.Lock()) == text(threading.Lock())
    knot = [1]
    knot.append(knot)
    other = [1]
    other.append(other)
    assert text(knot) == text(other) != text([1, [1]])
    shared = [1, 2]
    assert text([shared, shared]) == text([[1, 2], [1, 2]])


def test_a_cycle_of_many_is_walked_once():
    nodes = [{"number": number} for number in range(60)]
    for node in nodes:
        node["others"] = nodes
    assert len(text(nodes)) == 32


def test_modules_of_libraries_count_by_their_arrays():
    nn, nnx, eqx = (pytest.importorskip(name) for name in ("flax.linen", "flax.nnx", "equinox"))
    dense = lambda key: nnx.Linear(2, 3, rngs=nnx.Rngs(key))
    assert text(dense(0)) == text(dense(0)) != text(dense(1))
    changed = dense(0)
    before = text(changed)
    changed.kernel[...] = changed.kernel[...] + 1
    assert text(changed) != before
    assert text(nn.Dense(3)) == text(nn.Dense(3)) != text(nn.Dense(4))
    net = lambda n: nn.Sequential([nn.Dense(n), nn.relu])
    assert text(net(3).apply) == text(net(3).apply) != text(net(4).apply)
    mlp = lambda key: eqx.nn.MLP(2, 3, 4, 1, key=jax.random.key(key))
    assert text(mlp(0)) == text(mlp(0)) != text(mlp(1))
    assert text(eqx.filter_jit(mlp(0))) == text(eqx.filter_jit(mlp(0))) != text(eqx.filter_jit(mlp(1)))

    class Mine(nn.Module):
        width: int

        @nn.compact
        def __call__(self, x):
            return nn.Dense(self.width)(x)

    assert text(Mine(2)) == text(Mine(2)) != text(Mine(3))


def test_what_cannot_be_described_is_named_and_never_equal():
    generator = (x for x in [1])
    found = content_digest({"data": generator}, "loss")
    assert found.unknown == ("loss[data] is a generator",)
    assert found.text == content_digest({"data": generator}, "loss").text and found.key != found.key
    assert content_digest(lambda x: next(generator), "loss").unknown == ("loss.generator is a generator",)
    with open(__file__) as file:
        assert content_digest(file).unknown == ("it is a TextIOWrapper",)


PROGRAM = """
import jax, numpy as np, optax, functools
from diffprog import attack
from diffprog._util.content_digest import content_digest
from diffprog.visualize.transforms import lucid
class A:
    def __init__(self): self.names = {"a", "b", "c", "d"}
    def __call__(self, x): return x in {"e", "f", "g"} or x in self.names
rate = 0.5
def loss(logits, labels): return rate * attack.margin(logits, labels)
bound = functools.partial(attack.pgd, loss=loss)
for value in (A(), bound, lucid, optax.adam(0.1), jax.jit(loss), lambda x: object()):
    print(content_digest(value))
"""


def test_another_process_takes_the_same_digest(tmp_path):
    said = []
    for number, seed in enumerate("12"):  # other hashes of texts, another file and other lines
        path = tmp_path / f"program{number}.py"
        path.write_text("\n" * number + PROGRAM)
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path), "JAX_PLATFORMS": "cpu"}
        done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=True, env=environment)
        said.append(done.stdout)
    assert said[0] == said[1] and said[0].count("unknown=()") == 6
