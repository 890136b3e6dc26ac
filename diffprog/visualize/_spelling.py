"""What people call an argument who come from other libraries: Lucid, Lucent, Captum's optim, DeepDream's notebooks."""

from diffprog._util.spelling import by_word

MEANT = by_word(
    {
        "param param_f parametrization image image_f": {
            "parameterization": "what is optimized is parameterization=, pixels(128) or fourier(128) for instance",
            "photograph": "the image to start from is photograph",
        },
        "transforms transform_f transformations augment augmentations shake robustness": {
            "transform": "what moves the image at each step is transform=, one or a list of them; None for none"
        },
        "thresholds iters iter iterations n_iter iter_n num_iter max_iter num_iterations num_steps max_steps epochs": {
            "steps": "the number of steps is steps="
        },
        "lr step_size stepsize alpha": {"learning_rate": "the length of a step is learning_rate="},
        "batch bs": {
            "batch_size": "how many are computed side by side is batch_size=",
            "num_images": "the number of pictures of an objective is num_images=",
        },
        "batch_size count number num_pictures n": {
            "num_images": "the number of pictures of an objective is num_images=",
            "num_crops": "the number of crops is num_crops=",
        },
        "draws num_draws num_samples n_samples": {
            "num_transforms": "the number of random transforms per step is num_transforms="
        },
        "init init_image initial x0": {
            "start": "parameters to start from are start=",
            "photograph": "the image to start from is photograph",
        },
        "octave_n n_octaves num_octaves": {"octaves": "the number of sizes is octaves="},
        "octave_scale octave_ratio": {"scale": "the ratio of two sizes is scale="},
        "seed rng rngs random_state rng_key prng_key": {
            "key": "random draws come from key=jax.random.key(0)",
            "seed": "random draws come from seed=, a whole number",
        },
        "obj obj_f objective_f objectives loss loss_fn target": {
            "objective": "what is maximized is objective: channel(layer, index) or logit(name) for instance",
            "objectives": "what is maximized is objectives: channel(layer, index) or logit(name) for instance",
        },
        "path directory output out": {"folder": "the folder of pictures is folder"},
        "verbose pbar show_progress show_image": {"progress": "a progress bar has a caption, progress="},
    }
)
