"""Closed forms of gradient descent, heavy ball and Nesterov on quadratics: rates, borders, iterates and noise.

On one mode of a quadratic, of eigenvalue lambda, each of the three methods is one recursion of two steps,

    x[k+1] = p x[k] + q x[k-1] - alpha noise[k],

so that everything follows from p and q: the roots of r^2 = p r + q are its rate, its stability and its stationary
variance. `alpha` is the step size and `beta` the momentum of

    heavy ball  z <- beta z + gradient(x),   x <- x - alpha z         `optax.sgd(alpha, momentum=beta)`
    Nesterov    y = x + beta (x - x_prev),   x <- y - alpha gradient(y)

`optax.sgd(alpha, momentum=beta, nesterov=True)` is the latter, and its parameters are y: `lookahead=True` says so here.
All functions are of NumPy, in float64, and broadcast.

References:
  Polyak 1964, "Some methods of speeding up the convergence of iteration methods".
  Nesterov 2004, "Introductory lectures on convex optimization", section 2.2.
  Lessard, Recht & Packard 2016, "Analysis and design of optimization algorithms via integral quadratic constraints".
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

METHODS = ("gradient descent", "heavy ball", "nesterov")
Numbers = Any  # a number or an array of them


class Settings(NamedTuple):
    """Step size and momentum of a method, and what it does with them.

    Attributes:
      alpha: step size.
      beta: momentum, 0 for gradient descent.
      rate: factor by which the error shrinks in a step, in the long run.
    """

    alpha: float
    beta: float
    rate: float


def recursion(method: str, alpha: Numbers, beta: Numbers, eigenvalue: Numbers) -> tuple[np.ndarray, np.ndarray]:
    """Return p and q of x[k+1] = p x[k] + q x[k-1].

    Args:
      method: one of `METHODS`.
      alpha: step size.
      beta: momentum; gradient descent has none.
      eigenvalue: curvature of the mode.

    Returns:
      p and q.

    Raises:
      ValueError: the method is not known.
    """
    _check(method)
    alpha, beta, eigenvalue = (np.asarray(x, np.float64) for x in (alpha, beta, eigenvalue))
    contraction, beta = np.broadcast_arrays(1 - alpha * eigenvalue, beta)
    if method == "gradient descent":
        return contraction, np.zeros_like(contraction)
    if method == "heavy ball":
        return contraction + beta, -beta
    return (1 + beta) * contraction, -beta * contraction


def rate(method: str, alpha: Numbers, beta: Numbers, eigenvalue: Numbers) -> np.ndarray:
    """Return the factor by which the error along a mode shrinks in a step: the spectral radius of the recursion.

    Above 1, the method diverges. Where heavy ball's roots are complex it is sqrt(beta), whatever the step size.

    Args:
      method: one of `METHODS`.
      alpha: step size.
      beta: momentum.
      eigenvalue: curvature of the mode.

    Returns:
      The rate.
    """
    p, q = recursion(method, alpha, beta, eigenvalue)
    discriminant = p * p / 4 + q
    real = np.abs(p) / 2 + np.sqrt(np.maximum(discriminant, 0))
    return np.where(discriminant < 0, np.sqrt(np.maximum(-q, 0)), real)


def largest_stable_step(method: str, beta: Numbers, eigenvalue: Numbers) -> np.ndarray:
    """Return the step size from which on a method diverges along a mode.

    2 / lambda for gradient descent, (2 + 2 beta) / lambda for heavy ball, (2 + 2 beta) / ((1 + 2 beta) lambda) for
    Nesterov, with 0 <= beta < 1 and lambda > 0.

    Args:
      method: one of `METHODS`.
      beta: momentum.
      eigenvalue: curvature of the mode, the largest one of the quadratic.

    Returns:
      The border.
    """
    _check(method)
    beta, eigenvalue = np.asarray(beta, np.float64), np.asarray(eigenvalue, np.float64)
    border = {"gradient descent": 2 + 0 * beta, "heavy ball": 2 + 2 * beta, "nesterov": (2 + 2 * beta) / (1 + 2 * beta)}
    return border[method] / eigenvalue


def critical_momentum(alpha: Numbers, eigenvalue: Numbers) -> np.ndarray:
    """Return the momentum of heavy ball that is best for one mode at a given step size: critical damping.

    Its rate is |1 - sqrt(alpha lambda)|.

    Args:
      alpha: step size.
      eigenvalue: curvature of the mode.

    Returns:
      (1 - sqrt(alpha lambda))^2.
    """
    return (1 - np.sqrt(np.asarray(alpha, np.float64) * np.asarray(eigenvalue, np.float64))) ** 2


def best(method: str, smallest: float, largest: float) -> Settings:
    """Return the step size and the momentum with the best rate on all quadratics of a range of eigenvalues.

    For Nesterov these are Lessard's, Recht's and Packard's; `nesterov_standard` has the usual ones.

    Args:
      method: one of `METHODS`.
      smallest: smallest eigenvalue, above 0.
      largest: largest eigenvalue.

    Returns:
      The settings.

    Raises:
      ValueError: the eigenvalues are not positive and in order.
    """
    _check(method)
    kappa = _condition(smallest, largest)
    if method == "gradient descent":
        return Settings(2 / (smallest + largest), 0.0, (kappa - 1) / (kappa + 1))
    if method == "heavy ball":
        root = (kappa**0.5 - 1) / (kappa**0.5 + 1)
        return Settings((2 / (smallest**0.5 + largest**0.5)) ** 2, root**2, root)
    root = (3 * kappa + 1) ** 0.5
    return Settings(4 / (3 * largest + smallest), (root - 2) / (root + 2), 1 - 2 / root)


def nesterov_standard(smallest: float, largest: float) -> Settings:
    """Return Nesterov's own settings, step size 1 / L, good for every function of that curvature.

    Args:
      smallest: smallest eigenvalue, above 0.
      largest: largest eigenvalue.

    Returns:
      The settings; on quadratics the rate is 1 - 1 / sqrt(kappa) exactly.
    """
    root = _condition(smallest, largest) ** 0.5
    return Settings(1 / largest, (root - 1) / (root + 1), 1 - 1 / root)


def iterates(
    method: str,
    alpha: Numbers,
    beta: Numbers,
    eigenvalue: Numbers,
    num_steps: Numbers,
    start: Numbers = 1.0,
    lookahead: bool = False,
) -> np.ndarray:
    """Return the iterate after some steps from rest, without taking them.

    With the roots r and s of the recursion it is U[k] x[1] + q U[k-1] x[0], where U[k] = (r^k - s^k) / (r - s).

    Args:
      method: one of `METHODS`.
      alpha: step size.
      beta: momentum.
      eigenvalue: curvature of the mode.
      num_steps: number of steps, k; also a real number.
      start: x[0].
      lookahead: whether y[k] is returned instead, for Nesterov: what `optax.sgd(nesterov=True)` holds.

    Returns:
      x[k], or y[k].
    """
    k, start = np.asarray(num_steps, np.float64), np.asarray(start, np.float64)
    if lookahead:
        _check_lookahead(method)
        now, before = (iterates(method, alpha, beta, eigenvalue, n, start) for n in (k, np.maximum(k - 1, 0)))
        return now + np.asarray(beta, np.float64) * (now - before)
    p, q = recursion(method, alpha, beta, eigenvalue)
    larger, ratio = _roots(p, q)
    # The error of the recursion from x[0] = x[-1] = 1, divided by r^k.
    parts = _geometric(ratio, k) * (p + q) + q * np.where(k > 0, _geometric(ratio, k - 1), 0) / _nonzero(larger)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        scaled = np.where(k > 0, parts * larger ** np.maximum(k - 1, 0), 1)
    return scaled.real * start


def steps_to(method: str, alpha: float, beta: float, eigenvalues: Numbers, tolerance: float = 1e-6) -> float:
    """Return the number of steps after which the error along each mode stays below a fraction of what it was.

    It is exact where the roots are real, double roots included, whose error falls like k rate^k only. Where they are
    complex the error oscillates, and its envelope counts.

    Args:
      method: one of `METHODS`.
      alpha: step size.
      beta: momentum.
      eigenvalues: the curvatures, those between the extreme ones included if they count.
      tolerance: fraction of the initial error, in (0, 1).

    Returns:
      The number of steps, a whole number; infinity if the method does not converge.
    """
    return max(_steps_of_mode(method, alpha, beta, float(x), tolerance) for x in np.ravel(eigenvalues))


def stationary_variance(
    method: str,
    alpha: Numbers,
    beta: Numbers,
    eigenvalue: Numbers,
    noise_variance: Numbers = 1.0,
    lookahead: bool = False,
) -> np.ndarray:
    """Return the variance around the minimum at which a method stays, under independent noise of the gradient.

    The recursion is an autoregression AR(2). For gradient descent it is alpha s^2 / (lambda (2 - alpha lambda)), for
    heavy ball alpha s^2 (1 + beta) / (lambda (1 - beta) (2 (1 + beta) - alpha lambda)). The floor of the loss is half
    of lambda times it.

    Args:
      method: one of `METHODS`.
      alpha: step size.
      beta: momentum.
      eigenvalue: curvature of the mode.
      noise_variance: variance s^2 of each gradient.
      lookahead: whether it is that of y instead, for Nesterov.

    Returns:
      E x^2; infinity where the method diverges.
    """
    p, q = recursion(method, alpha, beta, eigenvalue)
    alpha, beta = np.asarray(alpha, np.float64), np.asarray(beta, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = (1 - q) / ((1 + q) * ((1 - q) ** 2 - p**2)) * alpha**2 * np.asarray(noise_variance, np.float64)
        if lookahead:
            _check_lookahead(method)
            variance = variance * ((1 + beta) ** 2 + beta**2 - 2 * beta * (1 + beta) * p / (1 - q))
    return np.where(rate(method, alpha, beta, eigenvalue) < 1, variance, np.inf)


def stationary_covariance(hessian: np.ndarray, noise: np.ndarray, alpha: float) -> np.ndarray:
    """Return the covariance V at which gradient descent under noise stays: A V + V A - alpha A V A = alpha C.

    Args:
      hessian: A, (n, n), symmetric and positive definite.
      noise: covariance C of a gradient, (n, n).
      alpha: step size, below 2 / L.

    Returns:
      V, (n, n).
    """
    values, vectors = np.linalg.eigh(np.asarray(hessian, np.float64))
    rotated = vectors.T @ np.asarray(noise, np.float64) @ vectors
    pairs = values[:, None] + values - alpha * values[:, None] * values
    return vectors @ (alpha * rotated / pairs) @ vectors.T


def batch_factor(num_examples: int, batch_size: Numbers) -> np.ndarray:
    """Return what the covariance of single examples is multiplied by for the mean of a batch without replacement.

    (N - b) / ((N - 1) b): 1 at batch 1, 0 for the full batch, whose gradient has no noise.

    Args:
      num_examples: N.
      batch_size: b, from 1 to N.

    Returns:
      The factor, for a covariance with divisor N.
    """
    batch_size = np.asarray(batch_size, np.float64)
    return (num_examples - batch_size) / (max(num_examples - 1, 1) * batch_size)


def least_squares_moments(
    features: np.ndarray, targets: np.ndarray, start: np.ndarray, alpha: float, batch_size: int, num_steps: int
) -> np.ndarray:
    """Return the exact mean square error of stochastic gradient descent on least squares, batches drawn anew each step.

    The loss is the mean of (a_i w - y_i)^2 / 2; a batch is drawn without replacement, independently of earlier ones.
    The noise depends on w, so the second moment of the error obeys a linear recursion of its own.

    Args:
      features: rows a_i, (N, d).
      targets: y, (N,).
      start: first parameters, (d,).
      alpha: step size.
      batch_size: examples in a batch.
      num_steps: number of steps.

    Returns:
      E |w[k] - w*|^2 for k = 0 .. num_steps, (num_steps + 1,).
    """
    features, targets = np.asarray(features, np.float64), np.asarray(targets, np.float64)
    minimum = np.linalg.lstsq(features, targets, rcond=None)[0]
    outer = features[:, :, None] * features[:, None, :]
    hessian = outer.mean(0)
    noise = (targets - features @ minimum)[:, None] * features  # minus the gradients of the examples at the minimum
    factor = batch_factor(len(features), batch_size)
    additive = factor * noise.T @ noise / len(features)
    mean = np.asarray(start, np.float64) - minimum
    moment = np.outer(mean, mean)
    errors = [np.trace(moment)]
    for _ in range(num_steps):
        whole = hessian @ moment @ hessian
        single = np.mean(outer @ moment @ outer, axis=0)
        crossed = factor * np.einsum("nij,j,nk->ik", outer, mean, noise) / len(features)
        second = whole + factor * (single - whole) + additive - crossed - crossed.T
        moment = moment - alpha * (hessian @ moment + moment @ hessian) + alpha**2 * second
        mean = mean - alpha * hessian @ mean
        errors.append(np.trace(moment))
    return np.array(errors)


def implicit_regularizer(gradients: np.ndarray, alpha: float, batch_size: int | None = None) -> float:
    """Return what an epoch of stochastic gradient descent adds to the loss whose gradient flow it follows on average.

    (alpha / 4) E |gradient of a batch|^2, to second order in alpha: the mean over all orders of one epoch ends where
    the flow of the loss plus this ends, up to alpha^3.

    Args:
      gradients: of the single examples, (N, n).
      alpha: step size.
      batch_size: examples in a batch; None for all, which is gradient descent.

    Returns:
      The term.

    References:
      Barrett & Dherin 2021, "Implicit gradient regularization".
      Smith, Dherin, Barrett & De 2021, "On the origin of implicit regularization in stochastic gradient descent".
    """
    gradients = np.asarray(gradients, np.float64)
    mean = gradients.mean(0)
    factor = batch_factor(len(gradients), len(gradients) if batch_size is None else batch_size)
    return alpha / 4 * float(mean @ mean + factor * np.mean(np.sum((gradients - mean) ** 2, axis=1)))


# ---------------------------------------------------------------- roots and powers


def _roots(p: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the larger root of r^2 = p r + q, and the ratio of the smaller one to it."""
    root = np.sqrt(p * p / 4 + q + 0j)
    larger = p / 2 + np.where(p < 0, -root, root)
    return larger, (-q / _nonzero(larger)) / _nonzero(larger)


def _geometric(ratio: np.ndarray, k: Numbers) -> np.ndarray:
    """Return 1 + ratio + ... + ratio^(k-1), for any real k, also next to ratio 1."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logarithm = np.log(np.where(ratio == 0, 1, ratio))
        quotient = np.expm1(k * logarithm) / np.expm1(logarithm)
    close = np.where(np.abs(logarithm) < 1e-15, k + 0j, quotient)
    return np.where(ratio == 0, np.where(np.asarray(k) > 0, 1 + 0j, 0), close)


def _nonzero(x: np.ndarray) -> np.ndarray:
    return np.where(x == 0, 1, x)


def _steps_of_mode(method: str, alpha: float, beta: float, eigenvalue: float, tolerance: float) -> float:
    if not float(rate(method, alpha, beta, eigenvalue)) < 1:
        return np.inf
    p, q = map(float, recursion(method, alpha, beta, eigenvalue))
    if p * p / 4 + q < 0:
        size = _envelope(p, q)
    else:
        size = lambda k: abs(float(iterates(method, alpha, beta, eigenvalue, k)))
    high = 1
    while size(high) > tolerance or size(high + 1) > tolerance:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) > tolerance else (low, middle)
    return float(high)


def _envelope(p: float, q: float) -> Callable[[int], float]:
    """Bound x[k] = radius^k (cos(k angle) + slope sin(k angle) / sin(angle)), closely also next to a double root."""
    radius = (-q) ** 0.5
    cosine = p / 2 / radius
    sine = (1 - cosine**2) ** 0.5
    slope = abs((p + q) / radius - cosine)
    return lambda k: radius**k * min(np.hypot(1, slope / max(sine, 1e-300)), 1 + slope * k)


# ---------------------------------------------------------------- checks


def _check(method: str) -> None:
    if method not in METHODS:
        raise ValueError(f"method {method!r} is not known; use one of {', '.join(map(repr, METHODS))}")


def _check_lookahead(method: str) -> None:
    if method != "nesterov":
        raise ValueError(f"only nesterov looks ahead; found lookahead=True for {method!r}: leave it out")


def _condition(smallest: float, largest: float) -> float:
    if not 0 < smallest <= largest < np.inf:
        raise ValueError(
            f"best settings exist for eigenvalues 0 < smallest <= largest; found {smallest!r} and {largest!r}: on an "
            "indefinite or singular quadratic no rate is guaranteed"
        )
    return largest / smallest
