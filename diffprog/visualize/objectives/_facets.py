"""Facets: the different things that one unit responds to, drawn one at a time.

    side = facet(model, "blocks.8", photographs_of_faces, other_photographs)
    render(model, channel("blocks.14", 18) + 10 * side, key=key)

A weight with which the facet gets to about a third of the unit's own score shows both.

Goh et al. 2021 ("Multimodal Neurons in Artificial Neural Networks", faceted feature visualization) add to a unit's
score a linear probe of a lower layer, each of its activations weighted with the unit's gradient there. Here the probe
looks at the activations as they are: the picture is pulled towards the facet, whether or not the unit sees it there.
"""

from typing import NamedTuple

import jax
import numpy as np

from diffprog._util.batches import by_shape
from diffprog.visualize.objectives._base import PICTURE, Objective
from diffprog.visualize.objectives._units import direction

BATCH_SIZE = 16  # images of one size that go through the network at a time
SHRINKAGE = 0.2  # of the covariance towards a multiple of the identity: there are fewer images than channels


class Facet(NamedTuple):
    """objective: +1 on the mean of its images and -1 on that of the others. members: the numbers of its images."""

    objective: Objective
    members: np.ndarray


def facet(model, layer, positives, negatives):
    """An objective that tells images like `positives` from images like `negatives` by the values of a layer.

    It is a linear probe of the mean over positions (Fisher's discriminant with shrinkage), which gives +1 to the mean
    of the positives and -1 to that of the negatives. Images are arrays (height, width, 3) in [0, 1], of any sizes.
    """
    (layer,) = model.check_layers([layer])
    weights, bias = probe(pooled(model, positives, layer), pooled(model, negatives, layer))
    return direction(layer, weights) + bias


def facets(model, objective, images, layer, num_facets, *, key, top=None):
    """The facets of a unit, found in images that excite it: a list of `num_facets`, the largest first.

    objective: the unit. images: arrays (height, width, 3) in [0, 1]. Those with the `top` highest scores (all, unless
    given) are clustered by their values in a lower `layer`, averaged over positions and of length one (k-means), and
    each cluster is told from the others by a `facet`.
    """
    (layer,) = model.check_layers([layer])
    objective = objective.check(model)
    best = np.argsort(-scores(model, objective, images), kind="stable")[:top]
    if not 2 <= num_facets <= len(best):
        raise ValueError(f"a number of facets is from 2 to the number of images, here {len(best)}; found {num_facets}")
    values = pooled(model, [images[number] for number in best], layer)
    cluster = k_means(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12), num_facets, key)
    sizes = np.bincount(cluster, minlength=num_facets)
    if not sizes.all():
        raise ValueError(
            f"{layer} has the same values for so many images that {num_facets} facets cannot be told apart"
        )
    found = []
    for number in np.argsort(-sizes, kind="stable"):
        weights, bias = probe(values[cluster == number], values[cluster != number])
        found.append(Facet(direction(layer, weights) + bias, best[cluster == number]))
    return found


def scores(model, objective, images):
    """What `objective` gives to each image, (n,)."""
    found = np.zeros(len(images))
    names = sorted(objective.layers - {PICTURE})
    for number, image in enumerate(images):
        image = model.check_image(image)[None]
        values = model.activations(image, names) | {PICTURE: image}
        found[number] = float(objective.score(model, values)[0])
    return found


def pooled(model, images, layer):
    """Average a layer's values over positions, (n, channels)."""
    if not len(images):
        raise ValueError("a facet needs images on both sides; found none on one")
    over_positions = lambda values: np.asarray(values).reshape(len(values), -1, values.shape[-1]).mean(axis=1)
    read = lambda batch: over_positions(model.activations(batch, layer)[layer])
    means = dict(by_shape(read, [model.check_image(image) for image in images], BATCH_SIZE))
    return np.stack([means[index] for index in range(len(images))])


def probe(positives, negatives):
    """(weights, bias) of Fisher's linear discriminant, scaled to +1 and -1 at the two means.

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


def k_means(points, count, key, tries=8, turns=30):
    """The cluster, 0 .. count - 1, of each of n points: Lloyd's algorithm from k-means++ (Arthur and Vassilvitskii
    2007), the best of several tries."""
    random = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    squares = lambda centers: ((points[:, None] - centers) ** 2).sum(axis=2)
    found = []
    for _ in range(tries):
        centers = points[[random.integers(len(points))]]
        while len(centers) < count:
            far = squares(centers).min(axis=1) + 1e-12  # so that equal points can be chosen too
            centers = np.concatenate([centers, points[[random.choice(len(points), p=far / far.sum())]]])
        for _ in range(turns):
            cluster = squares(centers).argmin(axis=1)
            members = [points[cluster == number] for number in range(count)]
            pairs = zip(members, centers, strict=True)
            centers = np.stack([own.mean(axis=0) if len(own) else center for own, center in pairs])
        found.append((squares(centers).min(axis=1).sum(), cluster))
    return min(found, key=lambda each: each[0])[1]
