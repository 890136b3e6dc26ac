// Section 3: f = x^2 / 2 from sqrt(3), each example's gradient with noise of deviation 3, batches of b out of 64.

const NOISE = { examples: 64, deviation: 3, start: Math.sqrt(3), steps: 300, runs: 400, drawn: 60, seed: 7 };

function noiseStudy(method, alpha, beta, batch) {
  const variance = NOISE.deviation ** 2 * batchFactor(NOISE.examples, batch), floor = stationaryVariance(method, alpha, beta, 1, variance) / 2;
  const exact = meanSquares(method, alpha, beta, 1, variance, NOISE.start, NOISE.steps).map((x) => x / 2);
  const [p, q] = recursion(method, alpha, beta, 1), draw = normals(NOISE.seed), scale = alpha * Math.sqrt(variance);
  const mean = new Array(NOISE.steps + 1).fill(0), cloud = [], ends = [], from = Math.floor(NOISE.steps * 2 / 3);
  for (let run = 0; run < NOISE.runs; run++) {
    let [x, before] = [NOISE.start, NOISE.start], late = 0;
    const path = [x];
    mean[0] += x * x / 2;
    for (let k = 1; k <= NOISE.steps; k++) {
      [x, before] = [p * x + q * before - scale * draw(), x];
      mean[k] += x * x / 2;
      if (k > from) late += x * x / 2;
      path.push(x);
    }
    if (run < NOISE.drawn) cloud.push(path);
    ends.push(late / (NOISE.steps - from));
  }
  const measured = ends.reduce((a, b) => a + b) / NOISE.runs;
  const error = Math.sqrt(ends.reduce((sum, x) => sum + (x - measured) ** 2, 0) / (NOISE.runs - 1) / NOISE.runs);
  const expected = exact.slice(from + 1).reduce((a, b) => a + b) / (NOISE.steps - from);
  return { variance, floor, exact, mean: mean.map((x) => x / NOISE.runs), cloud, measured, error, expected, from };
}

function drawNoise(place, other, legend, study) {
  const width = place.clientWidth || 500, deviation = Math.sqrt(2 * study.floor), top = Number.isFinite(deviation) ? Math.max(NOISE.start * 1.3, 3.5 * deviation) : 10;
  const box = frame(width, height(width, 0.6), { x: { min: 0, max: NOISE.steps, label: "step" }, y: { min: -top, max: top, label: "x" } });
  const points = study.cloud.flatMap((path) => path.filter((_, k) => k % 3 === 0).map((x, k) => [box.toX(3 * k), box.toY(x)]));
  const band = Number.isFinite(deviation) ? [1, -1].map((s) => `<line x1="${box.left}" x2="${box.right}" y1="${box.toY(s * 2 * deviation)}" y2="${box.toY(s * 2 * deviation)}" style="stroke:var(--c1);stroke-width:2;stroke-dasharray:7 3"/>`).join("") : "";
  const specks = points.map(([x, y]) => `M${round(x)} ${round(y)}h1.6`).join("");
  place.innerHTML = svg(box, `<path d="${specks}" style="stroke:var(--c4);stroke-width:1.6;opacity:0.5;fill:none"/>`, band, "Iterates of 60 runs");
  const all = [...study.mean, ...study.exact].filter((x) => x > 0 && Number.isFinite(x));
  const y = { min: Math.max(Math.min(...all) / 2, 1e-12), max: Math.min(Math.max(...all) * 2, 1e12), log: true, label: "mean of f" };
  const right = frame(other.clientWidth || 500, height(width, 0.6), { x: { min: 0, max: NOISE.steps, label: "step" }, y });
  const line = (values, style) => trace(values.map((v, k) => [right.toX(k), right.toY(v)]), style);
  const rule = Number.isFinite(study.floor) && study.floor > 0 ? `<line x1="${right.left}" x2="${right.right}" y1="${right.toY(study.floor)}" y2="${right.toY(study.floor)}" style="stroke:var(--c1);stroke-width:2;stroke-dasharray:7 3"/>` : "";
  other.innerHTML = svg(right, "", line(study.mean, "stroke:var(--c4);stroke-width:1.5") + line(study.exact, "stroke:var(--text);stroke-width:1.3;stroke-dasharray:2 3") + rule, "Mean value of all runs against the closed form");
  legend.innerHTML = `<li>${sample("var(--c4)")}mean of ${NOISE.runs} runs</li><li>${sample("var(--text)", "2 3")}exact expectation</li><li>${sample("var(--c1)", "7 3")}floor</li>`;
}

function noiseCaptions(method, alpha, beta, batch, study) {
  const name = method === "nesterov" ? "Nesterov" : beta === 0 ? "gradient descent" : "heavy ball";
  const head = `f = x²/2, ${name} with α = ${show(alpha)}, β = ${show(beta)}, batches of ${batch} of ${NOISE.examples} (without replacement): a gradient’s noise has variance ${show(study.variance)}.`;
  if (!Number.isFinite(study.floor)) return { cloud: "These settings diverge.", noise: `${head} No floor: the method diverges.` };
  if (study.floor === 0) return { cloud: "The full batch has no noise: every run is the same.", noise: `${head} The floor is 0.` };
  return {
    cloud: `${NOISE.drawn} of ${NOISE.runs} runs. Dashed: two deviations of the stationary distribution, ±${show(2 * Math.sqrt(2 * study.floor))}; about 95 % of late points lie between.`,
    noise: `${head} The formula’s floor of f is ${show(study.floor)}. Over steps ${study.from + 1} to ${NOISE.steps} the exact expectation is ${show(study.expected)}; the ${NOISE.runs} simulated runs have ${show(study.measured)} ± ${show(study.error, 2)}.`,
  };
}
