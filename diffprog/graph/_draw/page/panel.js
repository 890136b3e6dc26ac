// The panel of one node: what it is, its numbers, its rule, its line, its neighbors. And the help.

function nodePanel(graph, index, choose) {
  const node = graph.nodes[index];
  const parts = [
    h("h2", {}, node.label),
    h("p", { class: "soft" }, [node.primitive !== node.label ? node.primitive : "", node.path, `node ${node.index}`].filter(Boolean).join(" · ")),
  ];
  if (node.mark) parts.push(h("p", { class: `alarm ${node.mark}` }, `${node.badge}: ${graph.meanings[node.mark]}`));
  if (graph.quantity !== "|gradient|" && node.size !== null) parts.push(h("p", {}, `credit ${node.plus ? "+" : "-"}${node.size}`));
  node.values.forEach((value, i) => {
    const which = node.values.length > 1 ? ` ${i}` : "";
    parts.push(...arrayPart(`Value${which}`, value));
    const gradient = node.gradients[i];
    if (gradient) parts.push(...arrayPart(`Gradient of the output${which}`, gradient));
  });
  if (graph.differentiated && !node.gradients.some(Boolean)) parts.push(h("h3", {}, "Gradient"), h("p", { class: "soft" }, reasonForNone(node)));
  if (node.update) parts.push(...arrayPart(`After the step: value − ${graph.step} · gradient`, node.update));
  if (node.formula) {
    const [forward, backward] = node.formula;
    const rule = backward.length ? ", with g the gradient of z" : "";
    parts.push(h("h3", {}, `Rule${rule}`), h("pre", {}, ...[forward, ...backward].map((line) => h("span", {}, line))));
  }
  if (node.source !== null) parts.push(...sourcePart(graph.sources[node.source]));
  parts.push(...neighborParts(graph, index, choose));
  if (node.params.length) {
    parts.push(h("h3", {}, "Parameters"), h("div", { class: "scroll" }, h("table", {}, ...node.params.map(([name, text]) => h("tr", {}, h("td", {}, name), h("td", {}, text))))));
  }
  return parts;
}

const reasonForNone = (node) =>
  ({ blocked: "None: nothing can be differentiated here.", constant: "None: it depends on no input that is differentiated." })[node.status] ??
  "None arrived: the output does not depend on it.";

function arrayPart(title, array) {
  const parts = [h("h3", {}, title), h("p", {}, h("code", {}, array.type), array.numbers || !array.brief ? "" : `  ${array.brief}`)];
  if (array.picture) {
    parts.push(h("img", { src: array.picture, alt: `${title} as a picture` }), h("p", { class: "soft" }, array.scaled));
  }
  if (array.numbers) {
    parts.push(h("div", { class: "scroll" }, h("table", {}, ...array.numbers.map((row) => h("tr", {}, ...row.map((x) => h("td", { class: "figure" }, x)))))));
  }
  if (array.histogram) parts.push(...histogram(array.histogram));
  if (array.stats) {
    parts.push(h("details", {}, h("summary", {}, "Statistics"), h("table", {}, ...array.stats.map(([name, text]) => h("tr", {}, h("td", {}, name), h("td", {}, text))))));
  }
  return parts;
}

function histogram([counts, low, high]) {
  const most = Math.max(...counts);
  const bars = counts.map((count, i) => {
    const height = count ? Math.max((50 * count) / most, 1) : 0;
    return s("rect", { x: 10 * i + 0.5, y: 52 - height, width: 9, height }, s("title", {}, `${count}`));
  });
  const label = `Histogram from ${low} to ${high}`;
  return [
    s("svg", { class: "bars", viewBox: `0 0 ${10 * counts.length} 54`, preserveAspectRatio: "none", role: "img", "aria-label": label }, ...bars),
    h("div", { class: "range" }, h("span", {}, low), h("span", {}, high)),
  ];
}

function sourcePart(source) {
  const width = String(source.line + 2).length;
  const lines = source.context.map(([number, text]) =>
    h("span", { class: number === source.line ? "here" : "" }, `${String(number).padStart(width)}  ${text}`));
  const parts = [h("h3", {}, "Source"), h("p", {}, `${source.file}:${source.line}`, h("span", { class: "soft" }, ` in ${source.function}`))];
  if (lines.length) parts.push(h("pre", {}, ...lines));
  if (source.callers.length) parts.push(h("details", {}, h("summary", {}, "Called from"), h("pre", {}, source.callers.join("\n"))));
  return parts;
}

// Edges in and out, with the part of the gradient that came through each; at a fan-out also their sum.
function neighborParts(graph, index, choose) {
  const incoming = graph.edges.filter((edge) => edge.target === index);
  const outgoing = graph.edges.filter((edge) => edge.source === index);
  const row = (edge, other, arrow) => {
    const gradient = graph.quantity !== "|gradient|" && !edge.mark ? `credit ${edge.plus ? "+" : "-"}${edge.size}` : edge.mark ? (edge.gradient ? `∂ ${edge.gradient}` : graph.meanings[edge.mark]) : edge.gradient && `∂ ${edge.gradient}`;
    const label = `${arrow} ${graph.nodes[other].label}`;
    return h("li", {}, h("button", { onclick: () => choose(other), title: graph.nodes[other].path }, label, gradient && h("small", {}, gradient)));
  };
  const parts = [];
  if (incoming.length) parts.push(h("h3", {}, "Uses"), h("ul", {}, ...incoming.map((edge) => row(edge, edge.source, "←"))));
  if (outgoing.length) {
    const list = h("ul", {}, ...outgoing.map((edge) => row(edge, edge.target, "→")));
    const sum = graph.nodes[index].gradients.find(Boolean);
    if (outgoing.filter((edge) => edge.gradient).length > 1 && sum) list.append(h("li", { class: "sum" }, `sum ∂ ${sum.brief}`));
    parts.push(h("h3", {}, outgoing.length > 1 ? "Used by, with the parts of its gradient" : "Used by"), list);
  }
  return parts;
}

const KEYS = [
  ["→ ←", "one step on or back"], ["space", "play or pause"], ["Home End", "to the start, to the end"], ["/", "search"], ["+ −", "zoom"], ["f", "show everything"],
  ["Tab, Enter", "go through the boxes, open one"], ["Esc", "close what is open"],
];

function helpPanel(graph) {
  const line = (kind) => s("svg", { class: "drawing legend-line", viewBox: "0 0 60 16" }, s("g", { class: `segment ${kind}` }, s("path", { class: "line", d: "M2 8H58" })));
  const parts = [h("h2", {}, "How to read it")];
  parts.push(h("p", {}, "The computation runs downward, from the inputs to the output; gradients come back upward along the same lines. Click a group to open or close it, a node for its numbers."));
  if (graph.hidden) parts.push(h("p", { class: "soft" }, `${graph.hidden} nodes are left out: plain numbers, and results that go nowhere.`));
  for (const note of graph.notes) parts.push(h("p", { class: "soft" }, note));
  parts.push(h("h3", {}, graph.quantity === "|gradient|" ? "Size of the gradient" : "Size of the credit"));
  if (graph.scale) {
    for (const [step, text] of [[0, graph.scale[0]], [3, ""], [6, graph.scale[1]]]) parts.push(h("p", {}, line(`s${step}`), text === "" ? "" : Number(text).toPrecision(2)));
    if (graph.quantity !== "|gradient|") parts.push(h("p", {}, line("s4 plus"), "above 0"));
  } else parts.push(h("p", { class: "soft" }, "No gradient: backward() was not called."));
  parts.push(h("h3", {}, "Marks"));
  for (const [mark, meaning] of Object.entries(graph.meanings)) parts.push(h("p", {}, line(mark), meaning));
  parts.push(h("h3", {}, "Keys"), ...KEYS.map(([key, text]) => h("p", {}, h("kbd", {}, key), ` ${text}`)));
  return parts;
}
