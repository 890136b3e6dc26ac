// Coordinates of one group's arrangement: coordinates.py once more, for whichever groups the reader opens.
// A test holds the two together; change both or neither.

const ROUNDS = 6, MEMBER_GAP = 22, DUMMY_GAP = 12, LAYER_GAP = 26, STEEPEST = 0.07, LARGEST_GAP = 80, PADDING = 14, HEADER = 20;

// arrangement: {layers: [[vertex]], whole}; a vertex has kind, item, bundle, layer, up and down: [[vertex, bundle]].
// size(item) -> [width, height]; entry(item, bundle), exit(item, bundle) -> where a line arrives or leaves, from the middle.
function place(arrangement, size, entry, exit) {
  const layers = arrangement.layers;
  const sizes = new Map();
  for (const layer of layers) for (const s of layer) sizes.set(s, s.kind === "member" ? size(s.item) : [0, 0]);
  const columns = linksOf(layers, sizes, entry, exit);
  const x = solve(layers, columns);
  straighten(layers, columns, x);

  let left = Infinity, right = -Infinity;
  for (const [s, value] of x) left = Math.min(left, value - sizes.get(s)[0] / 2);
  left = (x.size ? left : 0) - PADDING;
  for (const [s, value] of x) x.set(s, value - left);
  for (const [s, value] of x) right = Math.max(right, value + sizes.get(s)[0] / 2);
  const [tops, bottoms] = rows(layers, sizes, x, columns, arrangement.whole ? PADDING : HEADER);
  const at = (layer) => new Map(layer.map((s) => [s.bundle, x.get(s)]));
  return {
    width: (x.size ? right : 0) + PADDING,
    height: bottoms[bottoms.length - 1] + (arrangement.whole ? PADDING : 0),
    x, tops, bottoms, entries: at(layers[0]), exits: at(layers[layers.length - 1]),
  };
}

// Per vertex its links on both sides as [neighbor, shift, weight], and the least distances in each layer.
function linksOf(layers, sizes, entry, exit) {
  const leaves = (s, bundle) => (s.kind === "member" ? exit(s.item, bundle) : 0);
  const arrives = (s, bundle) => (s.kind === "member" ? entry(s.item, bundle) : 0);
  const up = new Map(), down = new Map(), light = lightVertices(layers);
  for (const layer of layers) {
    for (const s of layer) {
      up.set(s, s.up.map(([n, bundle]) => [n, leaves(n, bundle) - arrives(s, bundle), weight(n, s, light)]));
      down.set(s, s.down.map(([n, bundle]) => [n, arrives(n, bundle) - leaves(s, bundle), weight(s, n, light)]));
    }
  }
  const gaps = layers.map((layer) =>
    layer.slice(1).map((b, i) => {
      const a = layer[i];
      const between = a.kind !== "member" && b.kind !== "member" ? DUMMY_GAP : MEMBER_GAP;
      return (sizes.get(a)[0] + sizes.get(b)[0]) / 2 + between;
    }),
  );
  return { up, down, gaps };
}

// What comes from parameters and constants alone and goes to one place: it follows its user, and moves nothing.
function lightVertices(layers) {
  const light = new Set();
  for (const layer of layers) {
    for (const s of layer) {
      if (s.kind !== "in" && s.down.length === 1 && s.up.every(([above]) => light.has(above))) light.add(s);
    }
  }
  return light;
}

function weight(upper, lower, light) {
  const whole = [1, 3, 8][(upper.kind !== "member" ? 1 : 0) + (lower.kind !== "member" ? 1 : 0)];
  return light.has(upper) ? 0.1 * whole : whole;
}

function solve(layers, { up, down, gaps }) {
  const x = new Map();
  layers.forEach((layer, i) => {
    let at = -gaps[i].reduce((a, b) => a + b, 0) / 2;
    layer.forEach((s, k) => {
      x.set(s, at);
      at += gaps[i][k] ?? 0;
    });
  });
  for (let turn = 0; turn < 2 * ROUNDS; turn++) {
    const sides = turn >= 2 * ROUNDS - 4 ? [up, down] : [turn % 2 ? down : up];
    for (let k = 0; k < layers.length; k++) {
      const i = turn % 2 ? layers.length - 1 - k : k;
      const wishes = [], weights = [];
      for (const s of layers[i]) {
        let total = 0.001 * x.get(s), sum = 0.001;
        for (const side of sides) {
          for (const [n, shift, w] of side.get(s)) {
            total += w * (x.get(n) + shift);
            sum += w;
          }
        }
        wishes.push(total / sum);
        weights.push(sum);
      }
      nearest(wishes, weights, gaps[i]).forEach((value, k) => x.set(layers[i][k], value));
    }
  }
  return x;
}

// The x minimizing sum(weights * (x - wishes)^2) with x[i + 1] - x[i] >= gaps[i], by pooling adjacent violators.
function nearest(wishes, weights, gaps) {
  const blocks = [], offsets = [];
  let offset = 0;
  wishes.forEach((wish, i) => {
    offset += i ? gaps[i - 1] : 0;
    offsets.push(offset);
    let block = [wish - offset, weights[i], 1];
    while (blocks.length && blocks[blocks.length - 1][0] > block[0]) {
      const [mean, before, count] = blocks.pop();
      const both = before + block[1];
      block = [(mean * before + block[0] * block[1]) / both, both, count + block[2]];
    }
    blocks.push(block);
  });
  const means = blocks.flatMap(([mean, , count]) => Array(count).fill(mean));
  return means.map((mean, i) => mean + offsets[i]);
}

// Trunks run straight for as many layers as there is room beside them.
function straighten(layers, { up, down, gaps }, x) {
  const beside = new Map();
  layers.forEach((layer, l) =>
    layer.forEach((s, i) => {
      beside.set(s, [i ? [layer[i - 1], gaps[l][i - 1]] : null, i + 1 < layer.length ? [layer[i + 1], gaps[l][i]] : null]);
    }),
  );
  const room = (s) => {
    const [left, right] = beside.get(s);
    return [left ? x.get(left[0]) + left[1] : -1e9, right ? x.get(right[0]) - right[1] : 1e9];
  };
  for (const layer of layers) {
    for (const s of layer) {
      if (s.kind === "dummy" && s.up[0][0].kind !== "dummy") straight(trunkFrom(s), { up, down }, x, room);
    }
  }
}

function straight(trunk, { up, down }, x, room) {
  const [above, shift] = up.get(trunk[0])[0];
  let wish = x.get(above) + shift;
  while (trunk.length) {
    let low = -1e9, high = 1e9, length = 0;
    for (const s of trunk) {
      const [left, right] = room(s);
      if (Math.max(low, left) > Math.min(high, right)) break;
      [low, high] = [Math.max(low, left), Math.min(high, right)];
      length++;
    }
    if (!length) {
      wish = x.get(trunk[0]);
      trunk = trunk.slice(1);
      continue;
    }
    if (length === trunk.length && !(low <= wish && wish <= high)) {
      const [below, away] = down.get(trunk[length - 1])[0];
      wish = x.get(below) + away;
    }
    wish = Math.min(Math.max(wish, low), high);
    for (const s of trunk.slice(0, length)) x.set(s, wish);
    trunk = trunk.slice(length);
  }
}

function trunkFrom(s) {
  const found = [s];
  for (let next = s; next; ) {
    next = next.down.map(([n]) => n).find((n) => n.kind === "dummy" && n.bundle === s.bundle);
    if (next) found.push(next);
  }
  return found;
}

// Top and bottom of each layer; layers stand apart further where lines between them go far sideways.
function rows(layers, sizes, x, { down }, y) {
  const tops = [], bottoms = [];
  layers.forEach((layer, i) => {
    let height = 0, farthest = 0;
    for (const s of layer) {
      height = Math.max(height, sizes.get(s)[1]);
      for (const [n, shift] of down.get(s)) farthest = Math.max(farthest, Math.abs(x.get(n) + shift - x.get(s)));
    }
    tops.push(y);
    bottoms.push(y + height);
    let gap = Math.min(LAYER_GAP + STEEPEST * farthest, LARGEST_GAP);
    if (i === 0 || i === layers.length - 2) gap = farthest ? Math.max(PADDING, gap - PADDING) : PADDING;
    y += height + gap;
  });
  return [tops, bottoms];
}
