"""Gradients within a memory budget: which values the backward pass keeps, and which it computes again.

A program is cut into segments (`segments`), whose sizes and times are estimated from types alone (`costs`). Loops and
branches in them run in several ways (`variants`), with plans of their own where they are deep. A dynamic program
chooses what to keep (`planner`), the chosen plan is run (`running`), and the compiler's own figure decides whether it
is within the budget (`search`).
"""

from diffprog._rules.budget import rule  # noqa: F401
