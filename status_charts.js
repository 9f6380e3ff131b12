// Charts.

let lastHistory = null;
function showHistory(h) {
  lastHistory = h;
  const coins = Object.keys(h.coins).sort();
  const lines = (key) => coins.map((c, i) => ({ name: c, css: "k" + i % 6, values: h.coins[c][key] }));
  const refused = h.times.map((_, i) => coins.reduce((sum, c) => sum + h.coins[c].refused_per_minute[i], 0));
  chart("sessions", h.times, lines("sessions"));
  chart("hashrate", h.times, lines("hashrate"), hashes);
  const day = h.day, steps = Math.max(0, ...Object.values(day.coins).map((v) => v.length)), end = h.times.at(-1) || serverNow;
  chart("day", Array.from({ length: steps }, (_, i) => end - (steps - 1 - i) * day.step),
    Object.keys(day.coins).sort().map((c, i) => ({ name: c, css: "k" + i % 6, values: [...Array(steps - day.coins[c].length).fill(null), ...day.coins[c]] })), hashes, 86400, day.step);
  chart("shares", h.times, [...lines("shares_per_minute"), { name: "refused", css: "kbad", values: refused }]);
}
function niceTop(most) {
  if (most <= 4) return 4;
  const unit = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 4, 5, 8, 10].map((f) => f * unit).find((top) => top >= most);
}
function chart(id, times, lines, name = count, longest = 3600, spacing = 10) {
  const width = Math.max(240, byID(id + "-chart").clientWidth - 24), height = 150, left = name === count ? 46 : 66, right = 8, top = 8, bottom = 20;
  const end = Math.max(serverNow, ...times.slice(-1)), length = Math.min(longest, Math.max(300, end - (times[0] || end))), begin = end - length;
  const most = niceTop(Math.max(0, ...lines.flatMap((l) => l.values)));
  const x = (t) => left + (width - left - right) * (t - begin) / length;
  const y = (v) => height - bottom - (height - top - bottom) * v / most;
  const parts = [];
  for (let i = 0; i <= 4; i++) {
    const v = most * i / 4;
    parts.push(svg("line", { class: "grid", x1: left, x2: width - right, y1: y(v), y2: y(v) }));
    if (i % 2 === 0) parts.push(svg("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, name(v)));
  }
  const step = [60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600].find((s) => length / s <= (width > 400 ? 5 : 3));
  for (let back = 0; back <= length; back += step)
    parts.push(svg("text", { x: x(end - back), y: height - 5, "text-anchor": back === 0 ? "end" : x(end - back) < left + 20 ? "start" : "middle" }, back ? "-" + (step >= 3600 ? back / 3600 + " h" : back / 60 + " min") : "now"));
  for (const line of lines) {
    let d = "", before = -Infinity;
    times.forEach((t, i) => {
      if (t < begin || line.values[i] === null) return; // the time is left of the chart, or the value is not known
      d += (t - before > 6 * spacing ? "M" : "L") + x(t).toFixed(1) + " " + y(line.values[i]).toFixed(1);
      if (t - before > 6 * spacing) d += "h0"; // draws a dot if no other point follows
      before = t;
    });
    if (d) parts.push(svg("path", { class: line.css, d }));
  }
  byID(id + "-chart").replaceChildren(svg("svg", { viewBox: "0 0 " + width + " " + height, role: "img", "aria-label": id }, ...parts));
  byID(id + "-legend").replaceChildren(...lines.map((l) => el("span", null, svg("svg", { viewBox: "0 0 16 8" }, svg("path", { class: l.css, d: "M0 4H16", "stroke-width": 3 })), l.name)));
}
