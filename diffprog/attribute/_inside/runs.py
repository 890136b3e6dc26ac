"""The runs of a program that patching needs, counted."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffprog.attribute._gradients.quadrature import nodes_and_weights
from diffprog.attribute._inside.credits import is_inexact, value_of
from diffprog.attribute._inside.matching import Match, Site, sites
from diffprog.attribute._inside.origins import origins, unreached
from diffprog.attribute._inside.patched_runs import Patch, PatchedRecorder, replaced
from diffprog.graph import Node, Place, Recording, record


class Runs:
    """Runs a scored function.

    Attributes:
      count: number of runs so far.
    """

    def __init__(self, function: Callable[[Any], Any], clean: Any, corrupt: Any, max_bytes: int, max_nodes: int):
        """Start without runs.

        Args:
          function: of one argument, to the score.
          clean: its argument in the clean run.
          corrupt: its argument in the corrupt run.
          max_bytes: as for `dp.record`.
          max_nodes: likewise.
        """
        self._function = record(function, max_bytes=max_bytes, max_nodes=max_nodes)
        self._clean, self._corrupt = clean, corrupt
        self.count = 0

    def record(self, argument: Any) -> Recording:
        """Run and keep everything."""
        self.count += 1
        return self._function(argument)

    def patched(self, patches: Mapping[Site, Patch], argument: Any) -> Recording:
        """Run with patches."""
        self.count += 1
        make = partial(PatchedRecorder, patches=patches)
        return self._function.run_on(make, (argument,), {})

    def effect(self, patches: Mapping[Site, Patch], baseline: Any) -> float:
        """Say by how much patches of the corrupt run change its score, which is `baseline` (a sum over examples)."""
        score = self.patched(patches, self._corrupt).output
        return float(np.sum(np.asarray(score, np.float64)) - np.sum(np.asarray(baseline, np.float64)))

    def gradients(self, match: Match, steps: int | None) -> Iterator[tuple[Recording, float]]:
        """Differentiate the corrupt run, or runs on the way from it to the clean one.

        Integers have no way in between. Where they make a difference, the floats that are first computed from them go
        the way instead, as the embeddings of words do.

        Yields:
          Recordings with gradients, and their weights, whose sum is 1.
        """
        starts = origins(match)
        watched = [*starts, *unreached(match, starts)]
        if steps is None:
            watched = [node for node in watched if not any(node.differentiable)]
            if not watched:
                yield _differentiated(match.corrupt), 1.0
                return
        turns = {node: site for site, node in sites(match.corrupt).items()}
        parts, weights = ([0.0], [1.0]) if steps is None else nodes_and_weights("gauss_legendre", steps)
        for part, weight in zip(parts, weights, strict=True):
            patches = {turns[node]: _on_the_way(node, match.partner.get(node, node), part) for node in watched}
            argument = jax.tree.map(partial(_between, part=float(part)), self._corrupt, self._clean)
            yield _differentiated(self.patched(patches, argument)), float(weight)


def _differentiated(recording: Recording) -> Recording:
    return recording.backward(jnp.ones_like(recording.output))


def _on_the_way(node: Node, partner: Node, part: float) -> Patch:
    pairs = [(value_of(Place(node, i)), value_of(Place(partner, i))) for i in range(len(node.values))]
    return replaced([None if a is None or b is None else _between(a, b, part) for a, b in pairs])


def _between(corrupt: Any, clean: Any, part: float) -> Any:
    """Go part of the way from one value to another; what is no float stays."""
    if part == 0 or not is_inexact(corrupt):
        return corrupt
    if isinstance(corrupt, (float, complex)):
        return corrupt + part * (clean - corrupt)
    wide = np.complex128 if jnp.iscomplexobj(corrupt) else np.float64
    start, end = np.asarray(corrupt).astype(wide), np.asarray(clean).astype(wide)
    return jnp.asarray((start + part * (end - start)).astype(corrupt.dtype))
