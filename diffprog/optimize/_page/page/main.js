// The state of the page, from its address and back; controls; and drawing what depends on what has changed.

const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const objectives = data.objectives.map((objective) => {
  const [[left, right], [bottom, top]] = objective.view, formula = objective.grid ? onGrid(objective.grid) : FORMULAS[objective.name];
  return {
    ...objective, formulaText: objective.formula, formula, width: right - left, height: top - bottom, scale: Math.hypot(right - left, top - bottom),
    families: objective.families.map((family) => ({ ...family, values: family.values.map((value) => value ?? Infinity), path: family.path.map((point) => point.map((x) => x ?? NaN)) })),
    minima: objective.minima.map((minimum) => ({ ...minimum, point: settled(formula, minimum) })),
  };
});
const named = (name) => objectives.find((o) => o.name === name) || objectives[0];

const DEFAULTS = { f: objectives[0].name, m: "heavy ball", n: 150, axis: "evaluations", at: 100, off: [], na: 0.1, nb: 0.5, nn: 1 };
const numeric = ["x", "y", "a", "b", "n", "at", "na", "nb", "nn"];
const LIMITS = { a: [0, Infinity], b: [0, 0.9999], n: [1, 1000], at: [0, 100000], na: [0.0001, 10], nb: [0, 0.9999], nn: [1, 64] };
const WHOLE = ["n", "at", "nn"];
let state = {}, found = null, noise = null;

function opening(name) {
  const objective = named(name), [x, y] = objective.start, [a, b] = objective.settings || settingsThatArrive(objective);
  const longest = Math.max(...objective.families.map((f) => f.path.length - 1), 1);
  return { f: objective.name, x, y, a, b, at: Math.min(longest, 100) };
}

// The best settings of the local quadratic may fly off from a far start: then smaller steps, until the path arrives.
function settingsThatArrive(objective) {
  const minimum = nearestMinimum(objective, objective.start);
  if (!minimum) return [0.01, 0.9];
  const { alpha, beta } = best("heavy ball", minimum.eigenvalues);
  for (let a = alpha; a > alpha / 1000; a /= 2) {
    const { isFinite, distances } = study("heavy ball", objective, objective.start, a, beta, 150);
    if (isFinite && distances[150] <= 0.01 * distances[0]) return [a, beta];
  }
  return [alpha / 1000, beta];
}

function fromAddress() {
  const words = new URLSearchParams(location.hash.slice(1)), read = { ...DEFAULTS, ...opening(words.get("f") || DEFAULTS.f) };
  if (["heavy ball", "nesterov"].includes(words.get("m"))) read.m = words.get("m");
  if (["steps", "evaluations", "seconds"].includes(words.get("axis"))) read.axis = words.get("axis");
  for (const name of numeric) {
    const text = words.get(name), value = text === null || text === "" ? NaN : Number(text);
    if (Number.isFinite(value)) read[name] = limited(name, value);
  }
  if (words.get("off")) read.off = words.get("off").split(".").map(Number).filter(Number.isInteger);
  return read;
}

function limited(name, value) {
  const [low, high] = LIMITS[name] || [-Infinity, Infinity], inside = Math.min(Math.max(value, low), high);
  return WHOLE.includes(name) ? Math.round(inside) : inside;
}

function address() {
  const words = new URLSearchParams();
  for (const name of ["f", "m", "axis", ...numeric]) words.set(name, String(state[name]));
  if (state.off.length) words.set("off", state.off.join("."));
  return `#${words}`;
}

function update(changes) {
  for (const name of Object.keys(changes)) if (numeric.includes(name)) changes[name] = limited(name, changes[name]);
  if (changes.f && changes.f !== state.f) changes = { ...opening(changes.f), off: [], ...changes };
  state = { ...state, ...changes };
  const hash = address();
  $("link").setAttribute("href", hash);
  try { history.replaceState(null, "", hash); } catch { /* a frame in a notebook has no address of its own */ }
  draw();
}

function write(id, text) {
  const node = $(id);
  if (node.textContent !== text) node.textContent = text;
}

function draw() {
  const objective = named(state.f), local = [state.f, state.m, state.x, state.y, state.a, state.b, state.n].join();
  found = kept("study", local, () => study(state.m, objective, [state.x, state.y], state.a, state.b, state.n));
  drawControls(objective);
  drawContour($("contour"), state, objective, found);
  drawMap($("map"), state, objective, found);
  $("map-legend").innerHTML = mapLegend(found, state.m);
  drawModes($("modes"), $("modes-legend"), state, objective, found);
  const texts = captions(state, objective, found), numbers = numbersOf(state, found);
  for (const name of ["contour", "map", "verdict", "modes"]) write(`c-${name}`, texts[name]);
  write("n-rate", factor(numbers.rate));
  write("n-observed", factor(numbers.observed));
  write("n-predicted", numbers.predicted_steps === null ? "–" : numbers.predicted_steps.toLocaleString("en"));
  write("n-counted", numbers.counted_steps === null ? "–" : numbers.counted_steps.toLocaleString("en"));
  $("n-local").innerHTML = localTable(state, found);
  drawFamilies(objective);
  noise = kept("noise", [state.m, state.na, state.nb, state.nn].join(), () => noiseStudy(state.m, state.na, state.nb, state.nn));
  kept("noise drawn", [state.m, state.na, state.nb, state.nn, $("cloud").clientWidth, theme()].join(), () => {
    drawNoise($("cloud"), $("floor"), $("floor-legend"), noise);
    const said = noiseCaptions(state.m, state.na, state.nb, state.nn, noise);
    write("c-cloud", said.cloud);
    write("c-noise", said.noise);
    return true;
  });
}

function drawFamilies(objective) {
  $("h-families").parentElement.hidden = !objective.families.length;
  if (!objective.families.length) return;
  const key = [state.f, state.axis, state.at, state.off, $("paths").clientWidth, theme()].join();
  kept("families", key, () => {
    drawPaths($("paths"), state, objective);
    drawRace($("race"), state, objective);
    write("c-families", familiesCaption(objective));
    return true;
  });
  kept("families table", [state.f, state.off].join(), () => {
    const focused = document.activeElement?.dataset?.family;
    $("families-legend").innerHTML = familiesLegend(state, objective);
    $("families-table").innerHTML = familiesTable(objective);
    if (focused !== undefined) $("families-legend").querySelector(`[data-family="${focused}"]`)?.focus();
    write("c-made", `Run by diffprog.optimize in ${objective.precision} on ${data.machine}, compiled; they begin where the page’s author began, not at the dragged start. An evaluation is a value, a gradient or a product of the Hessian with a vector. Trying out step sizes is not counted.`);
    return true;
  });
}

function drawControls(objective) {
  $("function").value = state.f;
  $("method").value = state.m;
  write("formula", objective.own ? `${objective.formulaText}; between ${objective.grid.size} × ${objective.grid.size} points that diffprog computed, this page interpolates value and gradient: off by at most ${show(objective.grid.error, 2)} of the range of values, where tested.` : `f(x, y) = ${objective.formulaText.replaceAll("-", "−")}`);
  const maximum = found.minimum ? mapAlphaMax(state.m, found.minimum) : 1;
  const set = (id, value, text) => { if (document.activeElement !== $(id) || $(id).type === "range") $(id).value = value; if (text) { $(id).setAttribute("aria-valuetext", text); } };
  set("alpha", Math.round((1000 * Math.min(state.a, maximum)) / maximum), `α ${show(state.a)}`);
  set("beta", Math.round(1000 * state.b), `β ${show(state.b)}`);
  set("alpha-number", Number(state.a.toPrecision(4)));
  set("beta-number", Number(state.b.toPrecision(4)));
  set("steps", state.n);
  write("steps-number", String(state.n));
  const longest = Math.max(...objective.families.map((f) => f.path.length - 1), 1);
  $("at").max = longest;
  set("at", Math.min(state.at, longest));
  write("at-number", String(Math.min(state.at, longest)));
  for (const radio of document.querySelectorAll('input[name="axis"]')) radio.checked = radio.value === state.axis;
  set("noise-alpha", Math.round(1000 * state.na));
  set("noise-beta", Math.round(100 * state.nb));
  set("batch", state.nn);
  write("noise-alpha-number", show(state.na));
  write("noise-beta-number", show(state.nb));
  write("batch-number", `${state.nn} of ${NOISE.examples}`);
  for (const id of ["critical", "best"]) $(id).disabled = !found.minimum;
}

// ---------------------------------------------------------------- what a reader does

const on = (id, event, act) => $(id).addEventListener(event, act);
on("function", "change", (e) => update({ f: e.target.value }));
on("method", "change", (e) => update({ m: e.target.value }));
on("alpha", "input", (e) => update({ a: (Number(e.target.value) / 1000) * (found.minimum ? mapAlphaMax(state.m, found.minimum) : 1) }));
on("beta", "input", (e) => update({ b: Number(e.target.value) / 1000 }));
for (const [id, name] of [["alpha-number", "a"], ["beta-number", "b"]]) {
  on(id, "input", (e) => { if (e.target.value !== "" && Number.isFinite(Number(e.target.value))) update({ [name]: Number(e.target.value) }); });
  on(id, "blur", () => draw());
}
on("steps", "input", (e) => update({ n: Number(e.target.value) }));
on("at", "input", (e) => update({ at: Number(e.target.value) }));
on("noise-alpha", "input", (e) => update({ na: Number(e.target.value) / 1000 }));
on("noise-beta", "input", (e) => update({ nb: Number(e.target.value) / 100 }));
on("batch", "input", (e) => update({ nn: Number(e.target.value) }));
on("axis", "change", (e) => update({ axis: e.target.value }));
on("families-legend", "change", (e) => {
  const index = Number(e.target.dataset.family);
  update({ off: e.target.checked ? state.off.filter((i) => i !== index) : [...state.off, index].sort((a, b) => a - b) });
});
on("plain", "click", () => update({ b: 0 }));
on("best", "click", () => { const { alpha, beta } = best(state.m, found.minimum.eigenvalues); update({ a: alpha, b: beta }); });
on("critical", "click", () => {
  const momenta = found.minimum.eigenvalues.map((x) => criticalMomentum(state.m, state.a, x));
  update({ b: Math.max(...momenta, 0) });
});
on("reset", "click", () => { state = { ...DEFAULTS, ...opening(state.f), off: [] }; update({}); });
on("save", "click", () => {
  const link = document.createElement("a");
  link.href = `data:application/json;charset=utf-8,${encodeURIComponent(JSON.stringify(numbers(), null, 1))}`;
  link.download = `optimize-${state.f}.json`;
  link.click();
});

// Pointers: the start on the contours, α and β on the map.
function follow(place, act) {
  const move = (event) => {
    if (!place.box) return;
    const bounds = place.getBoundingClientRect(), { left, right, top, bottom } = place.box;
    const part = (value, low, high) => Math.min(Math.max((value - low) / (high - low), 0), 1);
    act(part(event.clientX - bounds.left, left, right), 1 - part(event.clientY - bounds.top, top, bottom));
  };
  place.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    place.setPointerCapture(event.pointerId);
    move(event);
    event.preventDefault();
  });
  place.addEventListener("pointermove", (event) => { if (place.hasPointerCapture(event.pointerId)) move(event); });
}
follow($("contour"), (u, v) => {
  const { view: [[left, right], [bottom, top]] } = named(state.f);
  update({ x: left + u * (right - left), y: bottom + v * (top - bottom) });
  $("contour").querySelector(".handle").focus({ preventScroll: true });
});
follow($("map"), (u, v) => update({ a: u * mapAlphaMax(state.m, found.minimum), b: Math.min(v, 0.999) }));
on("contour", "keydown", (event) => {
  const { width, height: tall, view: [[left, right], [bottom, top]] } = named(state.f), size = event.shiftKey ? 0.001 : 0.01;
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] }[event.key];
  if (!step) return;
  event.preventDefault();
  const inside = (value, low, high) => Math.min(Math.max(value, low), high);
  update({ x: inside(state.x + step[0] * size * width, left, right), y: inside(state.y + step[1] * size * tall, bottom, top) });
});

// ---------------------------------------------------------------- the gallery, and numbers for others

const failures = FAILURES.map((failure) => ({ ...failure, ...failure.run() }));

function drawFailures() {
  const gallery = $("failures");
  if (!gallery.children.length) {
    gallery.innerHTML = failures.map((failure) => `<article id="failure-${failure.name}"><h3>${escaped(failure.title)}</h3><p class="formula">${escaped(failure.formula)}</p><div class="plot"></div><ul class="legend"></ul><p class="says">${failure.says}</p><p class="helps">${escaped(failure.helps)}</p>${data.verdicts[failure.name] ? `<p class="judged">${escaped(data.verdicts[failure.name])}</p>` : ""}</article>`).join("");
  }
  failures.forEach((failure, i) => {
    const article = gallery.children[i];
    article.querySelector(".legend").innerHTML = smallChart(article.querySelector(".plot"), failure.plot, failure.title);
  });
}

function numbers() {
  const objective = named(state.f), { minimum } = found;
  const bare = (f) => ({ name: f.name, settings: f.settings, reason: f.reason, seconds_per_step: f.seconds, path: f.path, values: f.values, counts: f.counts });
  return {
    settings: { ...state }, function: objective.formulaText, path: found.path, values: found.path.map(objective.formula.value),
    minimum: minimum && { point: minimum.point, value: minimum.value, eigenvalues: minimum.eigenvalues, best: best(state.m, minimum.eigenvalues), border: border(state.m, state.b, minimum.eigenvalues[1]) },
    ...numbersOf(state, found), predicted_from: found.from ?? null,
    families: objective.families.map(bare),
    noise: { variance: noise.variance, floor: noise.floor, expected: noise.expected, measured: noise.measured, standard_error: noise.error },
    failures: Object.fromEntries(failures.map((f) => [f.name, f.numbers])),
  };
}

$("function").innerHTML = objectives.map((o) => `<option value="${escaped(o.name)}">${escaped(o.title)}</option>`).join("");
window.diffprog = { state: () => ({ ...state }), numbers, study: () => found, noise: () => noise, update, math: { FORMULAS, onGrid, rate, border, best, criticalMomentum, stationaryVariance, meanSquares, descend, reddi, cycleIsExact, objectives, study } };
state = fromAddress();
update({});
drawFailures();
function redraw() { draw(); drawFailures(); }
let width = innerWidth;
addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; redraw(); } });
for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", redraw);
addEventListener("hashchange", () => { state = fromAddress(); draw(); });
