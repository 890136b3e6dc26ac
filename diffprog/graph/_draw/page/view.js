// Pan and zoom: where the drawing stands on the screen.

function createView(canvas, world, tapped) {
  const view = { x: 0, y: 0, k: 1, width: 1, height: 1 };
  let goal = view; // where it is moving to
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const SMALLEST = 0.02, LARGEST = 4;
  let moving = 0;
  let moved = false; // since `begin`

  const apply = () => world.setAttribute("transform", `translate(${view.x} ${view.y}) scale(${view.k})`);
  const screen = () => canvas.getBoundingClientRect();

  // What the panel leaves free: [left, top, right, bottom].
  view.free = () => {
    const { width, height } = screen();
    const panel = document.getElementById("panel");
    if (panel.hidden) return [0, 0, width, height];
    return panel.offsetWidth < width * 0.8 ? [0, 0, width - panel.offsetWidth - 10, height] : [0, 0, width, height - panel.offsetHeight];
  };

  const place = (x, y, k) => {
    cancelAnimationFrame(moving);
    goal = view;
    [view.x, view.y, view.k] = [x, y, k];
    apply();
  };

  view.set = (x, y, k) => {
    moved = true;
    place(x, y, k);
  };

  view.go = (x, y, k) => {
    moved = true;
    if (calm.matches) return place(x, y, k);
    cancelAnimationFrame(moving);
    goal = { x, y, k };
    const from = [view.x, view.y, view.k], start = performance.now();
    const frame = (now) => {
      const t = Math.min((now - start) / 220, 1), e = 1 - (1 - t) ** 3;
      [view.x, view.y, view.k] = [x, y, k].map((to, i) => from[i] + e * (to - from[i]));
      apply();
      if (t < 1) moving = requestAnimationFrame(frame);
      else goal = view;
    };
    moving = requestAnimationFrame(frame);
  };

  view.zoom = (factor, cx, cy) => {
    const { width, height } = screen();
    [cx, cy] = [cx ?? width / 2, cy ?? height / 2];
    const k = Math.min(Math.max(view.k * factor, SMALLEST), LARGEST);
    view.set(cx - ((cx - view.x) * k) / view.k, cy - ((cy - view.y) * k) / view.k, k);
  };

  // All of it, however small.
  view.fit = (go = view.go) => {
    const [left, top, right, bottom] = view.free();
    const k = Math.min((right - left) / view.width, (bottom - top) / view.height, 1.5);
    go(left + (right - left - k * view.width) / 2, top + (bottom - top - k * view.height) / 2, k);
  };

  // At first: all of it if that can be read, else its top.
  view.begin = () => {
    const { width, height } = screen();
    const all = Math.min(width / view.width, height / view.height, 1.25);
    moved = false;
    if (all >= 0.6) return view.fit(place);
    const k = Math.min(Math.max(width / view.width, 0.55), 1);
    place((width - k * view.width) / 2, 6, k);
  };
  // A frame in a notebook has no size when it is made, or in a hidden tab; until one moves the drawing, it fits the frame.
  new ResizeObserver(() => moved || view.begin()).observe(canvas);

  // Bring a box into sight, in the middle if it was out of it.
  view.reveal = ({ x, y, width, height }, center = false) => {
    const [left, top, right, bottom] = view.free();
    const k = Math.max(goal.k, 0.7);
    const [bx, by] = [goal.x + goal.k * x, goal.y + goal.k * y];
    const inside = bx > left + 8 && by > top + 8 && bx + goal.k * width < right - 8 && by + goal.k * Math.min(height, 200) < bottom - 8;
    if (inside && !center && goal.k === k) return;
    const tall = Math.min(height, (bottom - top) / k - 20);
    view.go((left + right) / 2 - k * (x + width / 2), (top + bottom) / 2 - k * (y + tall / 2), k);
  };

  // One pointer drags, two pinch; a press that does not move is a tap.
  const pointers = new Map();
  let traveled = 0;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button > 0) return;
    if (!pointers.size) traveled = 0;
    pointers.set(event.pointerId, event);
    cancelAnimationFrame(moving);
    goal = view;
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const { left, top } = screen();
    const others = [...pointers.values()].filter((p) => p.pointerId !== event.pointerId);
    if (others.length) {
      const span = (p) => Math.hypot(p.clientX - others[0].clientX, p.clientY - others[0].clientY);
      const middle = [(event.clientX + others[0].clientX) / 2 - left, (event.clientY + others[0].clientY) / 2 - top];
      view.zoom(span(event) / (span(before) || 1), ...middle);
    }
    const share = others.length ? 0.5 : 1;
    const [dx, dy] = [share * (event.clientX - before.clientX), share * (event.clientY - before.clientY)];
    traveled += Math.hypot(dx, dy);
    if (traveled > 5) {
      canvas.classList.add("dragging");
      if (!canvas.hasPointerCapture(event.pointerId)) canvas.setPointerCapture(event.pointerId);
    }
    if (traveled > 5 || others.length) view.set(view.x + dx, view.y + dy, view.k);
    pointers.set(event.pointerId, event);
  });
  const release = (event) => {
    if (!pointers.delete(event.pointerId)) return;
    if (!pointers.size) canvas.classList.remove("dragging");
    if (event.type === "pointerup" && !pointers.size && traveled <= 5) tapped(event.target.closest("[data-item]"));
  };
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const { left, top } = screen();
    const lines = event.deltaMode === 1 ? 16 : 1;
    view.zoom(Math.exp(-0.0016 * lines * event.deltaY), event.clientX - left, event.clientY - top);
  }, { passive: false });
  return view;
}
