"""The descent loop that fitting, visualising and attacking share, and the choice of whose gradients drive it."""

from diffprog.optimize.descent import Descent, History, State, Step
from diffprog.optimize.engine import ENGINES, value_and_grad, vjp

__all__ = ["ENGINES", "Descent", "History", "State", "Step", "value_and_grad", "vjp"]
