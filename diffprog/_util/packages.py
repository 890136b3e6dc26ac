"""What belongs to installed packages: it is known by a name and the package's version."""

import functools
import sys
import types
from importlib import metadata
from pathlib import Path
from platform import python_version
from typing import Any

from diffprog._util.fingerprint import fingerprint


def package_name(value: Any) -> str | None:
    """Name something that an installed package has under its own name, with the package's version."""
    module, path = getattr(value, "__module__", None), getattr(value, "__qualname__", getattr(value, "__name__", None))
    if not (isinstance(module, str) and isinstance(path, str)) or (version := package_version(module)) is None:
        return None
    member: Any = sys.modules.get(module)
    for part in path.split("."):
        member = getattr(member, part, None)
    return f"{module}.{path} {version}" if member is value else None


@functools.lru_cache(maxsize=4096)
def package_version(module: str) -> str | None:
    """Look up the version of an installed package by one of its modules; None for a module of the user's."""
    package = module.partition(".")[0]
    if package in sys.stdlib_module_names or package == "builtins":
        return python_version()
    top = sys.modules.get(package)
    places = [getattr(top, "__file__", None) or "", *map(str, getattr(top, "__path__", ()))]
    if package != "diffprog" and not any(
        {"site-packages", "dist-packages"} & set(Path(place).parts) for place in places
    ):
        return None
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return str(getattr(top, "__version__", "unknown"))


def module_content(module: types.ModuleType) -> str:
    """Describe a module as a whole: an installed one by its version, one of the user's by its text."""
    if (version := package_version(module.__name__)) is not None:
        return f"{module.__name__} {version}"
    try:
        return fingerprint(Path(module.__file__ or "").read_bytes())
    except OSError:
        return module.__name__
