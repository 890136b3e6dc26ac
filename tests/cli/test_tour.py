"""The tour runs, and its checks are ones that can fail."""

import pytest

from diffprog.cli import _tour as tour


@pytest.mark.parametrize("number", range(1, len(tour.STOPS) + 1))
def test_each_stop_agrees_with_the_tracer(number, capsys):
    tour.main([str(number)])
    printed = capsys.readouterr().out
    assert printed.startswith(f"{number}. ")
    assert "by the tracer" in printed


def test_a_wrong_derivative_stops_the_tour(monkeypatch):
    monkeypatch.setattr(tour.Value, "tanh", lambda self: tour.Value(tour.math.tanh(self.number), [(self, 1.0)]))
    with pytest.raises(AssertionError, match="d/dx: by hand"):
        tour.main(["4"])


def test_an_unknown_stop_is_refused(capsys):
    with pytest.raises(SystemExit):
        tour.main(["9"])
    assert "there is no stop 9: choose from 1 to 6" in capsys.readouterr().err
