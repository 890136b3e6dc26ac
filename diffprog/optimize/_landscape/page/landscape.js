const data = JSON.parse(document.getElementById("data").textContent);
const get = (id) => document.getElementById(id);
const canvas = get("picture"), stage = get("stage"), pen = canvas.getContext("2d");
const [xs, ys] = [data.axes[0], data.axes[1] || [0]];
const isPlane = data.axes.length === 2;
const VIRIDIS = ["440154", "482878", "3e4989", "31688e", "26828e", "1f9e89", "35b779", "6ece58", "b5de2b", "fde725"]
  .map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));
const LEFT = 70, BOTTOM = 40, ROOM = 10;
const state = {
  view: "flat", contours: true, column: nearest(xs, 0), row: nearest(ys, 0), step: 0, turn: 0.7, tilt: 0.6, playing: false,
};

function nearest(axis, x) {
  let best = 0;
  axis.forEach((a, i) => { if (Math.abs(a - x) < Math.abs(axis[best] - x)) best = i; });
  return best;
}

function color(shade) {
  if (shade === null) return [187, 187, 187];
  const place = shade * (VIRIDIS.length - 1), i = Math.min(Math.floor(place), VIRIDIS.length - 2), t = place - i;
  return VIRIDIS[i].map((c, k) => Math.round(c + t * (VIRIDIS[i + 1][k] - c)));
}

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const text = (x) => x === null ? "not finite" : Number(x.toPrecision(5)).toString();
const coordinate = (x) => Number(x.toPrecision(4)).toString();
const tick = (x) => Number(x.toPrecision(3)).toString();

// ---------------------------------------------------------------- sizes and places

function resize() {
  const width = stage.clientWidth, height = Math.round(Math.min(width * (isPlane ? 0.8 : 0.55), 640));
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.height = `${height}px`;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  state.width = width;
  state.height = height;
  draw();
}

const frame = () => ({ left: LEFT, top: ROOM, width: state.width - LEFT - ROOM, height: state.height - BOTTOM - ROOM });
const fraction = (axis, x) => (x - axis[0]) / (axis[axis.length - 1] - axis[0]);

function range() { // of the curve of a line
  const finite = data.values[0].filter((v) => v !== null);
  const low = Math.min(...finite), high = Math.max(...finite);
  return high > low ? [low, high] : [low - 1, high + 1];
}

function place(x, y) { // y is the value, on a line
  const f = frame(), [low, high] = isPlane ? [ys[0], ys[ys.length - 1]] : range();
  return [f.left + f.width * fraction(xs, x), f.top + f.height * (1 - (y - low) / (high - low))];
}

function heightAt(x, y, grid = data.shades) { // bilinear, of the shades or of the values
  const u = Math.max(0, Math.min(1, fraction(xs, x))) * (xs.length - 1);
  const v = isPlane ? Math.max(0, Math.min(1, fraction(ys, y))) * (ys.length - 1) : 0;
  const i = Math.min(Math.floor(u), xs.length - 2), j = Math.max(Math.min(Math.floor(v), ys.length - 2), 0), k = Math.min(j + 1, ys.length - 1);
  const at = (r, c) => grid[r][c] === null ? 1 : grid[r][c];
  const s = u - i, t = v - j;
  return (1 - t) * ((1 - s) * at(j, i) + s * at(j, i + 1)) + t * ((1 - s) * at(k, i) + s * at(k, i + 1));
}

function solid(x, y, shade) { // the surface, turned and tilted
  const a = 2 * fraction(xs, x) - 1, b = 2 * fraction(ys, y) - 1;
  const across = a * Math.cos(state.turn) - b * Math.sin(state.turn);
  const away = a * Math.sin(state.turn) + b * Math.cos(state.turn);
  const size = Math.min(state.width / 3.0, state.height / 2.4);
  const up = away * Math.sin(state.tilt) + (shade - 0.5) * 1.1 * Math.cos(state.tilt);
  return [state.width / 2 + size * across, state.height / 2 - size * up, away];
}

// ---------------------------------------------------------------- drawing

function drawAxes() {
  const f = frame();
  pen.strokeStyle = css("--edge");
  pen.fillStyle = css("--soft");
  pen.font = "12px system-ui, sans-serif";
  pen.lineWidth = 1;
  pen.strokeRect(f.left, f.top, f.width, f.height);
  pen.textAlign = "center";
  for (const t of [0, 0.25, 0.5, 0.75, 1]) {
    if (state.width < 420 && (t === 0.25 || t === 0.75)) continue;
    const x = xs[0] + t * (xs[xs.length - 1] - xs[0]);
    pen.textAlign = t === 0 ? "left" : t === 1 ? "right" : "center";
    pen.fillText(tick(Math.abs(x) < 1e-12 ? 0 : x), f.left + t * f.width, f.top + f.height + 15);
  }
  pen.textAlign = "right";
  const [low, high] = isPlane ? [ys[0], ys[ys.length - 1]] : range();
  for (const t of [0, 0.5, 1]) {
    const y = low + t * (high - low);
    pen.fillText(tick(Math.abs(y) < 1e-12 ? 0 : y), f.left - 5, f.top + f.height * (1 - t) + (t === 1 ? 10 : t === 0 ? 0 : 4));
  }
  pen.textAlign = "center";
  pen.fillText(data.names[0], f.left + f.width / 2, f.top + f.height + 32, f.width);
  if (!isPlane) return;
  pen.save();
  pen.translate(12, f.top + f.height / 2);
  pen.rotate(-Math.PI / 2);
  pen.fillText(data.names[1], 0, 0, f.height);
  pen.restore();
}

function paint() { // the grid as an image, one pixel per point, enlarged by the browser
  const image = new OffscreenCanvas(xs.length, ys.length), brush = image.getContext("2d");
  const pixels = brush.createImageData(xs.length, ys.length);
  data.shades.forEach((row, j) => row.forEach((shade, i) => {
    const start = 4 * ((ys.length - 1 - j) * xs.length + i);
    pixels.data.set([...color(shade), 255], start);
  }));
  brush.putImageData(pixels, 0, 0);
  const f = frame(), halfX = f.width / (xs.length - 1) / 2, halfY = f.height / (ys.length - 1) / 2;
  pen.save();
  pen.beginPath();
  pen.rect(f.left, f.top, f.width, f.height);
  pen.clip();
  pen.drawImage(image, f.left - halfX, f.top - halfY, f.width + 2 * halfX, f.height + 2 * halfY); // points at the middles
  pen.restore();
}

function segments(level) { // marching squares: pairs of points in grid coordinates
  const found = [], grid = data.shades;
  for (let j = 0; j + 1 < ys.length; j++) for (let i = 0; i + 1 < xs.length; i++) {
    const corners = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]];
    const heights = corners.map(([c, r]) => grid[r][c]);
    if (heights.includes(null)) continue;
    const crossings = [];
    for (let k = 0; k < 4; k++) {
      const a = heights[k], b = heights[(k + 1) % 4];
      if ((a < level) === (b < level)) continue;
      const t = (level - a) / (b - a), [p, q] = [corners[k], corners[(k + 1) % 4]];
      crossings.push([p[0] + t * (q[0] - p[0]), p[1] + t * (q[1] - p[1])]);
    }
    for (let k = 0; k + 1 < crossings.length; k += 2) found.push([crossings[k], crossings[k + 1]]);
  }
  return found;
}

const contours = isPlane ? data.levelShades.map((level) => [level, segments(level)]) : [];
const between = (axis, i) => axis[0] + i / (axis.length - 1) * (axis[axis.length - 1] - axis[0]);

function drawContours() {
  pen.strokeStyle = "rgba(255, 255, 255, 0.6)";
  pen.lineWidth = 0.8;
  pen.beginPath();
  for (const [level, lines] of contours) for (const [a, b] of lines) {
    const to = ([i, j]) => state.view === "flat" ? place(between(xs, i), between(ys, j)) : solid(between(xs, i), between(ys, j), level);
    pen.moveTo(...to(a).slice(0, 2));
    pen.lineTo(...to(b).slice(0, 2));
  }
  pen.stroke();
}

function drawSurface() {
  const faces = [];
  for (let j = 0; j + 1 < ys.length; j++) for (let i = 0; i + 1 < xs.length; i++) {
    const corners = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]];
    const shades = corners.map(([c, r]) => data.shades[r][c]);
    if (shades.includes(null)) continue;
    const points = corners.map(([c, r], k) => solid(xs[c], ys[r], shades[k]));
    faces.push({ away: points.reduce((s, p) => s + p[2], 0), points, shade: shades.reduce((s, x) => s + x, 0) / 4 });
  }
  faces.sort((a, b) => b.away - a.away);
  for (const { points, shade } of faces) {
    pen.fillStyle = pen.strokeStyle = `rgb(${color(shade).join(",")})`;
    pen.lineWidth = 0.7;
    pen.beginPath();
    points.forEach(([x, y], k) => k ? pen.lineTo(x, y) : pen.moveTo(x, y));
    pen.closePath();
    pen.fill();
    pen.stroke();
  }
}

function spot(x, y) {
  if (!isPlane) return place(x, heightAt(x, 0, data.values));
  return state.view === "flat" ? place(x, y) : solid(x, y, heightAt(x, y)).slice(0, 2);
}

function drawPath() {
  if (!data.path) return;
  const points = data.path.slice(0, state.step + 1).map(([x, y]) => spot(x, y || 0));
  pen.strokeStyle = pen.fillStyle = "#ff7a1a";
  pen.lineWidth = 2;
  pen.beginPath();
  points.forEach(([x, y], k) => k ? pen.lineTo(x, y) : pen.moveTo(x, y));
  pen.stroke();
  const [x, y] = points[points.length - 1];
  pen.beginPath();
  pen.arc(x, y, 5, 0, 7);
  pen.fill();
  pen.strokeStyle = "#fff";
  pen.stroke();
}

function drawCursor() {
  const [x, y] = spot(xs[state.column], ys[state.row]);
  for (const [style, width] of [["#000", 3], ["#fff", 1.4]]) {
    pen.strokeStyle = style;
    pen.lineWidth = width;
    pen.beginPath();
    pen.moveTo(x - 8, y); pen.lineTo(x + 8, y);
    pen.moveTo(x, y - 8); pen.lineTo(x, y + 8);
    pen.stroke();
  }
}

function drawCurve() {
  pen.strokeStyle = css("--accent");
  pen.lineWidth = 2;
  pen.beginPath();
  let down = false;
  data.values[0].forEach((value, i) => {
    if (value === null) { down = false; return; }
    const [x, y] = place(xs[i], value);
    down ? pen.lineTo(x, y) : pen.moveTo(x, y);
    down = true;
  });
  pen.stroke();
}

function draw() {
  pen.clearRect(0, 0, state.width, state.height);
  if (!isPlane) { drawAxes(); drawCurve(); }
  else if (state.view === "flat") { paint(); drawAxes(); if (state.contours) drawContours(); }
  else { drawSurface(); if (state.contours) drawContours(); }
  drawPath();
  drawCursor();
  say();
}

function say() {
  const value = data.values[state.row][state.column];
  const where = isPlane ? `(${coordinate(xs[state.column])}, ${coordinate(ys[state.row])})` : coordinate(xs[state.column]);
  get("here").textContent = `objective ${text(value)} at ${where}; ${text(data.center)} at the center`;
  get("help").textContent = state.view === "flat"
    ? "Point with the mouse, or move the cross with the arrow keys; Home brings it to the center."
    : "Drag, or use the arrow keys, to turn and tilt the surface; Home turns it back.";
  if (!data.path) return;
  const coordinates = data.path[state.step].map((x) => x === null ? "not finite" : coordinate(x)).join(", ");
  get("point").textContent = `point ${state.step} of ${data.path.length - 1}: objective ${text(data.pathValues[state.step])}, ` +
    `at (${coordinates}), ${text(data.pathDistances[state.step])} away from what is shown`;
  get("step").value = state.step;
}

// ---------------------------------------------------------------- what a user does

function look(view) {
  state.view = view;
  get("flat").setAttribute("aria-pressed", view === "flat");
  get("solid").setAttribute("aria-pressed", view === "solid");
  draw();
}

function point(event) {
  const box = canvas.getBoundingClientRect(), f = frame();
  const u = (event.clientX - box.left - f.left) / f.width, v = 1 - (event.clientY - box.top - f.top) / f.height;
  state.column = nearest(xs, between(xs, Math.max(0, Math.min(1, u)) * (xs.length - 1)));
  if (isPlane) state.row = nearest(ys, between(ys, Math.max(0, Math.min(1, v)) * (ys.length - 1)));
  draw();
}

stage.addEventListener("pointerdown", (event) => { stage.setPointerCapture(event.pointerId); if (state.view === "flat") point(event); });
stage.addEventListener("pointermove", (event) => {
  if (state.view === "flat") { if (event.buttons || event.pointerType === "mouse") point(event); }
  else if (event.buttons) {
    state.turn += event.movementX / 150;
    state.tilt = Math.max(0.05, Math.min(1.5, state.tilt + event.movementY / 150));
    draw();
  }
});
stage.addEventListener("keydown", (event) => {
  const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key] || [0, 0];
  if (event.key === "Home") {
    Object.assign(state, state.view === "flat" ? { column: nearest(xs, 0), row: nearest(ys, 0) } : { turn: 0.7, tilt: 0.6 });
  } else if (!dx && !dy) return;
  else if (state.view === "flat") {
    state.column = Math.max(0, Math.min(xs.length - 1, state.column + dx));
    state.row = Math.max(0, Math.min(ys.length - 1, state.row + dy));
  } else {
    state.turn += dx * 0.1;
    state.tilt = Math.max(0.05, Math.min(1.5, state.tilt + dy * 0.1));
  }
  event.preventDefault();
  draw();
});
get("flat").onclick = () => look("flat");
get("solid").onclick = () => look("solid");
get("contours").onchange = (event) => { state.contours = event.target.checked; draw(); };

if (data.path) {
  state.step = data.path.length - 1;
  get("step").max = state.step;
  get("step").oninput = (event) => { state.playing = false; state.step = +event.target.value; tell(); draw(); };
  get("play").onclick = () => {
    state.playing = !state.playing;
    if (state.playing && state.step === data.path.length - 1) state.step = 0;
    tell();
    draw();
    if (state.playing) advance();
  };
}

function tell() { get("play").textContent = state.playing ? "pause" : "play"; }

function advance() {
  if (!state.playing) return;
  const stride = Math.max(1, Math.round(data.path.length / 120));
  state.step = Math.min(data.path.length - 1, state.step + stride);
  if (state.step === data.path.length - 1) state.playing = false;
  tell();
  draw();
  if (state.playing) setTimeout(advance, 60);
}

const legend = get("legend").getContext("2d");
for (let i = 0; i < 256; i++) {
  legend.fillStyle = `rgb(${color(i / 255).join(",")})`;
  legend.fillRect(i, 0, 1, 1);
}
get("low").textContent = text(data.low);
get("high").textContent = text(data.high);
get("scale").textContent = data.scale;
window.landscape = { state: () => ({ ...state }), heightAt, place };
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
new ResizeObserver(resize).observe(stage);
resize();
