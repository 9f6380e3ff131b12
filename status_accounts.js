// The table of sub-accounts, and the search for sub-accounts and miners.

const accountColumns = [
  ["account", "Sub-account"], ["hashrate", "Hashrate, 15 min", "num"], ["miners", "Miners", "num"], ["wanted", "Coin"], ["elsewhere", "Mining"],
  ["refused", "Refused", "num"], ["rate", "Shares/min", "num"], ["switched", "Last switch"], ["error", "Last error"],
];
// The first click on the head of these columns sorts the largest first, on others the smallest.
const largestFirst = new Set(["miners", "hashrate", "rate", "refused", "switched", "error", "elsewhere", "accepted", "difficulty", "since"]);
const accountOrder = { sort: "hashrate", desc: true };
let accountsReply = null, onlyTroubled = false;

// headings returns the heads of a table that can be sorted. act is the action of a click.
function headings(columns, order, act, account) {
  return el("thead", null, el("tr", null, ...columns.map(([key, title, css]) => {
    const on = key === order.sort;
    return el("th", { class: css, scope: "col", "aria-sort": on ? (order.desc ? "descending" : "ascending") : undefined },
      el("button", { type: "button", "data-do": act, "data-sort": key, "data-account": account }, title, el("span", { class: "arrow", "aria-hidden": "true" }, on ? (order.desc ? " ↓" : " ↑") : "")));
  })));
}
function reorder(order, key) {
  order.desc = key === order.sort ? !order.desc : largestFirst.has(key);
  order.sort = key;
}

function showAccounts(reply) {
  accountsReply = reply;
  const { accounts, matching, total, troubled } = reply;
  setProblem("troubled", troubled && !onlyTroubled ? [plural(troubled, "sub-account") + (troubled === 1 ? " has" : " have") + " trouble: ", el("button", { type: "button", "data-do": "troubled" }, "show " + (troubled === 1 ? "it" : "them"))] : "");
  byID("troubled").setAttribute("aria-pressed", String(onlyTroubled));
  byID("troubled").hidden = !troubled && !onlyTroubled;
  byID("accounts-note").textContent = accounts.length < matching ? count(accounts.length) + " of " + plural(matching, "sub-account") + " shown; search to find the others"
    : matching < total ? count(matching) + " of " + plural(total, "sub-account") : plural(total, "sub-account");
  const rows = accounts.flatMap((a) => opened.has(a.account) ? [accountRow(a, true), detailRow(a.account)] : [accountRow(a, false)]);
  if (!rows.length) rows.push(el("tr", { "data-key": "none" }, el("td", { class: "dim", colspan: accountColumns.length }, !total ? "No miners yet." : onlyTroubled ? "No sub-account like this has trouble." : "No sub-account has this in its name.")));
  refresh(byID("accounts"), headings(accountColumns, accountOrder, "sort-accounts"), el("tbody", null, ...rows));
  for (const a of accounts) if (opened.has(a.account)) showMiners(a.account);
}

function accountRow(a, isOpen) {
  const elsewhere = a.miners - (a.mining[a.wanted] || 0);
  const coins = Object.entries(a.mining).sort();
  const mining = coins.map(([coin, n]) => coins.length === 1 && n === a.miners ? coin : coin + " " + count(n)).join(", ");
  return el("tr", { "data-key": "a " + a.account },
    el("td", { class: "name" }, opener("open-account", { "data-account": a.account }, isOpen, a.account), ...(a.troubles || []).map((text) => el("div", { class: "trouble" }, text))),
    el("td", { class: "num", title: windows(a.hashrate) }, hashrate(a.hashrate["15m"])),
    el("td", { class: "num" }, count(a.miners)),
    el("td", null, a.wanted || el("span", { class: "badge bad" }, "deleted")),
    el("td", null, elsewhere > 0 ? el("span", { class: "badge warn" }, mining || "no pool") : mining || "–", a.moving ? " moving" : ""),
    el("td", { class: "num", title: reasons(a.refused_by_reason) }, a.refused_percent === null ? "–" : a.refused_percent.toFixed(2) + " %"),
    el("td", { class: "num" }, rate(a.shares_per_minute)),
    el("td", null, ago(a.last_switch, "–")),
    el("td", { class: "wide small" }, a.last_error && a.last_error_about !== "nobody" ? el("span", { class: "badge" }, a.last_error_about.replace("_", " ")) : "", " ", a.last_error, a.last_error ? el("span", { class: "dim" }, " · ", ago(a.last_error_at, "")) : ""));
}

// opener returns a button with a name that opens and closes its details.
function opener(act, attributes, isOpen, ...name) {
  return el("button", { type: "button", class: "opener", "data-do": act, "aria-expanded": String(isOpen), ...attributes },
    el("span", { class: "triangle", "aria-hidden": "true" }, isOpen ? "▾" : "▸"), el("span", null, ...name));
}

// detailRow returns the row below an opened sub-account. showMiners fills it; refresh
// leaves its content unchanged.
function detailRow(account) {
  return el("tr", { class: "detail", "data-key": "d " + account },
    el("td", { colspan: accountColumns.length }, el("div", { class: "inside", "data-keep": "", "data-miners": account })));
}

const searchText = () => byID("query").value.trim();
const accountsPath = () => "api/accounts?" + new URLSearchParams({ sort: accountOrder.sort, desc: accountOrder.desc ? "1" : "0", filter: searchText(), troubled: onlyTroubled ? "1" : "0" });

// The miners that a search finds. The text must have at least two letters.

let foundReply = null, onlyFound = "";
const searchesMiners = () => searchText().length > 1;
async function loadFound(current) {
  const text = searchText();
  if (!searchesMiners()) return showFound(null);
  let reply;
  try {
    reply = await get("api/search?" + new URLSearchParams({ q: text }));
  } catch (e) {
    reply = { miners: [], failed: e.message };
  }
  if (current() && text === searchText()) showFound(reply);
}
function showFound(reply) {
  foundReply = reply;
  if (!reply) return refresh(byID("found"));
  const miners = reply.miners;
  if (miners.length === 1 && onlyFound !== minerKey(miners[0])) {
    onlyFound = minerKey(miners[0]); // open it, but not again if the reader closes it
    openMiners.add(onlyFound);
  }
  const text = reply.failed || (miners.length ? (reply.more ? "The first " : "") + plural(miners.length, "miner") + " with this text in the name or address, or with this session ID" + (reply.more ? ". There are more: search for a longer text." : "") : "No connected miner matches.");
  refresh(byID("found"), el("div", { class: "summary", role: "status" }, text),
    ...(miners.length ? scrolled("miners found", el("table", { class: "miners" },
      el("thead", null, el("tr", null, ...foundColumns.map(([, title, css]) => el("th", { class: css, scope: "col" }, title)))),
      el("tbody", null, ...miners.flatMap((m) => minerRows(m, foundColumns))))) : []));
}

// The page's address has the searched text and the opened sub-accounts, for bookmarks.
function remember() {
  const state = new URLSearchParams();
  if (searchText()) state.set("find", searchText());
  for (const account of opened.keys()) state.append("open", account);
  history.replaceState(null, "", state.size ? "#" + state : location.pathname);
}
function recall() {
  const state = new URLSearchParams(location.hash.slice(1));
  byID("query").value = state.get("find") || "";
  for (const account of state.getAll("open").slice(0, 20)) openAccount(account);
}
