// Boxes and segments as SVG elements. What a vector drawing shows (vector.py), with handles for the page.

const SVG = "http://www.w3.org/2000/svg";

// h("p", {class: "soft"}, "text", child): an element; text is never parsed as HTML.
function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}
function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== ""));
  return element;
}

function curve([[x, y], ...rest]) {
  const f = (v) => +v.toFixed(1);
  let path = `M${f(x)} ${f(y)}`;
  for (const [nextX, nextY] of rest) {
    const middle = f((y + nextY) / 2);
    path += nextX === x ? `V${f(nextY)}` : `C${f(x)} ${middle} ${f(nextX)} ${middle} ${f(nextX)} ${f(nextY)}`;
    [x, y] = [nextX, nextY];
  }
  return path;
}

const tip = ([x, y], mark) =>
  mark === "blocked" ? `M${x - 6} ${y - 3}h12v2.5h-12z` : `M${x - 4.5} ${y - 8}h9L${x} ${y}z`;

const GRAVITY = ["nan", "", "zero", "unused", "blocked", "constant"];

// Mark and step of a line that carries several edges: the gravest mark, the largest size.
function strongest(edges) {
  let mark = "constant", step = null;
  for (const edge of edges) {
    if (GRAVITY.indexOf(edge.mark) < GRAVITY.indexOf(mark)) mark = edge.mark;
    if (edge.step !== null) step = Math.max(step ?? 0, edge.step);
  }
  return { mark, step };
}

const largest = (edges) => edges.reduce((a, b) => ((b.size ?? -1) > (a.size ?? -1) ? b : a));

// Color, width and dash of a segment; what it has apart from them stays.
function show(element, { mark, step }) {
  const kind = mark || (step === null ? "even" : `s${step}`);
  if (element.dataset.kind === kind) return;
  if (element.dataset.kind) element.classList.remove(element.dataset.kind);
  element.classList.add(kind);
  element.dataset.kind = kind;
}

function drawSegment(graph, segment) {
  const edges = segment.edges.map((i) => graph.edges[i]);
  const { mark, step } = strongest(edges);
  const first = largest(edges);
  const element = s("g", { class: first.plus ? "segment plus" : "segment" }, s("path", { class: "line", d: curve(segment.points) }));
  if (segment.ends) element.append(s("path", { class: "tip", d: tip(segment.points.at(-1), mark) }));
  show(element, { mark, step });
  const from = graph.nodes[edges[0].source], to = graph.nodes[edges[0].target];
  const many = edges.length > 1 ? ` and ${edges.length - 1} more` : "";
  const size = mark ? graph.meanings[mark] : first.size === null ? "" : `${graph.quantity} ${first.size}${graph.quantity !== "|gradient|" && !first.plus ? ", below 0" : ""}`;
  element.append(s("title", {}, `${from.label} → ${to.label}${many}\n${size}`));
  return { element, segment, rank: mark === "nan" ? 9 : mark ? 0 : (step ?? 0) + 1 };
}

function drawBox(graph, box) {
  const group = box.item[0] === "g";
  const it = (group ? graph.groups : graph.nodes)[box.item.slice(1)];
  const kinds = ["box", it.mark];
  if (group) kinds.push("group", box.open ? "opened" : "");
  else kinds.push(it.primitive === "input" ? "input" : "", it.small ? "small" : "", it.output ? "output" : "");
  const frame = { width: box.width, height: box.height, rx: it.primitive === "input" ? 11 : 5 };
  const name = group ? `${box.open ? "Close" : "Open"} ${it.path}, ${it.count} nodes` : `${it.label} ${it.type}, ${it.lines.join(", ")}`;
  const element = s("g", {
    class: kinds.filter(Boolean).join(" "), transform: `translate(${box.x} ${box.y})`, tabindex: 0, role: "button",
    "aria-label": it.badge ? `${name}, ${it.badge}` : name, "aria-expanded": group ? String(box.open) : null, "data-item": box.item,
  });
  if (group && !box.open) element.append(s("rect", { class: "under", x: 3, y: 3, ...frame }));
  element.append(s("rect", { class: "frame", ...frame }));
  if (it.step !== null && !box.open) {
    element.append(s("rect", { class: `strip s${it.step}${it.plus ? " plus" : ""}`, x: 3.5, y: 5, width: 4, height: box.height - 10, rx: 2 }));
  }
  const [x, y] = it.small ? [8, 12.5] : [13, 15];
  const title = s("text", { class: "name", x, y }, it.name);
  if (!group) title.append(s("tspan", { class: "more" }, ` ${it.type}`));
  element.append(title);
  if (group) element.append(s("text", { class: "sign", x: box.width - 17, y }, box.open ? "−" : "+"));
  if (!box.open) {
    it.lines.forEach((line, i) => {
      const role = { "∂": "gradient", "→": "update" }[line[0]] ?? "";
      element.append(s("text", { class: `more ${role}`, x, y: y + 15 * (i + 1) }, line));
    });
    if (it.badge) element.append(drawBadge(it.badge, box.width));
  }
  return element;
}

// The name of an open group once more, over the lines that run across it.
function drawHeader(graph, { item, x, y }) {
  const name = graph.groups[item.slice(1)].name;
  return s("g", { class: "header", transform: `translate(${x} ${y})`, "aria-hidden": true }, s("text", { x: 13, y: 15 }, name));
}

function drawBadge(text, right) {
  const width = text.length * 6.2 + 10;
  return s("g", { class: "badge", transform: `translate(${right - width + 8} -11.5)` },
    s("rect", { width, height: 15, rx: 7.5 }), s("text", { x: width / 2, y: 11 }, text));
}

// Everything that is visible, into `world`; returns the boxes' elements by item, and the segments'.
function drawScene(world, graph, layout) {
  const boxes = new Map(layout.boxes.map((box) => [box.item, { box, element: drawBox(graph, box) }]));
  const segments = layout.segments.map((segment) => drawSegment(graph, segment)).sort((a, b) => a.rank - b.rank);
  const all = [...boxes.values()];
  world.replaceChildren(
    ...all.filter(({ box }) => box.open).map(({ element }) => element),
    ...segments.map(({ element }) => element),
    ...all.filter(({ box }) => box.open).map(({ box }) => drawHeader(graph, box)),
    ...all.filter(({ box }) => !box.open).map(({ element }) => element),
  );
  return { boxes, segments };
}
