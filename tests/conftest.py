"""How XLA compiles the tests, JAX's settings that some cannot hold under, and a browser for pages (`tests.browser`)."""

import os
from importlib.metadata import version

import pytest

from tests import browser

# Compiling is three quarters of the suite's time. Without XLA's emitters of fused kernels it takes two thirds of it;
# newer XLA has no such flag, and is faster. `XLA_FLAGS= pytest` compiles as users do.
if version("jaxlib").startswith("0.10."):
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")


def pytest_collection_modifyitems(items):
    """Skip what cannot hold under the settings of this run, which JAX takes from its environment variables."""
    import jax

    strict = jax.config.jax_numpy_dtype_promotion == "strict" or jax.config.jax_numpy_rank_promotion == "raise"
    under = {"x64": jax.config.jax_enable_x64, "strict": strict}
    for item in items:
        for marker in item.iter_markers("not_under"):
            if under[marker.args[0]]:
                item.add_marker(pytest.mark.skip(reason=marker.kwargs["reason"]))


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
