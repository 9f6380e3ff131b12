// Sub-accounts.

const columns = [
  ["account", "Sub-account", 0], ["wanted", "Coin", 0], ["elsewhere", "Mining", 0], ["miners", "Miners", 1], ["hashrate", "Hashrate, 15 min", 1], ["rate", "Shares/min", 1],
  ["refused", "Refused", 1], ["switched", "Last switch", 0], ["error", "Last error", 0],
];
let order = "hashrate", descending = true;

function showAccounts(reply) {
  byID("accounts-note").textContent = reply.accounts.length < reply.matching ? count(reply.accounts.length) + " of " + count(reply.matching) + " shown"
    : reply.matching < reply.total ? count(reply.matching) + " of " + count(reply.total) : count(reply.total);
  const head = columns.map(([key, title, numeric]) => el("th", { class: numeric ? "num" : undefined, "aria-sort": key === order ? (descending ? "descending" : "ascending") : undefined },
    el("button", { click: () => sortBy(key) }, title + (key === order ? (descending ? " ↓" : " ↑") : ""))));
  const rows = reply.accounts.map((a) => {
    const elsewhere = a.miners - (a.mining[a.wanted] || 0);
    const mining = Object.entries(a.mining).sort().map(([coin, n]) => Object.keys(a.mining).length === 1 && n === a.miners ? coin : coin + " " + count(n)).join(", ");
    return el("tr", null,
      el("td", { class: "name" }, a.account),
      el("td", null, a.wanted || el("span", { class: "badge bad" }, "deleted")),
      el("td", null, elsewhere > 0 ? el("span", { class: "badge warn" }, mining || "no pool") : mining || "–", a.moving ? " moving" : ""),
      el("td", { class: "num" }, count(a.miners)),
      el("td", { class: "num", title: windows(a.hashrate) }, hashrate(a.hashrate["15m"])),
      el("td", { class: "num" }, rate(a.shares_per_minute)),
      el("td", { class: "num", title: reasons(a.refused_by_reason) }, a.refused_percent === null ? "–" : a.refused_percent.toFixed(2) + " %"),
      el("td", null, ago(a.last_switch, "–")),
      el("td", { class: "wide small" }, a.last_error && a.last_error_about !== "nobody" ? el("span", { class: "badge" }, a.last_error_about.replace("_", " ")) : "", " ", a.last_error, a.last_error ? el("span", { class: "dim" }, " · ", ago(a.last_error_at, "")) : ""));
  });
  if (!rows.length) rows.push(el("tr", null, el("td", { class: "dim", colspan: columns.length }, reply.total ? "none with this name" : "no miners yet")));
  const focused = byID("accounts").contains(document.activeElement);
  byID("accounts").replaceChildren(el("thead", null, el("tr", null, ...head)), el("tbody", null, ...rows));
  if (focused) byID("accounts").querySelector("th[aria-sort] button").focus();
}
function sortBy(key) {
  descending = key === order ? !descending : ["miners", "hashrate", "rate", "refused", "switched", "error", "elsewhere"].includes(key);
  order = key;
  run("accounts");
}
const accountsPath = () => "api/accounts?" + new URLSearchParams({ sort: order, desc: descending ? "1" : "0", filter: byID("filter").value.trim() });

// Search.

function showFound(reply) {
  if (!reply.miners.length) {
    byID("found").replaceChildren(el("div", { class: "empty" }, "No miner like this is connected."));
    return;
  }
  const cards = reply.miners.map((m) => {
    const facts = [
      ["Sub-account", m.account || "–"], ["Address", m.address], ["Session", m.session], ["User agent", m.user_agent || "–"],
      ["Connected", m.since ? ago(m.since, "") : "–"], ["Pool", m.coin ? m.coin + " at " + m.pool : "–"],
      ["Hashrate", hashrate(m.hashrate_15m) + " over 15 min, " + hashrate(m.hashrate_session) + " since it connected"],
      ["Difficulty", m.difficulty === null ? "unknown" : m.difficulty.toLocaleString("en", { maximumSignificantDigits: 6 })],
      ["Shares", count(m.submitted) + " submitted, " + count(m.accepted) + " accepted, " + count(m.refused) + " refused" + (m.refused ? " (" + reasons(m.refused_by_reason) + ")" : "") + (m.unknown ? ", work of " + count(m.unknown) + " unknown" : "")], ["Last share", ago(m.last_share, "none yet")],
    ];
    if (m.other_workers) facts.push(["Workers too", m.other_workers.join(", ")]);
    if (m.devices) facts.push(["Devices", count(m.devices)]);
    if (m.next_coin) facts.push(["Moving to", m.next_coin]);
    return el("div", { class: "miner" }, el("h3", null, m.worker || "not authorized", " ", el("span", { class: "badge " + (m.phase === "relaying" ? "good" : "warn") }, m.phase)),
      el("dl", null, ...facts.flatMap(([k, v]) => [el("dt", null, k), el("dd", null, v)])));
  });
  const more = reply.more ? [el("div", { class: "empty" }, "There are more. Ask for something more exact.")] : [];
  byID("found").replaceChildren(el("div", { class: "cards" }, ...cards), ...more);
}
