"""diffprog: differentiate any JAX program, look at every gradient in it, and optimise whatever you point at."""

from diffprog.rules import calls, contractions, control_flow, elementwise, indexing, markers, reductions, shapes  # noqa: F401  (fills the table of rules)
from diffprog.tracer.transforms import grad, hessian, hvp, jacrev, value_and_grad, vjp

__all__ = ["grad", "hessian", "hvp", "jacrev", "value_and_grad", "vjp"]
