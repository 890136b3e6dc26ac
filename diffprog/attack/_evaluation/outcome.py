"""What one attack did to the images of a batch, or of all batches: arrays, and what follows from them."""

from typing import NamedTuple

import numpy as np

from diffprog.attack._engine.result import AttackResult

GROUPS = ("misclassified", "success", "nonfinite", "failure")


class Outcome(NamedTuple):
    """NumPy arrays, the images on the last axis. S is the number of searches: of budgets, or 1 for the smallest
    perturbation. Each image is in exactly one of `GROUPS`, at each budget."""

    success: np.ndarray  # bool [S, n], as the attack reported it; within its budget, measured here
    success_8bit: np.ndarray  # bool [S, n], the same after rounding to 256 levels
    exceeded: np.ndarray  # bool [S, n], a success that is larger than its budget, and so none
    from_smaller_budget: np.ndarray  # bool [S, n], the search failed, and the success is that of a smaller budget
    size: np.ndarray  # float64 [S, n], of the perturbation, in the evaluation's norm
    predictions: np.ndarray  # int64 [S, n], predicted class of what was returned; -1 where its logits are not finite
    nonfinite: np.ndarray  # bool [S, n], logits of the image, or of what was returned, that are not finite
    initially_wrong: np.ndarray  # bool [n], misclassified before the attack
    first_success: np.ndarray  # int64 [S, n], steps until the first success; -1 without one
    steps: np.ndarray  # int64 [S, n]
    queries: np.ndarray  # int64 [S, n], forward passes
    backward_passes: np.ndarray  # int64 [S, n], backward passes
    seconds: np.ndarray  # float64 [batches], without compilation
    compile_seconds: np.ndarray  # float64 [batches]

    @property
    def smallest(self) -> np.ndarray:
        """float64 [n]: the size of the smallest successful perturbation; 0 where the image was misclassified as it
        came, infinite without a success. An image is broken at every budget from here on."""
        return self._smallest(self.success)

    @property
    def smallest_8bit(self) -> np.ndarray:
        """The same of the perturbations that a file of 8-bit images keeps."""
        return self._smallest(self.success_8bit)

    def _smallest(self, success):
        return np.where(self.initially_wrong, 0.0, np.min(np.where(success, self.size, np.inf), axis=0))

    def groups(self, epsilons) -> dict[str, np.ndarray]:
        """bool [K, n] by name of `GROUPS`, at any budgets. An image for which a search met logits that are not finite
        is a failure of none of its budgets."""
        epsilons = np.asarray(epsilons)[:, None]
        success = (self.smallest <= epsilons) & ~self.initially_wrong
        nonfinite = self.nonfinite.any(axis=0) & ~success & ~self.initially_wrong
        already = np.broadcast_to(self.initially_wrong, success.shape)
        return dict(zip(GROUPS, (already, success, nonfinite, ~(already | success | nonfinite)), strict=True))


def outcome(result: AttackResult | None, valid, size, epsilons, seconds, compile_seconds) -> Outcome:
    """The record of a batch, of whose images those that are `valid` were attacked.

    result:   of those; None if there are none.
    size:     float64 [S, valid], of the perturbations, as measured here.
    epsilons: [S], of the searches; infinite for the smallest perturbation.
    """
    searches, within = len(epsilons), size <= np.asarray(epsilons)[:, None]

    def whole(values, otherwise):
        found = np.full((searches, len(valid)), otherwise)
        if result is not None:
            found[:, valid] = np.reshape(values, (searches, -1))
        return found

    of = lambda name: getattr(result, name, False)
    success = np.reshape(of("success"), (searches, -1)) if result is not None else np.zeros((searches, 0), bool)
    from_smaller_budget = np.broadcast_to(of("from_smaller_budget"), success.shape)
    initially_wrong = whole(of("initially_wrong"), False)[0]
    return Outcome(
        success=whole(success & within, False),
        success_8bit=whole(of("success_8bit") & within, False),
        exceeded=whole(success & ~within, False),
        from_smaller_budget=whole(from_smaller_budget, False),
        size=whole(size, 0.0),
        predictions=whole(of("predictions"), -1),
        nonfinite=whole(of("nonfinite"), False) | ~valid,
        initially_wrong=initially_wrong,
        first_success=whole(of("first_success"), -1),
        steps=whole(of("steps"), 0),
        queries=whole(of("queries"), 0),
        backward_passes=whole(of("backward_passes"), 0),
        seconds=np.array([seconds]),
        compile_seconds=np.array([compile_seconds]),
    )


def joined(outcomes) -> Outcome:
    """Those of several batches as one."""
    return Outcome(*(np.concatenate(parts, axis=-1) for parts in zip(*outcomes, strict=True)))
