"""What people call an argument who come from other libraries: Captum, Xplique, zennit, shap, alibi, tf-explain."""

from diffprog._util.spelling import by_word

MEANT = by_word(
    {
        "target targets class_idx class_index classes label labels output_index y": {
            "score": "what is explained is score: a class, a label, an objective or a function of the output"
        },
        "baselines reference background reference_inputs x_baseline": {
            "baseline": "what inputs are compared with is baseline="
        },
        "n_steps num_steps nb_steps m_steps max_steps": {
            "steps": "the number of points on the path is steps=",
            "samples": "the number of samples is samples=",
        },
        "n_samples nt_samples num_samples nsamples nb_samples n_perturbations": {
            "samples": "the number of samples is samples="
        },
        "stdevs stdev sigma noise_level std": {"noise": "the deviation of the noise is noise=, as a part of the range"},
        "layer layers layer_name target_layer target_layers module": {
            "at": "the layer is at=, a selector of diffprog.graph"
        },
        "internal_batch_size perturbations_per_eval batch_size batch bs nt_samples_batch_size": {
            "chunk": "rows of one run are chunk="
        },
        "feature_mask segments mask": {"features": "groups of inputs are features=, an integer array"},
        "seed rng rngs random_state rng_key prng_key": {"key": "random draws come from key=jax.random.key(0)"},
        "x input inputs_ image images": {"inputs": "what is explained is inputs, the second argument"},
        "forward_func network net f": {"model": "the function is model, the first argument"},
        "verbose pbar show_progress": {"progress": "a progress bar has a caption, progress="},
    }
)
