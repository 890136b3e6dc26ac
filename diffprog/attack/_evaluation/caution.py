"""Signs that robustness is only apparent: what `model_checks` and `result_checks` find."""

from typing import NamedTuple


class Caution(NamedTuple):
    """Something that a reader of the numbers should know."""

    code: str
    sentence: str  # what was found, what it means and what to do
