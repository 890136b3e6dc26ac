"""What people call an argument who come from other libraries: torchattacks, Foolbox, ART, CleverHans, AutoAttack."""

from typing import Any

import numpy as np

from diffprog._util.spelling import by_word
from diffprog.attack._norms import NORMS

NO_BUDGET = "it has no budget: it seeks the smallest perturbation, whose distances tell at which epsilon it succeeds"

MEANT = by_word(
    {
        "eps epsilon epsilons budget radius max_norm": {
            "epsilon": "the budget is epsilon=, 8 / 255 for instance where pixels are in [0, 1]",
            "epsilons": "the budgets are epsilons=, [8 / 255] for instance where pixels are in [0, 1]",
            "max_steps": NO_BUDGET,
        },
        "alpha eps_step eps_iter stepsize rel_stepsize abs_stepsize lr learning_rate step_size": {
            "step_size": "the length of a step is step_size=",
            "learning_rate": "the length of a step is learning_rate=",
        },
        "steps iters nb_iter n_iter num_iter max_iter max_iterations num_iterations num_steps iterations epochs": {
            "max_steps": "the number of steps is max_steps="
        },
        "max_queries n_queries num_queries query_limit query_budget": {
            "max_queries": "queries of an image are limited by max_queries=",
            "max_steps": "passes are limited by the number of steps, max_steps=; the result tells how many there were",
        },
        "clip_min clip_max clip_values clip min_val max_val": {
            "bounds": "the lowest and the highest value are bounds=(lowest, highest)"
        },
        "seed rng rngs random_state rng_key prng_key": {"key": "random draws come from key=jax.random.key(0)"},
        "target targets y_target target_labels target_classes": {
            "targeted": "classes to reach are labels, with targeted=True"
        },
        "random_start rand_init rand_minmax num_random_init": {
            "epsilon": "pgd starts at a random point, and bim at the image"
        },
        "starts init x_init x_adv_init starting_point": {
            "starting_points": "images that are adversarial from the start are starting_points="
        },
        "max_eval max_gradient_eval_steps": {"max_num_evals": "decisions of an estimate are limited by max_num_evals="},
        "init_eval initial_gradient_eval_steps": {
            "initial_num_evals": "decisions of the first estimate are initial_num_evals="
        },
        "init_size": {"init_trials": "images of noise to start from are init_trials="},
        "ord p distance lp": {"norm": "the norm is norm=, attack.linf for instance"},
        "batch bs": {"batch_size": "rows of a compiled batch are batch_size="},
        "x inputs image": {"images": "what is attacked is images"},
        "y y_true label criterion_labels": {"labels": "the classes are labels"},
        "kappa": {"confidence": "the lead that a success needs is confidence="},
        "c const": {"initial_const": "the first weight of the loss is initial_const="},
        "n_restarts num_restarts nb_restarts": {"restarts": "searches from fresh starts are restarts="},
        "verbose pbar": {"progress": "a progress bar has a caption, progress="},
        "num_samples n_samples eot eot_iter": {
            "num_samples": "the number of random draws is num_samples=",
            "model": "a model that draws is averaged by ExpectationOverTransformation(model, num_samples)",
        },
        "path folder": {"directory": "the folder of results is directory="},
    }
)


def as_norm(norm: Any) -> Any:
    """Read a norm by its name, or by its order as NumPy and ART have it; anything else is given back."""
    if isinstance(norm, str):
        name = norm.lower().replace("_", "").replace("-", "")
        return NORMS.get({"inf": "linf", "linfinity": "linf"}.get(name, name), norm)
    if isinstance(norm, int | float | np.number) and not isinstance(norm, bool):
        return NORMS.get("linf" if norm == np.inf else f"l{norm:g}", norm)
    return norm
