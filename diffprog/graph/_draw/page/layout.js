// From the groups that are open to boxes and segments: layout.py once more.
// graph: the page's data. Items are "n12" (a node) and "g3" (a group); a bundle is the number of a group's bundle of lines.

// Each group's layers as linked vertices. What the data has: layers of "n12", "g3", "d7" for a dummy vertex of the group's bundle 7, and
// "i7", "o7" for the ports where bundle 7 of the group around comes in and goes out; bundles: [start, [[end, [edges]] ...]],
// where start and end are members, or numbers of bundles of the group around.
function arrange(group, index) {
  const layers = group.layers.map((layer, l) =>
    layer.map((code) => {
      const kind = { d: "dummy", i: "in", o: "out" }[code[0]] ?? "member";
      const bundle = kind === "member" ? null : Number(code.slice(1));
      return { kind, item: kind === "member" ? code : null, bundle, layer: l, up: [], down: [] };
    }),
  );
  const members = new Map(), dummies = new Map(), ports = new Map();
  for (const s of layers.flat()) {
    if (s.kind === "member") members.set(s.item, s);
    else if (s.kind === "dummy") dummies.set(`${s.bundle} ${s.layer}`, s);
    else ports.set(`${s.kind} ${s.bundle}`, s);
  }
  const vertexOf = (kind, at) => (typeof at === "string" ? members.get(at) : ports.get(`${kind} ${at}`));
  const bundles = group.bundles.map(([start, ends], bundle) => ({
    bundle,
    start: vertexOf("in", start),
    ends: ends.map(([end, edges]) => [vertexOf("out", end), edges]),
  }));
  const join = (upper, lower, bundle) => {
    upper.down.push([lower, bundle]);
    lower.up.push([upper, bundle]);
  };
  for (const { bundle, start, ends } of bundles) {
    const last = Math.max(...ends.map(([s]) => s.layer));
    let previous = start;
    for (let l = start.layer + 1; l <= last; l++) {
      for (const [s] of ends) if (s.layer === l) join(previous, s, bundle);
      if (l < last) {
        const dummy = dummies.get(`${bundle} ${l}`);
        join(previous, dummy, bundle);
        previous = dummy;
      }
    }
  }
  return { layers, bundles, dummies, members, whole: index === 0 };
}

function layOut(graph, open) {
  const visible = [], within = new Set();
  graph.groups.forEach((group, i) => {
    if (!open.has(i) || (i !== 0 && !within.has(group.parent))) return;
    visible.push(i);
    within.add(i);
  });
  const placed = new Map();
  const size = (item) => {
    const own = placed.get(item);
    if (own) return [own.width, own.height];
    const { w, h } = item[0] === "n" ? graph.nodes[item.slice(1)] : graph.groups[item.slice(1)];
    return [w, h];
  };
  const entry = (item, bundle) => (placed.has(item) ? placed.get(item).entries.get(bundle) - placed.get(item).width / 2 : 0);
  const exit = (item, bundle) => (placed.has(item) ? placed.get(item).exits.get(bundle) - placed.get(item).width / 2 : 0);
  for (const i of [...visible].reverse()) {
    graph.groups[i].arranged ??= arrange(graph.groups[i], i);
    placed.set(`g${i}`, place(graph.groups[i].arranged, size, entry, exit));
  }

  const boxes = [], segments = [], corner = new Map([["g0", [0, 0]]]);
  for (const i of visible) {
    const context = { graph, index: i, placed, corner: corner.get(`g${i}`), size, entry, exit };
    for (const box of boxesOf(context)) {
      corner.set(box.item, [box.x, box.y]);
      boxes.push(box);
    }
    segments.push(...segmentsOf(context));
  }
  const whole = placed.get("g0");
  return { width: whole.width, height: whole.height, boxes, segments };
}

const middleOf = ({ placed, index, corner }, s) => {
  const { tops, bottoms } = placed.get(`g${index}`);
  return corner[1] + (tops[s.layer] + bottoms[s.layer]) / 2;
};

function boxesOf(context) {
  const { graph, index, placed, corner, size } = context;
  const { x } = placed.get(`g${index}`);
  return [...graph.groups[index].arranged.members].map(([item, s]) => {
    const [width, height] = size(item);
    return { item, x: corner[0] + x.get(s) - width / 2, y: middleOf(context, s) - height / 2, width, height, open: placed.has(item) };
  });
}

// A trunk is followed layer by layer, and cut where lines branch off.
function* segmentsOf(context) {
  const { graph, index, placed, corner, size, exit } = context;
  const { bundles, dummies } = graph.groups[index].arranged;
  const { x, bottoms } = placed.get(`g${index}`);
  for (const { bundle, start, ends: all } of bundles) {
    let ends = all, vertex = start;
    const left = corner[0] + x.get(start);
    let points = [
      start.kind === "member" ? [left + exit(start.item, bundle), middleOf(context, start) + size(start.item)[1] / 2] : [left, corner[1]],
    ];
    while (ends.length) {
      const here = ends.filter(([s]) => s.layer === vertex.layer + 1);
      const further = ends.filter(([s]) => s.layer > vertex.layer + 1);
      if (here.length && vertex !== start && ends.length > 1 && points.length > 1) {
        yield { points, edges: ends.flatMap(([, edges]) => edges), ends: false };
        points = points.slice(-1);
      }
      for (const [end, edges] of here) {
        const intoBox = end.kind === "member" && !placed.has(end.item);
        yield { points: [...points, ...turn(context, points.at(-1), vertex, end, bundle)], edges, ends: intoBox };
      }
      if (further.length) {
        const dummy = dummies.get(`${bundle} ${vertex.layer + 1}`);
        points = [...points, ...turn(context, points.at(-1), vertex, dummy, bundle)];
        points.push([points.at(-1)[0], corner[1] + bottoms[dummy.layer]]);
        vertex = dummy;
      }
      ends = further;
    }
  }
}

// On from a point: down to the border of the upper vertex's layer, over to the lower's, into its box.
function turn(context, point, upper, lower, bundle) {
  const { placed, index, corner, size, entry } = context;
  const { x, tops, bottoms } = placed.get(`g${index}`);
  const at = corner[0] + x.get(lower) + (lower.kind === "member" ? entry(lower.item, bundle) : 0);
  const turned = [[point[0], corner[1] + bottoms[upper.layer]], [at, corner[1] + tops[lower.layer]]];
  if (lower.kind === "member") turned.push([at, middleOf(context, lower) - size(lower.item)[1] / 2]);
  return turned.filter((p, i) => {
    const before = i ? turned[i - 1] : point;
    return p[0] !== before[0] || p[1] !== before[1];
  });
}
