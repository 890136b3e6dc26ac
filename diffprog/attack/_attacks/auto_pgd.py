"""Auto-PGD: projected gradient ascent with momentum, which halves its own steps and restarts from its best point."""

from collections.abc import Callable
from typing import Unpack

import jax

from diffprog.attack._attacks.ascent import dense_ascent
from diffprog.attack._attacks.ascent_l1 import sparse_ascent
from diffprog.attack._engine import border
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import Options, search
from diffprog.attack._losses import cross_entropy, likely_target_classes, of_label, targeted_dlr
from diffprog.attack._norms import Norm, l1, l2, linf


def apgd(
    model: Callable,
    images,
    labels,
    *,
    key: jax.Array,
    norm: Norm = linf,
    epsilon=8 / 255,
    max_steps: int = 100,
    loss: Callable = cross_entropy,
    **options: Unpack[Options],
) -> AttackResult:
    """Auto-PGD (Croce & Hein 2020b, algorithm 1), which needs no step size: it begins with 2 epsilon, and at its
    checkpoints each image halves its own step if the last ones did not pay, and goes back to its best point.

    Checkpoints are 0.22 steps apart, then 0.03 less each time, down to 0.06. The random start lies on the surface of
    the ball, before the box cuts it off. In L1 it is the variant of Croce & Hein (2021, algorithm 1), which begins in
    balls of three and two times the budget; nothing from outside the budget is ever returned.

    Two things differ from the authors' program. The projection is onto ball and box together, where theirs cuts off
    what leaves the box after it has projected onto the ball (L2). And whether the first step raised the loss is told by
    the loss of the start, as in the paper, not by 0.

    loss: `cross_entropy`, `dlr` (APGD-DLR; with two classes it is the margin), or any other of (logits, labels).

    Returns each image's best point: a success before a failure, then the larger loss. Other arguments and errors are
    those of `pgd`.
    """
    return _search("apgd", model, images, labels, of_label(loss), key, norm, epsilon, max_steps, options)


def apgd_targeted(
    model: Callable,
    images,
    labels,
    *,
    key: jax.Array,
    norm: Norm = linf,
    epsilon=8 / 255,
    max_steps: int = 100,
    num_target_classes: int = 9,
    **options: Unpack[Options],
) -> AttackResult:
    """APGD-T (Croce & Hein 2020b): `apgd` on the targeted difference of logits ratio, towards each of the `targets`
    likeliest wrong classes in turn; each time the images are searched that still stand.

    "Targeted" is the search, not the goal: whatever wrong class is reached is a success. A model of K classes has at
    most K - 1 targets. The ratio's scale is the lead of the largest logit on the mean of the third and the fourth; of
    three classes it is the lead on the third, and of two there is none.
    """
    border.checked_counts(num_target_classes=num_target_classes)
    return _search(
        "apgd-t",
        model,
        images,
        labels,
        targeted_dlr,
        key,
        norm,
        epsilon,
        max_steps,
        options,
        target_classes=likely_target_classes(num_target_classes),
    )


def _search(name, model, images, labels, loss, key, norm, epsilon, max_steps, options, target_classes=None):
    border.checked_counts(max_steps=max_steps)
    ascent = sparse_ascent if border.checked_norm(norm, (linf, l2, l1)) is l1 else dense_ascent
    method, given = ascent(name, norm, loss, max_steps)
    return search(
        model,
        images,
        labels,
        method,
        max_steps=max_steps,
        key=key,
        epsilon=epsilon,
        given=given,
        target_classes=target_classes,
        **options,
    )
