"""Modules have paths: what each operation and each module's output is called, in the three libraries."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src import source_info_util

from diffprog._jax_internals.sources import as_path
from diffprog.graph._selection.module_paths import named_modules
from diffprog.graph._selection.tap import ModuleOutput

KEY = jax.random.key(0)
X = jnp.linspace(-1.0, 1.0, 3)


def _scopes(name_stack):
    return [part.name for part in name_stack.stack if isinstance(part, source_info_util.Scope)]


def walk(program, prefix=""):
    """(path, primitive or the name of a module's output) of every equation, as if inlined."""
    for equation in program.eqns:
        path = "/".join(filter(None, (prefix, as_path(_scopes(equation.source_info.name_stack)))))
        tap = equation.params.get("name") if equation.primitive.name == "name" else None
        yield path, equation.primitive.name, tap
        for inner in equation.params.values():
            if hasattr(inner, "eqns"):
                yield from walk(getattr(inner, "jaxpr", inner), path)


def traced(fun, *args):
    with named_modules():
        return list(walk(jax.make_jaxpr(fun)(*args).jaxpr))


def outputs(found):
    assert all(isinstance(tap, ModuleOutput) for _, _, tap in found if tap is not None)
    return [path for path, _, tap in found if tap is not None]


def products(found):
    return [path for path, primitive, _ in found if primitive == "dot_general"]


# ---------------------------------------------------------------- Flax Linen


def linen_model(linen):
    class Block(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(4, name="inner")(x)

        def scores(self, x):
            return 2 * x

    class MLP(linen.Module):
        def setup(self):
            self.block = Block()
            self.last = linen.remat(linen.Dense)(2)

        def __call__(self, x):
            return self.last(linen.relu(self.block.scores(self.block(x))))

    return MLP()


def test_linen():
    linen = pytest.importorskip("flax.linen")
    model = linen_model(linen)
    variables = model.init(KEY, X)
    found = traced(lambda x: model.apply(variables, x), X)
    assert products(found) == ["MLP/block/inner", "MLP/last"]
    assert outputs(found) == ["MLP/block/inner", "MLP/block", "MLP/block.scores", "MLP/last", "MLP"]
    names = [tap for _, _, tap in found if tap is not None]
    assert names == ["MLP/block/inner", "MLP/block", "MLP/block.scores", "last", "MLP"]  # remat begins anew
    assert found == traced(jax.jit(lambda x: model.apply(variables, x)), X)[1:]


# ---------------------------------------------------------------- Equinox


@pytest.fixture
def equinox_model():
    equinox = pytest.importorskip("equinox")

    class Net(equinox.Module):
        layers: list
        heads: dict

        def __init__(self):
            self.layers = [equinox.nn.Linear(3, 3, key=KEY), jax.nn.relu, equinox.nn.MLP(3, 2, 4, 1, key=KEY)]
            self.heads = {"a": equinox.nn.Linear(2, 2, key=KEY)}

        def __call__(self, x):
            for layer in self.layers:
                x = layer(x)
            return self.heads["a"](x)

    return Net()


EQUINOX = ["Net/layers[0]", "Net/layers[2]/layers[0]", "Net/layers[2]/layers[1]", "Net/heads['a']"]


def test_equinox(equinox_model):
    found = traced(equinox_model, X)
    assert products(found) == EQUINOX
    assert outputs(found) == [*EQUINOX[:3], "Net/layers[2]", EQUINOX[3], "Net"]


def test_equinox_under_jit_and_vmap_and_rebuilt(equinox_model):
    import equinox

    arrays, rest = equinox.partition(equinox_model, equinox.is_array)
    run = equinox.filter_jit(lambda arrays, x: jax.vmap(equinox.combine(arrays, rest))(x))
    assert products(traced(lambda x: run(arrays, x), jnp.stack([X, X]))) == EQUINOX


def test_a_function_compiled_before_is_staged_anew_once(equinox_model):
    count = 0

    @jax.jit
    def run(x):
        nonlocal count
        count += 1
        return equinox_model(x)

    plain = run(X)
    for _ in range(3):
        with named_modules():
            np.testing.assert_allclose(run(X), plain, rtol=1e-6)
        run(X)
    assert count == 2
    assert products(traced(run, X)) == EQUINOX


def test_super_call_is_one_module():
    equinox = pytest.importorskip("equinox")

    class Twice(equinox.nn.Linear):
        def __call__(self, x):
            return 2 * super().__call__(x)

    assert outputs(traced(Twice(3, 3, key=KEY), X)) == ["Twice"]


# ---------------------------------------------------------------- Flax NNX


def test_nnx():
    nnx = pytest.importorskip("flax.nnx")

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(3, 4, rngs=rngs)
            self.blocks = nnx.List([nnx.Linear(4, 4, rngs=rngs) for _ in range(2)])
            self.head = nnx.Sequential(nnx.Linear(4, 2, rngs=rngs), nnx.relu)

        def __call__(self, x):
            x = self.first(x)
            for block in self.blocks:
                x = block(x)
            return self.head(x)

    model = Net(nnx.Rngs(0))
    graph, state = nnx.split(model)
    layers = ["Net/first", "Net/blocks[0]", "Net/blocks[1]", "Net/head/layers[0]"]
    for found in (traced(model, X), traced(lambda state, x: nnx.merge(graph, state)(x), state, X)):
        assert products(found) == layers
        assert outputs(found) == [*layers, "Net/head", "Net"]


# ---------------------------------------------------------------- leaving no trace


def test_everything_is_as_before(equinox_model):
    before = type(equinox_model).__call__
    with pytest.raises(ZeroDivisionError), named_modules():
        assert type(equinox_model).__call__ is not before
        raise ZeroDivisionError
    assert type(equinox_model).__call__ is before
    assert outputs(list(walk(jax.make_jaxpr(equinox_model)(X).jaxpr))) == []


def test_other_threads_see_nothing(equinox_model):
    found = []
    with named_modules():
        thread = threading.Thread(target=lambda: found.extend(walk(jax.make_jaxpr(equinox_model)(X).jaxpr)))
        thread.start()
        thread.join()
    assert products(found) and outputs(found) == [] and not any(path for path, _, _ in found)
