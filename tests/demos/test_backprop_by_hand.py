"""The lecture's numbers, to four digits, as the program prints them."""

import pytest

from demos import backprop_by_hand

EXPECTED = [
    "x1 = W0 x0      dot_general   [0.7000, 0.3000]",
    "x2 = tanh(x1)   tanh          [0.6044, 0.2913]",
    "x3 = W1 x2      dot_general   0.3131",
    "loss = e^2 / 2  mul           0.0175",
    "dL/dx3                        -0.1869",
    "dL/dx1                        [-0.1187, 0.1711]",
    "dL/dW1                        [-0.1130, -0.0545]",
]
UPDATES = ["new W0 = [[1.0237, -2.9976], [0.1658, 0.9966]]", "new W1 = [1.0226, -0.9891]"]


def test_every_value(capsys):
    backprop_by_hand.main([])
    printed = capsys.readouterr().out
    for line in EXPECTED + UPDATES:
        assert line in printed


def test_jax_makes_the_same_update(capsys):
    backprop_by_hand.main(["--engine", "jax"])
    printed = capsys.readouterr().out
    for line in UPDATES:
        assert line in printed


def test_help(capsys):
    with pytest.raises(SystemExit) as stop:
        backprop_by_hand.main(["--help"])
    assert stop.value.code == 0
    assert "--step" in capsys.readouterr().out
