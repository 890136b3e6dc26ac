// One iteration of backpropagation, step by step: values going forward, gradients coming back, the update.

// The steps for the boxes that are visible: {phase: "forward" | "backward" | "update", item}.
function stepsOf(graph, scene) {
  const order = runningOrder(graph, scene);
  const nodesIn = (item) => (item[0] === "n" ? [Number(item.slice(1))] : graph.inside(Number(item.slice(1))));
  const back = order.filter((item) => nodesIn(item).some((i) => graph.nodes[i].gradients.some(Boolean))).reverse();
  const updated = graph.nodes.map((node, i) => (node.update ? i : -1)).filter((i) => i >= 0);
  const steps = order.map((item) => ({ phase: "forward", item }));
  steps.push(...back.map((item) => ({ phase: "backward", item })));
  if (updated.length) steps.push({ phase: "update", item: null, nodes: updated });

  for (const one of scene.segments) {
    one.sources = one.segment.edges.map((i) => graph.visible(graph.edges[i].source, scene.boxes));
    one.targets = one.segment.edges.map((i) => graph.visible(graph.edges[i].target, scene.boxes));
  }

  // When each box is computed, and when its gradient is there: for one that gets none, when its turn would be.
  const forward = new Map(order.map((item, i) => [item, i + 1]));
  const backward = new Map();
  let done = 0;
  for (const item of [...order].reverse()) {
    if (back[done] === item) done++;
    backward.set(item, order.length + done);
  }
  return { steps, forward, backward };
}

// Kahn's order of the visible boxes, in the order of the run where that leaves a choice.
function runningOrder(graph, { boxes, segments }) {
  const items = [...boxes.values()].filter(({ box }) => !box.open).map(({ box }) => box.item);
  const first = (item) => (item[0] === "n" ? Number(item.slice(1)) : graph.inside(Number(item.slice(1)))[0]);
  const position = new Map(items.map((item) => [item, first(item)]));
  const after = new Map(items.map((item) => [item, new Set()]));
  const waiting = new Map(items.map((item) => [item, 0]));
  for (const { segment } of segments) {
    for (const i of segment.edges) {
      const from = graph.visible(graph.edges[i].source, boxes);
      const to = graph.visible(graph.edges[i].target, boxes);
      if (from !== to && !after.get(from).has(to)) {
        after.get(from).add(to);
        waiting.set(to, waiting.get(to) + 1);
      }
    }
  }
  const ready = items.filter((item) => !waiting.get(item)).sort((a, b) => position.get(b) - position.get(a));
  const order = [];
  while (ready.length) {
    const item = ready.pop();
    order.push(item);
    for (const next of after.get(item)) {
      waiting.set(next, waiting.get(next) - 1);
      if (waiting.get(next)) continue;
      let i = ready.length;
      while (i > 0 && position.get(ready[i - 1]) < position.get(next)) i--;
      ready.splice(i, 0, next);
    }
  }
  return order;
}

// Show the state after `time` steps: classes on the boxes and segments.
function showTime(graph, scene, { steps, forward, backward }, time) {
  const now = time < 1 || time > steps.length ? null : steps[time - 1];
  const end = steps.length;
  for (const [item, { box, element }] of scene.boxes) {
    if (box.open) continue;
    const list = element.classList;
    list.toggle("pending", forward.get(item) > time);
    list.toggle("awaits", backward.get(item) > time);
    list.toggle("before", time < end);
    list.toggle("now", Boolean(now) && (now.item === item || (now.nodes ?? []).some((i) => graph.visible(i, scene.boxes) === item)));
  }
  for (const { element, segment, sources, targets } of scene.segments) {
    const list = element.classList;
    list.toggle("pending", sources.every((from) => forward.get(from) > time));
    const returned = segment.edges.filter((_, i) => backward.get(targets[i]) <= time);
    list.toggle("plain", !returned.length);
    show(element, strongest(returned.map((i) => graph.edges[i])));
    list.toggle("now", now?.phase === "forward" ? targets.includes(now.item) : now?.phase === "backward" ? sources.includes(now.item) && targets.some((to) => backward.get(to) <= time) : false);
  }
  return now;
}

function describe(graph, step, time, count) {
  if (!step) return [`${count} steps`, time ? "" : "Step on, or play: values going forward, gradients coming back."];
  const where = `${time} of ${count} · ${step.phase}`;
  if (step.phase === "update") {
    return [where, step.nodes.slice(0, 4).map((i) => `${graph.nodes[i].label} → ${graph.nodes[i].update.brief}`).join(";  ")];
  }
  if (step.item[0] === "g") {
    const group = graph.groups[step.item.slice(1)];
    return [where, `${group.path} (${group.count} nodes)`];
  }
  const node = graph.nodes[step.item.slice(1)];
  const array = step.phase === "forward" ? node.values[0] : node.gradients.find(Boolean);
  const source = node.source === null ? "" : `   ${graph.sources[node.source].where}`;
  const sign = step.phase === "forward" ? "=" : "∂";
  return [where, `${node.label} ${sign} ${array?.brief || array?.type || ""}${source}`];
}
