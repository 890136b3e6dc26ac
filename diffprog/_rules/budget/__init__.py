"""Gradients within a memory budget: which values the backward pass keeps, and which it computes again.

A program is cut into segments (`segments`), whose sizes and times are estimated from types alone (`costs`). A dynamic
program chooses what to keep (`planner`), the chosen plan is run (`planned`), and the compiler's own figure decides
whether it is within the budget.
"""

from diffprog._rules.budget import planned  # noqa: F401
