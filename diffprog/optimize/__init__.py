"""The descent loop that fitting, visualizing and attacking share, and the choice of whose gradients drive it."""

from diffprog.optimize._descent import Descent, History, State, Step
from diffprog.optimize._engine import ENGINES, value_and_grad, vjp

__all__ = ["ENGINES", "Descent", "History", "State", "Step", "value_and_grad", "vjp"]
