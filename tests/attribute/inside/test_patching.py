"""Patching between two runs, against closed forms and against programs that are really run with other values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffprog as dp
from diffprog.attribute import AttributionWarning, patching
from tests.attribute.inside.programs import ball, branches, line_of, oscillator, words
from tests.graph.random_losses import for_each_loss

pytestmark = pytest.mark.usefixtures("x64")


def by_text(result, program):
    return {line.line: line for line in result.by_line}, lambda text: line_of(program, text)


# ---------------------------------------------------------------- nodes


def test_of_a_linear_score_the_estimate_is_exact():
    w = jnp.arange(1.0, 4.0)
    clean, corrupt = jnp.array([1.0, -2.0, 0.5]), jnp.array([0.3, 0.7, -1.0])
    result = patching(lambda x: dp.tap(x + 1.0, "h") @ w, clean, corrupt)
    np.testing.assert_allclose(result.values, w * (clean - corrupt), rtol=1e-14)
    np.testing.assert_allclose(result.gap, 0.0, atol=1e-14)
    np.testing.assert_allclose(result.credit("h"), w * (clean - corrupt), rtol=1e-14)
    assert result.by_node[0].node.label == "x"
    assert result.by_node[0].effect == pytest.approx(float(w @ (clean - corrupt)), rel=1e-14)
    assert result.effect("h") == pytest.approx(float(w @ (clean - corrupt)), rel=1e-14)


def test_of_a_quadratic_score_the_estimate_misses_half_the_quadratic():
    q = jnp.array([[2.0, -1.0, 0.3], [-1.0, 0.5, 0.8], [0.3, 0.8, -1.2]])
    clean, corrupt = jnp.array([1.0, -2.0, 0.5]), jnp.array([0.3, 0.7, -1.0])
    delta = clean - corrupt
    result = patching(lambda x: 0.5 * x @ q @ x, clean, corrupt)
    np.testing.assert_allclose(result.values, (q @ corrupt) * delta, rtol=1e-13)
    np.testing.assert_allclose(result.gap, 0.5 * delta @ q @ delta, rtol=1e-13)
    # One point in the middle of the way integrates a linear gradient exactly.
    averaged = patching(lambda x: 0.5 * x @ q @ x, clean, corrupt, steps=1)
    np.testing.assert_allclose(averaged.gap, 0.0, atol=1e-13)
    np.testing.assert_allclose(averaged.values, (q @ (clean + corrupt) / 2) * delta, rtol=1e-13)


def test_activation_patching_is_what_an_intervention_does():
    w = jnp.array([[0.5, -1.0, 2.0], [1.5, 0.2, -0.7]])

    def network(x):
        first = dp.tap(jnp.tanh(x @ w), "first")
        return jnp.sum(dp.tap(jnp.tanh(first @ w.T), "second") ** 2)

    clean, corrupt = jnp.array([1.0, -0.4]), jnp.array([-0.3, 0.9])
    result = patching(network, clean, corrupt, at=["first", "second"])
    for name in ("first", "second"):
        value = dp.activations(network, name)(clean)[name]
        there = dp.intervene(network, {name: lambda _, value=value: value})(corrupt)
        assert result.effect(name) == pytest.approx(float(there - network(corrupt)), rel=1e-13)
        gradient = dp.grad_at(network, name)(corrupt)[name]
        before = dp.activations(network, name)(corrupt)[name]
        np.testing.assert_allclose(result.values[name], gradient * (value - before), rtol=1e-13)


def test_edges_into_a_sum_add_up_to_it():
    """Oracle: the credit of all edges into an additive node is the credit of the node."""

    def network(x):
        stream = x
        for i in range(3):
            stream = stream + jnp.tanh((i + 1.0) * stream)
        return jnp.sum(dp.tap(stream, "end") ** 2)

    result = patching(network, jnp.array([0.2, -0.5]), jnp.array([0.4, 0.3]))
    credit = {found.edge: found.credit for found in result.by_edge}
    sums = [found for found in result.by_node if found.node.primitive == "add" and len(found.node.incoming) == 2]
    assert len(sums) == 3
    for found in sums:
        assert sum(credit[edge] for edge in found.node.incoming) == pytest.approx(found.credit, rel=1e-12)
        assert found.own == pytest.approx(0.0, abs=1e-14)


def test_an_edge_is_patched_alone():
    result = patching(lambda x: x * x, jnp.array(3.0), jnp.array(2.0))
    # Each edge of the product, alone, changes 2 * 2 to 3 * 2.
    assert [(found.credit, found.effect) for found in result.by_edge] == [(2.0, 2.0), (2.0, 2.0)]
    assert result.effect("mul") == 5.0
    assert result.gap == 1.0


# ---------------------------------------------------------------- lines


def test_lines_that_read_what_differs_explain_a_linear_program():
    clean, corrupt = {"force": jnp.array(0.7), "x": jnp.array(1.0)}, {"force": jnp.array(0.2), "x": jnp.array(-0.4)}
    result = patching(oscillator, clean, corrupt)
    lines, at = by_text(result, oscillator)
    force = oscillator(clean | {"x": corrupt["x"]}) - oscillator(corrupt)
    start = oscillator(clean | {"force": corrupt["force"]}) - oscillator(corrupt)
    for text, value in (("force", force), ("start", start)):
        line = lines[at(text)]
        assert line.credit == pytest.approx(float(value), rel=1e-11)
        assert line.alone == pytest.approx(float(value), rel=1e-11)
    rest = [line.credit for number, line in lines.items() if number not in (at("force"), at("start"))]
    np.testing.assert_allclose(rest, 0.0, atol=1e-12)
    assert result.effect(f"programs.py:{at('result')}") == pytest.approx(result.difference, rel=1e-12)


def test_numbers_of_python_are_inputs_as_arrays_are():
    """JAX converts them where it would not convert an array, so that lines have other operations."""

    def program(p):
        step = lambda i, s: (s[0] + 0.1 * s[1], s[1] - 0.1 * (p["k"] * s[0] + p["c"] * s[1]))  # reads
        return jax.lax.fori_loop(0, 5, step, (p["x"], jnp.float32(0.0)))[0]

    clean, corrupt = ({"k": k, "c": 0.1, "x": 1.0} for k in (3.0, 3.5))
    result = patching(program, clean, corrupt)
    (reads,) = [line for line in result.by_line if line.text.endswith("# reads")]
    assert reads.alone == reads.restored == result.effect("p['k']") == result.difference != 0.0


def test_loops_of_different_length_count_to_their_condition():
    clean, corrupt = ({"drag": jnp.array(0.1), "v": jnp.array(v)} for v in (5.0, 4.0))
    result = patching(ball, clean, corrupt)
    lines, at = by_text(result, ball)
    flight = lines[at("flies")]
    assert result.unexplained == pytest.approx(0.0, abs=1e-12)
    assert abs(flight.credit) == max(abs(line.credit) for line in result.by_line)
    (way,) = result.ways
    assert way.startswith(f"while at programs.py:{at('flies')}")
    # The condition alone: as many steps as the clean run, with the corrupt run's speed.
    longer = forced_steps(corrupt, int(way.split(" runs ")[1].split()[0]))
    assert flight.alone == pytest.approx(longer - float(ball(corrupt)), rel=1e-12)
    assert len(result.only_clean) > 0 == len(result.only_corrupt)
    last = max(node.iteration for node in result.corrupt.nodes)
    assert min(node.iteration for node in result.only_clean) == last  # there it decided to go on


def forced_steps(p, steps):
    """Let `ball` fly for a number of steps."""
    x, v, t = 1.0, float(p["v"]), 0.0
    for _ in range(steps):
        v = v - 0.05 * (9.8 + float(p["drag"]) * v * abs(v))
        x, t = x + 0.05 * v, t + 0.05
    return 3.0 * t + 0.1 * v


def test_a_branch_counts_to_the_line_that_decides():
    clean, corrupt = jnp.array(2.0), jnp.array(-1.0)
    result = patching(branches, clean, corrupt)
    lines, at = by_text(result, branches)
    # Clean: 0.5 (3 * 4 + 1) = 6.5; corrupt: 0.5 * 2 = 1. Where x is read, the corrupt branch's slope counts: 3 * -1.
    assert result.difference == 5.5
    assert lines[at("decides")].credit == pytest.approx(8.5)
    assert lines[at("decides") - 1].credit == pytest.approx(-3.0)
    # The clean branch with the corrupt number: 0.5 (3 * -2 + 1) = -2.5.
    assert lines[at("decides")].alone == pytest.approx(-3.5)


def test_other_words_count_to_the_line_that_embeds_them():
    w = jnp.array([[0.5, -1.0], [0.2, 0.3], [-0.4, 0.8]])
    clean, corrupt = ({"w": w, "words": jnp.array(each)} for each in ([1, 5, 7], [1, 2, 7]))
    result = patching(words, clean, corrupt, steps=12)
    lines, at = by_text(result, words)
    assert lines[at("embeds")].credit == pytest.approx(result.difference, rel=1e-10)
    assert lines[at("embeds")].alone == pytest.approx(result.difference, rel=1e-12)
    assert result.values["words"] is None
    credit = result.credit(lambda node: node.primitive == "gather")
    np.testing.assert_allclose(credit[jnp.array([0, 2])], 0.0)
    assert float(credit.sum()) == pytest.approx(result.difference, rel=1e-10)


def test_lines_add_up_in_programs_that_decide_in_python():
    def program(x):
        total = jnp.sum(x)
        if total > 0.0:
            total = total * total
        for i in range(int(3 + total // 2)):
            total = jnp.sin(total) + 0.1 * i * x[0]
        return jnp.where(total > 0.3, total, -2.0 * total)

    result = patching(program, jnp.array([0.4, 2.0]), jnp.array([-0.9, 0.3]))
    assert result.unexplained == pytest.approx(0.0, abs=1e-14)
    assert sum(line.credit for line in result.by_line) == pytest.approx(result.difference, rel=1e-13)


def test_infinities_of_a_mask_have_no_worth():
    def program(p):
        masked = jnp.where(p["mask"], p["x"], -jnp.inf)
        return 2.0 * jnp.max(masked)  # counts

    x = jnp.array([1.0, 3.0, 2.0])
    clean, corrupt = ({"x": x, "mask": jnp.array(mask)} for mask in ([True, False, True], [True, True, False]))
    result = patching(program, clean, corrupt)
    lines = {line.line: line for line in result.by_line}
    (found,) = [line for line in lines.values() if line.credit]
    assert found.text.endswith("# counts") and found.credit == result.difference == -2.0
    assert result.alone(f"test_patching.py:{found.line - 1}") == -2.0


@pytest.mark.slow
def test_random_programs_add_up():
    def run(loss, arguments, expected):
        generator = np.random.default_rng(0)
        others = tuple(x + 0.3 * generator.normal(size=x.shape) for x in arguments)
        result = patching(lambda arguments: loss(*arguments), others, tuple(arguments), exact=0)
        size = max(abs(line.credit) for line in result.by_line)
        assert abs(result.unexplained) <= 1e-9 * size
        slopes = [np.sum(g * (x - y)) for g, x, y in zip(expected, others, arguments, strict=True)]
        assert sum(map(jnp.sum, result.values)) == pytest.approx(float(sum(slopes)), rel=1e-8, abs=1e-9)
        assert result.effect(lambda node: node.primitive == "input") == pytest.approx(result.difference, abs=1e-9)

    for_each_loss(2, 0, run)


def test_the_listing_shows_the_lines_with_bars():
    clean, corrupt = {"force": jnp.array(0.7), "x": jnp.array(1.0)}, {"force": jnp.array(0.2), "x": jnp.array(-0.4)}
    text = str(patching(oscillator, clean, corrupt))
    assert text.startswith("oscillator: ")
    (line,) = [line for line in text.splitlines() if line.endswith("# force")][-1:]
    assert "│" in line and "█" in line and 'a = p["force"]' in line


# ---------------------------------------------------------------- batches, numbers, errors


def test_a_batch_has_a_score_and_a_gap_for_each_example():
    clean, corrupt = jnp.array([[1.0, 2.0], [0.5, -1.0]]), jnp.array([[0.0, 1.0], [1.5, 2.0]])
    result = patching(lambda x: jnp.sum(x**2, axis=1), clean, corrupt)
    np.testing.assert_allclose(result.score, [5.0, 1.25])
    np.testing.assert_allclose(result.values, 2 * corrupt * (clean - corrupt))
    np.testing.assert_allclose(result.gap, jnp.sum((clean - corrupt) ** 2, axis=1))


def test_a_class_and_a_function_are_scores():
    logits = lambda x: jnp.stack([x, 3.0 * x, x * x])
    assert patching(logits, 2.0, 1.0, 1).difference == 3.0
    assert patching(logits, 2.0, 1.0, lambda y: y[2] - y[0]).difference == 2.0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((lambda x, y: x, 1.0, 2.0), TypeError, "one argument"),
        ((lambda x: x["a"], {"a": 1.0}, {"b": 1.0}), ValueError, "one structure"),
        ((lambda x: x.sum(), jnp.ones(3), jnp.ones(2)), ValueError, "same shapes"),
        ((lambda x: x, jnp.ones((2, 2)), jnp.ones((2, 2))), TypeError, "one real number"),
        ((jnp.log, 1.0, 0.0), ValueError, "not finite, first at log"),
        ((jnp.sin, 1.0, 0.0, "tabby"), TypeError, "score must be"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        patching(*arguments)


def test_equal_runs_are_warned_of():
    with pytest.warns(AttributionWarning, match="same score"):
        result = patching(jnp.sin, 1.0, 1.0)
    assert [line.credit for line in result.by_line] == [0.0]


# ---------------------------------------------------------------- models


def linen():
    from flax import linen

    module = linen.Sequential([linen.Dense(5), linen.gelu, linen.LayerNorm(), linen.Dense(1)])
    parameters = module.init(jax.random.key(0), jnp.ones(3))
    return lambda x: module.apply(parameters, x)[0], "Sequential/layers_0"


def nnx():
    from flax import nnx

    module = nnx.Linear(3, 4, rngs=nnx.Rngs(0), param_dtype=jnp.float64)
    return lambda x: jnp.sum(jnp.tanh(module(x))), "dot_general"


def equinox():
    import equinox

    module = equinox.nn.MLP(3, "scalar", 4, 2, key=jax.random.key(0))
    return module, "layers[0]"


def scanned():
    weights = jnp.sin(jnp.arange(4 * 9.0).reshape(4, 3, 3))

    def model(x):
        block = lambda h, w: (h + dp.tap(jnp.tanh(h @ w), "block"), None)
        return jnp.sum(jax.lax.scan(block, x, weights)[0] ** 2)

    return model, "block"


@pytest.mark.parametrize(
    "make", [*(pytest.param(make, marks=pytest.mark.slow) for make in (linen, equinox)), nnx, scanned]
)
def test_models_are_patched_as_they_are(make):
    model, place = make()
    clean, corrupt = jnp.array([0.3, -1.0, 0.7]), jnp.array([0.5, 0.4, -0.2])
    result = patching(model, clean, corrupt, steps=8)
    assert result.difference == pytest.approx(float(model(clean) - model(corrupt)))
    assert result.unexplained == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_allclose(result.gap, 0.0, atol=1e-5)
    values = dp.activations(model, place)(clean)[place]
    if make is not scanned:
        there = dp.intervene(model, {place: lambda _: values})(corrupt)
        assert result.effect(place) == pytest.approx(float(there - model(corrupt)), rel=1e-10)
    else:
        # With all four blocks' outputs of the clean run, the stream ends at their sum and the corrupt input.
        there = jnp.sum((corrupt + values.sum(axis=0)) ** 2)
        assert result.effect(place) == pytest.approx(float(there - model(corrupt)), rel=1e-12)
        assert [part.shape for part in result.credit(place)] == [(3,)] * 4
