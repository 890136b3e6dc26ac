// Section 2: runs of many optimizers that Python recorded, with what each asked.

const total = (family, k) => Object.values(family.counts).reduce((sum, list) => sum + list[Math.min(k, list.length - 1)], 0);

function position(family, axis, k) {
  return axis === "steps" ? k : axis === "evaluations" ? total(family, k) : family.seconds * k;
}

const lowestOf = (objective) => Math.min(...objective.minima.map((m) => m.value), ...objective.families.flatMap((f) => f.values.filter(Number.isFinite)));
const firstBelow = (family, lowest) => family.values.findIndex((v) => v - lowest <= 1e-6 * (family.values[0] - lowest));

function drawPaths(place, state, objective) {
  const box = viewFrame(place, objective, "paths"), parts = [];
  objective.families.forEach((family, i) => {
    if (state.off.includes(i)) return;
    const until = Math.min(state.at, family.path.length - 1), points = curve(box, family.path.slice(0, until + 1));
    parts.push(trace(points, `stroke:${COLORS[i]};stroke-dasharray:${DASHES[i]}`));
    if (family.ellipses) parts.push(ellipse(box, family.ellipses[until], COLORS[i]));
    const [x, y] = points[points.length - 1];
    if (Number.isFinite(x) && Number.isFinite(y)) parts.push(`<circle cx="${round(x)}" cy="${round(y)}" r="5" style="fill:${COLORS[i]};stroke:var(--halo);stroke-width:1.5"/>`);
  });
  const [x, y] = objective.start;
  const start = `<circle cx="${box.toX(x)}" cy="${box.toY(y)}" r="6" style="fill:none;stroke:var(--text);stroke-width:2"/>`;
  place.innerHTML = svg(box, background(objective, box) + crosses(objective, box) + start, parts.join(""), "Paths of the optimizers");
}

// One standard deviation around the mean of what CMA-ES draws.
function ellipse(box, [x, y, xx, xy, yy], color) {
  const points = [...Array(49).keys()].map((i) => {
    const [a, b] = [Math.cos((i * TAU) / 48), Math.sin((i * TAU) / 48)];
    const l11 = Math.sqrt(Math.max(xx, 0)), l21 = l11 > 0 ? xy / l11 : 0, l22 = Math.sqrt(Math.max(yy - l21 * l21, 0));
    return [box.toX(x + l11 * a), box.toY(y + l21 * a + l22 * b)];
  });
  return trace(points, `stroke:${color};stroke-width:1.6`);
}

function drawRace(place, state, objective) {
  const width = place.clientWidth || 500, lowest = lowestOf(objective), log = state.axis !== "steps";
  const shown = objective.families.map((family, i) => [family, i]).filter(([, i]) => !state.off.includes(i));
  const first = objective.families[0].values[0] - lowest, range = first > 0 && Number.isFinite(first) ? first : 1;
  const ends = shown.map(([family]) => position(family, state.axis, family.values.length - 1));
  const begins = shown.map(([family]) => position(family, state.axis, state.axis === "seconds" ? 1 : 0));
  const x = { min: log ? Math.max(Math.min(...begins, Infinity), 1e-9) : 0, max: Math.max(...ends, log ? 1e-8 : 1), log, label: state.axis === "seconds" ? "seconds, compiled" : state.axis === "evaluations" ? "evaluations: f + gradients + Hessian products" : "steps" };
  if (!Number.isFinite(x.min)) x.min = 1e-9;
  if (x.min >= x.max) x.max = x.min * 10 || 1;
  const y = { min: range * 1e-16, max: range * 2, log: true, label: "value above the lowest known" };
  const box = frame(width, height(width, 0.72), { x, y });
  const parts = shown.map(([family, i]) => {
    const points = family.values.map((v, k) => [box.toX(Math.max(position(family, state.axis, k), x.min)), box.toY(Math.max(v - lowest, range * 1e-16))]);
    const now = points[Math.min(state.at, points.length - 1)];
    if (!now.every(Number.isFinite)) return "";
    return trace(points, `stroke:${COLORS[i]};stroke-dasharray:${DASHES[i]}`) + `<circle cx="${round(now[0])}" cy="${round(now[1])}" r="5" style="fill:${COLORS[i]};stroke:var(--halo);stroke-width:1.5"/>`;
  });
  place.innerHTML = svg(box, "", parts.join(""), `Value against ${state.axis}`);
}

function familiesLegend(state, objective) {
  return objective.families.map((family, i) =>
    `<li><label><input type="checkbox" data-family="${i}" ${state.off.includes(i) ? "" : "checked"}>${sample(COLORS[i], DASHES[i])}${escaped(family.name)}</label></li>`).join("");
}

function familiesTable(objective) {
  const lowest = lowestOf(objective), count = (family, name) => (family.counts[name] ? family.counts[name][family.counts[name].length - 1].toLocaleString("en") : "–");
  const head = ["optimizer", "value", "above lowest", "steps", "f", "gradients", "Hessian products", "evaluations to 10⁻⁶", "µs a step"];
  const rows = objective.families.map((family) => {
    const below = firstBelow(family, lowest), end = family.values[family.values.length - 1];
    const cells = [show(end), show(end - lowest, 2), family.values.length - 1, count(family, "function"), count(family, "gradient"), count(family, "hessian_vector"), below < 0 ? "–" : total(family, below).toLocaleString("en"), show(family.seconds * 1e6, 3)];
    return `<tr><th scope="row">${escaped(family.name)}</th>${cells.map((c) => `<td>${c}</td>`).join("")}<td class="words">${escaped(family.settings)}; ended: ${escaped(family.reason)}</td></tr>`;
  });
  return `<thead><tr>${head.map((h) => `<th scope="col">${h}</th>`).join("")}<th scope="col" class="words">how</th></tr></thead><tbody>${rows.join("")}</tbody>`;
}

function familiesCaption(objective) {
  const lowest = lowestOf(objective), first = objective.families[0].values[0];
  const ranked = objective.families.map((family) => [family, firstBelow(family, lowest)]).filter(([, k]) => k >= 0);
  const start = `From (${show(objective.start[0])}, ${show(objective.start[1])})`;
  if (!Number.isFinite(first)) return `The function is not finite at (${show(objective.start[0])}, ${show(objective.start[1])}), where the optimizers begin.`;
  if (first <= lowest) return `${start} no optimizer finds a value below the first one, ${show(first)}.`;
  if (!ranked.length) return `${start} no optimizer comes within 10⁻⁶ of the lowest known value ${show(lowest)}.`;
  const least = (cost) => ranked.reduce((a, b) => (cost(b) < cost(a) ? b : a));
  const steps = least(([, k]) => k), asked = least(([family, k]) => total(family, k)), time = least(([family, k]) => family.seconds * k);
  return `${start} ${ranked.length} of ${objective.families.length} come within 10⁻⁶ of the first distance to the lowest value, ${show(lowest)}. `
    + `Fewest steps: ${steps[0].name} (${steps[1]}). Fewest evaluations: ${asked[0].name} (${total(...asked)}). Least time: ${time[0].name} (${show(time[0].seconds * time[1] * 1e6, 3)} µs).`;
}
