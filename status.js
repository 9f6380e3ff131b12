// Head, tiles and pools.

function showStatus(s) {
  serverNow = s.now;
  titleText = (s.host ? s.host + " – " : "") + "stratumSwitcher";
  byID("host").textContent = s.host;
  const here = zoneHere(), zoneName = Intl.DateTimeFormat().resolvedOptions().timeZone;
  byID("zone").textContent = "times in " + zone(here) + (zoneName && zoneName !== "UTC" ? " (" + zoneName + ")" : "") + (s.utc_offset !== here ? "; the switcher's log is in " + zone(s.utc_offset) : "");
  const ready = byID("ready");
  ready.textContent = s.ready ? "ready" : "not ready";
  ready.className = "badge " + (s.ready ? "good" : "bad");
  const about = ["version " + s.version, s.chain, "listening at " + s.listen];
  if (s.server_id) about.push("server ID " + s.server_id);
  about.push((s.upgrades ? "upgraded " : "started ") + span(s.now - s.started) + " ago");
  if (s.upgrades) about.push(plural(s.upgrades, "upgrade") + (s.pause_ms >= 0 ? ", last pause " + s.pause_ms + " ms" : ""));
  byID("about").textContent = about.join(" · ");
  setProblem("status", ...statusProblems(s));

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
  const source = s.coin_source, since = s.upgrades ? "upgrade" : "start";
  const tiles = [
    [count(s.sessions), s.sessions === 1 ? "miner" : "miners", phases.join(", ") || "all relaying"],
    [count(s.accounts), s.accounts === 1 ? "sub-account" : "sub-accounts", "room for " + plural(s.sessions_max, "session") + Object.entries(s.local_ports_short || {}).sort().map(([coin, n]) => ", " + coin + " has local ports for " + count(n)).join("")],
    [hashrate(allRates), "hashrate, 15 min", current.filter((c) => c.hashrate["15m"].rate !== 0).map((c) => c.coin + " " + hashrate(c.hashrate["15m"])).join(", ") || "no share counted in this time"],
    [count(accepted), "shares accepted", percent(accepted, refused) + " refused, since the " + since],
    [up + " of " + addresses, "pool addresses up", up === addresses ? "all answer" : [untried && count(untried) + " not tried yet", up + untried < addresses && count(addresses - up - untried) + " taken out"].filter(Boolean).join(", ")],
    [source.connected ? "known" : "not connected", "coins, by " + (source.kind === "file" ? "coin file" : "ZooKeeper"),
      source.kind === "file" ? "read again when it changes" :
        source.server_id_taken ? "another process holds server ID " + s.server_id + " too" :
        source.unreadable_nodes ? plural(source.unreadable_nodes, "node") + " cannot be read" :
        source.last_contact ? "last contact " + span(s.now - source.last_contact) + " ago" : "no contact yet"],
    ...tlsTile(s),
    [count(turnedAway), "handshakes failed since the " + since, Object.entries({ ...s.handshake_failures, ...s.refused_connections }).filter(([, n]) => n).sort((a, b) => b[1] - a[1]).slice(0, 3).map(([why, n]) => why.replaceAll("_", " ") + " " + count(n)).join(", ") || "nobody was turned away"],
    [s.descriptors >= 0 ? count(s.descriptors) : "unknown", "open descriptors", "connections and files, of " + count(s.descriptors_limit) + " allowed; each miner takes two"],
  ];
  refresh(byID("tiles"), ...tiles.map(([value, label, more, title]) =>
    el("div", { class: "tile", title: title || undefined }, el("b", null, value), label, el("div", { class: "dim small" }, more))));

  const states = { closed: ["good", "up"], open: ["bad", "taken out"], probing: ["warn", "being tried"] };
  const rows = [];
  for (const c of s.coins) {
    c.pools.forEach((p, i) => {
      const state = p.tried ? states[p.breaker] : ["dim", "not tried yet"];
      rows.push(el("tr", null,
        el("td", null, i === 0 ? el("b", null, c.coin) : "", i === 0 && c.former ? " (former)" : "",
          i === 0 && c.lost_version_rolling ? el("div", null, el("span", { class: "badge warn" }, plural(Object.values(c.lost_version_rolling).reduce((a, b) => a + b, 0), "miner") + " without version rolling")) : ""),
        el("td", null, p.address, " ", i > 0 ? el("span", { class: "dim small" }, "backup") : ""),
        el("td", null, el("span", { class: "badge " + state[0] }, state[1])),
        el("td", { class: "num" }, count(p.sessions)),
        el("td", { class: "num", title: windows(p.hashrate) }, hashrate(p.hashrate["15m"])),
        el("td", { class: "num", title: count(p.submitted) + " submitted" + (p.unknown ? ", work of " + count(p.unknown) + " unknown" : "") }, count(p.accepted)),
        el("td", { class: "num", title: reasons(p.refused_by_reason) }, percent(p.accepted, p.refused)),
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
  refresh(byID("pools"),
    el("thead", null, el("tr", null, ...["Coin", "Pool address", "Health"].map((t) => el("th", null, t)),
      ...["Miners", "Hashrate, 15 min", "Accepted", "Refused", "Dials", "Failed", "Lost"].map((t) => el("th", { class: "num" }, t)), el("th", null, "Held against"))),
    el("tbody", null, ...rows));
}

// tlsTile returns the tile about TLS, or none if nothing uses it.
function tlsTile(s) {
  const t = s.tls;
  if (!t) return [];
  const secure = (by) => (by["1.2"] || 0) + (by["1.3"] || 0), old = t.miners["1.2"] + t.pools["1.2"];
  const failed = (h) => Object.values(h.failed).reduce((a, b) => a + b, 0), failures = failed(t.miner_handshakes) + failed(t.pool_handshakes);
  const memory = t.processes.reduce((a, p) => a + p.private_bytes, 0);
  const more = [plural(secure(t.pools), "pool link")];
  if (old) more.push(count(old) + " with TLS 1.2");
  if (failures) more.push(plural(failures, "handshake") + " failed");
  if (t.processes.length) more.push(plural(t.processes.length, "tunnel process", "tunnel processes") + (memory ? " with " + count(Math.round(memory / 1e6)) + " MB" : ""));
  if (t.certificate) more.push(t.certificate.until ? "certificate until " + moment(t.certificate.until).slice(0, 10) : "no certificate in use", t.certificate.problem ? "its files cannot be used" : null);
  const why = (h) => reasons(h.failed);
  return [[count(secure(t.miners)), secure(t.miners) === 1 ? "miner with TLS" : "miners with TLS", more.filter(Boolean).join(", "), [why(t.miner_handshakes) && "miners: " + why(t.miner_handshakes), why(t.pool_handshakes) && "pools: " + why(t.pool_handshakes), t.certificate && t.certificate.problem].filter(Boolean).join("; ")]];
}

// The list of events.

function showEvents(reply) {
  const items = reply.events.map((e) => {
    const coins = e.to ? (e.coin || "?") + " → " + e.to : e.coin;
    const what = e.kind === "refusal" ? "refused: " + e.what.replaceAll("_", " ") : e.what;
    const text = [what, e.account, coins, e.pool, e.detail].filter(Boolean).join(" · ");
    const when = e.count > 1 ? el("span", { class: "badge", title: "the first at " + moment(e.first) }, "× " + count(e.count)) : null;
    return el("li", null,
      el("time", { class: "dim", datetime: new Date(e.last * 1000).toISOString(), title: moment(e.last) + " " + zone(-60 * new Date(e.last * 1000).getTimezoneOffset()) }, moment(e.last).slice(5)),
      el("span", null, el("span", { class: "badge " + (e.level === "note" ? "" : e.level) }, e.kind)),
      el("span", { class: "text" }, text, when ? " " : null, when));
  });
  refresh(byID("events"), ...(items.length ? items : [el("li", { class: "dim" }, "none yet")]));
}

// Requests to the switcher, and what is shown when they fail.

const problems = {};
// setProblem replaces the problems that come from one source. Each is a text, or a
// list of texts and elements. The title has their number.
let titleText = "stratumSwitcher";
function setProblem(from, ...texts) {
  problems[from] = texts.filter((t) => t && t.length);
  const all = Object.values(problems).flat();
  refresh(byID("problem"), ...all.map((t) => el("li", null, ...[t].flat())));
  document.title = (all.length ? "(" + all.length + ") " : "") + titleText;
}
// statusProblems returns what is wrong at the moment, according to /api/status.
function statusProblems(s) {
  const texts = [];
  if (!s.ready) texts.push("Not ready: " + s.not_ready + ".");
  else if (s.surveyed && s.now - s.surveyed > 10) texts.push("The relay has not answered for " + span(s.now - s.surveyed) + ".");
  for (const c of s.coins) {
    const out = c.pools.filter((p) => p.tried && p.breaker !== "closed").map((p) => p.address);
    if (out.length && out.length === c.pools.length) texts.push(c.coin + ": no pool address answers (" + out.join(", ") + ").");
    else if (out.length) texts.push(c.coin + ": " + out.join(", ") + (out.length === 1 ? " is" : " are") + " taken out; other addresses serve its miners.");
  }
  const without = (s.phases.reconnecting || 0) + (s.phases.routing || 0);
  if (without > 1 && without * 20 >= s.sessions) texts.push(count(without) + " of " + plural(s.sessions, "miner") + " have no pool.");
  if (s.coin_source.server_id_taken) texts.push("Another process holds server ID " + s.server_id + " too: miners of both do the same work.");
  if (s.sessions >= 0.9 * s.sessions_max) texts.push("Nearly full: " + count(s.sessions) + " of at most " + plural(s.sessions_max, "miner") + ".");
  return texts;
}
const jobs = {
  status: { path: () => "api/status", show: showStatus, every: 2000 },
  accounts: { path: accountsPath, show: showAccounts, every: 3000 },
  miners: { load: loadMiners, every: 3000 },
  found: { load: loadFound, every: 5000 },
  events: { path: () => "api/events?kind=" + byID("kind").value, show: showEvents, every: 2000 },
  history: { path: () => "api/history", show: showHistory, every: 10000 },
};
async function run(name) {
  const job = jobs[name];
  clearTimeout(job.timer);
  const turn = job.turn = (job.turn || 0) + 1;
  try {
    const current = () => turn === job.turn; // false if there was another request meanwhile
    if (document.hidden) {
      // Nobody looks at the page, so nothing is requested.
    } else if (job.load) {
      await job.load(current);
    } else {
      const reply = await get(job.path());
      if (!current()) return;
      job.show(reply);
    }
    if (!current()) return;
    setProblem(name + "-request", "");
  } catch (e) {
    if (turn !== job.turn) return;
    setProblem(name + "-request", name === "status" ? "No answer from the switcher (" + e.message + ")." : "");
  }
  job.timer = setTimeout(run, job.every, name);
}

// What buttons do, by the value of their data-do.
const actions = {
  "sort-accounts": (data) => {
    reorder(accountOrder, data.sort);
    run("accounts");
  },
  troubled: () => {
    onlyTroubled = !onlyTroubled;
    run("accounts");
    byID("accounts").scrollIntoView({ block: "nearest" });
  },
  "open-account": (data) => {
    const account = data.account;
    if (!opened.delete(account)) openAccount(account);
    remember();
    showAccounts(accountsReply);
    if (opened.has(account)) loadList(account);
  },
  "sort-miners": (data) => {
    const list = opened.get(data.account);
    reorder(list, data.sort);
    list.offset = 0;
    loadList(data.account);
  },
  silent: (data) => {
    Object.assign(opened.get(data.account), { sort: "last_share", desc: false, offset: 0 });
    loadList(data.account);
  },
  page: (data) => {
    opened.get(data.account).offset = Number(data.offset);
    loadList(data.account);
  },
  "open-miner": (data) => {
    if (!openMiners.delete(data.miner)) openMiners.add(data.miner);
    for (const account of opened.keys()) showMiners(account);
    showFound(foundReply);
  },
};
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-do]");
  if (button) actions[button.dataset.do](button.dataset);
});

let typing;
byID("query").addEventListener("input", () => {
  remember();
  run("accounts");
  clearTimeout(typing);
  typing = setTimeout(run, 300, "found");
});
byID("kind").addEventListener("change", () => run("events"));
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.altKey || event.metaKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.nodeName)) return;
  event.preventDefault();
  byID("query").focus();
});
document.addEventListener("visibilitychange", () => { if (!document.hidden) Object.keys(jobs).forEach(run); });
window.addEventListener("resize", () => {
  if (lastHistory) showHistory(lastHistory);
  measureScrolls();
});
recall();
run("status").then(() => { run("accounts").then(() => run("miners")); run("found"); run("events"); run("history"); });
