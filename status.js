// Names of miners and texts of pools are hostile: they become text nodes or
// text of attributes here, never markup.
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
    if (key === "click") e.addEventListener("click", value);
    else if (value !== undefined && value !== null) e.setAttribute(key, value);
  }
  for (const child of children) if (child !== null && child !== undefined) e.append(child instanceof Node ? child : String(child));
  return e;
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
const moment = (unix) => new Date(unix * 1000).toLocaleString("sv");
function ago(unix, never) {
  if (!unix) return el("span", { class: "dim" }, never);
  return el("span", { title: moment(unix) }, span(serverNow - unix) + " ago");
}
function percent(accepted, refused) {
  const all = accepted + refused;
  return all ? (100 * refused / all).toFixed(2) + " %" : "–";
}
// Hashrates come in hashes per second. The same as Format of internal/hashrate.
const prefixes = ["H/s", "kH/s", "MH/s", "GH/s", "TH/s", "PH/s", "EH/s", "ZH/s", "YH/s"];
function hashes(perSecond) {
  let i = 0;
  for (; perSecond >= 999.5 && i < prefixes.length - 1; i++) perSecond /= 1000;
  const places = i === 0 && Number.isInteger(perSecond) || perSecond >= 99.95 ? 0 : perSecond >= 9.995 ? 1 : 2;
  return perSecond.toFixed(places) + " " + prefixes[i];
}
// What is not known is shown as that, and not as zero.
const hashrate = (r) => !r || r.rate === null ? "unknown" : (r.at_least ? "at least " : "") + hashes(r.rate);
const windows = (h) => h ? Object.entries(h).map(([w, r]) => w + " " + hashrate(r)).join(", ") : "";
const reasons = (r) => Object.entries(r).filter(([, n]) => n).sort((a, b) => b[1] - a[1]).map(([why, n]) => why.replace("_", " ") + " " + count(n)).join(", ");
const rate = (v) => v === null || v === undefined ? "–" : v >= 100 ? count(Math.round(v)) : v.toFixed(1);

async function get(path) {
  const reply = await fetch(path, { signal: AbortSignal.timeout(8000) });
  if (!reply.ok) throw new Error(path.split("?")[0] + ": " + (await reply.text()).trim());
  return reply.json();
}

// Head, tiles and pools.

function showStatus(s) {
  serverNow = s.now;
  const ready = byID("ready");
  ready.textContent = s.ready ? "ready" : "not ready";
  ready.className = "badge " + (s.ready ? "good" : "bad");
  const about = ["version " + s.version, s.chain, "listening at " + s.listen];
  if (s.server_id) about.push("server ID " + s.server_id);
  about.push((s.upgrades ? "upgraded " : "started ") + span(s.now - s.started) + " ago");
  if (s.upgrades) about.push(plural(s.upgrades, "upgrade") + (s.pause_ms >= 0 ? ", last pause " + s.pause_ms + " ms" : ""));
  byID("about").textContent = about.join(" · ");
  setProblem("status", s.ready ? (s.surveyed && s.now - s.surveyed > 10 ? "The relay has not answered for " + span(s.now - s.surveyed) + "." : "") : "Not ready: " + s.not_ready + ".");

  const current = s.coins.filter((c) => c.hashrate), quarter = current.map((c) => c.hashrate["15m"]);
  const allRates = { rate: quarter.some((r) => r.rate !== null) || !quarter.length ? quarter.reduce((sum, r) => sum + (r.rate || 0), 0) : null, at_least: quarter.some((r) => r.rate === null || r.at_least) };
  let accepted = 0, refused = 0, up = 0, untried = 0, addresses = 0;
  for (const c of s.coins) {
    accepted += c.accepted;
    refused += c.refused;
    for (const p of c.pools) { addresses++; if (!p.tried) untried++; else if (p.breaker === "closed") up++; }
  }
  const phases = ["handshaking", "routing", "switching", "reconnecting"].filter((p) => s.phases[p]).map((p) => count(s.phases[p]) + " " + p);
  const turnedAway = Object.values(s.handshake_failures).reduce((a, b) => a + b, 0) + Object.values(s.refused_connections).reduce((a, b) => a + b, 0);
  const source = s.coin_source;
  const tiles = [
    [count(s.sessions), "miners", phases.join(", ") || "all relaying"],
    [count(s.accounts), s.accounts === 1 ? "sub-account" : "sub-accounts", "room for " + plural(s.sessions_max, "session") + Object.entries(s.local_ports_short || {}).sort().map(([coin, n]) => ", " + coin + " has local ports for " + count(n)).join("")],
    [hashrate(allRates), "hashrate, 15 min", current.filter((c) => c.hashrate["15m"].rate !== 0).map((c) => c.coin + " " + hashrate(c.hashrate["15m"])).join(", ") || "no accepted share yet"],
    [count(accepted), "shares accepted", percent(accepted, refused) + " refused, since the " + (s.upgrades ? "upgrade" : "start")],
    [up + " of " + addresses, "pool addresses in use", up === addresses ? "all answer" : [untried && count(untried) + " not tried yet", up + untried < addresses && count(addresses - up - untried) + " taken out"].filter(Boolean).join(", ")],
    [source.connected ? "known" : "away", "coins, by " + (source.kind === "file" ? "coin file" : "ZooKeeper"),
      source.kind === "file" ? "read again when it changes" :
        source.server_id_taken ? "somebody else has server ID " + s.server_id + " too" :
        source.unreadable_nodes ? plural(source.unreadable_nodes, "node") + " cannot be read" :
        source.last_contact ? "heard of " + span(s.now - source.last_contact) + " ago" : "never heard of"],
    [count(turnedAway), "handshakes failed", s.descriptors >= 0 ? count(s.descriptors) + " of " + count(s.descriptors_limit) + " descriptors" : "limit " + count(s.descriptors_limit) + " descriptors"],
  ];
  byID("tiles").replaceChildren(...tiles.map(([value, label, more]) =>
    el("div", { class: "tile" }, el("b", null, value), label, el("div", { class: "dim small" }, more))));

  const states = { closed: ["good", "up"], open: ["bad", "taken out"], probing: ["warn", "being tried"] };
  const rows = [];
  for (const c of s.coins) {
    c.pools.forEach((p, i) => {
      const state = p.tried ? states[p.breaker] : ["dim", "not tried yet"];
      rows.push(el("tr", null,
        el("td", null, i === 0 ? el("b", null, c.coin) : "", i === 0 && c.former ? " (former)" : ""),
        el("td", null, p.address, " ", i > 0 ? el("span", { class: "dim small" }, "backup") : ""),
        el("td", null, el("span", { class: "badge " + state[0] }, state[1])),
        el("td", { class: "num" }, count(p.sessions)),
        el("td", { class: "num", title: windows(p.hashrate) }, hashrate(p.hashrate["15m"])),
        el("td", { class: "num" }, i === 0 ? count(c.accepted) : ""),
        el("td", { class: "num", title: i === 0 ? reasons(c.refused_by_reason) : undefined }, i === 0 ? percent(c.accepted, c.refused) : ""),
        el("td", { class: "num" }, count(p.dials)),
        el("td", { class: "num" }, count(p.failures)),
        el("td", { class: "num" }, count(p.lost)),
        el("td", { class: "small" }, Object.entries(p.blamed || {}).sort((a, b) => b[1] - a[1]).map(([who, n]) => who.replace("_", " ") + " " + count(n)).join(", "))));
      for (const ip of p.ips || []) {
        const state = states[ip.breaker];
        rows.push(el("tr", null, el("td"), el("td", { class: "small dim" }, ip.ip), el("td", null, el("span", { class: "badge " + state[0] }, state[1])), el("td", { colspan: 8 })));
      }
    });
  }
  byID("pools").replaceChildren(
    el("thead", null, el("tr", null, ...["Coin", "Pool address", "Health"].map((t) => el("th", null, t)),
      ...["Miners", "Hashrate, 15 min", "Accepted", "Refused", "Dials", "Failed", "Lost"].map((t) => el("th", { class: "num" }, t)), el("th", null, "Held against"))),
    el("tbody", null, ...rows));
}

// Events.

function showEvents(reply) {
  const items = reply.events.map((e) => {
    const coins = e.to ? (e.coin || "?") + " → " + e.to : e.coin;
    const what = e.kind === "refusal" ? "refused: " + e.what.replaceAll("_", " ") : e.what;
    const text = [what, e.account, coins, e.pool, e.detail].filter(Boolean).join(" · ");
    const when = e.count > 1 ? el("span", { class: "badge", title: "the first at " + moment(e.first) }, "× " + count(e.count)) : null;
    return el("li", null,
      el("span", { class: "dim", title: moment(e.last) }, moment(e.last).slice(5)),
      el("span", null, el("span", { class: "badge " + (e.level === "note" ? "" : e.level) }, e.kind)),
      el("span", { class: "text" }, text, when ? " " : null, when));
  });
  byID("events").replaceChildren(...(items.length ? items : [el("li", { class: "dim" }, "none yet")]));
}

// What is asked for, and how often.

const problems = {};
function setProblem(from, text) {
  problems[from] = text;
  byID("problem").textContent = Object.values(problems).filter(Boolean).join(" ");
}
const jobs = {
  status: { path: () => "api/status", show: showStatus, every: 2000 },
  accounts: { path: accountsPath, show: showAccounts, every: 3000 },
  events: { path: () => "api/events?kind=" + byID("kind").value, show: showEvents, every: 2000 },
  history: { path: () => "api/history", show: showHistory, every: 10000 },
};
async function run(name) {
  const job = jobs[name];
  clearTimeout(job.timer);
  const turn = job.turn = (job.turn || 0) + 1;
  try {
    const reply = document.hidden ? null : await get(job.path());
    if (turn !== job.turn) return; // asked again meanwhile
    if (reply) job.show(reply);
    setProblem(name + "-request", "");
  } catch (e) {
    if (turn !== job.turn) return;
    setProblem(name + "-request", name === "status" ? "No answer from the switcher (" + e.message + ")." : "");
  }
  job.timer = setTimeout(run, job.every, name);
}
let searches = 0;
async function search(event) {
  event.preventDefault();
  const text = byID("query").value.trim(), turn = ++searches;
  if (!text) { byID("found").replaceChildren(); return; }
  try {
    const reply = await get("api/search?" + new URLSearchParams({ q: text }));
    if (turn === searches) showFound(reply);
  } catch (e) {
    if (turn === searches) byID("found").replaceChildren(el("div", { class: "empty" }, e.message));
  }
}
byID("search").addEventListener("submit", search);
byID("filter").addEventListener("input", () => run("accounts"));
byID("kind").addEventListener("change", () => run("events"));
document.addEventListener("visibilitychange", () => { if (!document.hidden) Object.keys(jobs).forEach(run); });
window.addEventListener("resize", () => { if (lastHistory) showHistory(lastHistory); });
run("status").then(() => { run("accounts"); run("events"); run("history"); });
