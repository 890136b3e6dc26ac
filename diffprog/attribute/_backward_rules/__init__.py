"""Backward rules: what is passed back through an operation in place of its derivative.

A program is followed operation by operation. Beside each value goes a *signal*: the program that computes signals from
signals is linear, and its transpose, which the tracer takes as any other reverse pass, hands credit back to the
points. A method is a table of what an operation does to signals; see README.md here.
"""
