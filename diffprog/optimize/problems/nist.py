"""The 27 nonlinear regressions of NIST's Statistical Reference Datasets, with certified parameters and errors."""

import re
from collections.abc import Callable
from functools import cache, partial
from importlib.resources import files
from typing import Any

import jax.numpy as jnp
import numpy as np

from diffprog.optimize.problems.problem import Problem


def _saturation(b, x):
    return b[0] * (1 - jnp.exp(-b[1] * x))


def _cubics(b, x):
    return (b[0] + b[1] * x + b[2] * x**2 + b[3] * x**3) / (1 + b[4] * x + b[5] * x**2 + b[6] * x**3)


def _decay(b, x):
    return jnp.exp(-b[0] * x) / (b[1] + b[2] * x)


def _peaks(b, x):
    peaks = b[2] * jnp.exp(-(((x - b[3]) / b[4]) ** 2)) + b[5] * jnp.exp(-(((x - b[6]) / b[7]) ** 2))
    return b[0] * jnp.exp(-b[1] * x) + peaks


def _exponentials(b, x):
    return sum(b[i] * jnp.exp(-b[i + 1] * x) for i in (0, 2, 4))


def _cycles(b, x):
    def cycle(period, cosine, sine):
        return cosine * jnp.cos(2 * np.pi * x / period) + sine * jnp.sin(2 * np.pi * x / period)

    return b[0] + cycle(12, b[1], b[2]) + cycle(*b[3:6]) + cycle(*b[6:9])


_MODELS: dict[str, Callable[[Any, Any], Any]] = {
    "Bennett5": lambda b, x: b[0] * (b[1] + x) ** (-1 / b[2]),
    "BoxBOD": _saturation,
    "Chwirut1": _decay,
    "Chwirut2": _decay,
    "DanWood": lambda b, x: b[0] * x ** b[1],
    "ENSO": _cycles,
    "Eckerle4": lambda b, x: b[0] / b[1] * jnp.exp(-(((x - b[2]) / b[1]) ** 2) / 2),
    "Gauss1": _peaks,
    "Gauss2": _peaks,
    "Gauss3": _peaks,
    "Hahn1": _cubics,
    "Kirby2": lambda b, x: (b[0] + b[1] * x + b[2] * x**2) / (1 + b[3] * x + b[4] * x**2),
    "Lanczos1": _exponentials,
    "Lanczos2": _exponentials,
    "Lanczos3": _exponentials,
    "MGH09": lambda b, x: b[0] * (x**2 + b[1] * x) / (x**2 + b[2] * x + b[3]),
    "MGH10": lambda b, x: b[0] * jnp.exp(b[1] / (x + b[2])),
    "MGH17": lambda b, x: b[0] + b[1] * jnp.exp(-b[3] * x) + b[2] * jnp.exp(-b[4] * x),
    "Misra1a": _saturation,
    "Misra1b": lambda b, x: b[0] * (1 - 1 / (1 + b[1] * x / 2) ** 2),
    "Misra1c": lambda b, x: b[0] * (1 - 1 / jnp.sqrt(1 + 2 * b[1] * x)),
    "Misra1d": lambda b, x: b[0] * b[1] * x / (1 + b[1] * x),
    "Nelson": lambda b, x: b[0] - b[1] * x[0] * jnp.exp(-b[2] * x[1]),  # of log y
    "Rat42": lambda b, x: b[0] / (1 + jnp.exp(b[1] - b[2] * x)),
    "Rat43": lambda b, x: b[0] / (1 + jnp.exp(b[1] - b[2] * x)) ** (1 / b[3]),
    "Roszman1": lambda b, x: b[0] - b[1] * x - jnp.arctan(b[2] / (x - b[3])) / np.pi,
    "Thurber": _cubics,
}
NIST_NAMES = tuple(_MODELS)


@cache
def nist(name: str) -> Problem:
    """Read one of the regressions.

    Args:
      name: of the data set, one of `NIST_NAMES`.

    Returns:
      The problem: two starts, a far one and a near one, the certified minimum, and standard errors. Eleven digits are
      certified, so that it asks for float64.

    Raises:
      ValueError: there is no data set of this name.

    References:
      NIST, Statistical Reference Datasets, https://www.itl.nist.gov/div898/strd/nls/nls_main.shtml.
    """
    if name not in _MODELS:
        raise ValueError(f"name must be one of {', '.join(NIST_NAMES)}; found {name!r}")
    lines = (files("diffprog.optimize.problems") / "data" / f"{name}.dat").read_text().splitlines()
    parameters = np.array([line.split("=")[1].split() for line in _part(lines, "Starting Values")], float)
    columns = np.array([line.split() for line in _part(lines, "Data")], float).T
    (square_sum,) = (line.split(":")[1] for line in lines if line.startswith("Residual Sum of Squares"))
    y = np.log(columns[0]) if name == "Nelson" else columns[0]
    x = columns[1] if len(columns) == 2 else columns[1:]
    residuals = partial(_residuals, _MODELS[name], x, y)
    start, nearer, certified, errors = parameters.T
    return Problem(
        name=name,
        function=partial(_sum_squares, residuals),
        starts=(start, nearer),
        values=(float(square_sum),),
        minimizers=(certified,),
        residuals=residuals,
        standard_errors=errors,
    )


def _part(lines, title):
    """Find the lines that the head of the file says belong to a part."""
    first, last = next(
        match.groups() for line in lines if (match := re.search(rf"{title}\s*\(lines\s*(\d+)\s*to\s*(\d+)\)", line))
    )
    block = lines[int(first) - 1 : int(last)]
    return [line for line in block if line.strip() and (title == "Data" or line.strip().startswith("b"))]


def _residuals(model, x, y, parameters):
    return model(parameters, x) - y


def _sum_squares(residuals, parameters):
    return jnp.sum(residuals(parameters) ** 2)
