// What the other scripts build the page from.

// Names of miners and texts of pools are hostile. Here they become text nodes or
// values of attributes, never markup.
const SVG = "http://www.w3.org/2000/svg";
const byID = (id) => document.getElementById(id);

function el(name, attributes, ...children) {
  const e = document.createElement(name);
  return fill(e, attributes, children);
}
function svg(name, attributes, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}
function fill(e, attributes, children) {
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value !== undefined && value !== null) e.setAttribute(key, value);
  }
  for (const child of children) if (child !== null && child !== undefined) e.append(child instanceof Node ? child : String(child));
  return e;
}

// refresh gives an element new children. It updates existing children where it can
// instead of replacing them, so that they keep focus, selection and scroll position.
function refresh(parent, ...children) {
  const focused = document.activeElement;
  patchChildren(parent, children.filter((c) => c !== null && c !== undefined));
  if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true }); // the element was moved and lost the focus
  measureScrolls();
}
// patchChildren matches new children with existing ones: those with data-key by their
// key, others by their position.
function patchChildren(parent, children) {
  const keyed = new Map();
  for (const c of parent.children) if (c.dataset.key !== undefined) keyed.set(c.dataset.key, c);
  let at = parent.firstChild;
  for (const child of children) {
    const key = child.dataset && child.dataset.key;
    let match = at && !(at.dataset && at.dataset.key !== undefined) ? at : null;
    if (key !== undefined) {
      match = keyed.get(key);
      keyed.delete(key);
    }
    if (!match || match.nodeName !== child.nodeName) {
      parent.insertBefore(child, at);
      continue;
    }
    if (match !== at && at && match === at.nextSibling) { // the child at this position comes later or is gone
      parent.append(at);
      at = match;
    }
    if (match === at) at = at.nextSibling;
    else parent.insertBefore(match, at);
    patch(match, child);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}
function patch(old, made) {
  if (old.isEqualNode(made)) return;
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== made.data) old.data = made.data;
    return;
  }
  for (const a of [...old.attributes]) if (!made.hasAttribute(a.name) && a.name !== "style") old.removeAttribute(a.name);
  for (const a of made.attributes) if (old.getAttribute(a.name) !== a.value) old.setAttribute(a.name, a.value);
  if (!made.hasAttribute("data-keep")) patchChildren(old, [...made.childNodes]);
}

// scrolled puts a table that may be wider than the page into a box of its own that
// scrolls, also with the arrow keys, below a line that says so.
function scrolled(label, table) {
  return [el("div", { class: "hint", hidden: "" }, scrollHint), el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label, "data-scrolls": "" }, table)];
}
const scrollHint = "The table goes on to the right: scroll sideways →";
function measureScrolls() {
  const boxes = [...document.querySelectorAll("[data-scrolls]")];
  // Details that are opened below a row are as wide as the visible part of the table.
  const widths = boxes.map((box) => box.clientWidth + "px"); // measure all before changing any
  boxes.forEach((box, i) => {
    if (box.style.getPropertyValue("--visible") !== widths[i]) box.style.setProperty("--visible", widths[i]);
  });
  const wider = boxes.map((box) => box.scrollWidth > box.clientWidth + 1);
  boxes.forEach((box, i) => {
    if (box.previousElementSibling.hidden === wider[i]) box.previousElementSibling.hidden = !wider[i];
  });
}

const number = new Intl.NumberFormat("en");
const count = (n) => number.format(n);
const plural = (n, one, many) => count(n) + " " + (n === 1 ? one : many || one + "s");
let serverNow = 0;

function span(seconds) {
  seconds = Math.max(0, Math.round(seconds));
  if (seconds < 60) return seconds + " s";
  if (seconds < 3600) return Math.floor(seconds / 60) + " min";
  if (seconds < 86400) return Math.floor(seconds / 3600) + " h " + Math.floor(seconds % 3600 / 60) + " min";
  return Math.floor(seconds / 86400) + " d " + Math.floor(seconds % 86400 / 3600) + " h";
}
// Times are shown in the reader's time zone. Creating a format is slow, so there is one.
const clock = new Intl.DateTimeFormat("sv", { dateStyle: "short", timeStyle: "medium" });
const moment = (unix) => clock.format(unix * 1000);
function zone(seconds) {
  if (!seconds) return "UTC";
  const minutes = Math.abs(seconds) / 60;
  return "UTC" + (seconds < 0 ? "−" : "+") + String(Math.floor(minutes / 60)).padStart(2, "0") + ":" + String(Math.round(minutes % 60)).padStart(2, "0");
}
const zoneHere = () => -60 * new Date(serverNow * 1000).getTimezoneOffset();
function ago(unix, never) {
  if (!unix) return el("span", { class: "dim" }, never);
  return el("span", { title: moment(unix) }, span(serverNow - unix) + " ago");
}
function percent(accepted, refused) {
  const all = accepted + refused;
  return all ? (100 * refused / all).toFixed(2) + " %" : "–";
}
// hashes formats hashes per second in the same way as Format of internal/hashrate.
const prefixes = ["H/s", "kH/s", "MH/s", "GH/s", "TH/s", "PH/s", "EH/s", "ZH/s", "YH/s"];
function hashes(perSecond) {
  let i = 0;
  for (; perSecond >= 999.5 && i < prefixes.length - 1; i++) perSecond /= 1000;
  const places = i === 0 && Number.isInteger(perSecond) || perSecond >= 99.95 ? 0 : perSecond >= 9.995 ? 1 : 2;
  return perSecond.toFixed(places) + " " + prefixes[i];
}
// A hashrate that is not known is shown as unknown and not as zero.
const hashrate = (r) => !r || r.rate === null ? "unknown" : (r.at_least ? "at least " : "") + hashes(r.rate);
const windows = (h) => h ? ["1m", "15m", "1h", "24h"].filter((w) => h[w]).map((w) => w + " " + hashrate(h[w])).join(", ") : "";
const reasons = (r) => Object.entries(r).filter(([, n]) => n).sort((a, b) => b[1] - a[1]).map(([why, n]) => why.replace("_", " ") + " " + count(n)).join(", ");
const precise = new Intl.NumberFormat("en", { maximumSignificantDigits: 6 });
const rate = (v) => v === null || v === undefined ? "–" : v >= 100 ? count(Math.round(v)) : v.toFixed(1);

async function get(path) {
  const reply = await fetch(path, { signal: AbortSignal.timeout(8000) });
  if (!reply.ok) throw new Error(path.split("?")[0] + ": " + (await reply.text()).trim());
  return reply.json();
}
