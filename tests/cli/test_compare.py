"""The comparison as its user runs it."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffprog as dp
from diffprog.cli import _compare as command
from diffprog.cli._networks import NETWORKS


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in ("efficientnet_lite0", "equilibrium")])
def test_gradients_of_the_networks_agree(name):
    fun, args = NETWORKS[name](np.random.default_rng(0))
    gradient = lambda vjp: jax.jit(lambda *args: vjp(fun, *args)[1](jnp.float32(1)))
    ours, theirs = gradient(dp.vjp)(*args), gradient(jax.vjp)(*args)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        if b.dtype != jax.dtypes.float0:
            # float32 sums in another order: a few units in the last place of the largest element
            np.testing.assert_allclose(a, b, rtol=0, atol=2e-6 * float(jnp.max(jnp.abs(b))))


def test_gradient_of_the_network_that_jax_does_not_reverse():
    """At a fixed point z = f(z, p) the gradient follows from one linear system: g_p = f_p^T (1 - f_z^T)^-1 g_z."""
    fun, (parameters, x) = NETWORKS["equilibrium"](np.random.default_rng(0))
    layer = lambda parameters, z: jnp.tanh(z @ parameters["inner"] + x @ parameters["outer"])
    z = jnp.zeros_like(x)
    for _ in range(100):
        z = layer(parameters, z)
    of_z = jax.jacobian(lambda z: layer(parameters, z.reshape(x.shape)).ravel())(z.ravel())
    g = np.linalg.solve(np.eye(z.size) - of_z.T, 2 * z.ravel() / z.size)
    (expected,) = jax.vjp(lambda p: layer(p, z), parameters)[1](jnp.asarray(g, x.dtype).reshape(x.shape))
    ours = dp.grad(fun)(parameters, x)
    for name in parameters:  # the loop ends when a step changes no entry by more than 1e-6
        np.testing.assert_allclose(ours[name], expected[name], rtol=0, atol=3e-5 * np.max(np.abs(expected[name])))


def test_reports_are_printed_and_written(capsys, tmp_path):
    file = tmp_path / "report.json"
    command.main(["chain", "equilibrium", "--seconds", "0", "--json", str(file)])
    printed = capsys.readouterr().out
    assert "gradient from jax.grad: " in printed and "from central differences, where JAX raises: " in printed
    reports = json.loads(file.read_text())
    assert [report["name"] for report in reports] == ["chain", "equilibrium"]
    assert [len(report["leaves"]) for report in reports] == [1, 3]
    assert reports[0]["jax_error"] is None and "while_loop" in reports[1]["jax_error"]
    assert list(tmp_path.iterdir()) == [file]


def test_a_function_of_the_users_own(capsys, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import jax.numpy as jnp\ndef make():\n"
        "    return (lambda x: jnp.sum(x**3)), (jnp.arange(3.0, dtype=jnp.float32),)\n"
        "def bad():\n    return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    command.main(["--function", "mine:make", "--seconds", "0"])
    assert "float32[3]" in capsys.readouterr().out
    for spec, words in [
        ("mine:bad", "must return"),
        ("mine:none", "cannot find"),
        ("nowhere:x", "cannot find"),
        ("mine", "MODULE:NAME"),
    ]:
        with pytest.raises(SystemExit) as stop:
            command.main(["--function", spec])
        assert stop.value.code == 2
        assert words in capsys.readouterr().err


def test_unknown_network(capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(["lstn"])
    assert stop.value.code == 2
    assert "lstm" in capsys.readouterr().err


def test_networks_are_reproducible():
    one, two = (NETWORKS["lstm"](np.random.default_rng(0))[1] for _ in range(2))
    np.testing.assert_array_equal(one[0]["in"], two[0]["in"])
