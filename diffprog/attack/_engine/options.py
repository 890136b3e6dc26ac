"""What every attack takes besides its own arguments."""

import inspect
import re
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, NamedTuple, TypedDict, TypeVar, cast

import jax
import numpy as np
from jax.typing import ArrayLike

from diffprog._util.promotion import own_promotion
from diffprog._util.spelling import check_names
from diffprog.attack._engine import validation
from diffprog.attack._engine.spelling import MEANT, as_norm
from diffprog.attack._registry import ATTACKS

F = TypeVar("F", bound=Callable[..., Any])

FOLLOW_CLASSES = ("deepfool", "jsma")  # FAB, too, which within AutoAttack may be judged by a criterion


class Options(TypedDict, total=False):
    """What every attack takes besides its own arguments.

    Args:
      targeted: labels are the classes to reach, not to leave.
      criterion: `(logits (n, ...), labels (n, ...)) -> bool (n,)`, what counts as a success instead of the labels. With
        a loss of one's own, logits and labels are whatever these two read: rows of tags, numbers, one class per pixel.
      mask: bool, what may change; of the shape of the images, or of one image, or with a size of 1 where it does not
        vary.
      bounds: (lowest, highest) value of a pixel, (0, 1) by default: numbers, or arrays that broadcast to an image, such
        as one number per channel or column. None, for both or for one, or an infinite one, for values without bounds.
      restarts: searches from fresh random starts, 1 by default; after the first, only images that still stand are
        searched. The best of an image is kept.
      early_stop: end an image's search with its first success. By default a search within a budget goes on to the
        highest loss.
      every_budget: of several budgets, search within each one for each image. By default the smallest budget within
        which an image falls decides the larger ones, too: the same image is returned there, and no search is spent.
      confidence: lead of the winning class, in units of the logits, that the search must reach, 0 by default; what is
        returned is judged without it.
      batch_size: rows of a compiled batch; the number of images by default. More images wait in a queue. Results are
        equal bit for bit for equal batch sizes, whatever shares the batch, and equal to rounding otherwise.
      image_ids: int (n,), the images' numbers in their data set, 0 .. n-1 by default. Random draws of an image depend
        on the key, the attack's name and this number alone.
      devices: one or a list, over which the rows of a batch are divided; the batch size is rounded up to a multiple of
        their number.
      engine: whose gradients, "diffprog" (default) or "jax".
      skip: bool (n,), or of several budgets (K, n); images that are not attacked, and come back as failures.
      progress: a caption, which switches on a progress bar.
    """

    targeted: bool
    criterion: Callable[..., Any] | None
    mask: ArrayLike | None
    bounds: tuple[ArrayLike, ArrayLike] | None
    restarts: int
    early_stop: bool
    every_budget: bool
    confidence: float
    batch_size: int | None
    image_ids: ArrayLike | None
    devices: Sequence[jax.Device] | None
    engine: str
    skip: ArrayLike | None
    progress: str | None


class SteeredOptions(Options, total=False):
    """What an attack takes besides that seeks the smallest perturbation along the gradient of a loss.

    Args:
      loss: `(logits, labels) -> (n,)`, above 0 exactly where a criterion of one's own holds, such as
        `top_k_margin(3)`: what the search raises instead of the lead of another class.
    """

    loss: Callable[..., jax.Array] | None


class QueryOptions(Options, total=False):
    """What an attack takes besides that needs no gradient.

    Args:
      max_queries: of each image, over all restarts and within each budget; no limit by default. Queries of the search
        count, which `result.queries` tells, not the looks at the image itself and at what is returned. A search ends
        where it could not afford another step.
    """

    max_queries: int | None


class Settings(NamedTuple):
    """Parsed `Options`, with their defaults."""

    targeted: bool = False
    criterion: Callable[..., Any] | None = None
    loss: Callable[..., jax.Array] | None = None
    mask: Any = None
    bounds: tuple[Any, Any] = (0.0, 1.0)
    restarts: int = 1
    early_stop: bool = False
    every_budget: bool = False
    confidence: float = 0.0
    batch_size: int | None = None
    image_ids: Any = None
    devices: Sequence[jax.Device] | None = None
    engine: str = "diffprog"
    skip: Any = None
    progress: str | None = None
    max_queries: int | None = None


def parse_options(options: Options | SteeredOptions | QueryOptions) -> Settings:
    """Check the options that every attack takes, and fill in the defaults."""
    check_names("an attack", options, Settings._fields, MEANT)
    settings = Settings(**cast(dict[str, Any], options))
    validation.check_counts(restarts=settings.restarts)
    if settings.batch_size is not None:
        validation.check_counts(batch_size=settings.batch_size)
    if settings.max_queries is not None:
        validation.check_counts(max_queries=settings.max_queries)
    validation.check_nonnegative(confidence=settings.confidence)
    if np.ndim(settings.targeted):
        raise ValueError(
            f"targeted must be True or False; found {type(settings.targeted).__name__} of shape "
            f"{np.shape(settings.targeted)}: the classes to reach are the labels"
        )
    return settings._replace(
        targeted=validation.check_switch("targeted", settings.targeted),
        early_stop=validation.check_switch("early_stop", settings.early_stop),
        every_budget=validation.check_switch("every_budget", settings.every_budget),
        bounds=validation.check_bounds(settings.bounds),
        devices=validation.check_devices(settings.devices),
        progress=validation.check_caption(settings.progress),
    )


def is_steered(name: str) -> bool:
    """Tell whether an attack seeks the smallest perturbation along the gradient of a loss of the caller's choice."""
    info = ATTACKS.get(name)
    return (
        info is not None
        and (info.goal, info.access) == ("minimum_norm", "gradients")
        and name not in (*FOLLOW_CLASSES, "fab")
    )


def is_blind(name: str) -> bool:
    """Tell whether an attack learns of the model by queries alone, without gradients."""
    return name in ATTACKS and ATTACKS[name].access != "gradients"


def documents_options(attack: F) -> F:
    """Make a function of the package an attack as people call it.

    The shared options stand in its docstring, in place of its entry `**options`. Arguments that it lacks are answered
    with the word that is meant; norms and keys may be written as people write them. It runs under JAX's default rules
    of promotion, and the functions that it is given run under the caller's.
    """
    further = [SteeredOptions] * is_steered(attack.__name__) + [QueryOptions] * is_blind(attack.__name__)
    described = [*further, Options]
    entries = "".join((inspect.getdoc(each) or "").partition("Args:\n")[2].rstrip() + "\n" for each in described)
    text = inspect.getdoc(attack) or ""
    attack.__doc__ = re.sub(r"^  \*\*options: .*\n(?:    .*\n)*", lambda _: entries, text, flags=re.M)
    known = [name for name in inspect.signature(attack).parameters if name != "options"]
    known += [
        name for name in Settings._fields if name not in known and any(name in o.__annotations__ for o in described)
    ]

    has_budget = "epsilon" in known and inspect.signature(attack).parameters["epsilon"].default is not None

    @wraps(attack)
    def call(*arguments, **options):
        check_names(attack.__name__, options, known, MEANT)
        if has_budget and options.get("epsilon", 0) is None:
            raise ValueError("epsilon must be a number of at least 0; found None: give infinity for no budget")
        if "norm" in options:
            options["norm"] = as_norm(options["norm"])
        if options.get("key") is not None:
            options["key"] = validation.check_key(options["key"])
        with own_promotion():
            return attack(*arguments, **options)

    return cast(F, call)
