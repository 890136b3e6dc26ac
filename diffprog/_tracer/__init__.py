"""The reverse-mode tracer.

`tape.py` records operations, by the rules in the table of `rules.py`; `backward.py` sends cotangents back over the
tape. `vjp.py` is reverse mode without checks, `staging.py` differentiates what JAX has staged.
"""
