"""What eigenvalues of a Hessian say about step sizes, rates and numbers of steps, and what they do not say."""

from dataclasses import dataclass

import numpy as np

from diffprog.optimize._curvature import rates

TOLERANCE = 1e-6  # fraction of the first error, for the numbers of steps
BEYOND_MOMENTUM = 1e5  # condition number from which on momentum, too, needs thousands of steps


@dataclass(frozen=True)
class Plan:
    """A method with the best settings for a range of eigenvalues.

    Attributes:
      method: as in `rates.METHODS`.
      alpha: step size.
      beta: momentum.
      rate: factor by which the error shrinks in a step, in the long run.
      num_steps: steps until the distance to the minimum is a millionth of the first.
    """

    method: str
    alpha: float
    beta: float
    rate: float
    num_steps: float


@dataclass(frozen=True)
class Advice:
    """What to expect of first-order methods near a point, from the quadratic that touches there.

    Attributes:
      kind: "convex" (all eigenvalues positive), "singular" (some are 0 as far as can be told), "saddle" (of both
        signs), "concave" (none positive) or "flat" (all 0).
      smallest: smallest eigenvalue.
      largest: largest eigenvalue, L.
      condition: L / smallest; infinity unless convex.
      largest_step: 2 / L, from which on gradient descent diverges; infinity without positive curvature.
      plans: the best settings of each method; empty unless convex, for else no rate is guaranteed.
      verdict: what to make of it, in one or two sentences.
    """

    kind: str
    smallest: float
    largest: float
    condition: float
    largest_step: float
    plans: tuple[Plan, ...]
    verdict: str

    def largest_step_with(self, beta: float, method: str = "heavy ball") -> float:
        """Return the step size from which on a method with momentum diverges, (2 + 2 beta) / L for heavy ball.

        Args:
          beta: momentum.
          method: one of `rates.METHODS`.

        Returns:
          The step size; infinity without positive curvature.
        """
        return float(rates.largest_stable_step(method, beta, self.largest)) if self.largest > 0 else np.inf

    def rate_of(self, alpha: float, beta: float = 0.0, method: str = "heavy ball") -> float:
        """Return the rate that a method has with settings of the user's.

        Args:
          alpha: step size.
          beta: momentum.
          method: one of `rates.METHODS`.

        Returns:
          The factor per step of the slowest mode; 1 or more where it does not converge.
        """
        ends = np.array([self.smallest, self.largest])
        return float(rates.rate(method, alpha, beta, ends).max())

    def __str__(self):
        lines = [self.verdict]
        if self.largest > 0:
            lines.append(
                f"gradient descent diverges from step size {self.largest_step:.4g} on, with momentum 0.9 from "
                f"{self.largest_step_with(0.9):.4g} on"
            )
        if self.plans:
            lines.append(f"{'best settings':18}{'alpha':>12}{'beta':>12}{'rate':>12}{'steps to 1e-6':>16}")
            lines += [
                f"{plan.method:18}{plan.alpha:12.5g}{plan.beta:12.6g}{plan.rate:12.8g}{plan.num_steps:16,.0f}"
                for plan in self.plans
            ]
        return "\n".join(lines)


def advise(smallest: float, largest: float, uncertainty: float) -> Advice:
    """Say what follows from the extreme eigenvalues.

    Args:
      smallest: smallest eigenvalue.
      largest: largest eigenvalue.
      uncertainty: how far the smallest one may be from the truth.

    Returns:
      The advice.
    """
    step = 2 / largest if largest > 0 else np.inf
    scale = max(abs(smallest), abs(largest))
    if not np.isfinite(scale):
        return Advice("flat", smallest, largest, np.inf, np.nan, (), "the Hessian is not finite: dp.diagnose says why")
    if scale == 0:
        kind, verdict = "flat", "the function has no curvature here: nothing is said about step sizes"
    elif smallest > uncertainty:
        return _convex(smallest, largest, step, uncertainty > 0.05 * smallest)
    elif largest <= uncertainty:
        kind = "concave"
        verdict = "no direction curves upward: this is no place near a minimum, and no step size is unstable here"
    elif smallest < -uncertainty:
        kind = "saddle"
        verdict = (
            f"the Hessian is indefinite, eigenvalues from {smallest:.4g} to {largest:.4g}: near a saddle no rate is "
            f"guaranteed; along the falling direction gradient descent moves away by a factor "
            f"1 + {-smallest:.4g} alpha per step, and Newton's method needs a trust region"
        )
    else:
        kind = "singular"
        verdict = (
            f"the Hessian is singular as far as can be told, smallest eigenvalue {smallest:.1e} "
            f"\N{PLUS-MINUS SIGN} {uncertainty:.0e}: "
            "along such directions no linear rate is guaranteed and the error may fall like 1/k; the largest stable "
            "step holds all the same"
        )
    return Advice(kind, smallest, largest, np.inf, step, (), verdict)


def _convex(smallest: float, largest: float, step: float, is_bound: bool) -> Advice:
    condition = largest / smallest
    between = np.geomspace(smallest, largest, 20)
    plans = []
    for method in rates.METHODS:
        alpha, beta, rate = rates.best(method, smallest, largest)
        plans.append(Plan(method, alpha, beta, rate, rates.steps_to(method, alpha, beta, between, TOLERANCE)))
    if condition < 10:
        words = "well conditioned: gradient descent is enough"
    elif condition < BEYOND_MOMENTUM:
        words = "momentum saves most of the steps"
    else:
        words = "badly conditioned: even momentum needs many steps; scale the parameters, or use second derivatives"
    number = f"condition number {condition:.4g}"
    if is_bound:  # Lanczos approaches the smallest eigenvalue from above
        number = f"condition number at least {condition:.4g} (with more steps of Lanczos it may prove larger)"
    return Advice("convex", smallest, largest, condition, step, tuple(plans), f"convex, {number}; {words}")
