"""The kinds of difficulty, the family of methods for each, and what to say of it."""

from typing import NamedTuple


class Kind(NamedTuple):
    """A kind of objective.

    Attributes:
      family: of the three of the lecture: "black box" asks for values, "first order" for gradients, "second order" for
        second derivatives.
      optimizers: names in this package or in Optax to begin with.
      means: what it is, for a sentence.
      remedy: what to do.
    """

    family: str
    optimizers: tuple[str, ...]
    means: str
    remedy: str


KINDS = {  # the first that holds is the verdict
    "not finite": Kind(
        "first order",
        ("lbfgs",),
        "value or gradient is not finite at the start",
        "mend the operation that makes it so; dp.diagnose shows the line",
    ),
    "piecewise constant": Kind(
        "black box",
        ("cma_es", "random_search"),
        "no parameter has a gradient, for the value changes only in jumps",
        "use a black-box method, or replace what cuts the gradient by something smooth",
    ),
    "gradient cut": Kind(
        "black box",
        ("cma_es", "spsa"),
        "some parameters have no gradient, for an operation cuts it off",
        "pass the gradient straight through the operation, make it smooth, or search these parameters by a black-box "
        "method",
    ),
    "discontinuous": Kind(
        "black box",
        ("cma_es", "nelder_mead"),
        "the value jumps, which no gradient shows",
        "use a black-box method, or make the jump a smooth step",
    ),
    "constant": Kind(
        "black box",
        ("random_search",),
        "the value was the same wherever it was tried",
        "look further away, or check whether the parameters are used",
    ),
    "plateau": Kind(
        "black box",
        ("cma_es", "random_search"),
        "the start lies on a plateau, whose slope promises next to nothing while lower values are near",
        "start elsewhere, scale what saturates, or look around by a black-box method first",
    ),
    "multimodal": Kind(
        "black box",
        ("cma_es", "random_search"),
        "there are several basins of different depth, and where a descent ends depends on its start",
        "use CMA-ES with restarts, or a descent from many starts",
    ),
    "badly scaled": Kind(
        "second order",
        ("levenberg_marquardt", "trust_region"),
        "the parameters act on scales that differ by many orders of magnitude",
        "use Levenberg-Marquardt with scaling if it is a sum of squares, else a trust region; or write each parameter "
        "in its own unit",
    ),
    "cliff": Kind(
        "first order",
        ("sgd with clip_by_global_norm", "trust_region"),
        "the slope grows a thousandfold within reach: one plain step from there goes anywhere",
        "clip the gradient, or use a trust region",
    ),
    "saddle": Kind(
        "second order",
        ("trust_region", "newton_cg"),
        "the start is near a saddle, which gradient descent leaves slowly",
        "follow the direction of negative curvature, as a trust region does, or add noise",
    ),
    "unbounded": Kind(
        "first order",
        ("lbfgsb", "sgd with keep_params_nonnegative"),
        "the value falls for ever: there is no minimum within reach",
        "add bounds or a penalty, or check the sign",
    ),
    "kink": Kind(
        "first order",
        ("sgd with a decaying learning_rate", "adam with a decaying learning_rate"),
        "the minimum lies at a kink, where slopes do not vanish and a constant step keeps jumping",
        "let the step size decay, use a proximal step, or make the kink smooth",
    ),
    "noisy": Kind(
        "first order",
        ("sgd with a decaying learning_rate", "spsa"),
        "the value is random, so that a constant step ends in a cloud and not at a point",
        "let the step size decay, average the iterates, or draw larger batches",
    ),
    "curved valley": Kind(
        "second order",
        ("trust_region", "newton_cg", "lbfgs"),
        "a narrow valley turns, so that no fixed scaling and no fixed direction of momentum suits it",
        "use second derivatives, or L-BFGS, which builds them up",
    ),
    "degenerate": Kind(
        "second order",
        ("trust_region", "lbfgs"),
        "the curvature vanishes at the minimum, so that gradient descent slows down like 1/k and has no rate",
        "use second derivatives, or accept a value near the minimum",
    ),
    "changing curvature": Kind(
        "first order",
        ("sgd", "nesterov", "trust_region"),
        "it is no quadratic: the curvature changes several times over on the way to the minimum",
        "take the step size from the largest curvature, and do not trust momentum that is tuned for a quadratic",
    ),
    "ill-conditioned": Kind(
        "first order",
        ("heavy_ball", "nesterov", "lbfgs"),
        "a long straight valley: gradient descent zigzags",
        "use momentum, or L-BFGS",
    ),
    "well conditioned": Kind(
        "first order",
        ("sgd", "lbfgs"),
        "nothing stands in the way",
        "use gradient descent, or anything else",
    ),
}
