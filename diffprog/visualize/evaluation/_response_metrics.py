"""What networks make of a picture: robustness, transfer to other networks, likeness to natural images on the way."""

from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffprog import images as files
from diffprog._util.batches import in_batches
from diffprog.visualize.evaluation._batched import BATCH, scorer

FRESH = 0x5C02E5  # folded into the rendering's key: draws that no step of a rendering has seen


def robust_ratio(model, objective, image, transform, key, num_transforms=64):
    """The mean score under fresh random transforms, as a part of the score of the picture as it is.

    image: (height, width, 3). key: may be the one that the picture was rendered with, since it
    is folded with `FRESH` first, while a rendering splits it and folds the step numbers into the parts.
    Near 1: the unit sees the motif wherever it is. Near 0: the score hangs on single pixels. nan where the score of
    the picture as it is isn't positive.
    """
    keys = jax.random.split(jax.random.fold_in(key, FRESH), num_transforms)
    transformed = _copies(transform)(keys, jnp.asarray(image))
    score = scorer(model, [objective])
    alone, moved = score(np.asarray(image)[None])[0, 0], score(np.asarray(transformed))[0]
    return float(moved.mean() / alone) if alone > 0 else float("nan")


@lru_cache(maxsize=32)
def _copies(transform):
    """A picture under one draw for each key, compiled once for each transform."""
    return jax.jit(jax.vmap(transform, (0, None)))


class Transfer(NamedTuple):
    """What a network says of a picture of a class: the rank of that class (1 is best) and its probability."""

    network: str
    rank: int
    probability: float

    @property
    def top1(self):
        return self.rank == 1

    @property
    def top5(self):
        return self.rank <= 5


def transfer(networks, label, image):
    """One `Transfer` for each network, all shown the picture scaled to their own size.

    label: the class by name, synonym or number in each of the networks. image: (height, width, 3) in [0, 1].
    """
    found = []
    for network in networks:
        index = network.label_index(label)
        logits = np.asarray(network(files.resize(image, network.size, network.size)[None]), np.float64)[0]
        rank = 1 + int(np.sum(logits > logits[index]))
        shares = np.exp(logits - logits.max())
        found.append(Transfer(network.name, rank, float(shares[index] / shares.sum())))
    return found


def features(model, images, layers):
    """{layer: (n, channels)}: the layers' values of n images, averaged over all positions."""
    over_positions = lambda value: np.asarray(value).reshape(len(value), -1, value.shape[-1]).mean(axis=1)
    read = lambda batch: jax.tree.map(over_positions, model.activations(batch, layers))
    found = in_batches(read, np.asarray(images), BATCH)
    return {layer: found[layer] for layer in layers}


class Likeness(NamedTuple):
    """Mean cosines between a layer's features: of a picture with a unit's top natural images, of different ones among
    these, and of these with other natural images."""

    picture: float
    top: float
    other: float

    @property
    def normalized(self):
        """1 where the picture is to the layer as a top image is to the others, 0 where it is like any natural image,
        negative where it is less; nan where `top` exceeds `other` by less than `MARGIN`: natural images set no scale
        where the top ones are no more alike than any."""
        scale = self.top - self.other
        return (self.picture - self.other) / scale if scale >= MARGIN else float("nan")


MARGIN = 0.05


def path_similarity(picture, top, other):
    """The `Likeness` of a picture to a unit's top natural images, in one layer.

    picture: (channels,); top: (k, channels), of the unit's k >= 2 top natural images; other: (m, channels), of other
    natural images: the layer's values averaged over positions (`features`). That pictures and natural images should be
    compared layer by layer is due to Geirhos et al. 2024, "Don't trust your eyes: on the (un)reliability of feature
    visualizations"; averaging over positions and the normalization are ours.
    """
    across, own = np.mean(_cosines(top, other)), np.mean(_cosines(picture[None], top))
    return Likeness(float(own), mean_similarity(top), float(across))


def along_path(likenesses):
    """The `Likeness` over several layers: the mean of theirs, normalized as a whole, so that no single layer in which
    natural images set hardly a scale decides."""
    return Likeness(*(float(np.mean(column)) for column in zip(*likenesses, strict=True)))


def mean_similarity(vectors):
    """The mean cosine between different rows of (n, channels); nan for fewer than two rows."""
    count = len(vectors)
    return float((_cosines(vectors, vectors).sum() - count) / (count * (count - 1))) if count > 1 else float("nan")


def seed_stability(pictures, natural):
    """How alike pictures of one unit from several random keys are: near 1, the same motifs; near 0, unrelated ones.

    pictures: (n, channels), their features in one layer; natural: (m, channels), those of natural images, whose mean is
    subtracted first, since to most layers all images have much in common. The mean cosine between different pictures.
    """
    return mean_similarity(pictures - np.mean(natural, axis=0))


def _cosines(a, b):
    a, b = (np.asarray(rows, np.float64) for rows in (a, b))
    norms = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)
    return a @ b.T / np.maximum(norms, 1e-12)
