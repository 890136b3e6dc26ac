# ruff: noqa: RUF001
"""The page in a real browser: its arithmetic against Python's, its sentences against its state, pointer and keys."""

import json
import re
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffprog import optimize
from diffprog.optimize import rates
from diffprog.optimize._page.objectives import BUILT_IN
from diffprog.optimize._page.verdicts import verdicts
from tests import browser

ALL_OF = "[f.value(p), f.gradient(p), f.hessian(p)]"

pytestmark = pytest.mark.skipif(browser.why_not() is not None, reason=str(browser.why_not()))


def bent(v):
    return jnp.log(1 + (1 - v[0]) ** 2 + 5 * (v[1] - v[0] ** 2) ** 2)


@pytest.fixture(scope="module")
def explanation():
    optimizers = {"gradient descent": optax.sgd(1e-3), "momentum": optax.sgd(1e-3, momentum=0.9)}
    with jax.enable_x64(True):
        return optimize.explain(bent, jnp.array([-0.5, 1.0]), optimizers, max_steps=60)


@pytest.fixture(scope="module")
def address(explanation, tmp_path_factory):
    return explanation.html(tmp_path_factory.mktemp("page") / "page.html").as_uri()


@pytest.fixture
def show(visit, address):
    def open_page(settings="", width=1200, height=900, scheme="light"):
        return visit(address + settings, width, height, color_scheme=scheme)

    return open_page


def evaluate(page, expression, value=None):
    return page.evaluate(
        f"(value) => {{ const {{math, state, numbers, study, noise}} = diffprog; return {expression} }}", value
    )


def shown(x, digits=4):
    """A number as the page writes it."""
    if not 1e-4 <= abs(x) < 1e7:
        mantissa, exponent = f"{x:.{digits - 2}e}".split("e")
        raised = str(int(exponent)).translate(str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"))
        return f"{float(mantissa):g}·10{raised}".replace("-", "−")
    return (f"{x:,.0f}" if abs(x) >= 10**digits else f"{x:.{digits}g}").replace("-", "−")


def factor(x):
    """A factor per step as the page writes it."""
    gap = abs(1 - x)
    return f"{x:.{min(2 + int(np.ceil(-np.log10(gap))), 12)}f}" if 0 < gap < 1e-3 else shown(x, 5)


def descend(method, gradient, start, alpha, beta, steps):
    point, before, velocity = np.array(start), np.array(start), np.zeros(2)
    path = [point]
    for _ in range(steps):
        if method == "nesterov":
            ahead = point + beta * (point - before)
            point, before = ahead - alpha * gradient(ahead), point
        else:
            velocity = beta * velocity + gradient(point)
            point = point - alpha * velocity
        path.append(point)
    return np.array(path)


# ---------------------------------------------------------------- arithmetic


def test_values_slopes_and_curvatures_are_those_of_our_engine(show):
    page = show()
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        for objective in BUILT_IN:
            points = rng.uniform(*np.transpose(objective.view), size=(40, 2))
            found = evaluate(
                page,
                f"value[1].map((p) => {{ const f = math.FORMULAS[value[0]]; return {ALL_OF}; }})",
                [objective.name, points.tolist()],
            )
            functions = (objective.function, jax.grad(objective.function), jax.hessian(objective.function))
            for column, function in zip(zip(*found, strict=True), functions, strict=True):
                expected = np.asarray(jax.vmap(function)(jnp.asarray(points)))
                np.testing.assert_allclose(column, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


def test_a_function_of_the_users_own_is_interpolated_as_closely_as_the_page_says(show, explanation):
    page = show()
    own = explanation.functions[0]
    points = np.random.default_rng(1).uniform(*np.transpose(own.view), size=(300, 2))
    found = evaluate(
        page,
        "value.map((p) => { const f = math.objectives[0].formula; return [f.value(p), f.gradient(p), f.hessian(p)]; })",
        points.tolist(),
    )
    with jax.enable_x64(True):
        for column, function, times in zip(
            zip(*found, strict=True), (bent, jax.grad(bent), jax.hessian(bent)), (1, 100, 5000), strict=True
        ):
            expected = np.asarray(jax.vmap(function)(jnp.asarray(points)))
            # Each derivative loses about the width of a cell, a 64th of the window.
            assert np.max(np.abs(np.array(column) - expected)) <= 3 * times * own.grid.error * np.ptp(
                own.grid.derivatives[0, 0]
            )
    assert own.grid.error < 1e-6
    outside = evaluate(page, "Number.isNaN(math.objectives[0].formula.value([1e9, 0]))")
    assert outside is True


def test_paths_are_those_of_optax_in_our_loop_to_the_last_digits(show, explanation):
    page = show()
    for found in explanation.functions[1:]:
        for family, beta in zip(found.families, (0, 0.9), strict=True):
            path = evaluate(
                page,
                "math.descend('heavy ball', math.FORMULAS[value.f].gradient, value.start, .001, value.beta, value.n)",
                {"f": found.name, "start": found.start, "beta": beta, "n": len(family.path) - 1},
            )
            np.testing.assert_allclose(path, family.path, rtol=1e-9, atol=1e-9)


def test_nesterov_and_heavy_ball_on_a_quadratic_are_their_closed_forms(show):
    page = show()
    hessian = np.array([[18.64, -23.52], [-23.52, 32.36]])
    eigenvalues, vectors = np.linalg.eigh(hessian)
    start = np.array([-1.1, 1.2])
    for method, alpha, beta in [("heavy ball", 0.02, 0.6), ("nesterov", 0.015, 0.7), ("heavy ball", 0.03, 0)]:
        path = evaluate(
            page,
            "math.descend(value[0], math.FORMULAS.quadratic.gradient, value[1], value[2], value[3], 80)",
            [method, start.tolist(), alpha, beta],
        )
        modes = vectors.T @ start
        exact = [rates.iterates(method, alpha, beta, eigenvalues, k, modes) for k in range(81)]
        np.testing.assert_allclose(np.array(path) @ vectors, exact, rtol=0, atol=1e-12)


def test_rates_borders_and_noise_are_the_closed_forms(show):
    page = show()
    rng = np.random.default_rng(2)
    cases = [
        [m, *row]
        for m in ("heavy ball", "nesterov")
        for row in zip(
            rng.uniform(0, 0.2, 200).tolist(),
            rng.uniform(0, 1, 200).tolist(),
            rng.uniform(0.1, 30, 200).tolist(),
            strict=True,
        )
    ]
    found = evaluate(
        page,
        """value.map(([m, a, b, l]) => [
            math.rate(m, a, b, l), math.border(m, b, l), math.criticalMomentum('heavy ball', a, l),
            math.stationaryVariance(m, a, b, l, 2),
        ])""",
        cases,
    )
    for (method, alpha, beta, eigenvalue), row in zip(cases, found, strict=True):
        expected = [
            rates.rate(method, alpha, beta, eigenvalue),
            rates.largest_stable_step(method, beta, eigenvalue),
            rates.critical_momentum(alpha, eigenvalue),
            rates.stationary_variance(method, alpha, beta, eigenvalue, 2.0),
        ]
        np.testing.assert_allclose([np.inf if x is None else x for x in row], expected, rtol=1e-9)
    for method in ("heavy ball", "nesterov"):
        best = evaluate(page, "math.best(value, [0.7, 91])", method)
        np.testing.assert_allclose(
            [best["alpha"], best["beta"], best["rate"]], rates.best(method, 0.7, 91.0), rtol=1e-12
        )


def test_mean_squares_end_at_the_floor(show):
    page = show()
    for method, alpha, beta in [("heavy ball", 0.1, 0.5), ("nesterov", 0.1, 0.9), ("heavy ball", 0.1, 0)]:
        squares = evaluate(page, "math.meanSquares(value[0], value[1], value[2], 1, 9, 2, 2000)", [method, alpha, beta])
        assert squares[0] == 4
        np.testing.assert_allclose(squares[1], rates.iterates(method, alpha, beta, 1.0, 1, 2.0) ** 2 + alpha**2 * 9)
        np.testing.assert_allclose(squares[-1], rates.stationary_variance(method, alpha, beta, 1.0, 9.0), rtol=1e-9)


@pytest.mark.parametrize(
    "alpha, beta, end, value",
    [
        (0.003, 0, (-0.08498378, 0.00276069), 1.177212),
        (0.003, 0.74, (0.90462409, 0.27254542), 0.0091066026),
        (0.003, 0.9, (0.99988891, 0.33334206), 1.246003e-6),
        (0.003, 0.98, (0.96690317, 0.21873500), 1.5545328),
        (0.003, 0.99, (-0.30556609, -0.13234973), 6.5147349),
    ],
)
def test_the_figure_of_distills_article(show, alpha, beta, end, value):
    """Reference numbers of the figure's own program, 150 steps from (-1.21, 0.853)."""
    numbers = evaluate(show(f"#f=valley&a={alpha}&b={beta}&n=150"), "numbers()")
    np.testing.assert_allclose(numbers["path"][-1], end, atol=6e-9)
    assert numbers["values"][-1] == pytest.approx(value, rel=1e-6)


# ---------------------------------------------------------------- failures


def test_failures_are_what_they_say(show):
    page = show()
    failures = evaluate(page, "numbers().failures")
    hero = failures["hero"]
    assert (
        hero["steps"] == 7
        and hero["border"] == pytest.approx(0.00764477, rel=1e-6)
        and hero["safe"] == pytest.approx(199)
    )
    x, before, cycle = Fraction(-2208, 1225), Fraction(792, 1225), []
    for _ in range(3):
        slope = 25 * x if x < 1 else x + 24 if x < 2 else 25 * x - 24
        x, before = x - slope / 9 + Fraction(4, 9) * (x - before), x
        cycle.append(x)
    assert sorted(cycle) == [Fraction(-2208, 1225), Fraction(792, 1225), Fraction(2592, 1225)]
    assert failures["lessard"]["exact"] is True and failures["lessard"]["error"] < 1e-12
    np.testing.assert_allclose(failures["lessard"]["cycle"], [792 / 1225, -2208 / 1225, 2592 / 1225])
    assert abs(failures["lessard"]["gradient_descent"]) < 1e-2
    adam = failures["adam"]
    assert adam["adam"] > 0.99 and adam["sgd"] == pytest.approx(-0.994, abs=1e-3)
    assert adam["amsgrad"] == pytest.approx(-0.998, abs=1e-3)
    saddle = failures["saddle"]
    assert saddle["value"] == pytest.approx(-0.25) and abs(saddle["from_zero"]) < 1e-12 and saddle["leaves"] > 150
    assert failures["plateau"]["moved"] < 1e-4 and failures["plateau"]["value"] > 0.8
    assert failures["cliff"]["gradient"] > 1000 and not np.isfinite(failures["cliff"]["path"][-1])
    assert failures["cliff"]["clipped_value"] < 0.01
    assert failures["step"]["value"] == 2 and failures["step"]["random_search"] == 0 < failures["step"]["reached"]
    assert failures["kink"]["constant"] > 0.1 > 0.05 > failures["kink"]["decaying"]


def test_sentences_of_failures_have_the_numbers(show):
    page = show()
    failures = evaluate(page, "numbers().failures")
    says = {name: page.locator(f"#failure-{name} .says").inner_text() for name in failures}
    assert page.locator("#failures article").count() == len(failures) == 8
    expected = {
        "hero": [
            "after 7 steps",
            f"λ = {shown(failures['hero']['largest'])}",
            shown(failures["hero"]["border"]),
            "λ < 199",
        ],
        "lessard": ["792/1225, −2208/1225, 2592/1225", "exact in fractions", shown(failures["lessard"]["error"])],
        "adam": ["30,000 steps", shown(failures["adam"]["sgd"]), shown(failures["adam"]["amsgrad"])],
        "saddle": [f"for {failures['saddle']['slow']} steps", f"after {failures['saddle']['leaves']}"],
        "plateau": [shown(failures["plateau"]["gradient"]), shown(failures["plateau"]["moved"])],
        "cliff": [shown(failures["cliff"]["gradient"]), "overflow after", shown(failures["cliff"]["clipped"])],
        "step": ["value 2", f"after {failures['step']['reached']} evaluations"],
        "kink": [shown(failures["kink"]["constant"]), shown(failures["kink"]["decaying"])],
    }
    for name, words in expected.items():
        for word in words:
            assert word in says[name], (name, word, says[name])
    judged = verdicts()
    for name in failures:
        found = page.locator(f"#failure-{name} .judged").all_inner_texts()
        assert found == ([" ".join(judged[name].split())] if name in judged else [])


# ---------------------------------------------------------------- what the page says


def check_sentences(page):
    """Every number that section 1 shows, computed again in Python from the settings alone."""
    state, numbers = evaluate(page, "state()"), evaluate(page, "numbers()")
    (objective,) = [o for o in BUILT_IN if o.name == state["f"]]
    text = {name: page.locator(f"#c-{name}").inner_text() for name in ("contour", "map", "verdict", "modes")}
    with jax.enable_x64(True):
        gradient = jax.jit(jax.grad(objective.function))
        with np.errstate(all="ignore"):
            path = descend(
                state["m"],
                lambda p: np.asarray(gradient(jnp.asarray(p))),
                [state["x"], state["y"]],
                state["a"],
                state["b"],
                state["n"],
            )
        finite = np.isfinite(path).all(axis=1)
        taken = state["n"] if finite.all() else int(np.argmin(finite))
        value = float(objective.function(jnp.asarray(path[taken])))
        minimum = numbers["minimum"]
        eigenvalues = np.linalg.eigvalsh(jax.hessian(objective.function)(jnp.asarray(minimum["point"], float)))
    np.testing.assert_allclose(minimum["eigenvalues"], eigenvalues, rtol=1e-9)
    assert (
        f"from ({shown(state['x'])}, {shown(state['y'])})" in text["contour"]
        and f"α = {shown(state['a'])}" in text["contour"]
    )
    if finite.all():
        np.testing.assert_allclose(numbers["path"], path, rtol=1e-9, atol=1e-9)
        assert (
            f"after {taken} steps at ({shown(path[-1][0])}, {shown(path[-1][1])}), f = {shown(value)}."
            in text["contour"]
        )
    else:
        assert (
            f"overflows after {taken} steps." in text["contour"] and f"overflows after {taken} steps" in text["verdict"]
        )
    worst = max(float(rates.rate(state["m"], state["a"], state["b"], x)) for x in eigenvalues)
    border = float(rates.largest_stable_step(state["m"], state["b"], eigenvalues[1]))
    best = rates.best(state["m"], *eigenvalues)
    # At critical damping the root is double: known to the square root of rounding only.
    assert numbers["rate"] == pytest.approx(worst, rel=1e-7)
    assert numbers["minimum"]["border"] == pytest.approx(border, rel=1e-9)
    assert (
        f"= {shown(border)} at this β; "
        f"best at α* = {shown(best.alpha)}, β* = {shown(best.beta)}: factor {factor(best.rate)}" in text["map"]
    )
    assert ("Converges" if worst < 1 else "Diverges") in text["verdict"] and f"{factor(worst)} a step" in text[
        "verdict"
    ]
    for name, number in [("rate", numbers["rate"]), ("observed", numbers["observed"])]:
        assert page.locator(f"#n-{name}").inner_text() == ("–" if number is None else factor(number))
    for name, number in [("predicted", numbers["predicted_steps"]), ("counted", numbers["counted_steps"])]:
        assert page.locator(f"#n-{name}").inner_text() == ("–" if number is None else f"{number:,}")
    assert page.locator("#alpha-number").input_value() == f"{state['a']:.4g}"
    assert page.locator("#steps-number").inner_text() == str(state["n"])
    return state, numbers


def test_every_sentence_is_the_state(show):
    page = show("#f=valley")
    check_sentences(page)
    page.locator("#critical").click()
    state, _ = check_sentences(page)
    assert state["b"] == pytest.approx((1 - (0.003 * 1.38297436) ** 0.5) ** 2, rel=1e-7)
    page.locator("#alpha-number").fill("0.02")
    page.locator("#beta-number").fill("0.99")
    state, _ = check_sentences(page)
    assert "overflows after 7 steps" in page.locator("#c-verdict").inner_text()
    assert "Your α = 0.02 lies to the right of the map." in page.locator("#c-map").inner_text()
    page.locator("#method").select_option("nesterov")
    page.locator("#best").click()
    check_sentences(page)
    page.locator("#function").select_option("rosenbrock")
    page.locator("#plain").click()
    check_sentences(page)
    page.locator("#function").select_option("two_wells")
    check_sentences(page)
    page.locator("#steps").fill("37")
    assert check_sentences(page)[0]["n"] == 37


def test_a_quadratic_is_predicted_step_by_step(show):
    page = show("#f=quadratic&a=0.03&b=0.6&n=120")
    _, numbers = check_sentences(page)
    assert numbers["predicted_from"] == 0
    predicted, seen = evaluate(page, "[study().predicted, study().modes.slice(0, 121)]")
    np.testing.assert_allclose(predicted, seen, rtol=0, atol=1e-13)
    assert numbers["predicted_steps"] == numbers["counted_steps"]
    assert numbers["observed"] == pytest.approx(numbers["rate"], rel=5e-3)


def test_far_from_a_quadratic_the_prediction_begins_where_it_holds(show):
    numbers = check_sentences(show("#f=valley&a=0.003&b=0.74&n=150"))[1]
    assert numbers["predicted_from"] > 150
    assert numbers["observed"] == pytest.approx(numbers["rate"], rel=1e-3)
    assert numbers["predicted_steps"] == pytest.approx(numbers["counted_steps"], rel=0.01)


def test_noise_falls_on_its_floor(show):
    page = show("#f=quadratic&m=heavy+ball")
    for alpha, beta, batch in [(0.1, 0.5, 1), (0.2, 0, 8), (0.05, 0.9, 4), (0.1, 0.5, 64)]:
        page.evaluate("(changes) => diffprog.update(changes)", {"na": alpha, "nb": beta, "nn": batch})
        noise, text = evaluate(page, "numbers().noise"), page.locator("#c-noise").inner_text()
        variance = 9 * rates.batch_factor(64, batch)
        floor = float(rates.stationary_variance("heavy ball", alpha, beta, 1.0, variance)) / 2
        assert noise["variance"] == pytest.approx(float(variance), rel=1e-12)
        assert noise["floor"] == pytest.approx(floor, rel=1e-9, abs=1e-15)
        if batch == 64:
            assert "The floor is 0." in text
            continue
        assert (
            f"floor of f is {shown(floor)}" in text
            and f"{shown(noise['measured'])} ± {shown(noise['standard_error'], 2)}" in text
        )
        assert abs(noise["measured"] - noise["expected"]) < 4 * noise["standard_error"]
        assert noise["expected"] == pytest.approx(floor, rel=0.01)


def test_families_say_what_python_counted(show, explanation):
    page = show("#f=valley")
    valley = explanation.functions[2]
    assert valley.name == "valley"
    rows = page.locator("#families-table tbody tr")
    for row, family in zip(rows.all(), valley.families, strict=True):
        cells = row.locator("td").all_inner_texts()
        assert row.locator("th").inner_text() == family.name
        assert cells[0] == shown(family.values[-1]) and cells[2] == str(len(family.values) - 1)
        assert cells[3] == cells[4] == str(family.counts["gradient"][-1]) and family.reason in cells[-1]
    assert "no optimizer comes within" in page.locator("#c-families").inner_text()
    for axis in ("steps", "evaluations", "seconds"):
        page.locator(f'input[name="axis"][value="{axis}"]').check()
        assert evaluate(page, "state().axis") == axis
        assert axis in page.locator("#race text.name").first.text_content()
    page.locator("#families-legend input").first.uncheck()
    assert evaluate(page, "state().off") == [0] and page.locator("#race .trace").count() == 1


# ---------------------------------------------------------------- hands


def test_dragging_the_start_and_the_map(show):
    page = show("#f=valley")
    box = page.locator("#contour").bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 120)
    page.mouse.down()
    page.mouse.move(box["x"] + 260, box["y"] + 180)
    page.mouse.up()
    left, right, top, bottom = evaluate(
        page, "(({left, right, top, bottom}) => [left, right, top, bottom])(document.getElementById('contour').box)"
    )
    state, _ = check_sentences(page)
    assert state["x"] == pytest.approx(-2 + 4 * (260 - left) / (right - left), abs=1e-6)
    assert state["y"] == pytest.approx(1.0667 - 1.3334 * (180 - top) / (bottom - top), abs=1e-3)
    box = page.locator("#map").bounding_box()
    page.mouse.click(box["x"] + 150, box["y"] + 100)
    moved, _ = check_sentences(page)
    assert (moved["a"], moved["b"]) != (state["a"], state["b"])


def test_all_of_it_by_keyboard(show):
    page = show("#f=quadratic")
    before = evaluate(page, "state()")
    page.locator("#contour .handle").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowUp")
    after, _ = check_sentences(page)
    assert after["x"] == pytest.approx(before["x"] + 0.032) and after["y"] == pytest.approx(before["y"] + 0.0032)
    assert page.evaluate("document.activeElement.classList.contains('handle')")
    for name, key in [
        ("alpha", "a"),
        ("beta", "b"),
        ("steps", "n"),
        ("at", "at"),
        ("noise-alpha", "na"),
        ("noise-beta", "nb"),
        ("batch", "nn"),
    ]:
        old = evaluate(page, "state()")[key]
        page.locator(f"#{name}").focus()
        page.keyboard.press("ArrowLeft" if name == "at" else "ArrowRight")
        assert evaluate(page, "state()")[key] != old, name
    check_sentences(page)
    unnamed = page.evaluate(
        """[...document.querySelectorAll('input, select, button')].filter(
            (n) => !(n.labels?.length || n.ariaLabel || n.textContent.trim())
        ).length"""
    )
    assert unnamed == 0


def test_the_address_keeps_the_settings(show, visit, address):
    page = show("#f=himmelblau")
    page.locator("#best").click()
    page.locator("#steps").fill("33")
    page.locator('input[name="axis"][value="seconds"]').check()
    page.evaluate("diffprog.update({x: -1.25, y: 2.5, off: [1], nn: 5})")
    link, state = page.locator("#link").get_attribute("href"), evaluate(page, "state()")
    assert page.url.endswith(link)
    again = show(link)
    assert evaluate(again, "state()") == state
    assert [again.locator(f"#c-{n}").inner_text() for n in ("contour", "map", "verdict")] == [
        page.locator(f"#c-{n}").inner_text() for n in ("contour", "map", "verdict")
    ]
    strange = show("#f=nothing&a=-3&b=7&n=abc&off=9.x&m=adam&axis=miles")
    state = evaluate(strange, "state()")
    assert state["f"] == "own" and state["a"] == 0 and state["b"] == 0.9999 and state["n"] == 150
    assert state["m"] == "heavy ball" and state["axis"] == "evaluations"


def test_numbers_are_saved_as_json(show, tmp_path):
    page = show("#f=valley")
    with page.expect_download() as download:
        page.locator("#save").click()
    download.value.save_as(tmp_path / "numbers.json")
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert download.value.suggested_filename == "optimize-valley.json"
    assert numbers["settings"] == evaluate(page, "state()") and numbers["rate"] == evaluate(page, "numbers().rate")
    assert len(numbers["path"]) == 151 and len(numbers["families"]) == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_by_day_and_by_night(show, scheme):
    page = show("#f=valley", width=390, height=800, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    small = page.evaluate(
        """[...document.querySelectorAll('button, select, .button')].filter(
            (n) => n.getBoundingClientRect().height < 44
        ).map((n) => n.id)"""
    )
    assert small == []
    inside = page.evaluate(
        """[...document.querySelectorAll('.plot svg text')].filter((t) => {
            const a = t.getBoundingClientRect(), b = t.closest('.plot').getBoundingClientRect();
            return a.left < b.left - 1 || a.right > b.right + 1;
        }).map((t) => t.textContent)"""
    )
    assert inside == []
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 200) == (scheme == "dark")
    check_sentences(page)
