"""`activations` and `grad_at` against programs whose source is edited by hand: zeros are added, and values kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import diffprog as dp
from tests.graph.programs import (
    PROGRAMS,
    W,
    X,
    branching,
    checkpointed,
    counted,
    differentiated,
    jitted,
    looped,
    mapped,
    plain,
    unrolled,
)

KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert np.shape(x) == np.shape(y)
        np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-10)


def by_hand(program, name, count, shape):
    """Values of the places called `name`, and the gradient with respect to zeros added to them; `program` runs each
    place once, in Python."""

    def run(zeros):
        left, values = list(zeros), []

        def at(value, place):
            if place != name:
                return value
            values.append(value + left.pop(0))
            return values[-1]

        return program(at)(W, X), values

    zeros = [jnp.zeros(shape)] * count
    gradients, values = jax.grad(run, has_aux=True)(zeros)
    return values, gradients


def written_out(at):
    """`jitted`, without `jit`."""
    layer = lambda w, x: at(jnp.tanh(x @ w), "h")
    return lambda w, x: jnp.sum(layer(w, layer(w, x)) ** 2)


def all_at_once(at):
    """`mapped`, without `vmap`."""

    def fun(w, x):
        h = at(jnp.tanh(x @ w), "h")
        return jnp.sum((jnp.sum(h, 1) / (1 + jnp.sum(h**2, 1))) ** 2)

    return fun


def taken(at):
    """`branching`, without `cond`."""
    return lambda w, x: jnp.sum((at(jnp.sin(x @ w), "h") * 2) ** 2)


def inside_a_gradient(*_):
    """Of `differentiated`: the value is known there alone."""
    edited = lambda e: differentiated(lambda value, name: value + e)(W, X)
    return [jnp.tanh(X @ W)], [jax.grad(edited)(jnp.zeros((3, 4)))]


stack = lambda parts: jnp.stack(parts)
one = lambda parts: parts[0]

CASES = {
    "plain": (plain, "h", by_hand, (plain, 1, (3, 4)), one),
    "plain, later": (plain, "later", by_hand, (plain, 1, (3, 4)), one),
    "jitted": (jitted, "h", by_hand, (written_out, 2, (3, 4)), list),
    "looped": (looped, "h", by_hand, (unrolled, 3, (4,)), stack),
    "looped, results": (looped, "y", by_hand, (unrolled, 3, ()), stack),
    "branching": (branching, "h", by_hand, (taken, 1, (3, 4)), one),
    "checkpointed": (checkpointed, "h", by_hand, (plain, 1, (3, 4)), one),
    "mapped": (mapped, "h", by_hand, (all_at_once, 1, (3, 4)), one),
    "differentiated": (differentiated, "h", inside_a_gradient, (None, 0, ()), one),
}


@pytest.mark.parametrize("around", ["none", "jit", "vmap"])
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients(case, around):
    program, name, oracle, (same, *where), arrange = CASES[case]
    values, gradients = oracle(same, name, *where)
    fun = program(dp.tap)
    change = {
        "none": lambda f: f(W, X),
        "jit": lambda f: jax.jit(f)(W, X),
        "vmap": lambda f: jax.tree.map(lambda x: x[0], jax.vmap(f, (None, 0))(W, jnp.stack([X, -X]))),
    }[around]
    probes = dp.activations(fun, [name]), dp.grad_at(fun, [name])
    for _ in range(2 if around == "none" else 1):  # the second from the caches
        assert_same(change(probes[0]), {name: arrange(values)})
        assert_same(change(probes[1]), {name: arrange(gradients)})


def test_several_selectors_and_the_output():
    fun, x = plain(dp.tap), jnp.asarray(X)
    expected = {name: by_hand(plain, name, 1, (3, 4)) for name in ("later", "h")}
    output, values = dp.activations(fun, ["later", "h"], with_output=True)(W, x)
    assert_same((output, values), (plain(lambda v, _: v)(W, x), {n: e[0][0] for n, e in expected.items()}))
    value, gradients = dp.grad_at(fun, ["later", "h"], with_value=True)(W, x)
    assert_same((value, gradients), (output, {n: e[1][0] for n, e in expected.items()}))
    assert list(gradients) == ["later", "h"]
    tanh_and_tap = dp.grad_at(fun, ["tanh", "h", "pow*"])
    with pytest.raises(ValueError, match=r"no value is selected by 'pow\*': "):
        tanh_and_tap(W, x)
    assert_same(dp.grad_at(fun, "tanh")(W, x)["tanh"], gradients["h"])


def test_auxiliary_data():
    def fun(w, x):
        h = dp.tap(jnp.tanh(x @ w), "h")
        return jnp.sum(h**2), {"mean": h.mean(), "x": x}

    h = jnp.tanh(X @ W)
    aux = {"mean": h.mean(), "x": X}
    for run in (fun, jax.jit(fun)):
        assert_same(dp.grad_at(run, ["h"], has_aux=True)(W, X), ({"h": 2 * h}, aux))
        both = dp.grad_at(run, ["h"], has_aux=True, with_value=True)(W, X)
        assert_same(both, ((jnp.sum(h**2), aux), {"h": 2 * h}))


def test_python_decides_on_values():
    def fun(x):
        h = dp.tap(x * 2, "h")
        return h**2 if h > 1 else -h

    assert_same([dp.grad_at(fun, ["h"])(x)["h"] for x in (1.0, 0.2)], [4.0, -1.0])


def test_what_does_not_reach_the_output_is_zero():
    def fun(x):
        dp.tap(jnp.sin(x), "unused")
        return jnp.sum(lax.stop_gradient(dp.tap(x**2, "stopped")) + dp.tap(x, "used"))

    for run in (fun, jax.jit(fun)):
        found = jax.jit(dp.grad_at(run, ["stopped", "used"]))(jnp.arange(3.0))
        assert_same(found, {"stopped": jnp.zeros(3), "used": jnp.ones(3)})
    assert_same(dp.grad_at(fun, ["unused"])(jnp.arange(3.0)), {"unused": jnp.zeros(3)})
    assert_same(dp.grad_at(lambda x: dp.tap(x, "a").sum() * 0 + 1.0, ["a"])(jnp.arange(3.0)), {"a": jnp.zeros(3)})


def test_a_branch_that_is_not_taken_is_zero():
    values = dp.activations(branching(dp.tap), ["h", "other"])(W, X)
    assert_same(values, {"h": jnp.sin(X @ W), "other": jnp.zeros((3, 4))})
    gradients = jax.jit(dp.grad_at(branching(dp.tap), ["h", "other"]))(W, X)
    assert_same(gradients, {"h": 8 * jnp.sin(X @ W), "other": jnp.zeros((3, 4))})


def python_loop(step, h, xs):
    for x in xs:
        h, _ = step(h, x)
    return h, None


def test_loops_in_loops_and_in_checkpoints():
    def fun(nested):
        loop, checkpoint = (lax.scan, jax.checkpoint) if nested else (python_loop, lambda f: f)

        @checkpoint
        def outer(h, row):
            inner = lambda h, x: (dp.tap(jnp.sin(h * x), "h") if nested else note(jnp.sin(h * x)), None)
            return loop(inner, h, row)[0], None

        return lambda x: jnp.sum(loop(outer, jnp.ones(2), x)[0])

    zeros, x = [jnp.zeros(2)] * 12, jnp.asarray(X)

    def edited(zeros):
        nonlocal note
        left = iter(zeros)
        note = lambda value: value + next(left)
        return fun(False)(x)

    note = None
    expected = jnp.stack(jax.grad(edited)(zeros)).reshape(3, 4, 2)
    for change in (lambda f: f, jax.jit):
        assert_same(change(dp.grad_at(fun(True), ["h"]))(x)["h"], expected)


def test_second_order():
    """The gradient of a gradient's norm, with respect to a value in the middle and to the arguments."""
    norm = lambda grad_at: lambda w, x: jnp.sum(grad_at(w, x) ** 2)
    ours = norm(lambda w, x: dp.grad_at(looped(dp.tap), ["h"])(w, x)["h"])
    theirs = norm(lambda w, x: jnp.stack(jax.grad(lambda e: adding(unrolled, e)(w, x))([jnp.zeros(4)] * 3)))
    for grad in (jax.grad, dp.grad):
        assert_same(grad(ours)(W, jnp.asarray(X)), jax.grad(theirs)(W, X))
        assert_same(jax.jit(grad(ours))(W, X), jax.grad(theirs)(W, X))


def adding(program, zeros):
    left = iter(zeros)
    return program(lambda value, name: value + next(left) if name == "h" else value)


def test_with_interventions_and_hooks():
    """The innermost acts first: the gradient is at the value that was put in, and has been through the hook."""
    changed = dp.hook(dp.intervene(plain(dp.tap), {"h": jnp.sin}), {"later": lambda g: -g})

    @jax.custom_vjp
    def reversed_(x):
        return x

    reversed_.defvjp(lambda x: (x, None), lambda _, g: (-g,))
    edit = lambda e: lambda v, name: jnp.sin(v) + e if name == "h" else reversed_(v)
    expected = jax.grad(lambda e: plain(edit(e))(W, X))(jnp.zeros((3, 4)))
    assert_same(dp.grad_at(changed, ["h"])(W, X)["h"], expected)
    assert_same(jax.jit(dp.grad_at(changed, ["h"]))(W, X)["h"], expected)
    assert_same(dp.activations(changed, ["h"])(W, X)["h"], jnp.sin(jnp.tanh(X @ W)))
    inner = lambda w, x: jnp.sum(dp.grad_at(plain(dp.tap), ["later"])(w, x)["later"] ** 2)
    found = dp.intervene(inner, {"h": jnp.sin})(W, X)
    h = jnp.sin(jnp.tanh(X @ W))
    assert_same(found, jnp.sum((2 * jnp.sin(h) * h) ** 2))


def test_only_what_lies_behind_is_differentiated():
    """No product with the transposed weights, and no addition that the source does not have."""
    fun = lambda w, x: jnp.sum(jnp.sin(dp.tap(jnp.tanh(x @ w), "h") @ w))
    program = jax.make_jaxpr(dp.grad_at(fun, ["h"]))(W, X)
    names = [e.primitive.name for e in program.eqns]
    assert names.count("dot_general") == 3 and "add" not in names and "add_any" not in names


# ---------------------------------------------------------------- modules


def test_linen():
    linen = pytest.importorskip("flax.linen")

    class MLP(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.tanh(linen.Dense(5, param_dtype=jnp.float64)(x))
            return linen.Dense(2, param_dtype=jnp.float64)(x)

    model = MLP()
    variables = model.init(KEY, X)
    p = variables["params"]
    hidden = X @ p["Dense_0"]["kernel"] + p["Dense_0"]["bias"]
    after = lambda h: jnp.sum((jnp.tanh(h) @ p["Dense_1"]["kernel"] + p["Dense_1"]["bias"]) ** 2)
    loss = lambda variables, x: jnp.sum(model.apply(variables, x) ** 2)
    for run in (loss, jax.jit(loss)):
        values = dp.activations(run, ["MLP/Dense_0", "Dense_0", "*/Dense_0/dot_general"])(variables, X)
        product = X @ p["Dense_0"]["kernel"]
        assert_same(values, {"MLP/Dense_0": hidden, "Dense_0": hidden, "*/Dense_0/dot_general": product})
        gradients = dp.grad_at(run, ["MLP/Dense_0"])(variables, X)
        assert_same(gradients, {"MLP/Dense_0": jax.grad(after)(hidden)})
        assert_same(dp.intervene(run, {"*/Dense_0": jnp.sin})(variables, X), after(jnp.sin(hidden)))
        reverse = dp.hook(run, {"Dense_1": lambda g: -g})
        expected = jax.tree.map(jnp.negative, jax.grad(loss)(variables, X))
        assert_same(dp.grad(reverse)(variables, X), expected)
        with pytest.raises(ValueError, match="by 'MLP/Dense_3': did you mean 'MLP/Dense_"):
            dp.activations(run, ["MLP/Dense_3"])(variables, X)


def test_equinox():
    equinox = pytest.importorskip("equinox")
    nn, keys = equinox.nn, jax.random.split(KEY, 2)
    first, last = (nn.Linear(a, b, key=k, dtype=jnp.float64) for a, b, k in zip((4, 5), (5, 2), keys, strict=True))

    class Net(equinox.Module):
        layers: list

        def __call__(self, x):
            return self.layers[1](jnp.tanh(self.layers[0](x)))

    model = Net([first, last])
    hidden = X @ first.weight.T + first.bias
    after = lambda h: jnp.sum((jnp.tanh(h) @ last.weight.T + last.bias) ** 2)
    loss = lambda model, x: jnp.sum(jax.vmap(model)(x) ** 2)
    for run in (loss, equinox.filter_jit(loss)):
        assert_same(dp.activations(run, ["Net/layers[0]"])(model, X), {"Net/layers[0]": hidden})
        assert_same(dp.grad_at(run, ["layers[0]"])(model, X), {"layers[0]": jax.grad(after)(hidden)})
        assert_same(dp.intervene(run, {"Net/layers[0]": jnp.sin})(model, X), after(jnp.sin(hidden)))


def test_nnx():
    nnx = pytest.importorskip("flax.nnx")
    layer = lambda a, b: nnx.Linear(a, b, rngs=nnx.Rngs(0), param_dtype=jnp.float64)

    class Net(nnx.Module):
        def __init__(self):
            self.first, self.last = layer(4, 5), layer(5, 2)

        def __call__(self, x):
            return self.last(jnp.tanh(self.first(x)))

    model = Net()
    graph, state = nnx.split(model)
    hidden = X @ model.first.kernel[...]
    after = lambda h: jnp.sum((jnp.tanh(h) @ model.last.kernel[...]) ** 2)
    loss = lambda state, x: jnp.sum(nnx.merge(graph, state)(x) ** 2)
    for run in (loss, jax.jit(loss), nnx.jit(loss)):
        assert_same(dp.activations(run, ["Net/first"])(state, X), {"Net/first": hidden})
        assert_same(dp.grad_at(run, ["Net/first"])(state, X), {"Net/first": jax.grad(after)(hidden)})
    assert_same(dp.activations(model, ["Net/first"])(X), {"Net/first": hidden})  # closed over


# ---------------------------------------------------------------- mistakes


def test_while_loops_keep_their_values():
    for probe in (dp.activations, dp.grad_at):
        with pytest.raises(ValueError, match="the value selected by 'h' is inside a while loop"):
            probe(counted(dp.tap), ["h"])(W, X)


def test_no_scalar():
    with pytest.raises(TypeError, match="scalar result; this one returned an array of shape"):
        dp.grad_at(lambda x: dp.tap(x, "h") * 2, ["h"])(X)


def test_no_selectors():
    with pytest.raises(ValueError, match="grad_at takes a list of selectors; found an empty one"):
        dp.grad_at(plain(dp.tap), [])
    with pytest.raises(TypeError, match="must be callable; found 3"):
        dp.activations(3, ["h"])


def test_integers():
    fun = lambda x: jnp.sum(x[dp.tap(jnp.arange(2), "index")])
    assert_same(dp.activations(fun, ["index"])(jnp.arange(3.0)), {"index": jnp.arange(2)})
    with pytest.raises(ValueError, match="grad_at takes values that can have a gradient; all that 'index' selects"):
        dp.grad_at(fun, ["index"])(jnp.arange(3.0))


def test_every_program_has_a_case():
    assert {case[0].__name__ for case in CASES.values()} == set(PROGRAMS) - {"counted"}
