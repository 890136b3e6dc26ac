"""Gradient descent with momentum, in the notation of the field's lectures: alpha for the step, beta for what stays."""

import optax

from diffprog._util.numbers import check_positive


def heavy_ball(alpha: float | optax.Schedule, beta: float) -> optax.GradientTransformation:
    """Descend with Polyak's momentum: z <- beta z + gradient(w), then w <- w - alpha z.

    The same iterates as w <- w - alpha gradient(w) + beta (w - previous w). On a quadratic it converges where
    0 < alpha lambda < 2 + 2 beta for each eigenvalue lambda, at best at the rate sqrt(beta).

    Args:
      alpha: step size, or a schedule.
      beta: part of the velocity z that stays, from 0 on and below 1.

    Returns:
      An Optax transformation, for `minimize`, `fit` and whatever else takes one.

    Raises:
      ValueError: alpha is not positive, or beta is no such part.

    References:
      B. T. Polyak, "Some methods of speeding up the convergence of iteration methods", USSR Computational Mathematics
      and Mathematical Physics 4(5), 1964.
    """
    return _with_velocity(alpha, beta, nesterov=False)


def nesterov(alpha: float | optax.Schedule, beta: float) -> optax.GradientTransformation:
    """Descend with Nesterov's momentum: y <- x + beta (x - previous x), then x <- y - alpha gradient(y).

    The iterate that is kept, and evaluated, is y.

    Args:
      alpha: step size, or a schedule.
      beta: part of the last step that is repeated, from 0 on and below 1.

    Returns:
      An Optax transformation, for `minimize`, `fit` and whatever else takes one.

    Raises:
      ValueError: alpha is not positive, or beta is no such part.

    References:
      Y. Nesterov, "A method for solving the convex programming problem with convergence rate O(1/k^2)", Soviet
      Mathematics Doklady 27(2), 1983.
    """
    return _with_velocity(alpha, beta, nesterov=True)


def _with_velocity(alpha, beta, nesterov):
    if not callable(alpha):
        check_positive(alpha, "alpha")
    if not 0 <= beta < 1:
        raise ValueError(f"beta must be a part, from 0 on and below 1; found {beta!r}: from 1 on no step is forgotten")
    return optax.chain(optax.trace(beta, nesterov), optax.scale_by_learning_rate(alpha))
