"""The lecture's numbers, to four digits, as the program prints them."""

import pytest

from diffprog.cli import _backprop_by_hand as command

DERIVATION = """\
Given
  W0  = [[1, -3], [0.2, 1]]
  W1  = [1, -1]
  X0  = [1, 0.1]

Forward
  x1    = W0 X0     = [0.7, 0.3]        _backprop_by_hand.py
  x2    = tanh x1   = [0.6044, 0.2913]  _backprop_by_hand.py
  x3    = W1 x2     = 0.3131            _backprop_by_hand.py
  e     = x3 - 0.5  = -0.1869           _backprop_by_hand.py
  e2    = e²        = 0.03495           _backprop_by_hand.py
  loss  = e2 * 0.5  = 0.01747           _backprop_by_hand.py

Backward: the gradient of loss with respect to every value, from the last to the first
  dloss/dloss  where it starts               = 1
  dloss/de2    = dloss/dloss * 0.5           = 0.5
  dloss/de     = dloss/de2 * 2 e             = -0.1869
  dloss/dx3    = dloss/de                    = -0.1869
  dloss/dx2    = W1ᵀ dloss/dx3               = [-0.1869, 0.1869]
  dloss/dx1    = dloss/dx2 * (1 - tanh² x1)  = [-0.1187, 0.1711]
  dloss/dW1    = dloss/dx3 x2ᵀ               = [-0.113, -0.05446]
  dloss/dW0    = dloss/dx1 X0ᵀ               = [[-0.1187, -0.01187], [0.1711, 0.01711]]
"""
UPDATES = ["new W0 = [[1.024, -2.998], [0.1658, 0.9966]]", "new W1 = [1.023, -0.9891]"]


def test_the_derivation(tmp_path, capsys):
    page = tmp_path / "page.html"
    command.main(["--page", str(page)])
    printed = "\n".join(line.partition("_backprop_by_hand.py:")[0] for line in capsys.readouterr().out.split("\n"))
    wanted = "\n".join(line.partition("_backprop_by_hand.py")[0] for line in DERIVATION.split("\n"))
    assert wanted in printed
    for line in UPDATES:
        assert line in printed
    assert "-0.1869" in page.read_text() and "0.1658" in page.read_text()


def test_jax_makes_the_same_update(capsys):
    command.main(["--engine", "jax"])
    printed = capsys.readouterr().out
    for line in UPDATES:
        assert line in printed


def test_help(capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(["--help"])
    assert stop.value.code == 0
    assert "--step" in capsys.readouterr().out
