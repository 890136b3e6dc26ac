const find = (id) => document.getElementById(id);
const list = find("cards");
const cards = [...list.children];
const words = new Map(cards.map((card) => [card, card.dataset.words.toLowerCase()]));
const byUnit = new Map(cards.map((card) => [card.dataset.unit, card]));
const shown = () => [...list.children].filter((card) => !card.hidden);

// Search: a card is shown if it holds every word.
function filter() {
  const wanted = find("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const card of cards) card.hidden = !wanted.every((word) => words.get(card).includes(word));
  const count = shown().length;
  const all = `${cards.length} ${cards.length === 1 ? "unit" : "units"}`;
  find("status").textContent = count === cards.length ? all : count ? `${count} of ${all}` : `None of ${all} holds “${find("search").value.trim()}”.`;
}

// Sort: by a score, highest first, those without it last; or in the order in which they came.
function sort() {
  const score = find("sort").value;
  const up = find("turn").getAttribute("aria-pressed") === "true" ? -1 : 1;
  const value = (card) => (score ? parseFloat(card.dataset[score]) : -card.dataset.number);
  const order = (a, b) => {
    const [x, y] = [value(a), value(b)];
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y) || a.dataset.number - b.dataset.number;
    return up * (y - x) || a.dataset.number - b.dataset.number;
  };
  list.append(...[...cards].sort(order));
  const label = find("sort").selectedOptions[0].textContent;
  for (const row of list.querySelectorAll(".scores div")) row.classList.toggle("sorted", Boolean(score) && row.firstChild.textContent === label);
}

// Enlarge: the card itself, all of it, in the dialog.
const dialog = find("large");
let current = null;

function enlarge(card) {
  current = card;
  const copy = document.createElement("div");
  copy.className = "card";
  for (const part of card.children) copy.append(part.cloneNode(true));
  const picture = copy.querySelector(".picture");
  const plain = document.createElement("div");
  plain.className = "picture";
  plain.append(...picture.childNodes);
  picture.replaceWith(plain);
  for (const button of copy.querySelectorAll("[data-to]")) {
    const other = byUnit.get(button.dataset.to);
    button.disabled = !other;
    if (!other) continue;
    const image = other.querySelector(".picture img").cloneNode();
    image.alt = "";
    button.prepend(image);
    button.addEventListener("click", () => enlarge(other));
  }
  find("shown").replaceChildren(copy);
  dialog.setAttribute("aria-label", card.dataset.unit);
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  history.replaceState(null, "", `#${encodeURIComponent(card.dataset.unit)}`);
}

function walk(by) {
  const visible = shown();
  const at = visible.indexOf(current);
  if (visible.length) enlarge(visible[at < 0 ? 0 : (at + by + visible.length) % visible.length]);
}

list.addEventListener("click", (event) => {
  const button = event.target.closest(".picture");
  if (button) enlarge(button.closest(".card"));
});
find("search").addEventListener("input", filter);
find("sort").addEventListener("change", sort);
find("turn").addEventListener("click", () => {
  const button = find("turn");
  button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true");
  sort();
});
find("back").addEventListener("click", () => walk(-1));
find("next").addEventListener("click", () => walk(1));
find("close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener("close", () => {
  history.replaceState(null, "", location.pathname + location.search);
  current?.querySelector(".picture").focus();
});
document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  if (dialog.open && event.key === "ArrowLeft") walk(-1);
  else if (dialog.open && event.key === "ArrowRight") walk(1);
  else if (!dialog.open && event.key === "/" && !/^(INPUT|SELECT)$/.test(document.activeElement.tagName)) find("search").focus();
  else if (event.key === "Escape" && document.activeElement === find("search")) {
    find("search").value = "";
    filter();
  } else return;
  event.preventDefault();
});

filter();
let asked = "";
try { asked = decodeURIComponent(location.hash.slice(1)); } catch { /* no unit's name */ }
if (byUnit.has(asked)) enlarge(byUnit.get(asked));
