"""Directions for a landscape: random and filter-normalized, principal components of a path, eigenvectors.

Directions of unit length have no meaning for a network whose weights may be scaled without changing what it computes.
Filter normalization gives each output neuron's weights in the direction the length of the trained ones
(Li et al. 2018).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._util.promotion import own_promotion
from diffprog._util.random_keys import random_key
from diffprog.optimize._curvature.curvature import curvature
from diffprog.optimize._search.flat import flatten
from diffprog.optimize._trainable import is_array, path_text

OUTPUT_AXES = {"weight": 0}  # of Equinox and PyTorch; a "kernel" of Flax and most arrays have the outputs last


class Directions(NamedTuple):
    """One or two directions in the space of parameters, and what is known of them.

    Attributes:
      vectors: pytrees like the parameters.
      names: what to write at the axes.
      notes: sentences that belong to a picture.
      reach: how far along each direction to look, in both senses; None to fit the path.
    """

    vectors: tuple[Any, ...]
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    reach: float | None = 1.0


@own_promotion()
def filter_normalized(
    center: Any, *, key: Any = 0, num_directions: int = 2, output_axis: int | Callable[[str, Any], int] | None = None
) -> Directions:
    """Draw random directions, and give each output neuron's weights the length that they have at the center.

    Vectors and scalars beside matrices (biases, parameters of normalizations) are not moved. Parameters without a
    matrix are one neuron.

    Args:
      center: the trained parameters.
      key: random key, or a seed.
      num_directions: 1 or 2.
      output_axis: axis of the output neurons in an array, or a function of a leaf's path and the leaf to it. By default
        the first for leaves named "weight" (Equinox), the last for others (Flax).

    Returns:
      The directions; a coordinate of 1 moves each neuron by its own length.

    References:
      Li, Xu, Taylor, Studer & Goldstein 2018, "Visualizing the loss landscape of neural nets".
    """
    structure: Any
    with_paths, structure = jax.tree_util.tree_flatten_with_path(center)
    has_matrix = any(is_array(x) and np.ndim(x) >= 2 for _, x in with_paths)
    vectors = []
    for k in jax.random.split(random_key(key), num_directions):
        if has_matrix:
            keys = jax.random.split(k, len(with_paths))
            leaves = [
                _normalized(path_text(p), x, each, output_axis) for (p, x), each in zip(with_paths, keys, strict=True)
            ]
            vectors.append(structure.unflatten(leaves))
        else:
            point, unflatten = flatten(center)
            drawn = jax.random.normal(k, point.shape, point.dtype)
            length = jnp.linalg.norm(point)
            vectors.append(unflatten(drawn / jnp.linalg.norm(drawn) * jnp.where(length > 0, length, 1)))
    what = "each output neuron" if has_matrix else "the parameters"
    note = f"random directions, filter-normalized: 1 moves {what} by as much as the length of the weights"
    return Directions(tuple(vectors), tuple(f"random direction {i + 1}" for i in range(num_directions)), (note,))


def _normalized(path: str, leaf: Any, key: jax.Array, output_axis: Any) -> Any:
    if not is_array(leaf):
        return leaf
    leaf = jnp.asarray(leaf)
    if leaf.ndim < 2:
        return jnp.zeros_like(leaf)
    axis = output_axis(path, leaf) if callable(output_axis) else output_axis
    if axis is None:
        axis = OUTPUT_AXES.get(path.rsplit("/", 1)[-1], -1)
    others = tuple(i for i in range(leaf.ndim) if i != axis % leaf.ndim)
    length = lambda x: jnp.sqrt(jnp.sum(jnp.abs(x) ** 2, axis=others, keepdims=True))
    drawn = jax.random.normal(key, leaf.shape, leaf.dtype)
    return drawn * (length(leaf) / length(drawn))


@own_promotion()
def pca(path: Any, *, num_directions: int = 2) -> Directions:
    """Take the principal components of a path of parameters.

    Beside the share of the variance that each explains stands the share that it would explain of a random walk of the
    same number of points in many dimensions: 61 % and 15 % of a long one. A path in two components proves little.

    Args:
      path: parameters along a run, a list of pytrees or one pytree with the points along a first axis.
      num_directions: 1 or 2.

    Returns:
      Orthonormal directions, the largest variance first.

    Raises:
      ValueError: the path has fewer than three points.

    References:
      Antognini & Sohl-Dickstein 2018, "PCA of high dimensional random walks with comparison to neural network
      training".
    """
    points, unflatten = stack(path)
    if len(points) < 3:
        raise ValueError(f"the components of a path need at least 3 points; found {len(points)}: keep more of the path")
    centered = points - points.mean(axis=0)
    values, vectors = np.linalg.eigh(centered @ centered.T)
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    shares = values / max(values.sum(), 1e-300)
    walk = random_walk_shares(len(points))
    rows = [(centered.T @ vectors[:, i]) / max(values[i] ** 0.5, 1e-300) for i in range(num_directions)]
    listed = lambda numbers: " and ".join(f"{x:.1%}" for x in numbers[:num_directions])
    note = (
        f"principal components of {len(points)} points explain {listed(shares)} of the variance; of a random walk in "
        f"many dimensions they would explain {listed(walk)}"
    )
    names = tuple(f"component {i + 1} ({shares[i]:.1%}, random walk {walk[i]:.1%})" for i in range(num_directions))
    return Directions(tuple(unflatten(jnp.asarray(row)) for row in rows), names, (note,), None)


def random_walk_shares(num_points: int) -> np.ndarray:
    """Return the shares of variance of the principal components of a random walk in many dimensions.

    The k-th is 1 / (2 - 2 cos(pi k / T)) over (T^2 - 1) / 6, which tends to 6 / (pi k)^2.

    Args:
      num_points: T, at least 2.

    Returns:
      (T - 1,), descending.
    """
    k = np.arange(1, num_points)
    return 6 / (num_points**2 - 1) / (2 - 2 * np.cos(np.pi * k / num_points))


def hessian(objective: Callable[..., Any], center: Any, data: Any = None, **options: Any) -> Directions:
    """Take the eigenvectors of the Hessian of the largest and of the smallest eigenvalue.

    Args:
      objective: as for `curvature`.
      center: where.
      data: as for `curvature`.
      **options: further arguments of `curvature`.

    Returns:
      Orthonormal directions.
    """
    found = curvature(objective, center, data, **{"num_eigenvalues": 1, "num_probes": 0, **options})
    largest, smallest = float(found.largest[0]), float(found.smallest[0])
    names = (f"largest eigenvalue, {largest:.4g}", f"smallest eigenvalue, {smallest:.4g}")
    length = float(np.linalg.norm(np.asarray(flatten(center)[0], np.float64)))
    note = "eigenvectors of the Hessian at the center, of length 1"
    vectors = (found.eigenvectors[0], found.smallest_eigenvectors[0])
    return Directions(vectors, names, (note,), length / 10 if length else 1.0)


def stack(path: Any) -> tuple[np.ndarray, Callable[[Any], Any]]:
    """Lay the points of a path under each other, (T, n) in float64, with the function from vectors to parameters."""
    if isinstance(path, Sequence) and not hasattr(path, "_fields"):
        flat = [flatten(point) for point in path]
        if not flat:
            raise ValueError("path has no points: keep the parameters of some steps")
        return np.stack([np.asarray(vector, np.float64) for vector, _ in flat]), flat[0][1]
    count = _length(path)
    path = jax.tree.map(lambda x: np.asarray(x) if is_array(x) else x, path)
    rows = [flatten(jax.tree.map(lambda x, i=i: x[i] if is_array(x) else x, path)) for i in range(count)]
    return np.stack([np.asarray(vector, np.float64) for vector, _ in rows]), rows[0][1]


def _length(path: Any) -> int:
    lengths = {np.shape(x)[0] for x in jax.tree.leaves(path) if is_array(x) and np.ndim(x)}
    if len(lengths) != 1:
        raise ValueError(
            "path must be a list of parameters, or parameters with the points along a first axis of every array; found "
            f"first axes of {sorted(lengths)}"
        )
    return lengths.pop()
