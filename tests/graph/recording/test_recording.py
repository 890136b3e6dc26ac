"""A recording of a run against values and gradients worked out otherwise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import diffprog as dp
from diffprog.graph import Summary
from tests.graph.random_losses import for_each_loss

X = jnp.array([-1.0, -0.5, 0.1])


def named(recording, primitive):
    return [node for node in recording.nodes if node.primitive == primitive]


# ---------------------------------------------------------------- nodes and edges


def test_nodes_values_and_gradients_of_a_small_program():
    recording = dp.record(lambda x, y: jnp.sin(x) * y + x)(jnp.float32(0.5), jnp.float32(2.0)).backward()
    assert [node.primitive for node in recording.nodes] == ["input", "input", "sin", "mul", "add"]
    assert [[n.index for n in node.inputs] for node in recording.nodes] == [[], [], [0], [2, 1], [3, 0]]
    assert [[n.index for n in node.outputs] for node in recording.nodes] == [[2, 4], [3], [3], [4], []]
    values = [0.5, 2, np.sin(0.5), 2 * np.sin(0.5), 2 * np.sin(0.5) + 0.5]
    np.testing.assert_allclose([node.value for node in recording.nodes], values, rtol=1e-6)
    np.testing.assert_allclose(
        [node.gradient for node in recording.nodes], [2 * np.cos(0.5) + 1, np.sin(0.5), 2, 1, 1], rtol=1e-6
    )
    np.testing.assert_allclose(recording.output, recording.nodes[-1].value)


def test_gradients_of_edges_are_the_parts_of_the_sum_at_a_fan_out():
    recording = dp.record(lambda x: x * jnp.exp(x) + jnp.sin(x))(jnp.float32(0.7)).backward()
    x = recording.inputs[0]
    parts = {edge.target.primitive: edge.gradient for edge in x.outgoing}
    np.testing.assert_allclose(parts["mul"], np.exp(0.7), rtol=1e-6)
    np.testing.assert_allclose(parts["exp"], 0.7 * np.exp(0.7), rtol=1e-6)
    np.testing.assert_allclose(parts["sin"], np.cos(0.7), rtol=1e-6)
    np.testing.assert_allclose(sum(parts.values()), x.gradient, rtol=1e-6)


def test_both_edges_of_a_value_that_is_used_twice_by_one_operation():
    recording = dp.record(lambda x: lax.mul(x, x))(jnp.float32(3.0)).backward()
    assert [(e.argument, float(e.gradient)) for e in recording.edges] == [(0, 3.0), (1, 3.0)]


def test_gradient_of_an_intermediate_value_is_that_of_the_rest_of_the_program():
    rest = lambda h: jnp.sum(jnp.tanh(h) ** 2)
    recording = dp.record(lambda x: rest(jnp.exp(x)))(X).backward()
    (node,) = named(recording, "exp")
    np.testing.assert_allclose(node.gradient, jax.grad(rest)(jnp.exp(X)), rtol=1e-6)


def test_gradient_of_any_node_with_respect_to_any_other():
    recording = dp.record(lambda x: jnp.sum(jnp.sin(jnp.exp(x)) * 3))(X)
    (exp,), (sin,), (mul,) = (named(recording, p) for p in ("exp", "sin", "mul"))
    cotangent = jnp.array([1.0, 2.0, -1.0])
    found = recording.gradient_of(mul, wrt=exp, cotangent=cotangent)
    np.testing.assert_allclose(found, 3 * jnp.cos(jnp.exp(X)) * cotangent, rtol=1e-6)
    np.testing.assert_array_equal(recording.gradient_of(exp, wrt=sin, cotangent=cotangent), np.zeros(3))
    np.testing.assert_allclose(
        recording.gradient_of(recording.nodes[-1], wrt=recording.inputs[0]),
        3 * jnp.cos(jnp.exp(X)) * jnp.exp(X),
        rtol=1e-6,
    )
    with pytest.raises(ValueError, match=r"needs a cotangent.*shape \(3,\)"):
        recording.gradient_of(mul, wrt=exp)


def test_what_the_output_does_not_use_has_no_gradient():
    recording = dp.record(lambda x: (jnp.cos(x), x * 2)[1])(jnp.float32(1.0)).backward()
    live = [node for node in recording.nodes if node.status == "live"]
    assert [(node.primitive, node.gradient) for node in live] == [("input", 2.0), ("cos", None), ("mul", 1.0)]


def test_what_blocks_a_gradient_stays_in_the_graph():
    def f(x):
        i = jnp.argmax(x)
        return x[i] * lax.stop_gradient(jnp.sum(x)) + jnp.round(x[0])

    recording = dp.record(f)(X).backward()
    blocked = [node.primitive for node in recording.nodes if node.status == "blocked"]
    assert blocked == ["argmax", "stop_gradient", "round"]
    assert [edge.live for edge in named(recording, "argmax")[0].incoming] == [False]
    assert any(n.primitive == "argmax" for n in _ancestors(named(recording, "dynamic_slice")[0]))


def _ancestors(node):
    return {node, *(a for n in node.inputs for a in _ancestors(n))}


def test_outputs_that_are_no_scalar_take_a_cotangent():
    recording = dp.record(lambda x: {"a": x * 2, "b": jnp.sum(x)})(X)
    with pytest.raises(ValueError, match="2 array"):
        recording.backward()
    with pytest.raises(ValueError, match="must be like the output"):
        recording.backward({"a": X})
    recording.backward({"a": X, "b": jnp.float32(3.0)})
    np.testing.assert_allclose(recording.inputs[0].gradient, 2 * X + 3, rtol=1e-6)


def test_arguments_are_passed_as_they_are_and_inputs_have_names():
    def f(parameters, *rest, flag, scale=2):
        assert isinstance(scale, int) and flag is None
        return jnp.sum(parameters["w"] @ parameters["layers"][0] * scale + rest[0]) + rest[1].astype(float).sum()

    recording = dp.record(f)({"w": X, "layers": [jnp.eye(3)]}, 1.5, np.arange(2), flag=None)
    assert [node.label for node in recording.inputs] == [
        "parameters['layers'][0]",
        "parameters['w']",
        "rest[0]",
        "rest[1]",
    ]
    assert [node.status for node in recording.inputs] == ["live"] * 3 + ["constant"]


def test_constants_have_the_names_that_the_function_has_for_them():
    weights = {"out": jnp.ones(3)}
    recording = dp.record(lambda x: jnp.sum(x * weights["out"]))(X)
    assert [node.label for node in named(recording, "constant")] == ["weights['out']"]


# ---------------------------------------------------------------- programs within programs


def test_jitted_functions_are_recorded_operation_by_operation():
    recording = dp.record(jax.jit(lambda x: jnp.sin(jnp.exp(x))))(jnp.float32(1.0))
    assert [node.primitive for node in recording.nodes] == ["input", "exp", "sin"]


def test_custom_functions_are_one_node_with_their_name():
    recording = dp.record(lambda x: jax.nn.relu(x).sum())(X).backward()
    (node,) = named(recording, "custom_jvp_call")
    assert node.label == "relu"
    np.testing.assert_array_equal(recording.inputs[0].gradient, [0, 0, 1])


def scanned(x):
    def body(carry, row):
        carry = jnp.tanh(carry * row)
        return carry, jnp.sum(carry)

    return jnp.sum(lax.scan(body, x, jnp.stack([x, 2 * x, 3 * x, x]), reverse=True)[1] ** 2)


def test_a_scan_has_nodes_for_each_iteration():
    recording = dp.record(scanned)(X).backward()
    np.testing.assert_allclose(recording.inputs[0].gradient, jax.grad(scanned)(X), rtol=1e-5)
    nodes = named(recording, "tanh")
    assert [(node.iteration, node.path) for node in nodes] == [((i,), f"scan[{i}]") for i in (3, 2, 1, 0)]
    values = recording.values(lambda node: node.primitive == "tanh")
    np.testing.assert_allclose(values[1], jnp.tanh(jnp.tanh(X * X) * 3 * X), rtol=1e-6)
    gradients = recording.gradients(lambda node: node.primitive == "tanh")
    last = jnp.sum(values[3])
    np.testing.assert_allclose(gradients[3], np.full(3, 2 * last), rtol=1e-6)


def newton(a):
    step = lambda state: (0.5 * (state[0] + a / state[0]), state[0])
    return lax.while_loop(lambda state: jnp.abs(state[0] - state[1]) > 1e-6, step, (a, 0.0 * a))[0]


@pytest.mark.parametrize("max_nodes", [100_000, 20, 3])
def test_a_while_loop_is_written_out_as_far_as_there_is_room(max_nodes):
    recording = dp.record(newton, max_nodes=max_nodes)(jnp.float32(2.0)).backward()
    np.testing.assert_allclose(recording.inputs[0].gradient, 0.5 / np.sqrt(2), rtol=1e-6)
    folded = named(recording, "while")
    assert len(folded) == (max_nodes < 100) and len(recording.notes) == len(folded)
    recording.check()


def test_a_scan_without_room_is_one_node():
    recording = dp.record(scanned, max_nodes=10)(X).backward()
    assert len(named(recording, "scan")) == 1
    np.testing.assert_allclose(recording.inputs[0].gradient, jax.grad(scanned)(X), rtol=1e-5)


def test_what_was_decided_is_noted():
    def program(x):
        many = lax.fori_loop(0, 3, lambda i, y: lax.cond(y > 2.0, jnp.sin, lambda v: 2.0 * v, y), x)
        return lax.while_loop(lambda y: y > 0.1, lambda y: 0.5 * y, many)

    recording = dp.record(program)(jnp.float32(1.5))
    found = [(each.primitive, each.taken, each.iteration) for each in recording.decisions]
    halvings = int(np.ceil(np.log2(2.0 * np.sin(3.0) / 0.1)))
    inner = [("cond", taken, (i,)) for i, taken in enumerate([0, 1, 0])]
    assert found == [*inner, ("scan", 3, ()), ("while", halvings, ())]
    line = program.__code__.co_firstlineno
    assert [each.source.line - line for each in recording.decisions] == [1, 1, 1, 1, 2]
    last = recording.decisions[-1]
    assert {recording.nodes[i].iteration for i in last.nodes} == {(i,) for i in range(halvings + 1)}


def test_of_a_cond_the_branch_that_is_taken():
    f = lambda x: lax.cond(x > 0, jnp.sin, jnp.cos, x)
    for value, name in ((1.0, "sin"), (-1.0, "cos")):
        recording = dp.record(f)(jnp.float32(value)).backward()
        (node,) = named(recording, name)
        assert node.path == f"cond[{int(value > 0)}]"
        np.testing.assert_allclose(recording.inputs[0].gradient, jax.grad(f)(value), rtol=1e-6)


def test_checkpoint_vmap_and_gradients_within():
    inner = jax.checkpoint(lambda x: jnp.sin(x) * x)
    for f in (
        lambda x: jnp.sum(jax.vmap(inner)(x)),
        lambda x: jnp.sum(jax.grad(lambda y: jnp.sum(inner(y)))(x) ** 2),
        lambda x: jnp.sum(dp.grad(lambda y: jnp.sum(inner(y)))(x) ** 2),
        lambda x: jnp.sum(jax.jvp(inner, (x,), (x,))[1]),
    ):
        recording = dp.record(f)(X).backward()
        np.testing.assert_allclose(recording.inputs[0].gradient, jax.grad(f)(X), rtol=1e-5)
        recording.check()


def repeated(y):
    return lax.while_loop(lambda s: s < 2, lambda s: s * 1.5, jnp.abs(y) + 0.1)


PROGRAMS = {
    "keys in a scan": lambda x: lax.scan(
        lambda c, key: (c + jax.random.normal(key, (3,)) * x, None), x, jax.random.split(jax.random.key(0), 3)
    )[0].sum(),
    "loops side by side": lambda x: jax.vmap(lambda y: lax.scan(lambda c, _: (c * y, c), y, length=3)[1])(x).sum(),
    "complex": lambda x: jnp.abs(jnp.sum(jnp.exp(1j * x))) ** 2,
    "solve": lambda x: jnp.linalg.solve(jnp.outer(x, x) + jnp.eye(3), x).sum(),
    "conjugate gradients": lambda x: jax.scipy.sparse.linalg.cg(lambda v: v * 3 + x * jnp.dot(x, v), x)[0].sum(),
    "Python's own decision": lambda x: x.sum() if x[0] > 0 else -x.sum(),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_of_every_kind(name):
    recording = dp.record(PROGRAMS[name])(X).backward().check()
    np.testing.assert_allclose(recording.inputs[0].gradient, jax.grad(PROGRAMS[name])(X), rtol=1e-4)


def test_while_loops_side_by_side_end_one_by_one():
    recording = dp.record(lambda x: jax.vmap(repeated)(x).sum())(X).backward().check()
    each = [dp.record(repeated)(x).backward() for x in X]
    np.testing.assert_allclose(recording.output, sum(r.output for r in each), rtol=1e-6)
    np.testing.assert_allclose(recording.inputs[0].gradient, [r.inputs[0].gradient for r in each], rtol=1e-6)
    assert len({len(r.nodes) for r in each}) > 1


def test_effects_happen_once():
    seen = []

    def f(x):
        jax.debug.callback(lambda y: seen.append(float(y)), x[0])
        return jnp.sum(x)

    dp.record(f)(X).backward().check()
    jax.effects_barrier()
    assert seen == [-1.0]


def test_mutable_arrays():
    def f(x):
        ref = jax.new_ref(jnp.zeros(3))
        ref[...] = x * 2
        ref[0] += jnp.sin(x[1])
        return jnp.sum(ref[...] ** 2)

    recording = dp.record(f)(X).backward()
    np.testing.assert_allclose(recording.inputs[0].gradient, jax.grad(f)(X), rtol=1e-5)


# ---------------------------------------------------------------- where it comes from


@jax.jit
def half_wave(x):
    return jnp.where(x > 0, jnp.sin(x), 0.0)


def test_operations_have_the_line_of_the_user():
    first = half_wave(X)  # traced by this line, which must show up nowhere

    def f(x):
        y = half_wave(x) + first
        return jnp.linalg.norm(y)

    recording = dp.record(f)(X)
    (sin,), (select,), (root,) = (named(recording, p) for p in ("sin", "select_n", "sqrt"))
    line = f.__code__.co_firstlineno
    assert (root.source.line, root.source.function.split(".")[-1]) == (line + 2, "f")
    assert root.source.text == "return jnp.linalg.norm(y)"
    body = half_wave.__wrapped__.__code__.co_firstlineno + 2
    for node in (sin, select):  # the function's own line; the one that calls it is the caller
        assert (node.source.line, node.source.file) == (body, __file__)
        assert [caller.line for caller in node.source.callers] == [line + 1]


def test_a_cached_function_of_jax_shows_the_line_that_calls_it_now():
    jnp.linalg.norm(X)
    recording = dp.record(lambda x: jnp.linalg.norm(x))(X)
    here = test_a_cached_function_of_jax_shows_the_line_that_calls_it_now.__code__.co_firstlineno + 2
    assert {node.source.line for node in recording.nodes if node.source} == {here}


def test_operations_of_an_inner_gradient_have_the_line_that_they_differentiate():
    def inner(x):
        with jax.named_scope("inside"):
            return jnp.sum(jnp.sin(x))

    recording = dp.record(lambda x: jnp.sum(dp.grad(inner)(x)))(X)
    (cos,) = named(recording, "cos")
    assert cos.source.line == inner.__code__.co_firstlineno + 2
    assert cos.path == "backward/inside"


def test_scopes_make_the_path():
    def f(x):
        with jax.named_scope("encoder"):
            x = jnp.exp(x)
            with jax.named_scope("head"):
                return jax.jit(jnp.sin)(x)

    recording = dp.record(f)(jnp.float32(1.0))
    assert [node.path for node in recording.nodes] == ["", "encoder", "encoder/head"]


# ---------------------------------------------------------------- what is kept


def test_summaries_hold_the_numbers_that_numpy_computes():
    x = np.random.default_rng(0).normal(size=(40, 50)).astype(np.float32)
    x[0, :10] = 0
    recording = dp.record(lambda x: jnp.sum(jnp.exp(x * 2)), keep="summaries")(x).backward()
    (node,) = named(recording, "mul")
    value = 2 * x
    assert isinstance(node.value, Summary) and isinstance(node.gradient, Summary)
    found = [node.value.mean, node.value.std, node.value.low, node.value.high, node.value.norm, node.value.zeros]
    expected = [value.mean(), value.std(), value.min(), value.max(), np.linalg.norm(value), 10 / 2000]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(node.value.histogram, np.histogram(value, 24)[0])
    np.testing.assert_allclose(node.gradient.mean, np.exp(value).mean(), rtol=1e-5)


def test_not_finite_values_are_counted_and_left_out():
    recording = dp.record(lambda x: jnp.log(x), keep="summaries")(jnp.array([0.0, 1.0, -1.0, 1.0]))
    value = named(recording, "log")[0].value
    assert (value.nonfinite, value.mean, value.high) == (0.5, 0.0, 0.0)
    assert named(recording, "log")[0].mark == "nan"


def test_nothing_is_kept_if_nothing_is_asked_for_and_gradients_of_inputs_are_kept_nowhere():
    recording = dp.record(lambda x: jnp.sum(jnp.exp(x)), keep="nothing")(X).backward()
    assert named(recording, "exp")[0].value is None and named(recording, "exp")[0].gradient is None
    with pytest.raises(ValueError, match="keep must be one of"):
        dp.record(jnp.sin, keep="all")


def test_what_exceeds_the_memory_is_summarized_and_said():
    recording = dp.record(lambda x: jnp.sum(jnp.exp(jnp.sin(x))), max_bytes=5000)(jnp.ones(1000, jnp.float32))
    assert isinstance(named(recording, "sin")[0].value, jax.Array)
    assert isinstance(named(recording, "exp")[0].value, Summary)
    assert len(recording.notes) == 1 and "summaries" in recording.notes[0]


def test_stacking_what_was_not_kept_is_explained():
    f = lambda x: jnp.sum(jnp.sin(x))
    with pytest.raises(ValueError, match="run backward"):
        dp.record(f)(X).gradients("sin")
    with pytest.raises(ValueError, match="not kept whole"):
        dp.record(f, keep="summaries")(X).values("sin")
    with pytest.raises(ValueError, match="several shapes"):
        dp.record(f)(X).values("*")


def test_memory_is_known_before_it_is_taken():
    def f(x):
        return lax.scan(lambda c, _: (jnp.sin(c), None), x, None, length=5)[0].sum()

    memory = dp.record(f).memory(jnp.ones(100))
    recording = dp.record(f)(jnp.ones(100)).backward()
    assert memory.nodes == len(recording.nodes) + 1  # the scan is counted, and written out
    assert memory.values == sum(node.value.nbytes for node in recording.nodes[1:])
    assert memory.gradients >= sum(n.gradient.nbytes for n in recording.nodes[1:])
    with pytest.raises(TypeError, match="decides by values"):
        dp.record(lambda x: x if x > 0 else -x).memory(1.0)


# ---------------------------------------------------------------- running it again


def test_the_graph_replays():
    recording = dp.record(scanned)(X)
    np.testing.assert_array_equal(recording.replay(), scanned(X))
    assert recording.check() is recording


def test_a_graph_that_is_not_the_programs_own_is_found_out():
    recording = dp.record(lambda x: jnp.sum(jnp.sin(x)))(X)
    recording.nodes[1].arguments = (X + 1,)
    with pytest.raises(AssertionError, match="run again"):
        recording.check()


def test_replay_with_another_value():
    recording = dp.record(lambda x: jnp.sum(jnp.exp(jnp.sin(x)) + x))(X)
    (sin,) = named(recording, "sin")
    np.testing.assert_allclose(recording.replay({sin: jnp.zeros(3)}), 3 + jnp.sum(X), rtol=1e-6)
    doubled = jnp.sum(jnp.exp(2 * jnp.sin(X)) + X)
    np.testing.assert_allclose(recording.replay({sin: lambda value: 2 * value}), doubled, rtol=1e-6)
    with pytest.raises(ValueError, match=r"shape \(3,\).*shape \(2,\)"):
        recording.replay({sin: jnp.zeros(2)})


def test_random_programs_have_the_gradients_of_jax_and_replay():
    def run(loss, arguments, expected):
        recording = dp.record(loss)(*arguments).backward()
        for node, g in zip(recording.inputs, expected, strict=True):
            found = np.zeros(g.shape) if node.gradient is None else node.gradient
            np.testing.assert_allclose(found, g, rtol=1e-8, atol=1e-8)
            parts = [edge.gradient for edge in node.outgoing if edge.gradient is not None]
            if parts:
                np.testing.assert_allclose(sum(parts), node.gradient, rtol=1e-8, atol=1e-8)
        recording.check()

    for_each_loss(2, 0, run)


# ---------------------------------------------------------------- misuse


def test_misuse_is_explained():
    with pytest.raises(TypeError, match="takes a function"):
        dp.record(3)
    with pytest.raises(TypeError, match="expected an array"):
        dp.record(lambda x: None)(1.0)
    with pytest.raises(TypeError, match="expected an array"):
        dp.record(lambda x: "text")(1.0)
    with pytest.raises(TypeError, match=r"under jit, vmap or grad.*dp\.grad_at"):
        jax.jit(lambda x: dp.record(jnp.sin)(x).output)(1.0)


def test_a_loop_around_a_jitted_function_that_closes_over_an_array():
    weights = np.array([0.5, 2.0, 1.0])

    def program(x):
        scale = jax.jit(lambda y: y * weights)
        return jnp.sum(lax.fori_loop(0, 2, lambda i, y: jnp.sin(scale(y) + y), x))

    x = jnp.arange(3.0)
    recording = dp.record(program)(x).check().backward()
    np.testing.assert_allclose(recording.inputs[0].gradient, jax.grad(program)(x), rtol=1e-6)
    assert dp.record(program).memory(x).nodes > 1


def test_a_library_function_in_a_nested_gradient_shows_the_line_that_calls_it():
    def program(x):
        def inner(y):
            z = jnp.log2(y)
            return jnp.sum(z)

        return jnp.sum(dp.grad(inner)(x))

    line = program.__code__.co_firstlineno + 2
    nodes = [
        node for node in dp.record(program)(jnp.arange(1.0, 4.0)).nodes if node.primitive in ("log", "log2", "div")
    ]
    assert any("backward" in node.path for node in nodes)
    assert {node.source.line for node in nodes} == {line}


def test_an_operation_without_a_rule_inside_a_library_function_is_named_by_the_line_that_calls_it():
    pallas = pytest.importorskip("jax.experimental.pallas")

    def double(x_ref, y_ref):
        y_ref[...] = 2 * x_ref[...]

    def program(x):
        call = pallas.pallas_call(double, out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype), interpret=True)
        return jnp.sum(call(x))

    line = program.__code__.co_firstlineno + 2
    recording = dp.record(program)(jnp.ones(4))
    assert recording.output == 8
    for differentiated in (lambda: dp.grad(program)(jnp.ones(4)), recording.backward):
        with pytest.raises(NotImplementedError, match=f"test_recording.py:{line}"):
            differentiated()
    (finding,) = dp.diagnose(program)(jnp.ones(4)).findings
    assert finding.source.line == line and "pallas_call" in finding.cause


@pytest.mark.parametrize("function", [jax.nn.relu, jax.nn.softplus])
def test_a_function_with_a_rule_of_its_own_is_replayed(function):
    f = lambda x: jnp.sum(function(x) ** 2)
    x = jnp.linspace(-1.0, 2.0, 5)
    recording = dp.record(f)(x)
    for _ in range(2):  # JAX hands over functions that may be called once
        assert float(recording.replay({})) == pytest.approx(float(f(x)), 1e-6)
