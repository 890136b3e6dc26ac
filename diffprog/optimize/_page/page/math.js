// Functions, steps and closed forms, in float64. Tests hold all of them against Python.

const TAU = 2 * Math.PI;
const FORMULAS = {
  quadratic: {
    value: ([x, y]) => { const u = (4 * x + 3 * y) / 5, v = (4 * y - 3 * x) / 5; return (u * u + 50 * v * v) / 2; },
    gradient: ([x, y]) => { const u = (4 * x + 3 * y) / 5, v = 10 * (4 * y - 3 * x); return [(4 * u - 3 * v) / 5, (3 * u + 4 * v) / 5]; },
    hessian: () => [[18.64, -23.52], [-23.52, 32.36]],
  },
  valley: {
    value: ([x, y]) => (1 - x) ** 2 + 20 * (3 * y - x * x) ** 2,
    gradient: ([x, y]) => [-2 * (1 - x) - 80 * x * (3 * y - x * x), 120 * (3 * y - x * x)],
    hessian: ([x, y]) => [[2 - 80 * (3 * y - x * x) + 160 * x * x, -240 * x], [-240 * x, 360]],
  },
  rosenbrock: {
    value: ([x, y]) => (1 - x) ** 2 + 100 * (y - x * x) ** 2,
    gradient: ([x, y]) => [-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)],
    hessian: ([x, y]) => [[2 - 400 * (y - x * x) + 800 * x * x, -400 * x], [-400 * x, 200]],
  },
  himmelblau: {
    value: ([x, y]) => (x * x + y - 11) ** 2 + (x + y * y - 7) ** 2,
    gradient: ([x, y]) => {
      const a = x * x + y - 11, b = x + y * y - 7;
      return [4 * x * a + 2 * b, 2 * a + 4 * y * b];
    },
    hessian: ([x, y]) => [[12 * x * x + 4 * y - 42, 4 * (x + y)], [4 * (x + y), 12 * y * y + 4 * x - 26]],
  },
  two_wells: {
    value: ([x, y]) => x * x / 2 + y ** 4 / 4 - y * y / 2,
    gradient: ([x, y]) => [x, y ** 3 - y],
    hessian: ([, y]) => [[1, 0], [0, 3 * y * y - 1]],
  },
  rastrigin: {
    value: ([x, y]) => 20 + x * x + y * y - 10 * (Math.cos(TAU * x) + Math.cos(TAU * y)),
    gradient: ([x, y]) => [2 * x + 10 * TAU * Math.sin(TAU * x), 2 * y + 10 * TAU * Math.sin(TAU * y)],
    hessian: ([x, y]) => [[2 + 10 * TAU * TAU * Math.cos(TAU * x), 0], [0, 2 + 10 * TAU * TAU * Math.cos(TAU * y)]],
  },
};

function floats(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return new Float64Array(bytes.buffer);
}

// Polynomials of degree 5 on [0, 1] by their coefficients: value, slope and curvature at 0, then at 1, of which one is 1.
const HERMITE = [
  [[1, 0, 0, -10, 15, -6], [0, 1, 0, -6, 8, -3], [0, 0, 0.5, -1.5, 1.5, -0.5]],
  [[0, 0, 0, 10, -15, 6], [0, 0, 0, -4, 7, -3], [0, 0, 0, 0.5, -1, 0.5]],
];

// A function known on a grid with its derivatives up to the second in each number, interpolated between the nodes, so
// that not even its curvature jumps. Outside it is NaN.
function onGrid({ size, view: [[left, right], [bottom, top]], derivatives }) {
  const all = floats(derivatives), nodes = size * size, stepX = (right - left) / (size - 1), stepY = (top - bottom) / (size - 1);
  const cells = new Map();
  // The polynomial of a cell, by powers of both places within it: 6 x 6 numbers.
  function polynomial(i, j) {
    const key = j * size + i, old = cells.get(key);
    if (old) return old;
    const found = new Float64Array(36);
    for (let p = 0; p < 2; p++) for (let q = 0; q < 2; q++) for (let a = 0; a < 3; a++) for (let b = 0; b < 3; b++) {
      const weight = all[(3 * a + b) * nodes + (j + q) * size + i + p] * stepX ** a * stepY ** b, ofX = HERMITE[p][a], ofY = HERMITE[q][b];
      for (let m = 0; m < 6; m++) for (let n = 0; n < 6; n++) found[6 * m + n] += weight * ofX[m] * ofY[n];
    }
    cells.set(key, found);
    return found;
  }
  // Value, slope and curvature of the polynomial with coefficients c[from], c[from + 1], ...
  function horner(c, from, t) {
    let [value, slope, curvature] = [0, 0, 0];
    for (let k = 5; k >= 0; k--) { curvature = curvature * t + 2 * slope; slope = slope * t + value; value = value * t + c[from + k]; }
    return [value, slope, curvature];
  }
  const along = [new Float64Array(6), new Float64Array(6), new Float64Array(6)];
  function at([x, y]) {
    const column = (x - left) / stepX, row = (y - bottom) / stepY;
    if (!(column >= 0 && row >= 0 && column <= size - 1 && row <= size - 1)) return [[NaN, NaN, NaN], [NaN, NaN, NaN], [NaN, NaN, NaN]];
    const i = Math.min(Math.floor(column), size - 2), j = Math.min(Math.floor(row), size - 2), c = polynomial(i, j);
    for (let m = 0; m < 6; m++) [along[0][m], along[1][m], along[2][m]] = horner(c, 6 * m, row - j);
    return along.map((list) => horner(list, 0, column - i));
  }
  return {
    value: (point) => at(point)[0][0],
    gradient: (point) => { const [[, x], [y]] = at(point); return [x / stepX, y / stepY]; },
    hessian: (point) => {
      const [[, , xx], [, xy], [yy]] = at(point), mixed = xy / stepX / stepY;
      return [[xx / stepX / stepX, mixed], [mixed, yy / stepY / stepY]];
    },
  };
}

// ---------------------------------------------------------------- closed forms of one mode

// x[k+1] = p x[k] + q x[k-1] on a quadratic of curvature lambda.
function recursion(method, alpha, beta, lambda) {
  const c = 1 - alpha * lambda;
  return method === "nesterov" ? [(1 + beta) * c, -beta * c] : [c + beta, -beta];
}

function rate(method, alpha, beta, lambda) {
  const [p, q] = recursion(method, alpha, beta, lambda);
  const d = p * p / 4 + q;
  return d < 0 ? Math.sqrt(Math.max(-q, 0)) : Math.abs(p) / 2 + Math.sqrt(d);
}

const worstRate = (method, alpha, beta, lambdas) => Math.max(...lambdas.map((x) => rate(method, alpha, beta, x)));

function border(method, beta, lambda) {
  return (2 + 2 * beta) / (method === "nesterov" ? 1 + 2 * beta : 1) / lambda;
}

function oscillates(method, alpha, beta, lambda) {
  const [p, q] = recursion(method, alpha, beta, lambda);
  return p * p / 4 + q < 0;
}

// The momentum at which a mode's two roots meet: below it they are real, above it complex.
function criticalMomentum(method, alpha, lambda) {
  const root = Math.sqrt(alpha * lambda);
  return method === "nesterov" ? (1 - root) / (1 + root) : (1 - root) ** 2;
}

function best(method, [small, large]) {
  const kappa = large / small, root = Math.sqrt(kappa);
  if (method === "nesterov") {
    const wide = Math.sqrt(3 * kappa + 1);
    return { alpha: 4 / (3 * large + small), beta: (wide - 2) / (wide + 2), rate: 1 - 2 / wide };
  }
  const fast = (root - 1) / (root + 1);
  return { alpha: (2 / (Math.sqrt(small) + Math.sqrt(large))) ** 2, beta: fast * fast, rate: fast };
}

// Where the noise of the gradient keeps a mode: the variance of x, of independent noise of variance `noise`.
function stationaryVariance(method, alpha, beta, lambda, noise) {
  if (!(rate(method, alpha, beta, lambda) < 1)) return Infinity;
  const [p, q] = recursion(method, alpha, beta, lambda);
  return (1 - q) / ((1 + q) * ((1 - q) ** 2 - p * p)) * alpha * alpha * noise;
}

// E x[k]^2 for k = 0 .. steps, exactly: the second moments of (x[k], x[k-1]) obey a linear recursion.
function meanSquares(method, alpha, beta, lambda, noise, start, steps) {
  const [p, q] = recursion(method, alpha, beta, lambda);
  let [now, cross, before] = [start * start, start * start, start * start];
  const found = [now];
  for (let k = 0; k < steps; k++) {
    [now, cross, before] = [p * p * now + 2 * p * q * cross + q * q * before + alpha * alpha * noise, p * now + q * cross, now];
    found.push(now);
  }
  return found;
}

// What the covariance of single examples is multiplied by for the mean of a batch of b out of N without replacement.
const batchFactor = (numExamples, batch) => (numExamples - batch) / ((numExamples - 1) * batch);

// ---------------------------------------------------------------- steps

// heavy ball: z <- beta z + g(x), x <- x - alpha z.  nesterov: y = x + beta (x - x_prev), x <- y - alpha g(y).
// Ends early where it is no number any more.
function descend(method, gradient, start, alpha, beta, steps, done = () => false) {
  let [x, y] = start, [zx, zy] = [0, 0], [oldX, oldY] = start;
  const path = [[x, y]];
  for (let k = 0; k < steps && !done(x, y, k); k++) {
    if (method === "nesterov") {
      const ahead = [x + beta * (x - oldX), y + beta * (y - oldY)], [gx, gy] = gradient(ahead);
      [oldX, oldY] = [x, y];
      [x, y] = [ahead[0] - alpha * gx, ahead[1] - alpha * gy];
    } else {
      const [gx, gy] = gradient([x, y]);
      [zx, zy] = [beta * zx + gx, beta * zy + gy];
      [x, y] = [x - alpha * zx, y - alpha * zy];
    }
    path.push([x, y]);
    if (!(Number.isFinite(x) && Number.isFinite(y))) break;
  }
  return path;
}

// Everything that section 1 says, of one path near one minimum.
const TOLERANCE = 1e-6, FLOOR = 1e-9, HORIZON = 20000, CLOSE = 0.02;

function study(method, objective, start, alpha, beta, shown) {
  const { gradient } = objective.formula;
  const far = 1e3 * objective.scale;
  const isOff = (x, y) => !(Math.hypot(x - start[0], y - start[1]) < far * 1e12);
  let [lastX, lastY, still] = [NaN, NaN, 0];
  const hasEnded = (x, y, k) => {
    still = Math.hypot(x - lastX, y - lastY) <= 1e-14 * objective.scale ? still + 1 : 0;
    [lastX, lastY] = [x, y];
    return k > shown && (still > 10 || isOff(x, y));
  };
  const path = descend(method, gradient, start, alpha, beta, Math.max(shown, HORIZON), hasEnded);
  const end = path[path.length - 1];
  const isFinite = end.every(Number.isFinite) && !isOff(...end);
  const minimum = nearestMinimum(objective, isFinite ? end : start);
  const wentOff = isFinite ? null : path.findIndex(([x, y]) => !(Number.isFinite(x) && Number.isFinite(y)));
  const report = { path: path.slice(0, shown + 1), isFinite, wentOff, minimum };
  if (!minimum) return report;
  const [first, second] = minimum.eigenvectors[0].map((_, i) => minimum.eigenvectors.map((row) => row[i]));
  const errors = path.map(([x, y]) => [x - minimum.point[0], y - minimum.point[1]]);
  const modes = errors.map(([x, y]) => [x * first[0] + y * first[1], x * second[0] + y * second[1]]);
  const distances = errors.map(([x, y]) => Math.hypot(x, y));
  const reached = distances.findIndex((d) => !(d > FLOOR * distances[0]));
  const last = reached < 0 ? path.length - 1 : reached;
  const lambdas = minimum.eigenvalues;
  report.rate = worstRate(method, alpha, beta, lambdas);
  report.modes = modes;
  report.distances = distances;
  report.counted = findOrNull(distances, (d) => d <= TOLERANCE * distances[0]);
  // From which step on the gradient is that of the quadratic, up to 2 %.
  let from = isFinite && distances[last] < objective.scale * 10 ? last : null;
  while (from !== null && from > 0 && isQuadratic(gradient, minimum, path[from - 1], errors[from - 1])) from--;
  if (from === last && last > 0) from = null;
  report.from = from;
  report.predicted = predict(method, alpha, beta, lambdas, modes, from ?? 0, shown);
  const stepsFrom = stepsTo(method, alpha, beta, lambdas, modes, from ?? 0, TOLERANCE * distances[0]);
  report.predictedSteps = stepsFrom === null || !isFinite ? null : (from ?? 0) + stepsFrom;
  report.observed = from === null ? null : slope(distances, from, last);
  return report;
}

function findOrNull(list, test) {
  const index = list.findIndex(test);
  return index < 0 ? null : index;
}

function isQuadratic(gradient, { hessian: [[a, b], [, c]] }, point, [x, y]) {
  const [gx, gy] = gradient(point), hx = a * x + b * y, hy = b * x + c * y;
  return Math.hypot(gx - hx, gy - hy) <= CLOSE * Math.hypot(hx, hy);
}

// The recursion of each mode, from two steps of the path on.
function* linear(method, alpha, beta, lambdas, modes, from) {
  const rules = lambdas.map((x) => recursion(method, alpha, beta, x));
  let now = modes[from], before = modes[Math.max(from - 1, 0)];
  for (;;) {
    yield now;
    [now, before] = [now.map((x, i) => rules[i][0] * x + rules[i][1] * before[i]), now];
  }
}

function predict(method, alpha, beta, lambdas, modes, from, shown) {
  const found = [];
  if (from > shown) return found;
  for (const errors of linear(method, alpha, beta, lambdas, modes, from)) {
    found.push(errors);
    if (found.length > shown - from) return found;
  }
}

function stepsTo(method, alpha, beta, lambdas, modes, from, distance) {
  if (!(worstRate(method, alpha, beta, lambdas) < 1)) return null;
  let k = 0;
  for (const [x, y] of linear(method, alpha, beta, lambdas, modes, from)) {
    if (Math.hypot(x, y) <= distance) return k;
    if (++k > 1e6) return null;
  }
}

// The factor per step, by a straight line through the logarithms of the second half. Two steps together count, so that
// an oscillation through 0 is not seen as a fall.
function slope(distances, from, last) {
  const half = Math.floor((from + last) / 2), points = [];
  for (let k = Math.max(half, 1); k <= last; k++) {
    const size = Math.hypot(distances[k], distances[k - 1]);
    if (size > 0 && Number.isFinite(size)) points.push([k, Math.log(size)]);
  }
  if (points.length < 4) return null;
  const mean = (i) => points.reduce((sum, p) => sum + p[i], 0) / points.length;
  const [k0, y0] = [mean(0), mean(1)];
  const covariance = points.reduce((sum, [k, y]) => sum + (k - k0) * (y - y0), 0);
  return Math.exp(covariance / points.reduce((sum, [k]) => sum + (k - k0) ** 2, 0));
}

// The minimum of what the page computes: Python's may be of float32, and an interpolated function has its own nearby.
function settled(formula, { point, hessian: [[a, b], [, c]] }) {
  let [x, y] = point;
  for (let k = 0; k < 50; k++) {
    const [gx, gy] = formula.gradient([x, y]), determinant = a * c - b * b;
    [x, y] = [x - (c * gx - b * gy) / determinant, y - (a * gy - b * gx) / determinant];
  }
  return Number.isFinite(x) && Number.isFinite(y) ? [x, y] : point;
}

function nearestMinimum(objective, [x, y]) {
  let found = null, least = Infinity;
  for (const minimum of objective.minima) {
    const distance = Math.hypot((minimum.point[0] - x) / objective.width, (minimum.point[1] - y) / objective.height);
    if (distance < least) [found, least] = [minimum, distance];
  }
  return found;
}

// ---------------------------------------------------------------- random numbers: the same ones in every browser

function* uniforms(seed) {
  let a = seed >>> 0;
  for (;;) {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    yield ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  }
}

function normals(seed) {
  const draws = uniforms(seed);
  const next = () => draws.next().value;
  let spare = null;
  return () => {
    if (spare !== null) { const value = spare; spare = null; return value; }
    const radius = Math.sqrt(-2 * Math.log(1 - next())), angle = TAU * next();
    spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  };
}
