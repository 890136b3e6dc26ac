"""Chromium, where there is one, for the tests of the page."""

import os
import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome")


def executable() -> str | None:
    """The browser's path: DIFFPROG_CHROMIUM if set, else the first of the usual names."""
    return os.environ.get("DIFFPROG_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def why_not() -> str | None:
    """Why the page can't be tested here; None if it can."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "the package playwright is not installed: pip install -e '.[test]'"
    if executable() is None:
        return "no Chromium found: apt-get install chromium, or set DIFFPROG_CHROMIUM to its path"
    return None
