"""The landscape's page in a real browser: keys, mouse, path, phone width, dark, and not one error."""

import jax.numpy as jnp
import numpy as np
import pytest

from diffprog.optimize import landscape
from diffprog.optimize._landscape.shading import shading
from tests import browser

pytestmark = pytest.mark.skipif(browser.why_not() is not None, reason=str(browser.why_not()))


@pytest.fixture(scope="module")
def plane():
    path = jnp.stack([jnp.linspace(1, 0, 9), jnp.linspace(-1, 0, 9) ** 3], axis=1)
    objective = lambda p: (p[0] - p[1]) ** 2 + 0.3 * p[1] ** 2 + 0.01
    units = [jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])]
    return landscape(objective, jnp.zeros(2), units, path=path, extent=1.5, num_points=31)


@pytest.fixture
def show(visit, tmp_path):
    def open_page(found, width=1000, height=900, scheme="light"):
        path = found.html(tmp_path / "page.html", title="Bowl")
        return visit(path.as_uri(), width, height, color_scheme=scheme, reduced_motion="reduce")

    return open_page


def caption(found, row, column):
    x, y = found.coordinates[0][column], found.coordinates[1][row]
    short = lambda number, digits: f"{float(f'{number:.{digits}g}'):g}"
    value = short(found.values[row, column], 5)
    center = short(found.center_value, 5)
    return f"objective {value} at ({short(x, 4)}, {short(y, 4)}); {center} at the center"


def test_captions_equal_the_values_as_keys_move_the_cross(show, plane):
    page = show(plane)
    page.locator("#stage").focus()
    row = column = 15
    assert page.inner_text("#here") == caption(plane, row, column).replace("-0,", "0,")
    for key, (down, right) in [
        ("ArrowUp", (1, 0)),
        ("ArrowRight", (0, 1)),
        ("ArrowUp", (1, 0)),
        ("ArrowLeft", (0, -1)),
    ]:
        for _ in range(3):
            page.keyboard.press(key)
            row, column = row + down, column + right
        if key != "ArrowLeft":
            assert page.inner_text("#here") == caption(plane, row, column)
    page.keyboard.press("Home")
    assert page.evaluate("landscape.state().row") == 15
    for _ in range(40):
        page.keyboard.press("ArrowLeft")
    assert page.evaluate("landscape.state().column") == 0


def test_the_mouse_points_at_what_is_drawn_there(show, plane):
    page = show(plane)
    box = page.locator("#picture").bounding_box()
    x, y = page.evaluate("landscape.place(0.9, -0.6)")
    page.mouse.move(box["x"] + x, box["y"] + y)
    row, column = page.evaluate("[landscape.state().row, landscape.state().column]")
    np.testing.assert_allclose([plane.coordinates[0][column], plane.coordinates[1][row]], [0.9, -0.6], atol=1e-9)
    assert page.inner_text("#here") == caption(plane, row, column)
    found = page.evaluate("landscape.heightAt(0.9, -0.6)")
    np.testing.assert_allclose(found, shading(plane.values).shade(plane.values)[row, column], atol=1e-9)


def test_colors_on_the_canvas_are_those_of_the_values(show, plane):
    viridis = pytest.importorskip("matplotlib").colormaps["viridis"]
    page = show(plane)
    page.uncheck("#contours")
    page.fill("#step", "0")
    places = [(row, column) for row in (2, 12, 20, 28) for column in (3, 9, 21, 29)]
    points = [[plane.coordinates[0][column], plane.coordinates[1][row]] for row, column in places]
    pixels = """(points) => {
      const c = document.getElementById("picture"), r = devicePixelRatio;
      const all = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
      return points.map(([x, y]) => {
        const [a, b] = landscape.place(x, y), start = 4 * (Math.round(b * r) * c.width + Math.round(a * r));
        return [...all.slice(start, start + 3)];
      });
    }"""
    shades = shading(plane.values).shade(plane.values)
    expected = [255 * np.array(viridis(shades[place])[:3]) for place in places]
    # A stop of the page's color scale is a ninth of it, and a pixel may be half a point away.
    np.testing.assert_allclose(page.evaluate(pixels, points), expected, atol=25)


def test_the_path_is_walked_step_by_step(show, plane):
    page = show(plane)
    assert "point 8 of 8" in page.inner_text("#point")
    page.fill("#step", "0")
    text = page.inner_text("#point")
    assert text.startswith(f"point 0 of 8: objective {float(f'{plane.path_values[0]:.5g}'):g}, at (1, -1)")
    page.click("#play")
    browser.wait_until(page, 'document.getElementById("point").textContent.startsWith("point 8")')
    assert page.inner_text("#play") == "play"


def test_the_surface_turns_by_mouse_and_keys(show, plane):
    page = show(plane)
    page.click("#solid")
    assert page.get_attribute("#solid", "aria-pressed") == "true"
    before = page.evaluate('document.getElementById("picture").toDataURL()')
    page.locator("#stage").focus()
    page.keyboard.press("ArrowRight")
    after = page.evaluate('document.getElementById("picture").toDataURL()')
    assert before != after and abs(page.evaluate("landscape.state().turn") - 0.8) < 1e-9
    box = page.locator("#picture").bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 350, box["y"] + 200)
    page.mouse.up()
    assert page.evaluate("landscape.state().turn") > 1.5
    page.keyboard.press("Home")
    assert page.evaluate("landscape.state().turn") == 0.7


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_of_it(show, plane, scheme):
    page = show(plane, 390, 844, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    outside = """[...document.querySelectorAll("main *")].filter((e) => e.offsetParent &&
      (e.getBoundingClientRect().right > 391 || e.getBoundingClientRect().left < -1)).map((e) => e.id || e.tagName)"""
    assert page.evaluate(outside) == []
    light = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(245, 244, 241)"
    assert light == (scheme == "light")


def test_a_line_has_no_surface_and_no_colors(show):
    found = landscape(lambda p: jnp.sum(p**2), jnp.ones(2), [jnp.array([1.0, 0.0])], num_points=11)
    page = show(found)
    assert not page.locator("#solid").is_visible() and not page.locator("#scale").is_visible()
    assert not page.locator("#walk").is_visible()
    page.locator("#stage").focus()
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#here") == f"objective {float(f'{found.values[6]:.5g}'):g} at 0.2; 2 at the center"
