// Drawings as SVG text: axes, lines, dots, contours, and pictures made of pixels.

const escaped = (text) => String(text).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);

// Four significant digits, as a reader writes them.
function show(x, digits = 4) {
  if (x === null || x === undefined || Number.isNaN(x)) return "–";
  if (!Number.isFinite(x)) return x > 0 ? "∞" : "−∞";
  const size = Math.abs(x);
  if (size === 0) return "0";
  if (size >= 1e-4 && size < 1e7) {
    const rounded = Number(x.toPrecision(digits));
    const text = Math.abs(rounded) >= 10 ** digits ? rounded.toLocaleString("en") : String(rounded);
    return text.replace("-", "−");
  }
  const [mantissa, exponent] = x.toExponential(digits - 2).split("e");
  return `${String(Number(mantissa)).replace("-", "−")}·10${superscript(Number(exponent))}`;
}

// A factor per step: next to 1 with as many digits as its distance from 1 needs.
function factor(x) {
  const gap = Math.abs(1 - x);
  return x !== null && gap > 0 && gap < 1e-3 ? x.toFixed(Math.min(2 + Math.ceil(-Math.log10(gap)), 12)) : show(x, 5);
}

const superscript = (n) => String(n).replace("-", "⁻").replace(/\d/g, (d) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[d]);

function scaled({ min, max, log }, low, high) {
  const t = log ? (x) => Math.log10(Math.max(x, 1e-300)) : (x) => x;
  const a = t(min), b = t(max);
  return (x) => low + (high - low) * (t(x) - a) / (b - a || 1);
}

function ticks({ min, max, log }, count) {
  if (log) {
    const a = Math.ceil(Math.log10(min) - 1e-9), b = Math.floor(Math.log10(max) + 1e-9), every = Math.max(1, Math.ceil((b - a + 1) / count));
    const found = [];
    for (let e = a; e <= b; e++) if ((e - a) % every === 0) found.push(10 ** e);
    return found.map((x) => [x, x >= 0.001 && x < 1e5 ? show(x) : `10${superscript(Math.round(Math.log10(x)))}`]);
  }
  const raw = (max - min) / count, unit = 10 ** Math.floor(Math.log10(raw)), step = [1, 2, 5, 10].find((m) => m * unit >= raw * 0.999) * unit;
  const found = [];
  for (let x = Math.ceil(min / step - 1e-9) * step; x <= max + step * 1e-9; x += step) found.push(Math.abs(x) < step / 1e6 ? 0 : x);
  return found.map((x) => [x, show(Number(x.toPrecision(8)))]);
}

// The frame of a plot: {svg begin, x(), y(), inner box}. `axes` = {x: {min, max, log, label}, y: ...}.
function frame(width, height, { x, y }) {
  const yTicks = ticks(y, height > 220 ? 6 : 4), longest = Math.max(...yTicks.map(([, text]) => text.length), 1);
  const left = 16 + 7 * longest, right = width - 12, top = 22, bottom = height - 36;
  const toX = scaled(x, left, right), toY = scaled(y, bottom, top);
  const xTicks = ticks(x, Math.max(2, Math.floor((right - left) / 75)));
  const parts = [];
  for (const [value, text] of xTicks) {
    parts.push(`<line class="grid" x1="${toX(value)}" x2="${toX(value)}" y1="${bottom}" y2="${bottom + 4}"/><text x="${toX(value)}" y="${bottom + 17}" text-anchor="middle">${text}</text>`);
  }
  for (const [value, text] of yTicks) {
    parts.push(`<line class="grid" x1="${left - 4}" x2="${left}" y1="${toY(value)}" y2="${toY(value)}"/><text x="${left - 7}" y="${toY(value) + 4}" text-anchor="end">${text}</text>`);
  }
  parts.push(`<text class="name" x="${right}" y="${height - 4}" text-anchor="end">${escaped(x.label)}</text><text class="name" x="4" y="13">${escaped(y.label)}</text>`);
  parts.push(`<rect class="frame" x="${left}" y="${top}" width="${right - left}" height="${bottom - top}"/>`);
  const clip = `clip${frame.count = (frame.count || 0) + 1}`;
  const defs = `<defs><clipPath id="${clip}"><rect x="${left}" y="${top}" width="${right - left}" height="${bottom - top}"/></clipPath></defs>`;
  return { width, height, left, right, top, bottom, toX, toY, clip, axes: parts.join(""), defs };
}

function svg(box, under, over, label) {
  return `<svg viewBox="0 0 ${box.width} ${box.height}" width="${box.width}" height="${box.height}" role="img" aria-label="${escaped(label)}">${box.defs}<g clip-path="url(#${box.clip})">${under}</g>${box.axes}<g clip-path="url(#${box.clip})">${over}</g></svg>`;
}

const round = (x) => Math.round(Math.max(-1e5, Math.min(1e5, x)) * 10) / 10;

function trace(points, style, extra = "") {
  const kept = points.filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y)).map(([x, y]) => `${round(x)},${round(y)}`);
  return `<polyline class="trace" style="${style}" points="${kept.join(" ")}" ${extra}/>`;
}

function dots(points, color, radius) {
  const kept = points.filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y));
  return kept.map(([x, y]) => `<circle class="dot" cx="${round(x)}" cy="${round(y)}" r="${radius}" style="fill:${color}"/>`).join("");
}

function sample(color, dash = "none", mark = "line") {
  const line = mark === "dot" ? `<circle cx="14" cy="6" r="4" style="fill:${color}"/>`
    : mark === "cross" ? `<path d="M9 1 19 11M19 1 9 11" style="stroke:${color};stroke-width:2.5"/>`
    : `<line x1="1" x2="27" y1="6" y2="6" style="stroke:${color};stroke-width:2.5;stroke-dasharray:${dash}"/>`;
  return `<svg viewBox="0 0 28 12" aria-hidden="true">${line}</svg>`;
}

const COLORS = [0, 1, 2, 3, 4, 5, 6, 7].map((i) => `var(--c${i})`);
const DASHES = ["none", "7 3", "2 3", "9 3 2 3", "none", "12 4", "none", "3 3"];

function extent(values, pad = 0.06) {
  let [min, max] = [Infinity, -Infinity];
  for (const x of values) if (Number.isFinite(x)) { min = Math.min(min, x); max = Math.max(max, x); }
  if (min > max) [min, max] = [0, 1];
  if (min === max) [min, max] = [min - 0.5, max + 0.5];
  const more = (max - min) * pad;
  return { min: min - more, max: max + more };
}

// A small chart with a legend, for the gallery.
function smallChart(place, { x, xLog, lines, dots: clouds = [], log, xLabel, yLabel, yMax }, name) {
  const width = place.clientWidth || 440, height = 190;
  const ys = lines.flatMap((l) => l.y).concat(clouds.flatMap((c) => c.y));
  let range = extent(ys);
  if (log) { const positive = ys.filter((v) => v > 0 && v < 1e300); range = { min: Math.min(...positive) / 2, max: Math.max(...positive) * 2, log: true }; }
  if (yMax !== undefined) range = { min: -0.03 * yMax, max: yMax };
  const xs = xLog ? { min: Math.max(x[0], 1), max: x[x.length - 1], log: true } : { min: x[0], max: x[x.length - 1] };
  const box = frame(width, height, { x: { ...xs, label: xLabel }, y: { ...range, label: yLabel } });
  const colors = ["var(--c4)", "var(--c1)", "var(--c5)"];
  const drawn = lines.map((l, i) => trace(l.y.map((y, k) => [box.toX(x[k]), box.toY(y)]), `stroke:${colors[i]};stroke-dasharray:${DASHES[i]}`));
  drawn.push(...clouds.map((c) => dots(c.y.map((y, k) => [box.toX(c.x[k]), box.toY(y)]), "var(--c1)", 3.2)));
  place.innerHTML = svg(box, "", drawn.join(""), name);
  return lines.map((l, i) => `<li>${sample(colors[i], DASHES[i])}${escaped(l.label)}</li>`)
    .concat(clouds.map((c) => `<li>${sample("var(--c1)", "none", "dot")}${escaped(c.label)}</li>`)).join("");
}

// ---------------------------------------------------------------- pixels

function rgb(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).split(",").map(Number);
}

function picture(columns, rows, color) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [columns, rows];
  const context = canvas.getContext("2d"), image = context.createImageData(columns, rows);
  for (let j = 0; j < rows; j++) {
    for (let i = 0; i < columns; i++) image.data.set([...color((i + 0.5) / columns, 1 - (j + 0.5) / rows), 255], 4 * (j * columns + i));
  }
  context.putImageData(image, 0, 0);
  return canvas.toDataURL();
}

const mix = (a, b, t) => a.map((x, i) => Math.round(x + (b[i] - x) * t));

// Cividis, made for color-blind readers: dark blue to yellow.
const CIVIDIS = [[0, 34, 78], [53, 69, 108], [102, 105, 112], [148, 142, 119], [200, 184, 102], [254, 232, 56]];
function cividis(t) {
  const at = Math.min(Math.max(t, 0), 1) * (CIVIDIS.length - 1), i = Math.min(Math.floor(at), CIVIDIS.length - 2);
  return mix(CIVIDIS[i], CIVIDIS[i + 1], at - i);
}

// Values on a grid as bands between levels that are close where the function is low, and lines between the bands.
const LEVELS = 15;
function contours(value, [[left, right], [bottom, top]]) {
  const columns = 120, rows = 100, grid = [];
  for (let j = 0; j <= rows; j++) for (let i = 0; i <= columns; i++) grid.push(value([left + (right - left) * i / columns, bottom + (top - bottom) * j / rows]));
  const finite = grid.filter(Number.isFinite).sort((a, b) => a - b);
  if (finite.length < 2) return { bands: () => [128, 128, 128], lines: () => "" };
  const low = finite[0], middle = finite[Math.floor(finite.length / 3)] - low || 1, high = finite[Math.floor(finite.length * 0.98)];
  const level = (f) => Math.log1p((f - low) / middle * 8) / Math.log1p((high - low) / middle * 8);
  const levels = grid.map(level);
  return {
    columns, rows,
    tone: (u, v) => {
      const i = Math.min(u * columns, columns - 1e-9), j = Math.min(v * rows, rows - 1e-9), a = Math.floor(i), b = Math.floor(j), k = b * (columns + 1) + a;
      const s = i - a, t = j - b;
      return (levels[k] * (1 - s) + levels[k + 1] * s) * (1 - t) + (levels[k + columns + 1] * (1 - s) + levels[k + columns + 2] * s) * t;
    },
    lines: (toX, toY) => marching(levels, columns, rows, (i, j) => [toX(left + (right - left) * i / columns), toY(bottom + (top - bottom) * j / rows)]),
  };
}

function marching(levels, columns, rows, place) {
  const parts = [];
  for (let n = 1; n < LEVELS; n++) {
    const limit = n / LEVELS;
    for (let j = 0; j < rows; j++) {
      for (let i = 0; i < columns; i++) {
        const k = j * (columns + 1) + i, corners = [[i, j, k], [i + 1, j, k + 1], [i + 1, j + 1, k + columns + 2], [i, j + 1, k + columns + 1]];
        const cuts = [];
        for (let c = 0; c < 4; c++) {
          const [p, q] = [corners[c], corners[(c + 1) % 4]], a = levels[p[2]], b = levels[q[2]];
          if ((a < limit) !== (b < limit) && Number.isFinite(a) && Number.isFinite(b)) {
            const t = (limit - a) / (b - a);
            cuts.push(place(p[0] + (q[0] - p[0]) * t, p[1] + (q[1] - p[1]) * t).map(round));
          }
        }
        for (let c = 0; c + 1 < cuts.length; c += 2) parts.push(`M${cuts[c]}L${cuts[c + 1]}`);
      }
    }
  }
  return `<path class="level" d="${parts.join("")}"/>`;
}
