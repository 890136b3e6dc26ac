"""A browser for pages, wherever they are tested; see `tests.browser` for where there is none."""

import pytest

from tests import browser


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # No sandbox: as root, in a container, Chromium has none.
        launched = playwright.chromium.launch(executable_path=browser.executable(), args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def visit(chromium):
    """(address of a file, width, height, options of a browser context) -> the page, with no network.

    What the console says is an error at the end, and so is whatever the page asks for.
    """
    said, asked, contexts = [], [], []

    def open_page(address, width, height, **options):
        context = chromium.new_context(viewport={"width": width, "height": height}, offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(5000)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []
    assert all(url.startswith(("file:", "data:")) for url in asked)
