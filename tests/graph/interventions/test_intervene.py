"""`intervene` and `hook` against programs whose source is edited by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import diffprog as dp
from tests.graph.programs import PROGRAMS, W, X, arguments, counted, looped, our_transforms, plain

TRANSFORMS = our_transforms(dp)


def pairs(shift):
    """Programs and transforms: each several times, not every pair, which takes minutes. (All pairs hold.)

    While loops have no gradient in JAX; those of ours are compared with ours on the edited program.
    """
    for i, program in enumerate(PROGRAMS):
        names = [name for name in TRANSFORMS if program != "counted" or "jax" not in name]
        yield from ((program, name) for j, name in enumerate(names) if (i + j) % 7 == shift)


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def assert_same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-10)


def only_h(change):
    return lambda value, name: change(value) if name == "h" else value


def squash(h):
    """Of one example it is something else than of many."""
    return h / (1 + jnp.sqrt(jnp.sum(h**2)))


@jax.custom_vjp
def squashed_back(x):
    return x


squashed_back.defvjp(lambda x: (x, None), lambda _, g: (squash(g),))


@pytest.mark.parametrize(
    ("program", "transform", "outside"), [(*pair, False) for pair in pairs(0)] + [(*pair, True) for pair in pairs(3)]
)
def test_intervene(program, transform, outside):
    program, change, args = PROGRAMS[program], TRANSFORMS[transform], arguments(transform)
    expected = change(program(only_h(squash)))(*args)
    intervene = functools.partial(dp.intervene, interventions={"h": squash})
    tapped = program(dp.tap)
    found = intervene(change(tapped)) if outside else change(intervene(tapped))
    assert_same(found(*args), expected)


@pytest.mark.parametrize(
    ("program", "transform", "outside"),
    [(*pair, outside) for outside in (False, True) for pair in pairs(5 - 4 * outside) if "grad" in pair[1]],
)
def test_hook(program, transform, outside):
    program, change, args = PROGRAMS[program], TRANSFORMS[transform], arguments(transform)
    expected = change(program(only_h(squashed_back)))(*args)
    hook = functools.partial(dp.hook, hooks={"h": squash})
    tapped = program(dp.tap)
    found = hook(change(tapped)) if outside else change(hook(tapped))
    assert_same(found(*args), expected)


def test_a_function_that_is_compiled_is_itself_again_afterwards():
    run = jax.jit(plain(dp.tap))
    before = run(W, X)
    for _ in range(2):
        changed = dp.intervene(run, {"h": squash})
        for _ in range(3):  # from the caches
            assert_same(changed(W, X), plain(only_h(squash))(W, X))
            assert run(W, X) == before


# ---------------------------------------------------------------- what else can be selected


def layers(w, x):
    with jax.named_scope("first"):
        h = jnp.tanh(x @ w)
    with jax.named_scope("second"):
        h = jax.nn.relu(h @ w)
        h = jnp.tanh(h)
    return jnp.sum(h)


def edited(first=lambda h: h, second=lambda h: h, relu=lambda h: h):
    def fun(w, x):
        return jnp.sum(second(jnp.tanh(relu(jax.nn.relu(first(jnp.tanh(x @ w)) @ w)))))

    return fun


half = lambda h: h / 2
LINE = layers.__code__.co_firstlineno + 2


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("tanh", edited(half, half)),
        ("first/tanh", edited(first=half)),
        ("*/tanh", edited(half, half)),
        ("second/t*", edited(second=half)),
        ("relu", edited(relu=half)),
        ("second/custom_jvp_call", edited(relu=half)),
        (f"test_intervene.py:{LINE + 3}", edited(second=half)),
        (lambda node: node.primitive == "tanh" and node.path == "first" and node.shape == (3, 4), edited(half)),
        (lambda node: node.source.line == LINE and node.primitive == "tanh", edited(first=half)),
    ],
)
def test_selectors(selector, expected, compiled):
    fun = jax.jit(layers) if compiled else layers
    assert_same(dp.grad(dp.intervene(fun, {selector: half}))(W, X), jax.grad(expected)(W, X))


def test_one_jitted_function_in_two_scopes_and_on_two_lines():
    """It is compiled once for both, but a path or a line means one of them."""
    layer = jax.jit(lambda x: jnp.sin(x))

    def fun(x):
        with jax.named_scope("a"):
            x = layer(x)
        with jax.named_scope("b"):
            return layer(jnp.where(x > 0, x, 2 * x))

    x = jnp.asarray([-0.7, 0.4])
    by_hand = lambda a, b: b(jnp.sin(jnp.where((y := a(jnp.sin(x))) > 0, y, 2 * y)))
    keep = lambda h: h
    for run in (fun, jax.jit(fun)):
        assert_same(dp.intervene(run, {"a/sin": half})(x), by_hand(half, keep))
        assert_same(dp.intervene(run, {"b/sin": half})(x), by_hand(keep, half))

    def twice(x):
        x = jnp.where(x > 0, x, 2 * x)
        return jnp.where(x > 1, x, 3 * x)

    second = f"test_intervene.py:{twice.__code__.co_firstlineno + 2}"
    chosen = lambda node: node.primitive == "select_n" and str(node.source) == second
    for run in (twice, jax.jit(twice)):
        y = jnp.where(x > 0, x, 2 * x)
        assert_same(dp.intervene(run, {chosen: half})(x), jnp.where(y > 1, y, 3 * y) / 2)


def test_operations_of_gradients_are_nobodys_source():
    """A gradient inside multiplies by cosines; the source has neither."""
    fun = lambda x: jnp.sum(jnp.sin(x) ** 2)
    for grad in (jax.grad, dp.grad):
        for run in (grad(fun), jax.jit(grad(fun)), grad(jax.jit(fun))):
            for selector in ("cos", "mul"):
                with pytest.raises(ValueError, match=f"no value is selected by '{selector}'"):
                    dp.intervene(run, {selector: half})(jnp.asarray([0.1, 0.2]))


def test_several_of_one_function():
    both = dp.intervene(dp.hook(plain(dp.tap), {"h": squash}), {"h": squash})
    by_hand = plain(only_h(lambda h: squash(squashed_back(h))))
    assert_same(jax.grad(both)(W, X), jax.grad(by_hand)(W, X))
    twice = dp.intervene(dp.intervene(plain(dp.tap), {"h": jnp.sin}), {"h": squash})
    assert_same(twice(W, X), plain(only_h(lambda h: squash(jnp.sin(h))))(W, X))
    at_once = dp.intervene(plain(dp.tap), {"h": jnp.sin, "later": half})
    by_hand = plain(lambda value, name: {"h": jnp.sin, "later": half}[name](value))
    assert_same(dp.grad(at_once)(W, X), jax.grad(by_hand)(W, X))


def test_an_intervention_may_depend_on_what_is_differentiated():
    def steered(direction):
        return dp.intervene(looped(dp.tap), {"h": lambda h: h + direction})(W, X)

    def by_hand(direction):
        return looped(only_h(lambda h: h + direction))(W, X)

    direction = jnp.arange(4.0) / 10
    for grad in (jax.grad, dp.grad):
        assert_same(grad(steered)(direction), jax.grad(by_hand)(direction))
        assert_same(jax.jit(grad(steered))(direction), jax.grad(by_hand)(direction))


# ---------------------------------------------------------------- observing


def test_a_hook_may_only_look():
    seen = []
    gradient = dp.grad(dp.hook(plain(dp.tap), {"h": seen.append}))(W, X)
    assert_same(gradient, jax.grad(plain(lambda x, _: x))(W, X))
    expected = jax.grad(lambda e: plain(only_h(lambda h: h + e))(W, X))(jnp.zeros((3, 4)))
    assert_same(seen, [expected])


def test_a_hook_may_log_from_compiled_code():
    seen = []
    log = lambda g: jax.debug.callback(lambda g: seen.append(np.asarray(g)), g)
    jax.block_until_ready(jax.jit(jax.grad(dp.hook(looped(dp.tap), {"y": log})))(W, X))
    jax.effects_barrier()
    ys = []
    looped_eagerly(ys)
    assert_same(seen, [np.cos(y) for y in reversed(ys)])


def looped_eagerly(ys):
    h = np.ones(4)
    for row in X:
        h = np.tanh(h @ W + row)
        ys.append(np.sum(h**2))


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("change", [dp.intervene, dp.hook])
def test_nothing_selected(change, compiled):
    fun = change(plain(dp.tap), {"latr": squash})
    with pytest.raises(ValueError, match="no value is selected by 'latr': did you mean 'later'"):
        (jax.jit(fun) if compiled else fun)(W, X)


def test_another_shape_or_dtype():
    with pytest.raises(TypeError, match=r"takes a value of type float64\[3,4\] \(name\) and returned float64\[3\]; it"):
        dp.intervene(plain(dp.tap), {"h": lambda h: h.sum(1)})(W, X)
    with pytest.raises(TypeError, match=r"returned float32\[3,4\]; it must keep shape and dtype"):
        dp.intervene(plain(dp.tap), {"h": lambda h: h.astype("float32")})(W, X)
    with pytest.raises(TypeError, match="the function for 'h' returned 'text'; expected an array"):
        dp.intervene(plain(dp.tap), {"h": lambda h: "text"})(W, X)
    with pytest.raises(TypeError, match=r"takes a gradient of type float64\[3,4\] \(name\) and returned float64\[\]"):
        jax.grad(dp.hook(plain(dp.tap), {"h": jnp.sum}))(W, X)


def test_no_dict_of_functions():
    with pytest.raises(TypeError, match="intervene takes a dict of selectors and functions; found 'h'"):
        dp.intervene(plain(dp.tap), "h")
    with pytest.raises(TypeError, match="hook takes a function for each selector; found 3 for 'h'"):
        dp.hook(plain(dp.tap), {"h": 3})


def test_integers_have_no_gradient():
    fun = lambda x: x[jnp.sum(dp.tap(jnp.arange(2), "index"))]
    assert dp.intervene(fun, {"index": lambda i: i + 1})(jnp.arange(5.0)) == 3
    with pytest.raises(ValueError, match="hook takes values that can have a gradient; all that 'index' selects"):
        dp.hook(fun, {"index": squash})(jnp.arange(5.0))


def test_other_threads_are_left_alone():
    import threading

    found = {}

    def other():
        found["other"] = plain(dp.tap)(W, X)

    def slow(h):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        return half(h)

    with jax.enable_x64(True):
        dp.intervene(plain(dp.tap), {"h": slow})(W, X)
    np.testing.assert_allclose(found["other"], plain(lambda x, _: x)(W, X), rtol=1e-5)


def test_everything_is_put_back():
    bind = type(lax.sin_p).bind
    with pytest.raises(TypeError):
        dp.intervene(counted(dp.tap), {"h": lambda h: None})(W, X)
    assert type(lax.sin_p).bind is bind and bind.__module__.startswith("jax")


def test_no_cache_keeps_what_a_replacement_closes_over():
    """A tracer of an outer transformation, which JAX finds if it outlives that."""
    loss = lambda w: jnp.sum(dp.tap(jnp.tanh(w), "hidden") ** 2)
    moved = lambda value: dp.intervene(loss, {"hidden": lambda _: value})(jnp.zeros(3))
    with jax.checking_leaks():
        np.testing.assert_allclose(jax.jit(jax.grad(moved))(jnp.arange(3.0)), [0, 2, 4])
