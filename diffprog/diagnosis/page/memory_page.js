const reports = JSON.parse(document.getElementById("data").textContent);
const when = document.getElementById("when");
const then = document.getElementById("then");
const SHOWN = 6;

function inWords(bytes) {
  for (const [unit, size] of [["GB", 2 ** 30], ["MB", 2 ** 20], ["kB", 2 ** 10]]) {
    if (bytes >= (1000 / 1024) * size) return `${+(bytes / size).toPrecision(3)} ${unit}`;
  }
  return `${bytes} bytes`;
}

function held(report, time) {
  const total = new Map();
  for (const [start, stop, bytes, line] of report.spans) {
    if (start <= time && time < stop) total.set(line, (total.get(line) || 0) + bytes);
  }
  return [...total].sort((a, b) => b[1] - a[1]);
}

function cell(row, kind, text) {
  const td = row.insertCell();
  td.className = kind;
  td.textContent = text;
  return td;
}

function show(report, time) {
  const lines = held(report, time);
  const sum = lines.reduce((total, [, bytes]) => total + bytes, 0);
  when.textContent =
    `${report.program}: ${inWords(sum)} at instruction ${time + 1} of ${report.running.length}, ` +
    `while the ${report.running[time] === "recomputed" ? "backward pass computes again" : report.running[time] + " pass runs"}`;
  then.replaceChildren();
  for (const [line, bytes] of lines.slice(0, SHOWN)) {
    const row = then.insertRow();
    cell(row, "bytes", inWords(bytes));
    const key = document.createElement("span");
    key.className = `key ${report.lines[line].phase}`;
    cell(row, "phase", report.lines[line].phase).prepend(key);
    cell(row, "where", report.lines[line].where);
    cell(row, "code", report.lines[line].text);
  }
  if (lines.length > SHOWN) {
    const row = then.insertRow();
    cell(row, "bytes", inWords(lines.slice(SHOWN).reduce((total, [, bytes]) => total + bytes, 0)));
    cell(row, "phase", "");
    cell(row, "where", `${lines.length - SHOWN} more`);
    cell(row, "code", "");
  }
}

document.querySelectorAll(".curve").forEach((curve, number) => {
  const report = reports[number];
  const [left, width, top, height] = curve.dataset.plot.split(" ").map(Number);
  const last = report.running.length - 1;
  const cursor = document.createElementNS("http://www.w3.org/2000/svg", "path");
  let now = report.peak;
  cursor.setAttribute("class", "cursor");
  curve.append(cursor);
  curve.setAttribute("tabindex", "0");

  function move(time) {
    now = Math.max(0, Math.min(last, time));
    const x = left + ((now + 0.5) / (last + 1)) * width;
    cursor.setAttribute("d", `M${x} ${top}v${height}`);
    show(report, now);
  }
  curve.addEventListener("pointermove", (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(curve.getScreenCTM().inverse());
    if (at.x >= left && at.x <= left + width) move(Math.floor(((at.x - left) / width) * (last + 1)));
  });
  curve.addEventListener("focus", () => move(now));
  curve.addEventListener("keydown", (event) => {
    const far = event.shiftKey ? Math.ceil(last / 50) : 1;
    const step = { ArrowLeft: -far, ArrowRight: far, Home: -last, End: last }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    move(now + step);
  });
});
