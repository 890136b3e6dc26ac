"""What people call an argument who come from other libraries: Captum, Xplique, zennit, shap, alibi, tf-explain."""

from diffprog._util.spelling import by_word

MEANT = by_word(
    {
        "target targets class_idx class_index classes label labels output_index y": {
            "score": "what is explained is score: a class, a label, an objective or a function of the output"
        },
        "baselines reference background reference_inputs x_baseline masker": {
            "baseline": "what inputs are compared with is baseline=",
            "data": "the rows that features are taken from are data=",
        },
        "n_steps num_steps nb_steps m_steps max_steps steps": {
            "steps": "the number of points on the path is steps=",
            "samples": "the number of samples is samples=",
        },
        "n_samples nt_samples num_samples nsamples nb_samples n_perturbations n_masks num_masks npermutations "
        "num_permutations max_evals": {"samples": "the number of samples is samples="},
        "stdevs stdev sigma noise_level std": {"noise": "the deviation of the noise is noise=, as a part of the range"},
        "layer layers layer_name target_layer target_layers module": {
            "at": "the layer is at=, a selector of diffprog.graph"
        },
        "internal_batch_size perturbations_per_eval batch_size batch bs nt_samples_batch_size": {
            "chunk": "rows of one run are chunk="
        },
        "feature_mask feature_masks segments mask segmentation_fn map_to_interpret_space superpixels players": {
            "features": "groups of inputs are features=, an integer array or one of diffprog.attribute.features"
        },
        "sliding_window_shapes sliding_window patch_size window_size patch": {
            "window": "the lengths of the window are window=",
            "features": "parts of inputs are features=, as features.patches(14)",
        },
        "strides patch_stride step": {"stride": "the steps of the window are stride="},
        "grid_size initial_mask_shapes cell_size": {"grid": "cells along an axis are grid="},
        "p p1 preservation_probability probability": {"keep": "the chance of a cell to be visible is keep="},
        "alpha lambda_ l1 l2 regularization": {"strength": "what the penalty is multiplied by is strength="},
        "distance_mode similarity_func kernel_fn kernel": {"kernel_width": "the kernel's width is kernel_width="},
        "interpretable_model model_regressor surrogate": {"penalty": "the fit is penalty='ridge' or penalty='lasso'"},
        "partition tree hierarchy clustering": {"groups": "features that stay together are groups="},
        "seed rng rngs random_state rng_key prng_key": {"key": "random draws come from key=jax.random.key(0)"},
        "x input inputs_ image images": {"inputs": "what is explained is inputs, the second argument"},
        "forward_func network net f": {"model": "the function is model, the first argument"},
        "verbose pbar show_progress": {"progress": "a progress bar has a caption, progress="},
    }
)
