"""Keys, budgets, norms, counts and lengths: the arguments of attacks."""

import jax
import numpy as np

from diffprog.attack._norms import Norm


def checked_key(key):
    """The key; a fixed one for an attack that draws nothing."""
    if key is None:
        return jax.random.key(0)
    if not jax.dtypes.issubdtype(getattr(key, "dtype", None), jax.dtypes.prng_key):
        raise ValueError(f"key must be a JAX random key; found {key!s:.60}: make one with jax.random.key(0)")
    if key.shape:
        raise ValueError(
            f"key must be one key; found an array of shape {key.shape}: give key[0], from "
            "which an attack draws for each image by its number"
        )
    return key


def checked_budgets(epsilon, count):
    """Budgets [K, count] in float64, and whether several were asked for at once."""
    try:
        budgets = np.asarray(epsilon, np.float64)
    except (TypeError, ValueError):
        budgets = np.array(np.nan)
    if not np.all(budgets > 0):
        raise ValueError(
            f"epsilon must be a positive number; found {epsilon!s:.60}: images are in [0, 1], so try 8 / 255"
        )
    several = budgets.ndim == 2
    if budgets.shape not in ((), (count,)) and not (several and len(budgets) and budgets.shape[1] in (1, count)):
        raise ValueError(
            f"epsilon must be a number, one per image ({count},), or several budgets (K, 1) or "
            f"(K, {count}); found shape {budgets.shape}: add an axis with epsilon[:, None]"
        )
    if several and np.any(np.diff(budgets, axis=0) <= 0):
        raise ValueError(f"budgets must increase; found {budgets[:, 0].tolist()} for image 0: sort them")
    return np.broadcast_to(budgets, (len(budgets) if several else 1, count)), several


def checked_reach(epsilons, norm: Norm, images, bounds):
    """Budgets within which not every image is another's neighbor."""
    low, high = bounds
    whole, largest = norm.measure(np.full((1, *images.shape[1:]), high - low))[0], np.max(epsilons)
    if largest > whole:
        raise ValueError(
            f"epsilon must be at most {whole:.4g} in {norm.name}, which takes any image to any other; "
            f"found {largest:g}: pixels are in [{low:g}, {high:g}], so try {largest:g} / 255"
        )


def checked_norm(norm, allowed):
    """One of the norms that an attack is defined for."""
    if not isinstance(norm, Norm) or norm not in allowed:
        found = norm.name if isinstance(norm, Norm) else repr(norm)
        raise ValueError(
            f"norm must be one of {', '.join(each.name for each in allowed)}, Norms of diffprog.attack; "
            f"found {found}: choose one or another attack"
        )
    return norm


def checked_choice(choice, allowed, name):
    """One of the words that an argument knows."""
    if choice not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; found {choice!r}: choose one of them")


def checked_counts(**counts):
    """Numbers of steps and the like: at least 1."""
    for name, count in counts.items():
        if not (isinstance(count, int | np.integer) and count >= 1):
            raise ValueError(f"{name} must be a whole number of at least 1; found {count!r}: give one, or leave it out")


def checked_positive(**numbers):
    """Lengths and weights: finite and above zero."""
    for name, number in numbers.items():
        if not (np.isscalar(number) and np.isfinite(number) and number > 0):
            raise ValueError(f"{name} must be a positive number; found {number!r}: leave it out for the default")


def checked_not_negative(**numbers):
    """Numbers that may be zero."""
    for name, number in numbers.items():
        if not (np.isscalar(number) and np.isfinite(number) and number >= 0):
            raise ValueError(f"{name} must be a number of at least 0; found {number!r}: leave it out for the default")


def float32_at_most(epsilon):
    """The largest float32 that is not above `epsilon`: float32(8 / 255) itself is."""
    nearest = np.asarray(epsilon, np.float64).astype(np.float32)
    return np.where(nearest.astype(np.float64) <= epsilon, nearest, np.nextafter(nearest, np.float32(0)))
