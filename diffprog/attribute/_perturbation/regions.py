"""Connected regions of similar color, as many as asked for."""

import heapq

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

CELLS_PER_REGION = 3  # clusters to begin with, of which regions are merged
NUM_ROUNDS = 10  # of clustering, as in the paper
LEAST_CELL = 3  # pixels along a cell; smaller pictures begin with single pixels


def merge_regions(picture: np.ndarray, count: int, compactness: float) -> np.ndarray:
    """Divide one picture into `count` connected regions.

    Args:
      picture: array (height, width, channels).
      count: of regions.
      compactness: difference of color that weighs as much as the distance between two regions.

    Returns:
      Integers (height, width), numbered in the order of their first pixels.
    """
    height, width, _ = picture.shape
    distance = np.sqrt(height * width / count)
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    scale = compactness / distance
    described = np.concatenate([picture, scale * rows[..., None], scale * columns[..., None]], axis=-1)
    labels = _connected(_clusters(described, CELLS_PER_REGION * count))
    if labels.max() + 1 < count:
        labels = _single_pixels(height, width)
    merged = _merged(labels, described, count)
    _, first, inverse = np.unique(merged, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    return order[inverse].reshape(height, width).astype(np.int32)


def _clusters(described, count):
    """Cluster pixels by color and position, each near its place in a grid."""
    height, width, _ = described.shape
    edge = np.sqrt(height * width / count)
    if edge < LEAST_CELL:
        return _single_pixels(height, width)
    down, across = max(round(height / edge), 1), max(round(width / edge), 1)
    cell_down = np.arange(height) * down // height
    cell_across = np.arange(width) * across // width
    labels = cell_down[:, None] * across + cell_across
    flat = described.reshape(height * width, -1)
    for _ in range(NUM_ROUNDS):
        centers = _means(flat, labels.ravel(), down * across)
        centers[np.bincount(labels.ravel(), minlength=down * across) == 0] = np.inf  # nothing is near an empty cluster
        centers = centers.reshape(down, across, -1)
        best = np.full((height, width), np.inf)
        for step_down in (-1, 0, 1):
            for step_across in (-1, 0, 1):
                near_down = np.clip(cell_down + step_down, 0, down - 1)
                near_across = np.clip(cell_across + step_across, 0, across - 1)
                center = centers[near_down[:, None], near_across]
                costs = ((described - center) ** 2).sum(axis=-1)
                candidates = near_down[:, None] * across + near_across
                labels = np.where(costs < best, candidates, labels)
                best = np.minimum(costs, best)
    return labels


def _single_pixels(height, width):
    return np.arange(height * width).reshape(height, width)


def _means(flat, labels, count):
    sizes = np.maximum(np.bincount(labels, minlength=count), 1)
    sums = [np.bincount(labels, weights=column, minlength=count) for column in flat.T]
    return np.stack(sums, axis=1) / sizes[:, None]


def _connected(labels):
    """Give the parts of a label that do not touch labels of their own."""
    numbers = np.arange(labels.size).reshape(labels.shape)
    pairs = [(numbers[:-1], numbers[1:], labels[:-1] == labels[1:])]
    pairs += [(numbers[:, :-1], numbers[:, 1:], labels[:, :-1] == labels[:, 1:])]
    first = np.concatenate([a[same] for a, _, same in pairs])
    second = np.concatenate([b[same] for _, b, same in pairs])
    graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(labels.size, labels.size))
    return connected_components(graph, directed=False)[1].reshape(labels.shape)


def _merged(labels, described, count):
    """Merge neighbors, those first that add least to the sum of squares inside regions, until `count` are left."""
    flat = described.reshape(labels.size, -1)
    number = int(labels.max()) + 1
    size = np.bincount(labels.ravel(), minlength=number).astype(np.float64)
    mean = _means(flat, labels.ravel(), number)
    touching = np.concatenate(
        [
            np.stack([labels[:-1].ravel(), labels[1:].ravel()], axis=1),
            np.stack([labels[:, :-1].ravel(), labels[:, 1:].ravel()], axis=1),
        ]
    )
    neighbors: list[set[int]] = [set() for _ in range(number)]
    for a, b in np.unique(touching[touching[:, 0] != touching[:, 1]], axis=0).tolist():
        neighbors[a].add(b)
        neighbors[b].add(a)
    age = [0] * number
    cost = lambda a, b: float(size[a] * size[b] / (size[a] + size[b]) * ((mean[a] - mean[b]) ** 2).sum())
    heap = [(cost(a, b), a, b, 0, 0) for a in range(number) for b in neighbors[a] if a < b]
    heapq.heapify(heap)
    into = list(range(number))
    left = number
    while left > count:
        _, a, b, age_a, age_b = heapq.heappop(heap)
        if age[a] != age_a or age[b] != age_b:
            continue
        mean[a] = (size[a] * mean[a] + size[b] * mean[b]) / (size[a] + size[b])
        size[a] += size[b]
        into[b], left = a, left - 1
        age[a], age[b] = age[a] + 1, -1
        neighbors[a] = (neighbors[a] | neighbors[b]) - {a, b}
        for other in sorted(neighbors[a]):
            neighbors[other] = (neighbors[other] - {b}) | {a}
            low, high = min(a, other), max(a, other)
            heapq.heappush(heap, (cost(low, high), low, high, age[low], age[high]))
    roots = np.arange(number)
    for region in range(number):
        root = region
        while into[root] != root:
            root = into[root]
        roots[region] = root
    return roots[labels]
