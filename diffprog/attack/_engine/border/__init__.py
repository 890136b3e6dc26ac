"""What may enter an attack, checked once. Each message says what was found, what was expected and what to do."""

from diffprog.attack._engine.border.answers import (
    checked_answer,
    checked_function,
    checked_logits,
    drawn_logits_of,
    logits_of,
    met,
    values_of,
)
from diffprog.attack._engine.border.arguments import (
    checked_budgets,
    checked_choice,
    checked_counts,
    checked_key,
    checked_norm,
    checked_not_negative,
    checked_positive,
    checked_reach,
    float32_at_most,
)
from diffprog.attack._engine.border.data import (
    checked_bounds,
    checked_box,
    checked_image_ids,
    checked_images,
    checked_labels,
    checked_pictures,
)

__all__ = [
    "checked_answer",
    "checked_bounds",
    "checked_box",
    "checked_budgets",
    "checked_choice",
    "checked_counts",
    "checked_function",
    "checked_image_ids",
    "checked_images",
    "checked_key",
    "checked_labels",
    "checked_logits",
    "checked_norm",
    "checked_not_negative",
    "checked_pictures",
    "checked_positive",
    "checked_reach",
    "drawn_logits_of",
    "float32_at_most",
    "logits_of",
    "met",
    "values_of",
]
