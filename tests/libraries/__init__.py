"""Programs of other libraries: which files of this folder run what."""

PACKAGES = {
    "lineax": ["lineax"],
    "optimistix": ["optimistix"],
    "diffrax": ["diffrax"],
    "equinox": ["equinox"],
    "sparse": ["jax"],
    "flax": ["flax"],
    "probability": ["numpyro", "blackjax", "tfp-nightly"],
    "optimization": ["optax", "jaxopt", "interpax"],
    "mjx": ["mujoco-mjx"],
}
