"""Attribution: where a score comes from, at any input or any value inside an unmodified program.

Every method is a function

    METHOD(model, inputs, score, *, baseline=..., at=None, key=..., ...) -> Attribution

`model` is any function from a batch, a pytree of arrays (n, ...), to outputs (n, ...): a plain function, a Flax module
bound to its variables, an NNX module, `jax.vmap` of an Equinox module; or a `diffprog.models.Model`.

`score` is what is explained, one number per example:

    None                     the output, where it is one number per example
    282                      a class, of outputs (n, classes)
    "tabby"                  a class by name, of a Model with labels
    jnp.array([3, 1, 4])     one class for each example
    logit("tabby") - logit("lynx")    an objective of `diffprog.visualize.objectives`, of a Model
    lambda output: ...       a function of the output
    [3, "tabby", ...]        several of these from one forward pass: arrays of the result have an axis for them in front

`at` takes the selectors of `dp.grad_at`. The values that they mean take the inputs' place in every sense: they get the
noise, the path and the credit, and the baseline is their value at the baseline input.
"""

from diffprog.attribute import baselines, features, measures, paths, pictures, rules
from diffprog.attribute._backward_rules.methods import attention_lrp, deconvnet, deeplift, guided_backprop, lrp
from diffprog.attribute._class_activation.grad_cam import grad_cam
from diffprog.attribute._core.attribution import Attribution, AttributionWarning
from diffprog.attribute._draw.draw import draw
from diffprog.attribute._evaluation.evaluate import evaluate
from diffprog.attribute._evaluation.results import AttributionEvaluation
from diffprog.attribute._gradients.film import PathFilm, path_film
from diffprog.attribute._gradients.gradient import gradient, gradient_times_input, smooth_gradient
from diffprog.attribute._gradients.guided import guided_integrated_gradients
from diffprog.attribute._gradients.integrated import expected_gradients, integrated_gradients
from diffprog.attribute._inside.by_depth import ScoreByDepth, score_by_depth
from diffprog.attribute._inside.concepts import Concept, ConceptTest, concept_vector, random_concepts, tcav
from diffprog.attribute._inside.conductance import conductance, internal_influence
from diffprog.attribute._inside.interactions import hessian_interactions
from diffprog.attribute._inside.patching import patching
from diffprog.attribute._inside.patching_result import EdgeCredit, LineCredit, NodeCredit, Patching
from diffprog.attribute._inside.residual import logit_lens, residual_contributions
from diffprog.attribute._inside.rollout import attention_rollout
from diffprog.attribute._inside.similarity import Similarity, similarity
from diffprog.attribute._inside.unit import unit
from diffprog.attribute._perturbation.kernel_shap import kernel_shap
from diffprog.attribute._perturbation.lime import lime
from diffprog.attribute._perturbation.occlusion import feature_ablation, occlusion
from diffprog.attribute._perturbation.owen import owen_values
from diffprog.attribute._perturbation.pairs import shapley_interactions
from diffprog.attribute._perturbation.permutation import feature_permutation
from diffprog.attribute._perturbation.rise import rise
from diffprog.attribute._perturbation.shapley import shapley

__all__ = [
    "Attribution",
    "AttributionEvaluation",
    "AttributionWarning",
    "Concept",
    "ConceptTest",
    "EdgeCredit",
    "LineCredit",
    "NodeCredit",
    "Patching",
    "PathFilm",
    "ScoreByDepth",
    "Similarity",
    "attention_lrp",
    "attention_rollout",
    "baselines",
    "concept_vector",
    "conductance",
    "deconvnet",
    "deeplift",
    "draw",
    "evaluate",
    "expected_gradients",
    "feature_ablation",
    "feature_permutation",
    "features",
    "grad_cam",
    "gradient",
    "gradient_times_input",
    "guided_backprop",
    "guided_integrated_gradients",
    "hessian_interactions",
    "integrated_gradients",
    "internal_influence",
    "kernel_shap",
    "lime",
    "logit_lens",
    "lrp",
    "measures",
    "occlusion",
    "owen_values",
    "patching",
    "path_film",
    "paths",
    "pictures",
    "random_concepts",
    "residual_contributions",
    "rise",
    "rules",
    "score_by_depth",
    "shapley",
    "shapley_interactions",
    "similarity",
    "smooth_gradient",
    "tcav",
    "unit",
]
