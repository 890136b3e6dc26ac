"""What each measure asks and needs: one table, which the README, `evaluate` and the tests read."""

from typing import NamedTuple

from diffprog._util.tables import markdown_table


class MeasureInfo(NamedTuple):
    """One measure.

    Attributes:
      asks: its question.
      better: "high" or "low".
      needs: "model", "method" (the model is attributed again), "mask" or "map" (nothing else).
      source: the paper.
    """

    asks: str
    better: str
    needs: str
    source: str


MEASURES = {
    "insertion": MeasureInfo("does the score rise when the best come first?", "high", "model", "Petsiuk et al. 2018"),
    "deletion": MeasureInfo("does the score fall when the best go first?", "low", "model", "Petsiuk et al. 2018"),
    "road": MeasureInfo("so, with what is gone filled in from its neighbors", "high", "model", "Rong et al. 2022"),
    "infidelity": MeasureInfo("does credit predict the effect of changes?", "low", "model", "Yeh et al. 2019"),
    "mu_fidelity": MeasureInfo("does it rank the effects of removals?", "high", "model", "Bhatt et al. 2020"),
    "sensitivity_n": MeasureInfo("so, for removals of several sizes", "high", "model", "Ancona et al. 2018"),
    "max_sensitivity": MeasureInfo("does it change where hardly anything does?", "low", "method", "Yeh et al. 2019"),
    "randomization": MeasureInfo("does it stay when weights are shuffled?", "low", "method", "Adebayo et al. 2018"),
    "pointing_game": MeasureInfo("is the largest credit on the object?", "high", "mask", "Zhang et al. 2018"),
    "energy": MeasureInfo("how much positive credit is on the object?", "high", "mask", "Wang et al. 2020"),
    "grid_pointing": MeasureInfo("how much is on the right picture of a mosaic?", "high", "mask", "Böhle et al. 2021"),
    "complexity": MeasureInfo("is credit spread over many places? (entropy)", "low", "map", "Bhatt et al. 2020"),
    "sparseness": MeasureInfo("is credit in few places? (Gini)", "high", "map", "Chalasani et al. 2020"),
}


def table() -> str:
    """Write the registry as Markdown, which reads well in a terminal too."""
    return markdown_table(
        ("measure", "asks", "better", "needs", "source"), [(name, *info) for name, info in MEASURES.items()]
    )
