// Eight ways in which an optimizer fails, each run anew when the page is read. Every number in a sentence is measured.

function descendLine(gradient, start, alpha, beta, steps) {
  let x = start, z = 0;
  const path = [x];
  for (let k = 0; k < steps && Number.isFinite(x); k++) {
    z = beta * z + gradient(x);
    x -= alpha(k) * z;
    path.push(x);
  }
  return path;
}

const constant = (alpha) => () => alpha;
const last = (path) => path[path.length - 1];

// Lessard, Recht & Packard 2016: strongly convex, curvatures 1 and 25.
const lessardGradient = (x) => (x < 1 ? 25 * x : x < 2 ? x + 24 : 25 * x - 24);
const CYCLE = [792n, -2208n, 2592n]; // over 1225

// One turn of the cycle in whole numbers: with x = n / 1225, alpha = 1/9 and beta = 4/9, nine times the next numerator.
function cycleIsExact() {
  const gradient = (n) => (n < 1225n ? 25n * n : n < 2450n ? n + 24n * 1225n : 25n * n - 24n * 1225n);
  return [0, 1, 2].every((i) => {
    const [before, now, next] = [CYCLE[i], CYCLE[(i + 1) % 3], CYCLE[(i + 2) % 3]];
    return 9n * next === 9n * now - gradient(now) + 4n * (now - before);
  });
}

// Reddi, Kale & Kumar 2018: the gradient is 3 on every third step and -1 on the others, x stays in [-1, 1].
function reddi(method, steps) {
  const path = [0], beta2 = 1 / 10;
  let [x, v, largest] = [0, 0, 0];
  for (let k = 1; k <= steps; k++) {
    const g = k % 3 === 1 ? 3 : -1, alpha = 0.5 / Math.sqrt(k);
    v = beta2 * v + (1 - beta2) * g * g;
    largest = Math.max(largest, v);
    const size = { adam: Math.sqrt(v), amsgrad: Math.sqrt(largest), sgd: 1 }[method];
    x = Math.min(1, Math.max(-1, x - alpha * g / size));
    path.push(x);
  }
  return path;
}

const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const plateau = {
  value: (w) => (sigmoid(w) - 0.1) ** 2,
  gradient: (w) => 2 * (sigmoid(w) - 0.1) * sigmoid(w) * (1 - sigmoid(w)),
};
const cliff = {
  value: (w) => (w ** 20 - 0.5) ** 2,
  gradient: (w) => 40 * (w ** 20 - 0.5) * w ** 19,
};
const stairs = (x) => Math.floor(4 * Math.abs(x)) / 4;

function randomSearch(value, start, width, steps, seed) {
  const draw = normals(seed), path = [start];
  let x = start;
  for (let k = 0; k < steps; k++) {
    const trial = x + width * draw();
    if (value(trial) < value(x)) x = trial;
    path.push(x);
  }
  return path;
}

function clipped(gradient, start, alpha, limit, steps) {
  return descendLine((x) => Math.max(-limit, Math.min(limit, gradient(x))), start, constant(alpha), 0, steps);
}

const FAILURES = [
  {
    name: "hero", title: "α = 0.02, β = 0.99 on Distill’s valley", formula: "(1 − x)² + 20 (3y − x²)², from (−1.21, 0.853)",
    run() {
      const start = [-1.21, 0.853], path = descend("heavy ball", FORMULAS.valley.gradient, start, 0.02, 0.99, 150);
      const steps = path.length - 1, [, large] = eigenvalues(FORMULAS.valley.hessian([1, 1 / 3]));
      const limit = border("heavy ball", 0.99, large), safe = (2 + 2 * 0.99) / 0.02;
      const sizes = path.map((x) => FORMULAS.valley.value(x)).filter(Number.isFinite);
      return {
        numbers: { steps, border: limit, largest: large, safe, values: sizes },
        says: `The captions of the well-known article’s first figure read α = 0.02, β = 0.99 until a slider is touched, and its
          sliders cannot reach them. With them the path overflows after ${steps} steps: the largest curvature at the minimum is
          λ = ${show(large)}, and β = 0.99 is stable only for α < (2 + 2β)/λ = ${show(limit)}. These two numbers are fine
          wherever λ < ${show(safe)}.`,
        helps: "α and β belong to a function’s curvature: the map above shows those that converge.",
        plot: { x: sizes.map((_, k) => k), lines: [{ label: "f(x, y)", y: sizes }], log: true, xLabel: "step", yLabel: "f" },
      };
    },
  },
  {
    name: "lessard", title: "Momentum that runs in a circle", formula: "f′ = 25x for x < 1, x + 24 for x < 2, else 25x − 24",
    run() {
      const path = descendLine(lessardGradient, 3.3, constant(1 / 9), 4 / 9, 90);
      const cycle = CYCLE.map((n) => Number(n) / 1225);
      const error = Math.min(...[0, 1, 2].map((i) => Math.max(...[0, 1, 2].map((j) => Math.abs(path[path.length - 3 + j] - cycle[(i + j) % 3])))));
      const plain = descendLine(lessardGradient, 3.3, constant(1 / 13), 0, 90);
      const exact = cycleIsExact();
      return {
        numbers: { cycle, error, exact, gradient_descent: last(plain) },
        says: `The slope rises everywhere, between 1 and 25 times as fast as x. The settings that are best on quadratics of
          curvatures 1 to 25, α = 1/9 and β = 4/9, never arrive: from 3.3 they circle through 792/1225, −2208/1225,
          2592/1225 (${exact ? "exact in fractions" : "not exact"}; here within ${show(error)} after 90 steps). Gradient descent with
          α = 1/13 is at ${show(last(plain))}.`,
        helps: "Best settings of a quadratic promise nothing elsewhere. Take Nesterov’s α = 1/L, or a method that looks at the value, as L-BFGS.",
        plot: {
          x: path.map((_, k) => k), xLabel: "step", yLabel: "x",
          lines: [{ label: "heavy ball 1/9, 4/9", y: path }, { label: "gradient descent 1/13", y: plain }],
        },
      };
    },
  },
  {
    name: "adam", title: "Adam at the wrong end", formula: "slopes 3, −1, −1, 3, … on [−1, 1]; their mean is 1/3, so the minimum is −1",
    run() {
      const steps = 30000, runs = ["adam", "amsgrad", "sgd"].map((method) => reddi(method, steps));
      const shown = [...Array(121).keys()].map((i) => Math.round(steps ** (i / 120)));
      const [adam, amsgrad, sgd] = runs.map(last);
      return {
        numbers: { adam, amsgrad, sgd },
        says: `Dividing by the size of recent slopes makes the rare large slope as short as the frequent small ones. After
          ${steps.toLocaleString("en")} steps Adam (β₁ = 0, β₂ = 1/10) is at ${show(adam)}, the worst point of all;
          SGD is at ${show(sgd)} and AMSGrad at ${show(amsgrad)}, each with the rate 0.5/√k.`,
        helps: "AMSGrad (optax.amsgrad), a larger β₂, or SGD where rare examples matter.",
        plot: {
          x: shown, xLog: true, xLabel: "step", yLabel: "x",
          lines: ["Adam", "AMSGrad", "SGD"].map((label, i) => ({ label, y: shown.map((k) => runs[i][k]) })),
        },
      };
    },
  },
  {
    name: "saddle", title: "A saddle", formula: "x²/2 + y⁴/4 − y²/2, from (1, 10⁻⁸)",
    run() {
      const { value, gradient } = FORMULAS.two_wells;
      const path = descend("heavy ball", gradient, [1, 1e-8], 0.1, 0, 400), exact = descend("heavy ball", gradient, [1, 0], 0.1, 0, 400);
      const values = path.map(value), left = values.findIndex((v, k) => v < -0.2);
      const slow = path.filter((p) => Math.hypot(...gradient(p)) < 1e-3 && Math.abs(p[1]) < 0.5).length;
      return {
        numbers: { leaves: left, slow, value: last(values), from_zero: value(last(exact)) },
        says: `At 0 the slope is 0 and one curvature is −1. Gradient descent with α = 0.1 that begins 10⁻⁸ beside the ridge
          stands still for ${slow} steps, looking converged, and is below −0.2 after ${left}; from y = 0 exactly it
          stays at value ${show(value(last(exact)))} for ever. The minimum is −1/4.`,
        helps: "The Hessian knows: a trust region (optimize.trust_region()) goes down along negative curvature.",
        plot: { x: values.map((_, k) => k), lines: [{ label: "from y = 10⁻⁸", y: values }, { label: "from y = 0", y: exact.map(value) }], xLabel: "step", yLabel: "f" },
      };
    },
  },
  {
    name: "plateau", title: "A plateau", formula: "(σ(w) − 0.1)², from w = 20",
    run() {
      const path = descendLine(plateau.gradient, 20, constant(1), 0, 1000), slopeAt = plateau.gradient(20);
      const shown = [...Array(121).keys()].map((i) => -8 + i * 0.25);
      return {
        numbers: { gradient: slopeAt, moved: 20 - last(path), value: plateau.value(last(path)) },
        says: `A saturated unit passes almost nothing back: the slope at the start is ${show(slopeAt)}. A thousand steps with α = 1
          move w by ${show(20 - last(path))}, and the value stays ${show(plateau.value(last(path)))}; the minimum 0 is at
          w = −2.197.`,
        helps: "Steps that do not shrink with the slope (Adam), another start or scale, or a loss whose slope does not saturate.",
        plot: { x: shown, lines: [{ label: "f(w)", y: shown.map(plateau.value) }], dots: [{ label: "all 1,001 iterates", x: path, y: path.map(plateau.value) }], xLabel: "w", yLabel: "f" },
      };
    },
  },
  {
    name: "cliff", title: "A cliff", formula: "(w²⁰ − 1/2)², a weight that is used 20 times, from w = 1.1",
    run() {
      const path = descendLine(cliff.gradient, 1.1, constant(0.01), 0, 100), tame = clipped(cliff.gradient, 1.1, 0.01, 1, 100);
      const shown = [...Array(101).keys()].map((i) => -1.2 + i * 0.024), steps = path.length - 1;
      const next = path.slice(1).map((w) => show(w)).join(", then ");
      return {
        numbers: { gradient: cliff.gradient(1.1), path, clipped: last(tame), clipped_value: cliff.value(last(tame)) },
        says: `The product of equal factors is flat below 1 and a wall above it: the slope at 1.1 is ${show(cliff.gradient(1.1))}.
          With α = 0.01 w goes to ${next}: overflow after ${steps} steps. The same α with the slope clipped to 1
          ends at ${show(last(tame))} with value ${show(cliff.value(last(tame)))}.`,
        helps: "Clip the gradient’s norm (optax.clip_by_global_norm).",
        plot: { x: shown, lines: [{ label: "f(w)", y: shown.map(cliff.value) }], dots: [{ label: "clipped: 101 iterates", x: tame, y: tame.map(cliff.value) }], yMax: 10, xLabel: "w", yLabel: "f" },
      };
    },
  },
  {
    name: "step", title: "Steps", formula: "⌊4 |x|⌋ / 4, from x = 2.1",
    run() {
      const shown = [...Array(601).keys()].map((i) => -3 + i * 0.01), found = randomSearch(stairs, 2.1, 0.3, 200, 1);
      const reached = found.findIndex((x) => stairs(x) === 0), value = stairs(2.1);
      return {
        numbers: { value, reached, random_search: stairs(last(found)) },
        says: `Rounding, comparisons and counts have slope 0 wherever they have one. Every method that asks for a gradient stays at
          x = 2.1, value ${show(value)}, whatever its step size. Random search with steps of 0.3, which asks for values alone, reaches
          0 after ${reached} evaluations.`,
        helps: "A black-box method (optimize.cma_es(), optimize.random_search()), or a smooth function in place of the steps.",
        plot: { x: shown, lines: [{ label: "f(x)", y: shown.map(stairs) }], dots: [{ label: "random search", x: found, y: found.map(stairs) }], xLabel: "x", yLabel: "f" },
      };
    },
  },
  {
    name: "kink", title: "A kink", formula: "|x|, from x = 1",
    run() {
      const steady = descendLine(Math.sign, 1, constant(0.3), 0, 100), shrinking = descendLine(Math.sign, 1, (k) => 0.3 / Math.sqrt(k + 1), 0, 100);
      const tail = (path) => Math.max(...path.slice(-2).map(Math.abs));
      return {
        numbers: { constant: tail(steady), decaying: tail(shrinking) },
        says: `The slope is 1 or −1 however near the minimum is, so steps do not get shorter: with α = 0.3 the last two of 100
          iterates still lie up to ${show(tail(steady))} off. With α = 0.3/√k it is ${show(tail(shrinking))}.`,
        helps: "A step size that decays, or a proximal step. Every ReLU, max and L1 penalty has such kinks.",
        plot: { x: steady.map((_, k) => k), lines: [{ label: "α = 0.3", y: steady }, { label: "α = 0.3/√k", y: shrinking }], xLabel: "step", yLabel: "x" },
      };
    },
  },
];

function eigenvalues([[a, b], [, c]]) {
  const middle = (a + c) / 2, half = Math.hypot((a - c) / 2, b);
  return [middle - half, middle + half];
}
