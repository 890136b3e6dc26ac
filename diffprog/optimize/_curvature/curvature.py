"""`curvature`: eigenvalues, trace, spectrum and gradient noise of an objective at a point, and advice."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._util.numbers import check_count
from diffprog._util.promotion import own_promotion
from diffprog._util.random_keys import random_key
from diffprog.optimize._curvature import noise as noises
from diffprog.optimize._curvature import spectrum
from diffprog.optimize._curvature.advice import Advice, advise
from diffprog.optimize._curvature.lanczos import lanczos, vectors
from diffprog.optimize._curvature.noise import Noise
from diffprog.optimize._curvature.spectrum import Density
from diffprog.optimize._search.oracle import Counts
from diffprog.optimize._search.problem import prepare


@dataclass(frozen=True)
class Curvature:
    """Second derivatives of an objective at a point, as far as products with vectors show them; printed, a few lines.

    Attributes:
      value: of the objective.
      gradient_norm: Euclidean, complex parameters as two real ones.
      num_parameters: n.
      largest: the largest eigenvalues, descending.
      largest_errors: each of `largest` is within this of an eigenvalue, rounding aside.
      smallest: the smallest eigenvalues, ascending.
      smallest_errors: likewise.
      eigenvectors: of `largest`: a list of pytrees like the parameters, of length 1.
      smallest_eigenvectors: of `smallest`, likewise.
      trace: sum of all eigenvalues, exact or estimated.
      trace_error: its standard error; 0 if all eigenvalues are known, NaN if it was not estimated.
      density: the spectrum; None unless asked for or all eigenvalues are known.
      noise: of the gradient over single examples; None without data.
      advice: what follows for first-order methods.
      num_products: products of the Hessian with a vector that were spent.
    """

    value: float
    gradient_norm: float
    num_parameters: int
    largest: np.ndarray
    largest_errors: np.ndarray
    smallest: np.ndarray
    smallest_errors: np.ndarray
    eigenvectors: list[Any]
    smallest_eigenvectors: list[Any]
    trace: float
    trace_error: float
    density: Density | None
    noise: Noise | None
    advice: Advice
    num_products: int

    def __str__(self):
        plus_minus = "\N{PLUS-MINUS SIGN}"
        lines = [
            f"value {self.value:.6g}, |gradient| {self.gradient_norm:.3g}, {self.num_parameters:,} parameters, "
            f"{self.num_products:,} Hessian-vector products",
            f"largest eigenvalues   {_numbers(self.largest, self.largest_errors)}",
            f"smallest eigenvalues  {_numbers(self.smallest, self.smallest_errors)}",
        ]
        if np.isfinite(self.trace):
            error = f" {plus_minus} {self.trace_error:.2g}" if self.trace_error else " (exact)"
            lines.append(f"trace                 {self.trace:.6g}{error}")
        if self.noise is not None:
            known = f"{self.noise.scale:.4g} examples, of {self.noise.num_examples:,}"
            lines.append(
                f"gradient noise scale  {known if self.noise.is_mean else 'none: the objective is no mean of examples'}"
            )
        return "\n".join([*lines, str(self.advice)])


@own_promotion()
def curvature(
    objective: Callable[..., Any],
    parameters: Any,
    data: Any = None,
    *,
    num_eigenvalues: int = 3,
    num_probes: int = 16,
    num_density_probes: int = 0,
    tolerance: float = 1e-4,
    max_steps: int = 100,
    batch_size: int = 64,
    key: Any = 0,
    engine: str = "diffprog",
) -> Curvature:
    """Measure the curvature of an objective at a point, and say what it means for step sizes and rates.

    Eigenvalues come from Lanczos with full reorthogonalization on products of the Hessian with vectors; with at most
    `max_steps` parameters all of them are found. Each costs about two gradients; `max_steps` vectors are kept.

    Args:
      objective: `objective(parameters)`, a real scalar; with `data`, `objective(parameters, data)`, the mean over the
        examples.
      parameters: where: a pytree. Leaves that are no arrays of floats or complex numbers are kept as they are.
      data: pytree of arrays with the examples along the first axis; then the gradient's noise is measured too.
      num_eigenvalues: how many at each end.
      num_probes: random vectors for the trace; 0 for none.
      num_density_probes: random vectors for the density of the spectrum, `max_steps` products each; 0 for none.
      tolerance: error of the eigenvalues to reach, over the largest absolute one.
      max_steps: steps of Lanczos at most.
      batch_size: examples whose gradients are held at the same time.
      key: random key, or a seed.
      engine: whose gradients, "diffprog" or "jax".

    Returns:
      The record.

    Raises:
      ValueError: an argument that cannot be used.

    References:
      Pearlmutter 1994, "Fast exact multiplication by the Hessian".
      Golub & Van Loan 2013, "Matrix computations", chapter 10.
      McCandlish, Kaplan, Amodei et al. 2018, "An empirical model of large-batch training".
    """
    num_eigenvalues = check_count(num_eigenvalues, "num_eigenvalues")
    max_steps, batch_size = check_count(max_steps, "max_steps"), check_count(batch_size, "batch_size")
    num_probes = check_count(num_probes, "num_probes", least=0)
    num_density_probes = check_count(num_density_probes, "num_density_probes", least=0)
    _check_examples(data)
    whole = objective if data is None else lambda parameters: objective(parameters, data)
    oracle, point, unflatten = prepare(whole, parameters, None, engine, gives_residuals=False)
    start_key, restart_key, trace_key, density_key = jax.random.split(random_key(key), 4)
    value, gradient = _value_and_gradient(oracle, point)
    krylov, found = lanczos(
        oracle,
        point,
        jax.random.normal(start_key, point.shape, point.dtype),
        restart_key,
        num_largest=num_eigenvalues,
        num_smallest=num_eigenvalues,
        tolerance=0.0 if len(point) <= max_steps else tolerance,
        max_steps=max_steps,
    )
    taken = len(found.values)
    is_complete = taken == len(point)
    upper = np.arange(taken)[::-1][:num_eigenvalues]
    lower = np.arange(taken)[:num_eigenvalues]
    pick = lambda indices: [unflatten(v) for v in vectors(krylov, jnp.asarray(found.coordinates[:, indices]))]
    trace, trace_error = spectrum.trace(oracle, point, krylov, trace_key, num_probes)
    density = spectrum.density(oracle, point, krylov, density_key, num_density_probes, max_steps)
    rounding = 10 * float(jnp.finfo(point.dtype).eps) * float(np.abs(found.values).max())
    return Curvature(
        value=float(value),
        gradient_norm=float(np.linalg.norm(np.asarray(gradient, np.float64))),
        num_parameters=len(point),
        largest=found.values[upper],
        largest_errors=found.errors[upper],
        smallest=found.values[lower],
        smallest_errors=found.errors[lower],
        eigenvectors=pick(upper),
        smallest_eigenvectors=pick(lower),
        trace=trace,
        trace_error=trace_error,
        density=density,
        noise=None if data is None else noises.measure(objective, data, point, unflatten, gradient, engine, batch_size),
        advice=advise(float(found.values[0]), float(found.values[-1]), float(found.errors[0]) + rounding),
        num_products=taken + (0 if is_complete else num_probes + num_density_probes * max_steps),
    )


@jax.jit
def _value_and_gradient(oracle, point):
    value, gradient, _ = oracle.value_and_gradient(point, Counts.none())
    return value, gradient


def _check_examples(data: Any) -> None:
    lengths = {np.shape(x)[0] if np.ndim(x) else 0 for x in jax.tree.leaves(data)}
    if data is not None and (len(lengths) != 1 or 0 in lengths):
        raise ValueError(
            f"data must be arrays with the examples along their first axis; found lengths {sorted(lengths)}: give all "
            "the same number of rows, or let the objective close over what is no example"
        )


def _numbers(values: np.ndarray, errors: np.ndarray) -> str:
    """Write eigenvalues, those that are not known to 1 % with their errors."""
    texts = [
        f"{x:.5g}" if e <= 0.01 * abs(x) or e == 0 else f"{x:.3g} \N{PLUS-MINUS SIGN} {e:.1g}"
        for x, e in zip(values, errors, strict=True)
    ]
    return "  ".join(texts)
