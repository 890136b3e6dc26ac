"""Chromium, where there is one, for the tests of the page."""

import os
import shutil
import time

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


def wait_until(page, expression: str, value=None, seconds: float = 30) -> None:
    """Wait until a JavaScript expression or function is true on the page.

    Playwright's `wait_for_function` compiles its expression again on the page for every try after the first. The page
    forbids that by its content security policy, so the wait would fail whenever the first try comes too early.
    """
    end = time.monotonic() + seconds
    while not page.evaluate(expression, value):
        assert time.monotonic() < end, f"not true within {seconds} s: {expression}"
        page.wait_for_timeout(20)
