// Section 1: a path, the map of exact rates, distances along the eigenvectors, and what they say.

const MAP = { columns: 180, rows: 150 };
const mapAlphaMax = (method, minimum) => (method === "nesterov" ? 2.2 : 4.3) / minimum.eigenvalues[1];
const height = (width, part) => Math.round(Math.max(230, Math.min(400, width * part)));
const cache = new Map();  // drawings that cost time, by what they depend on

function kept(name, key, make) {
  const old = cache.get(name);
  if (old && old.key === key) return old.value;
  const value = make();
  cache.set(name, { key, value });
  return value;
}

const theme = () => (matchMedia("print").matches ? "print" : matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");

function background(objective, box) {
  const key = [objective.name, box.width, box.height, theme()].join();
  return kept(`ground ${box.id}`, key, () => {
    const levels = kept("contours", objective.name, () => contours(objective.formula.value, objective.view));
    const [low, high] = [rgb("--low"), rgb("--high")];
    const image = picture(160, 130, (u, v) => {
      const tone = levels.tone ? levels.tone(u, v) : NaN;
      return Number.isFinite(tone) ? mix(low, high, Math.min(1, Math.floor(tone * LEVELS) / LEVELS)) : high;
    });
    return `<image href="${image}" x="${box.left}" y="${box.top}" width="${box.right - box.left}" height="${box.bottom - box.top}" preserveAspectRatio="none"/>${levels.lines(box.toX, box.toY)}`;
  });
}

function viewFrame(place, objective, id) {
  const [[left, right], [bottom, top]] = objective.view, width = place.clientWidth || 500;
  const box = frame(width, height(width, 0.72), { x: { min: left, max: right, label: objective.labels[0] }, y: { min: bottom, max: top, label: objective.labels[1] } });
  return Object.assign(box, { id });
}

function crosses(objective, box) {
  const shown = objective.minima.slice(0, 60);
  return shown.map(({ point: [x, y] }) => `<path d="M${box.toX(x) - 5} ${box.toY(y) - 5}l10 10m0 -10l-10 10" style="stroke:var(--text);stroke-width:1.8"/>`).join("");
}

function drawContour(place, state, objective, found) {
  const box = viewFrame(place, objective, "contour");
  const points = found.path.map(([x, y]) => [box.toX(x), box.toY(y)]);
  const inView = points.filter(([x, y]) => x > -2000 && x < 4000 && y > -2000 && y < 4000);
  const drawn = trace(inView, "stroke:var(--c1)") + (found.path.length <= 400 ? dots(inView, "var(--c1)", 2.4) : "");
  if (!place.querySelector(".handle")) {
    place.innerHTML = `<div></div><svg style="position:absolute;inset:0"><circle class="handle" r="9" tabindex="0" role="slider" aria-label="Start"/></svg>`;
    place.style.position = "relative";
  }
  place.firstChild.innerHTML = svg(box, background(objective, box) + crosses(objective, box) + drawn, "", "Contours of the function and the path");
  const [, over] = place.children, handle = over.firstChild;
  over.setAttribute("viewBox", `0 0 ${box.width} ${box.height}`);
  over.setAttribute("height", box.height);
  handle.setAttribute("cx", box.toX(state.x));
  handle.setAttribute("cy", box.toY(state.y));
  handle.setAttribute("aria-valuenow", state.x);
  handle.setAttribute("aria-valuetext", `x ${show(state.x)}, y ${show(state.y)}; arrow keys move it`);
  place.box = box;
}

function curve(box, points) {
  return points.map(([a, b]) => [box.toX(a), box.toY(b)]);
}

function drawMap(place, state, objective, found) {
  const width = place.clientWidth || 500, { minimum } = found;
  if (!minimum) { place.innerHTML = ""; place.box = null; return; }
  const lambdas = minimum.eigenvalues, alphaMax = mapAlphaMax(state.m, minimum), optimum = best(state.m, lambdas);
  const box = frame(width, height(width, 0.72), { x: { min: 0, max: alphaMax, label: "step size α" }, y: { min: 0, max: 1, label: "momentum β" } });
  const key = [objective.name, lambdas, state.m, width, theme()].join();
  const under = kept("map", key, () => {
    const least = Math.log(stepsOf(optimum.rate)), dark = theme() === "dark";
    const image = picture(MAP.columns, MAP.rows, (u, v) => {
      const worst = worstRate(state.m, u * alphaMax, v, lambdas);
      if (!(worst < 1)) return dark ? [58, 56, 53] : [214, 210, 202];
      return cividis(1 - (Math.log(stepsOf(worst)) - least) / Math.log(1000));
    });
    const betas = [...Array(201).keys()].map((i) => i / 200);
    const line = (style, points) => trace(curve(box, points), `${style};stroke-width:2`);
    const edge = line("stroke:var(--c1)", betas.map((b) => [border(state.m, b, lambdas[1]), b]));
    const alphas = [...Array(401).keys()].map((i) => (alphaMax * i) / 400);
    const borders = lambdas.map((x) => line("stroke:#fff;stroke-dasharray:5 4", alphas.map((a) => [a, criticalMomentum(state.m, a, x)]).filter(([, b]) => b >= 0 && b <= 1)));
    return `<image href="${image}" x="${box.left}" y="${box.top}" width="${box.right - box.left}" height="${box.bottom - box.top}" preserveAspectRatio="none"/>${borders.join("")}${edge}`;
  });
  const at = ([a, b]) => [Math.min(Math.max(box.toX(a), box.left + 7), box.right - 7), Math.min(Math.max(box.toY(b), box.top + 7), box.bottom - 7)];
  const [bx, by] = at([optimum.alpha, optimum.beta]), [sx, sy] = at([state.a, state.b]), off = state.a > alphaMax;
  const star = `<path d="M${bx - 6} ${by - 6}l12 12m0 -12l-12 12" style="stroke:#000;stroke-width:5"/><path d="M${bx - 6} ${by - 6}l12 12m0 -12l-12 12" style="stroke:#fff;stroke-width:2.5"/>`;
  const mark = off ? `<path d="M${sx - 8} ${sy - 8}l14 8l-14 8z" style="fill:var(--accent);stroke:#fff;stroke-width:2"/>` : `<circle cx="${sx}" cy="${sy}" r="8" style="fill:var(--accent);stroke:#fff;stroke-width:2.5"/>`;
  const [dx, dy] = [box.right - 10, box.bottom - 12];
  const word = `<text class="onmap" x="${dx}" y="${dy}" text-anchor="end">diverges</text>`;
  place.innerHTML = svg(box, under, star + mark + word, "Map of rates over step size and momentum");
  place.box = box;
}

const stepsOf = (factor) => Math.log(1e6) / -Math.log(Math.min(Math.max(factor, 1e-3), 1 - 1e-9));

function mapLegend(found, method) {
  if (!found.minimum) return "";
  const fastest = best(method, found.minimum.eigenvalues).rate, few = stepsOf(fastest);
  const stops = [0, 0.25, 0.5, 0.75, 1].map((t) => `rgb(${cividis(t)}) ${t * 100}%`).join(",");
  return `<li>steps to 10⁻⁶: ${show(few * 1000, 2)} <span class="ramp" style="display:inline-block;width:110px;height:10px;vertical-align:-1px;border-radius:3px;background:linear-gradient(90deg,${stops})"></span> ${show(few, 2)}</li>`
    + `<li>${sample("var(--c1)")}stability border</li><li>${sample("var(--soft)", "5 4")}real | complex roots, a line for each mode</li>`
    + `<li>${sample("var(--text)", "none", "cross")}α*, β*</li><li>${sample("var(--accent)", "none", "dot")}your α, β</li>`;
}

function drawModes(place, legend, state, objective, found) {
  const width = place.clientWidth || 500;
  if (!found.minimum) { place.innerHTML = legend.innerHTML = ""; return; }
  const shown = found.path.length - 1, modes = found.modes.slice(0, shown + 1), size = found.distances[0] || 1;
  const all = modes.flat().map(Math.abs).filter((x) => x > 0 && Number.isFinite(x));
  const y = { min: Math.max(Math.min(...all, size), size * 1e-14) / 2, max: Math.min(Math.max(...all, size), size * 1e6) * 2, log: true, label: "distance along eigenvector" };
  const box = frame(width, height(width, 0.55), { x: { min: 0, max: Math.max(state.n, 1), label: "step" }, y });
  const parts = [];
  for (const i of [0, 1]) {
    const color = i ? "var(--c4)" : "var(--c1)";
    const seen = modes.map((m, k) => [box.toX(k), box.toY(Math.abs(m[i]))]).filter(([, v]) => v < box.bottom + 400);
    parts.push(seen.length > 400 ? trace(seen, `stroke:${color};stroke-width:1.5`) : dots(seen, color, 2.6));
    parts.push(trace(found.predicted.map((m, k) => [box.toX((found.from ?? 0) + k), box.toY(Math.abs(m[i]))]).filter(([, v]) => v < box.bottom + 400), `stroke:${color};stroke-width:1.3;opacity:0.85`));
  }
  if (found.from) parts.push(`<line x1="${box.toX(found.from)}" x2="${box.toX(found.from)}" y1="${box.top}" y2="${box.bottom}" style="stroke:var(--soft);stroke-dasharray:2 3"/>`);
  place.innerHTML = svg(box, "", parts.join(""), "Distance to the minimum along each eigenvector");
  const names = found.minimum.eigenvalues.map((x, i) => `λ${"₁₂"[i]} = ${show(x)}`);
  legend.innerHTML = names.map((name, i) => `<li>${sample(i ? "var(--c4)" : "var(--c1)", "none", "dot")}${name}: dots observed, line predicted</li>`).join("");
}

// ---------------------------------------------------------------- what it says

function regime(method, alpha, beta, lambdas) {
  const turning = lambdas.map((x) => oscillates(method, alpha, beta, x));
  if (turning.every(Boolean)) {
    return method === "nesterov" ? "both modes oscillate (complex roots)" : `both modes oscillate (complex roots), so the factor is √β = ${show(Math.sqrt(beta))} whatever α`;
  }
  if (!turning.some(Boolean)) return "with real roots in both modes";
  return `the ${turning[0] ? "flat" : "steep"} mode oscillates (complex roots), the ${turning[0] ? "steep" : "flat"} one does not`;
}

function captions(state, objective, found) {
  const name = state.m === "nesterov" ? "Nesterov" : state.b === 0 ? "Gradient descent" : "Heavy ball";
  const settings = state.b === 0 ? `α = ${show(state.a)}` : `α = ${show(state.a)}, β = ${show(state.b)}`;
  const [x, y] = found.path[found.path.length - 1], taken = found.path.length - 1, ended = Number.isFinite(x) && Number.isFinite(y);
  const where = `from (${show(state.x)}, ${show(state.y)})`, steps = `${taken} ${taken === 1 ? "step" : "steps"}`;
  const value = ended ? objective.formula.value([x, y]) : NaN;
  const texts = {};
  const out = objective.own;
  texts.contour = ended
    ? `${name}, ${settings}, ${where}: after ${steps} at (${show(x)}, ${show(y)}), f = ${show(value)}.`
    : `${name}, ${settings}, ${where}: ${out ? "leaves the window in which the function was measured" : "overflows"} after ${steps}.`;
  if (!found.minimum) {
    texts.map = "There is no map: no minimum with two positive curvatures was found in the window.";
    texts.verdict = "Without a minimum that curves upward in every direction no rate can be promised.";
    texts.modes = "";
    return texts;
  }
  const lambdas = found.minimum.eigenvalues, limit = border(state.m, state.b, lambdas[1]), optimum = best(state.m, lambdas);
  const center = `(${show(found.minimum.point[0])}, ${show(found.minimum.point[1])})`, rule = state.m === "nesterov" ? "(2 + 2β)/((1 + 2β) λ₂)" : "(2 + 2β)/λ₂";
  texts.map = `Exact factor per step next to the minimum ${center}, by color. Stable up to α = ${rule} = ${show(limit)} at this β; best at α* = ${show(optimum.alpha)}, β* = ${show(optimum.beta)}: factor ${factor(optimum.rate)}.`
    + (state.a > mapAlphaMax(state.m, found.minimum) ? ` Your α = ${show(state.a)} lies to the right of the map.` : "");
  const seen = found.wentOff !== null ? ` The path ${out ? "leaves the window" : "overflows"} after ${found.wentOff} steps.` : found.isFinite ? "" : " The path flies off.";
  if (state.a === 0) texts.verdict = "α = 0: nothing moves.";
  else if (found.rate < 1) {
    const away = found.isFinite ? "" : " It is not near enough to this minimum for that to hold.";
    texts.verdict = `Converges next to the minimum: by ${factor(found.rate)} a step, ${regime(state.m, state.a, state.b, lambdas)}.${seen}${away}`;
  } else texts.verdict = `Diverges at this minimum: α = ${show(state.a)} is ${state.a >= limit ? "not below" : "at"} the border ${show(limit)}; the steep mode grows by ${factor(found.rate)} a step.${seen}`;
  texts.modes = !found.isFinite ? "No prediction: the path does not stay near a minimum."
    : found.from === null ? "The path does not come near enough to a minimum for its quadratic to predict steps; the lines are those of the quadratic from the start."
    : found.from > found.path.length - 1 ? `From step ${found.from} on, beyond those drawn, the slope is that of the local quadratic within 2 %, and its closed form predicts the steps.`
    : found.from === 0 ? "The local quadratic predicts every step from the start: lines and dots are computed apart."
    : `From step ${found.from} on the slope is that of the local quadratic within 2 %, and its closed form predicts the steps.`;
  return texts;
}

function numbersOf(state, found) {
  if (!found.minimum) return { rate: null, observed: null, predicted_steps: null, counted_steps: null };
  return { rate: found.rate, observed: found.observed, predicted_steps: found.predictedSteps, counted_steps: found.counted };
}

function localTable(state, found) {
  if (!found.minimum) return "";
  const [small, large] = found.minimum.eigenvalues, optimum = best(state.m, [small, large]);
  const rows = [
    ["curvatures λ₁, λ₂ at the minimum", `${show(small)}, ${show(large)}`], ["condition κ = λ₂/λ₁", show(large / small)],
    ["stability border at this β", `α < ${show(border(state.m, state.b, large))}`],
    ["α*, β*", `${show(optimum.alpha)}, ${show(optimum.beta)}`], ["best factor", factor(optimum.rate)],
  ];
  return rows.map(([name, value]) => `<tr><th scope="row">${name}</th><td colspan="2">${value}</td></tr>`).join("");
}
