"""How XLA compiles the tests, JAX's settings that some cannot hold under, and a browser for pages (`tests.browser`)."""

import os
from importlib.metadata import version

import pytest

from tests import browser
from tests.settings.promotion import promotes_itself

# Compiling is three quarters of the suite's time. Without LLVM's optimizations and XLA's emitters of fused kernels it
# takes about half of it; what XLA fuses, orders and keeps stays as it is for users. Newer XLA has no such emitters, is
# quicker, and keeps its optimizations, so that both ways are tested. `XLA_FLAGS= pytest` compiles as users do.
if version("jaxlib").startswith("0.10."):
    os.environ.setdefault(
        "XLA_FLAGS",
        "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=0 "
        "--xla_llvm_disable_expensive_passes=true",
    )


def _is_strict():
    import jax

    return jax.config.jax_numpy_dtype_promotion == "strict" or jax.config.jax_numpy_rank_promotion == "raise"


def pytest_collection_modifyitems(items):
    """Skip what cannot hold under the settings of this run, which JAX takes from its environment variables."""
    import jax

    under = {"x64": jax.config.jax_enable_x64, "strict": _is_strict()}
    for item in items:
        for marker in item.iter_markers("not_under"):
            if under[marker.args[0]]:
                item.add_marker(pytest.mark.skip(reason=marker.kwargs["reason"]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Under strict promotion, skip a test whose own program promotes, or a library's; fail where ours does."""
    report = yield
    if call.excinfo is not None and report.failed and _is_strict() and promotes_itself(call.excinfo.value):
        report.outcome = "skipped"
        report.longrepr = (*item.location[:2], "Skipped: its own program, or a library's, promotes types or ranks")
    return report


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
