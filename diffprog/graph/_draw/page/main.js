// The page: what is open, what is chosen, which step is shown.

const graph = JSON.parse(document.getElementById("graph").textContent);
const $ = (id) => document.getElementById(id);
const canvas = $("canvas"), world = $("world"), panel = $("panel"), details = $("details");

graph.members = graph.groups.map(() => []);
graph.nodes.forEach((node, i) => {
  for (let g = node.group; g !== null; g = graph.groups[g].parent) graph.members[g].push(i);
});
graph.inside = (group) => graph.members[group];
// The box in which a node is visible: its own, or that of the outermost closed group around it.
graph.visible = (i, boxes) => {
  let item = `n${i}`;
  for (let g = graph.nodes[i].group; g !== null; g = graph.groups[g].parent) {
    if (g !== 0 && boxes.has(`g${g}`) && !boxes.get(`g${g}`).box.open) item = `g${g}`;
  }
  return item;
};

const open = new Set(graph.groups.map((group, i) => (group.open ? i : -1)).filter((i) => i >= 0));
let layout, scene, walk, chosen = null, time = null, playing = 0, hits = new Set();
const view = createView(canvas, world, (element) => element && press(element.dataset.item));

function redraw() {
  layout = layOut(graph, open);
  [view.width, view.height] = [layout.width, layout.height];
  const focused = document.activeElement?.dataset?.item;
  scene = drawScene(world, graph, layout);
  walk = stepsOf(graph, scene);
  $("time").max = walk.steps.length;
  if (focused) scene.boxes.get(focused)?.element.focus({ preventScroll: true });
  decorate();
}

// Selection, search hits and the step, on what is drawn.
function decorate() {
  for (const [item, { box, element }] of scene.boxes) {
    const it = Number(item.slice(1));
    element.classList.toggle("selected", item === `n${chosen}`);
    element.classList.toggle("hit", item[0] === "n" ? hits.has(it) : !box.open && graph.inside(it).some((i) => hits.has(i)));
  }
  const walking = time !== null;
  canvas.classList.toggle("walking", walking);
  const now = showTime(graph, scene, walk, walking ? time : walk.steps.length + 1);
  $("time").value = walking ? time : walk.steps.length;
  const [where, text] = describe(graph, walking ? now : null, time, walk.steps.length);
  $("status").replaceChildren(h("b", {}, where), ` ${text}`);
  return now;
}

// ---- groups and nodes

function press(item) {
  if (item[0] === "g") toggle(Number(item.slice(1)));
  else choose(Number(item.slice(1)));
}

// What was pressed stays where it is on the screen.
function toggle(group) {
  const before = scene.boxes.get(`g${group}`).box;
  const current = currentNode();
  open.has(group) ? open.delete(group) : open.add(group);
  redraw();
  const after = scene.boxes.get(`g${group}`).box;
  const anchor = (box) => box.x + box.width / 2;
  view.set(view.x + view.k * (anchor(before) - anchor(after)), view.y + view.k * (before.y - after.y), view.k);
  keepStep(current);
}

function openAll(all) {
  const current = currentNode();
  open.clear();
  graph.groups.forEach((_, i) => (all || i === 0) && open.add(i));
  redraw();
  keepStep(current);
  view.begin();
}

function reveal(i, center = false) {
  let folded = false;
  for (let g = graph.nodes[i].group; g !== null; g = graph.groups[g].parent) {
    folded ||= !open.has(g);
    open.add(g);
  }
  if (folded) {
    const current = currentNode();
    redraw();
    keepStep(current);
  }
  view.reveal(scene.boxes.get(`n${i}`).box, center);
}

function choose(i) {
  chosen = i;
  showPanel(nodePanel(graph, i, choose), graph.nodes[i].label);
  reveal(i);
  decorate();
}

function showPanel(parts, label) {
  details.replaceChildren(...parts);
  panel.setAttribute("aria-label", label);
  panel.hidden = false;
  panel.scrollTop = 0;
}

function closePanel() {
  panel.hidden = true;
  chosen = null;
  decorate();
}

// ---- the walk

function currentNode() {
  const step = time === null || time < 1 ? null : walk.steps[time - 1];
  if (!step?.item) return step ? { phase: step.phase } : null;
  const i = step.item[0] === "n" ? Number(step.item.slice(1)) : graph.inside(Number(step.item.slice(1)))[0];
  return { phase: step.phase, node: i };
}

// After a change of what is open: the step at which the same node is in turn.
function keepStep(current) {
  if (time === null || !current) return;
  const item = current.node === undefined ? null : graph.visible(current.node, scene.boxes);
  const found = walk.steps.findIndex((step) => step.phase === current.phase && step.item === item);
  time = found < 0 ? Math.min(time, walk.steps.length) : found + 1;
  decorate();
}

function goTo(step) {
  time = Math.min(Math.max(step, 0), walk.steps.length);
  const now = decorate();
  if (time === walk.steps.length) pause();
  const item = now?.item ?? (now ? graph.visible(now.nodes[0], scene.boxes) : null);
  if (!item) return;
  view.reveal(scene.boxes.get(item).box);
  if (!panel.hidden && item[0] === "n" && chosen !== null && now.phase !== "update") {
    chosen = Number(item.slice(1));
    showPanel(nodePanel(graph, chosen, choose), graph.nodes[chosen].label);
    decorate();
  }
}

function play() {
  if (playing) return pause();
  if (time === null || time >= walk.steps.length) goTo(0);
  const pace = Math.min(Math.max(40000 / walk.steps.length, 90), 800);
  playing = setInterval(() => goTo(time + 1), pace);
  $("play").classList.add("playing");
  $("play").setAttribute("aria-label", "Pause");
}

function pause() {
  clearInterval(playing);
  playing = 0;
  $("play").classList.remove("playing");
  $("play").setAttribute("aria-label", "Play");
}

const onward = () => (pause(), goTo((time ?? 0) + 1));
const backward = () => (pause(), goTo((time ?? walk.steps.length + 1) - 1));

// ---- search

function matches(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return [];
  const about = (node) => {
    const source = node.source === null ? null : graph.sources[node.source];
    const line = source ? `${source.where} ${source.file} ${source.context.find(([n]) => n === source.line)?.[1] ?? ""}` : "";
    return `${node.label} ${node.primitive} ${node.path} ${node.badge} ${line}`.toLowerCase();
  };
  const found = graph.nodes.map((_, i) => i).filter((i) => words.every((word) => about(graph.nodes[i]).includes(word)));
  const named = (i) => words.filter((word) => graph.nodes[i].label.toLowerCase() === word).length;
  return found.sort((a, b) => named(b) - named(a) || a - b);
}

function search() {
  const found = matches($("search").value);
  hits = new Set(found);
  const row = (i) => {
    const node = graph.nodes[i];
    const where = [node.path, node.source === null ? "" : graph.sources[node.source].where].filter(Boolean).join(" · ");
    const pick = () => {
      $("found").hidden = true;
      hits = new Set();
      $("search").blur();
      choose(i);
    };
    return h("li", {}, h("button", { onclick: pick }, `${node.label} ${node.type}`, h("small", {}, where)));
  };
  const rest = found.length > 60 ? [h("li", { class: "none" }, `and ${found.length - 60} more, marked in the drawing`)] : [];
  const none = found.length ? [] : [h("li", { class: "none" }, "Nothing found. Names, paths, primitives and source lines are searched.")];
  $("found").replaceChildren(...found.slice(0, 60).map(row), ...rest, ...none);
  $("found").hidden = !$("search").value.trim();
  decorate();
}

// ---- wiring

$("search").addEventListener("input", search);
$("search").addEventListener("focus", search);
$("search").addEventListener("keydown", (event) => {
  const first = $("found").querySelector("button");
  if (event.key === "Enter" && first) first.click();
  if (event.key === "ArrowDown" && first) first.focus();
});
$("found").addEventListener("keydown", (event) => {
  const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
  if (!step) return;
  event.preventDefault();
  event.stopPropagation();
  (event.target.closest("li")[step]?.querySelector("button") ?? $("search")).focus();
});
document.addEventListener("pointerdown", (event) => {
  if (!event.target.closest(".search")) $("found").hidden = true;
});
$("unfold").addEventListener("click", () => openAll(true));
$("fold").addEventListener("click", () => openAll(false));
$("smaller").addEventListener("click", () => view.zoom(1 / 1.3));
$("larger").addEventListener("click", () => view.zoom(1.3));
$("fit").addEventListener("click", () => view.fit());
$("help").addEventListener("click", () => (chosen = null, showPanel(helpPanel(graph), "Help"), decorate()));
$("close").addEventListener("click", closePanel);
$("first").addEventListener("click", () => (pause(), goTo(0)));
$("back").addEventListener("click", backward);
$("next").addEventListener("click", onward);
$("play").addEventListener("click", play);
$("time").addEventListener("input", () => (pause(), goTo(Number($("time").value))));

function escape() {
  if (!$("found").hidden || $("search").value) {
    $("search").value = "";
    search();
    $("search").blur();
  } else if (!panel.hidden) closePanel();
  else if (time !== null) {
    pause();
    time = null;
    decorate();
  }
}

const KEYS_DOWN = {
  ArrowRight: onward, ArrowLeft: backward, " ": play, "+": () => view.zoom(1.3), "=": () => view.zoom(1.3), "-": () => view.zoom(1 / 1.3),
  f: () => view.fit(), "/": () => $("search").focus(), "?": () => $("help").click(),
  Home: () => (pause(), goTo(0)), End: () => (pause(), goTo(walk.steps.length)),
};
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") return escape();
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const target = event.target;
  if (target.matches("input")) return;
  const item = target.dataset?.item;
  if (item && event.key === "Enter") {
    event.preventDefault();
    return press(item);
  }
  if (target.matches("button, summary") && event.key === " ") return;
  const action = KEYS_DOWN[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});
// A box that gets the focus by Tab comes into sight. (Not on `world`: Chromium gives SVG elements that listen the focus.)
document.addEventListener("focusin", (event) => {
  const item = event.target.dataset?.item;
  if (item && event.target.matches(":focus-visible")) view.reveal(scene.boxes.get(item).box);
});
addEventListener("resize", () => decorate());

redraw();
view.begin();
// For tests and for the curious: the state, read from outside.
window.diffprog = { graph, layOut, state: () => ({ open: [...open], chosen, time, steps: walk.steps, layout, view }) };
