"""Optimizers behind one protocol, the descent loop that training shares, and why they work: curvature, landscapes."""

from diffprog.optimize._curvature import rates
from diffprog.optimize._curvature.advice import Advice, Plan
from diffprog.optimize._curvature.curvature import Curvature, curvature
from diffprog.optimize._curvature.sharpness import Sharpness
from diffprog.optimize._descent import Descent, History, NotFiniteError, State, Step
from diffprog.optimize._engine import ENGINES, value_and_grad, vjp
from diffprog.optimize._hardness.evidence import Difficulty
from diffprog.optimize._hardness.kinds import KINDS as HARDNESS
from diffprog.optimize._hardness.optimizable import Hardness, optimizable
from diffprog.optimize._landscape import directions
from diffprog.optimize._landscape.directions import Directions
from diffprog.optimize._landscape.landscape import Landscape, landscape
from diffprog.optimize._methods.cma_es import cma_es
from diffprog.optimize._methods.gauss_newton import gauss_newton
from diffprog.optimize._methods.lbfgs import lbfgs
from diffprog.optimize._methods.lbfgsb import lbfgsb
from diffprog.optimize._methods.levenberg_marquardt import levenberg_marquardt
from diffprog.optimize._methods.momentum import heavy_ball, nesterov
from diffprog.optimize._methods.nelder_mead import nelder_mead
from diffprog.optimize._methods.newton_cg import newton_cg
from diffprog.optimize._methods.random_search import random_search
from diffprog.optimize._methods.spsa import spsa
from diffprog.optimize._methods.trust_region import trust_region
from diffprog.optimize._page.explain import Explained, Explanation, explain
from diffprog.optimize._search.minimize import least_squares, minimize
from diffprog.optimize._search.result import Fitted, Minimum

__all__ = [
    "ENGINES",
    "HARDNESS",
    "Advice",
    "Curvature",
    "Descent",
    "Difficulty",
    "Directions",
    "Explained",
    "Explanation",
    "Fitted",
    "Hardness",
    "History",
    "Landscape",
    "Minimum",
    "NotFiniteError",
    "Plan",
    "Sharpness",
    "State",
    "Step",
    "cma_es",
    "curvature",
    "directions",
    "explain",
    "gauss_newton",
    "heavy_ball",
    "landscape",
    "lbfgs",
    "lbfgsb",
    "least_squares",
    "levenberg_marquardt",
    "minimize",
    "nelder_mead",
    "nesterov",
    "newton_cg",
    "optimizable",
    "random_search",
    "rates",
    "spsa",
    "trust_region",
    "value_and_grad",
    "vjp",
]
