// Lists of miners, for opened sub-accounts and for the miners that a search finds.

const minerColumns = [
  ["worker", "Miner"], ["hashrate", "Hashrate, 15 min", "num"], ["last_share", "Last share"], ["refused", "Refused", "num"], ["accepted", "Accepted", "num"],
  ["difficulty", "Difficulty", "num"], ["phase", "State"], ["coin", "Mining at"], ["since", "Connected"], ["address", "Address"], ["user_agent", "User agent"], ["session", "Session"],
];
const foundColumns = [minerColumns[0], ["account", "Sub-account"], ...minerColumns.slice(1)];
const silentSeconds = 600;

// opened has the opened sub-accounts. For each, it has the order and the page of its
// list and the last answer. openMiners has the keys of opened miners.
const opened = new Map();
const openMiners = new Set();
const minerKey = (m) => m.session + " " + m.address;

function openAccount(account) {
  opened.set(account, { sort: "worker", desc: false, offset: 0, reply: null, failed: "", seen: new Set(), gone: new Map() });
}
// noteGone remembers the miners that were in the list and no longer are, because the
// switcher does not. It can do that only if the answer has all miners of the list.
function noteGone(list, reply) {
  if (reply.total !== reply.miners.length) return;
  const here = new Set(reply.miners.map((m) => m.worker));
  for (const worker of list.seen) if (!here.has(worker) && list.gone.size < 1000) list.gone.set(worker, serverNow);
  for (const worker of here) list.gone.delete(worker);
  list.seen = here;
}
function minersPath(account) {
  const list = opened.get(account);
  return "api/miners?" + new URLSearchParams({ account, sort: list.sort, desc: list.desc ? "1" : "0", offset: list.offset });
}

// loadMiners asks for the lists that are shown, one after the other.
async function loadMiners(current) {
  const shown = (accountsReply ? accountsReply.accounts : []).map((a) => a.account).filter((a) => opened.has(a));
  for (const account of shown) if (current()) await loadList(account);
}
async function loadList(account) {
  const list = opened.get(account), path = minersPath(account);
  let reply = null, failed = "";
  try {
    reply = await get(path);
  } catch (e) {
    failed = e.message;
  }
  if (opened.get(account) !== list || minersPath(account) !== path) return; // the list was closed, or another part or order was requested meanwhile
  if (reply && list.offset > 0 && list.offset >= reply.total) {
    list.offset = 0; // so many miners have left that this page is empty
    return loadList(account);
  }
  if (reply) noteGone(list, reply);
  list.failed = failed;
  list.reply = reply || list.reply;
  showMiners(account);
}

function showMiners(account) {
  const list = opened.get(account);
  const place = [...byID("accounts").querySelectorAll("[data-miners]")].find((e) => e.dataset.miners === account);
  if (!place || !list) return;
  const { reply, failed } = list;
  if (!reply) return refresh(place, el("div", { class: "summary dim" }, failed || "…"));
  const phases = Object.entries(reply.phases).sort((a, b) => b[1] - a[1]).map(([phase, n]) => count(n) + " " + phase).join(", ");
  const gone = [...list.gone].sort((a, b) => b[1] - a[1]);
  const row = accountsReply.accounts.find((a) => a.account === account);
  const last = reply.offset + reply.miners.length, parts = reply.total > reply.miners.length;
  refresh(place,
    el("div", { class: "summary" }, plural(reply.total, "miner") + ": " + phases, " ",
      reply.silent ? el("button", { type: "button", class: "badge warn", "data-do": "silent", "data-account": account, title: "show them first" }, count(reply.silent) + " without a share for " + span(reply.silent_at)) : null,
      gone.length ? el("span", { class: "badge bad gone" }, "gone since this list was opened: " + gone.slice(0, 8).map(([worker, at]) => shortName(account, worker) + " (" + span(serverNow - at) + " ago)").join(", ") + (gone.length > 8 ? " and " + count(gone.length - 8) + " more" : "")) : null, " ",
      failed ? el("span", { class: "badge bad" }, failed) : null,
      parts ? el("span", { class: "pages" }, count(reply.offset + 1) + " to " + count(last) + " shown ",
        turner(account, "previous", Math.max(0, reply.offset - reply.max_rows), reply.offset > 0), " ", turner(account, "next", last, last < reply.total)) : null,
      row ? el("div", { class: "dim small" }, "Hashrate over " + windows(row.hashrate) + (reasons(row.refused_by_reason) ? ". Refused since the start: " + reasons(row.refused_by_reason) : "") + ".") : null),
    ...scrolled("miners of " + account, el("table", { class: "miners" }, headings(minerColumns, list, "sort-miners", account),
      el("tbody", null, ...reply.miners.flatMap((m) => minerRows(m, minerColumns))))));
}
function turner(account, title, offset, can) {
  return el("button", { type: "button", class: "plain", "data-do": "page", "data-account": account, "data-offset": offset, disabled: can ? undefined : "" }, title);
}

// shortName returns a worker's name without its sub-account.
function shortName(account, worker) {
  const prefix = account.toLowerCase() + ".";
  return worker.toLowerCase().startsWith(prefix) && worker.length > prefix.length ? worker.slice(prefix.length) : worker;
}
const minerCells = {
  worker: (m, short) => {
    return opener("open-miner", { "data-miner": minerKey(m), title: m.worker }, openMiners.has(minerKey(m)), (short ? shortName(m.account, m.worker) : m.worker) || "not authorized");
  },
  account: (m) => m.account || "–",
  hashrate: (m) => hashrate(m.hashrate_15m),
  last_share: (m) => isSilent(m) ? el("span", { class: "badge warn" }, ago(m.last_share, "none yet")) : ago(m.last_share, "none yet"),
  refused: (m) => m.accepted + m.refused ? percent(m.accepted, m.refused) : "–",
  accepted: (m) => count(m.accepted),
  difficulty: (m) => m.difficulty === null ? "unknown" : precise.format(m.difficulty),
  phase: (m) => el("span", { class: "badge " + (m.phase === "relaying" ? "good" : "warn") }, m.phase + (m.next_coin ? " to " + m.next_coin : "")),
  coin: (m) => m.coin ? m.coin + " · " + m.pool : "–",
  since: (m) => m.since ? ago(m.since, "") : "–",
  address: (m) => m.address,
  user_agent: (m) => m.user_agent || "–",
  session: (m) => m.session,
};
const isSilent = (m) => m.coin && Math.max(m.last_share, m.since) > 0 && serverNow - Math.max(m.last_share, m.since) >= silentSeconds;

// minerRows returns a miner's row and, if it is opened, a row with all its details.
function minerRows(m, columns) {
  const key = minerKey(m), short = columns === minerColumns;
  const rows = [el("tr", { "data-key": "m " + key }, ...columns.map(([name, , css]) => el("td", { class: name === "worker" ? "name" : css }, minerCells[name](m, short))))];
  if (openMiners.has(key)) rows.push(el("tr", { class: "detail", "data-key": "f " + key }, el("td", { colspan: columns.length }, el("div", { class: "inside" }, minerFacts(m)))));
  return rows;
}
function minerFacts(m) {
  const facts = [
    ["Worker", m.worker || "not authorized"], ["Sub-account", m.account || "–"], ["Address", m.address + (m.tls ? " with TLS " + m.tls : "")], ["Session", m.session], ["User agent", m.user_agent || "–"],
    ["Connected", m.since ? [ago(m.since, ""), " (" + moment(m.since) + ")"] : "–"], ["Pool", m.coin ? m.coin + " at " + m.pool : "–"],
    ["Hashrate", hashrate(m.hashrate_15m) + " over 15 min, " + hashrate(m.hashrate_session) + " since it connected"],
    ["Difficulty", minerCells.difficulty(m)],
    ["Shares", count(m.submitted) + " submitted, " + count(m.accepted) + " accepted, " + count(m.refused) + " refused" + (m.refused ? " (" + reasons(m.refused_by_reason) + ")" : "") + (m.unknown ? ", work of " + count(m.unknown) + " unknown" : "")],
    ["Last share", m.last_share ? [ago(m.last_share, ""), " (" + moment(m.last_share) + ")"] : "none yet"],
  ];
  if (m.other_workers) facts.push(["Other workers", m.other_workers.join(", ")]);
  if (m.lost_version_rolling) facts.push(["Version rolling", m.lost_version_rolling === "narrower" ? "narrower mask than at the previous pool" : "lost: the miner rolled versions before, and no longer does"]);
  if (m.devices) facts.push(["Devices", count(m.devices)]);
  if (m.next_coin) facts.push(["Moving to", m.next_coin]);
  return el("dl", { class: "facts" }, ...facts.flatMap(([k, v]) => [el("dt", null, k), el("dd", null, ...[v].flat())]));
}
