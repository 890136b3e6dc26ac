"""Texts of all kinds, made from a seed, whose tokens are held against the original's."""

import json
import random
from pathlib import Path

GIVEN = json.loads((Path(__file__).parents[1] / "data" / "clip_tokens.json").read_text(encoding="utf-8"))
# How often a text has a part of a kind: words, English endings, numbers, signs, accents, Chinese and its neighbors,
# other scripts, pictures, HTML, quotes and ligatures, white space and control characters, special tokens. No character
# is younger than Unicode 9, which every Python knows.
WEIGHTS = (40, 6, 6, 8, 8, 6, 5, 6, 5, 4, 3, 1)


def texts(count: int, seed: int = 0) -> list[str]:
    """Make texts, one in forty of which is longer than CLIP reads."""
    draw = random.Random(seed).random  # the only draw that all versions of Python make alike
    pick = lambda values: values[int(draw() * len(values))]
    kinds = [parts for parts, weight in zip(GIVEN["parts"], WEIGHTS, strict=True) for _ in range(weight)]
    made = []
    for _ in range(count):
        length = int(draw() * 12) if draw() > 0.025 else 60
        made.append("".join(pick(pick(kinds)) + (" " if draw() < 0.8 else "") for _ in range(length)))
    return made
