"""Facets: the different things that one unit responds to, drawn one at a time.

```python
face = facet(model, "blocks.8", photographs_of_faces, other_photographs)
render(model, channel("blocks.14", 18) + 10 * face, key=key)
```

A weight with which the facet gets to about a third of the unit's own score shows both.

Goh et al. 2021 ("Multimodal Neurons in Artificial Neural Networks", faceted feature visualization) add to a unit's
score a linear probe of a lower layer, each of its activations weighted with the unit's gradient there. Here the probe
looks at the activations as they are: the picture is pulled towards the facet, whether or not the unit sees it there.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._util.batches import by_shape
from diffprog._util.promotion import own_promotion
from diffprog._util.random_keys import random_key
from diffprog.models import Model
from diffprog.visualize._rendering.fitting import activations
from diffprog.visualize.objectives._base import PICTURE, Objective
from diffprog.visualize.objectives._units import direction

BATCH_SIZE = 16  # images of one size that go through the network at a time
SHRINKAGE = 0.2  # of the covariance towards a multiple of the identity: there are fewer images than channels


class Facet(NamedTuple):
    """One of the things that a unit responds to.

    Attributes:
      objective: Scores +1 on the mean of the facet's images and -1 on the mean of the others.
      members: Indices of the facet's images.
    """

    objective: Objective
    members: np.ndarray


@own_promotion()
def facet(model: Model, layer: str, positives: Sequence[np.ndarray], negatives: Sequence[np.ndarray]) -> Objective:
    """Make an objective that tells two sets of images apart by the values of a layer.

    It is Fisher's linear discriminant with shrinkage, a linear probe of the mean over positions. It scores +1 on the
    mean of the positives and -1 on the mean of the negatives.

    Args:
      model: The network.
      layer: Name of a layer.
      positives: Arrays (height, width, channels) in [0, 1], of any sizes.
      negatives: Arrays like the positives.

    Returns:
      An `Objective`.
    """
    (layer,) = model.check_layers([layer])
    weights, bias = probe(pooled(model, positives, layer), pooled(model, negatives, layer))
    return direction(layer, weights) + bias


@own_promotion()
def facets(
    model: Model,
    objective: Objective,
    images: Sequence[np.ndarray],
    layer: str,
    num_facets: int,
    *,
    key: jax.Array,
    top: int | None = None,
) -> list[Facet]:
    """Find the facets of a unit in images that excite it.

    The images with the highest scores are clustered (k-means) by their values in a lower layer, averaged over positions
    and scaled to length one. Each cluster is told from the others by a `facet`.

    Args:
      model: The network.
      objective: The unit.
      images: Arrays (height, width, channels) in [0, 1], of any sizes.
      layer: Name of the lower layer.
      num_facets: Number of facets, 2 or more.
      key: A JAX random key.
      top: Number of images with the highest scores that are clustered; all by default.

    Returns:
      The facets, the largest first.
    """
    (layer,) = model.check_layers([layer])
    objective = objective.check(model)
    best = np.argsort(-scores(model, objective, images), kind="stable")[:top]
    if not 2 <= num_facets <= len(best):
        raise ValueError(f"num_facets is from 2 to the number of images, here {len(best)}; found {num_facets}")
    values = pooled(model, [images[index] for index in best], layer)
    cluster = k_means(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12), num_facets, key)
    sizes = np.bincount(cluster, minlength=num_facets)
    if not sizes.all():
        raise ValueError(
            f"{layer} has the same values for so many images that {num_facets} facets cannot be told apart"
        )
    result = []
    for index in np.argsort(-sizes, kind="stable"):
        weights, bias = probe(values[cluster == index], values[cluster != index])
        result.append(Facet(direction(layer, weights) + bias, best[cluster == index]))
    return result


def scores(model: Model, objective: Objective, images: Sequence[np.ndarray]) -> np.ndarray:
    """Score each image by an objective, (n,)."""
    names = sorted(objective.layers - {PICTURE})
    batches = (model.check_image(image)[None] for image in images)
    values = (activations(model, batch, names) | {PICTURE: jnp.asarray(batch)} for batch in batches)
    return np.array([float(objective.score(model, value)[0]) for value in values])


def pooled(model: Model, images: Sequence[np.ndarray], layer: str) -> np.ndarray:
    """Average a layer's values over positions, (n, channels)."""
    if not len(images):
        raise ValueError("a facet needs images on both sides; found none on one")
    over_positions = lambda values: np.asarray(values).reshape(len(values), -1, values.shape[-1]).mean(axis=1)
    read = lambda batch: over_positions(activations(model, batch, layer)[layer])
    means = dict(by_shape(read, [model.check_image(image) for image in images], BATCH_SIZE))
    return np.stack([means[index] for index in range(len(images))])


def probe(positives: np.ndarray, negatives: np.ndarray) -> tuple[np.ndarray, float]:
    """Fit (weights, bias) of Fisher's linear discriminant, scaled to +1 and -1 at the two means.

    The covariance within the classes is shrunk towards the identity times its mean variance.
    """
    positives, negatives = np.asarray(positives, np.float64), np.asarray(negatives, np.float64)
    means = positives.mean(axis=0), negatives.mean(axis=0)
    within = np.concatenate([positives - means[0], negatives - means[1]])
    covariance = within.T @ within / len(within)
    size = len(covariance)
    level = np.trace(covariance) / size or 1.0
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * level * np.eye(size)
    between = means[0] - means[1]
    weights = np.linalg.solve(shrunk, between)
    if not between.any():
        raise ValueError("the positives and negatives of a facet have the same mean: it cannot tell them apart")
    weights *= 2 / (weights @ between)
    return weights.astype(np.float32), float(-weights @ (means[0] + means[1]) / 2)


def k_means(
    points: np.ndarray, num_clusters: int, key: jax.Array, num_tries: int = 8, num_turns: int = 30
) -> np.ndarray:
    """Cluster points by Lloyd's algorithm from k-means++ (Arthur and Vassilvitskii 2007), the best of several tries."""
    random = np.random.default_rng(np.asarray(jax.random.key_data(random_key(key))))
    squares = lambda centers: ((points[:, None] - centers) ** 2).sum(axis=2)
    results = []
    for _ in range(num_tries):
        centers = points[[random.integers(len(points))]]
        while len(centers) < num_clusters:
            far = squares(centers).min(axis=1) + 1e-12  # so that equal points can be chosen too
            centers = np.concatenate([centers, points[[random.choice(len(points), p=far / far.sum())]]])
        for _ in range(num_turns):
            cluster = squares(centers).argmin(axis=1)
            members = [points[cluster == index] for index in range(num_clusters)]
            pairs = zip(members, centers, strict=True)
            centers = np.stack([some.mean(axis=0) if len(some) else center for some, center in pairs])
        results.append((squares(centers).min(axis=1).sum(), cluster))
    return min(results, key=lambda result: result[0])[1]
