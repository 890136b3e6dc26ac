"""What each method promises and costs: one table, which the README, `evaluate`, the command line and the tests read."""

from typing import NamedTuple

from diffprog._util.tables import markdown_table


class MethodInfo(NamedTuple):
    """One method.

    Attributes:
      needs: of the model: "gradients", "rules" (backward rules in place of derivatives), "scores" (nothing but the
        output) or "inside" (values inside the model, selected by `at=`).
      sum: whether the values add up to score - baseline's score: "exact"; "in the limit" of many steps or samples; for
        "linear" models; or "no", there is no axiom.
      evaluations: runs of the model for each example, a formula of its options; with "<=" where equal runs are done
        once.
      seed: whether it draws at random from `key=`: "yes", "no", or "sampled" where it is not exact.
      source: the paper.
    """

    needs: str
    sum: str
    evaluations: str
    seed: str
    source: str


METHODS = {
    "gradient": MethodInfo("gradients", "no", "1", "no", "Simonyan et al. 2014"),
    "gradient_times_input": MethodInfo("gradients", "linear", "2", "no", "Shrikumar et al. 2016"),
    "smooth_gradient": MethodInfo("gradients", "no", "samples + 1", "yes", "Smilkov et al. 2017"),
    "integrated_gradients": MethodInfo("gradients", "in the limit", "steps + 2", "no", "Sundararajan et al. 2017"),
    "guided_integrated_gradients": MethodInfo(
        "gradients", "in the limit", "steps + 2", "no", "Kapishnikov et al. 2021"
    ),
    "expected_gradients": MethodInfo("gradients", "in the limit", "2 * samples", "yes", "Erion et al. 2021"),
    "deeplift": MethodInfo("rules", "exact", "2", "no", "Shrikumar et al. 2017"),
    "lrp": MethodInfo("rules", "exact", "1", "no", "Bach et al. 2015, Montavon et al. 2019"),
    "attention_lrp": MethodInfo("rules", "exact", "1", "no", "Achtibat et al. 2024"),
    "guided_backprop": MethodInfo("rules", "no", "1", "no", "Springenberg et al. 2015"),
    "deconvnet": MethodInfo("rules", "no", "1", "no", "Zeiler & Fergus 2014"),
    "occlusion": MethodInfo("scores", "no", "windows + 1", "no", "Zeiler & Fergus 2014"),
    "feature_ablation": MethodInfo("scores", "no", "features + 2", "no", "none: one feature at a time"),
    "feature_permutation": MethodInfo("scores", "no", "<= features * samples + 1", "yes", "Breiman 2001"),
    "rise": MethodInfo("scores", "no", "<= samples + 1", "yes", "Petsiuk et al. 2018"),
    "lime": MethodInfo("scores", "linear", "<= samples + 2", "sampled", "Ribeiro et al. 2016"),
    "shapley": MethodInfo("scores", "exact", "<= 2 ** features, or samples * features + 1", "sampled", "Shapley 1953"),
    "kernel_shap": MethodInfo("scores", "exact", "<= 2 ** features, or samples + 2", "sampled", "Lundberg & Lee 2017"),
    "owen_values": MethodInfo("scores", "exact", "<= 2 ** features, or samples * features + 1", "sampled", "Owen 1977"),
    "shapley_interactions": MethodInfo(
        "scores", "exact", "<= 2 ** features, or samples * features ** 2", "sampled", "Grabisch & Roubens 1999"
    ),
    "hessian_interactions": MethodInfo(
        "gradients", "in the limit", "steps * (features + 1) + 2", "no", "Janizek et al. 2021"
    ),
    "grad_cam": MethodInfo("inside", "no", "1", "no", "Selvaraju et al. 2017 and others"),
    "conductance": MethodInfo("inside", "in the limit", "steps + 2", "no", "Dhamdhere et al. 2019"),
    "internal_influence": MethodInfo("inside", "no", "steps + 2", "no", "Leino et al. 2018"),
    "residual_contributions": MethodInfo("inside", "exact", "2", "no", "Elhage et al. 2021"),
}


def table() -> str:
    """Write the registry as Markdown, which reads well in a terminal too."""
    head = ("method", "needs", "adds up", "evaluations", "seed", "source")
    return markdown_table(head, [(name, *info) for name, info in METHODS.items()])
