//go:build linux && e2e

package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// hostileName must never become markup in the page.
const hostileName = `<img src=x onerror="alert(1)"><script>document.title='owned'</script>`

func TestStatusPageInBrowser(t *testing.T) {
	t.Parallel()
	btc, bcc := twoPools(t)
	coins := newMemoryCoins(map[string]string{"alice": "btc", "bob": "bcc", hostileName: "btc"})
	m, server := startStatusOf(t, coins, []*stratumtest.Pool{btc, bcc})

	alice := startMiner(t, stratumtest.MinerOptions{Addr: m.addr, Worker: "alice.rig1", Rate: 5})
	bob := startMiner(t, stratumtest.MinerOptions{Addr: m.addr, Worker: "bob.rig1", UserAgent: hostileName, Rate: 5})
	waitPool(t, alice, "btc")
	waitPool(t, bob, "bcc")
	waitAccepted(t, bob, 1)
	// Names of registered sub-accounts come from ZooKeeper, not from miners.
	account := m.accounts.expect(hostileName, "btc")
	defer m.dropPending(account)

	b := testkit.StartBrowser(t)
	b.Size(1200, 1500, false)
	b.Call("Page.navigate", map[string]any{"url": server.url("/")}, nil)
	b.Await("the miners", `document.querySelector("#accounts tbody")?.innerText.includes("alice")`)
	b.Await("a hostile sub-account as text", fmt.Sprintf(`[...document.querySelectorAll("#accounts .opener")].some((e) => e.lastChild.textContent === %q)`, hostileName))
	b.Await("the pools", fmt.Sprintf(`document.querySelector("#pools tbody").innerText.includes(%q)`, btc.Addr()))
	b.Await("the charts", `document.querySelectorAll("#sessions-chart svg line").length > 3`)
	// Hashrates are updated every ten seconds.
	b.Await("accepted shares", `/[1-9][0-9]*\s*shares accepted/.test(document.body.innerText)`)
	if text := b.Eval(`document.body.innerText`); strings.Contains(text, "no accepted share yet") {
		t.Error("the page says that there was no share, although some were accepted")
	}
	m.rates.advance()
	b.Await("hashrates", `[...document.querySelectorAll("#accounts tbody tr")].some((e) => e.cells[0].innerText.includes("bob") && /^[1-9].* k?H\/s$/.test(e.cells[1].innerText))`)
	b.Await("the charts of hashrates", `document.querySelectorAll("#hashrate-chart svg line").length > 3 && document.querySelectorAll("#day-chart svg path").length > 0`)
	b.Picture("page.png")

	coins.set("alice", "bcc")
	waitPool(t, alice, "bcc")
	b.Await("the switch", `[...document.querySelectorAll("#events li")].some((e) => /alice · btc → bcc · .*1 miner moved/.test(e.innerText))`)
	b.Await("the new coin", `[...document.querySelectorAll("#accounts tbody tr")].some((e) => e.cells[0].innerText.includes("alice") && e.cells[3].innerText === "bcc" && e.cells[4].innerText === "bcc")`)

	b.Search("BOB.rig")
	b.Await("the miner that was searched", `document.querySelector("#found .miners .opener")?.innerText.includes("bob.rig1")`)
	b.Await("the only one opened, and a hostile user agent as text", fmt.Sprintf(`[...document.querySelectorAll("#found dd")].some((e) => e.textContent === %q)`, hostileName))
	b.Await("no sub-account of this name", `document.querySelector("#accounts tbody").innerText.includes("No sub-account has this")`)
	b.Picture("search.png")

	b.Search("ali")
	b.Await("the filtered sub-accounts", `document.querySelectorAll("#accounts tbody tr").length === 1 && document.querySelector("#accounts tbody").innerText.includes("alice")`)
	b.Await("its miners", `document.querySelector("#found .miners .opener")?.innerText.includes("alice.rig1")`)
	b.Search("")
	b.Await("all sub-accounts again", `document.querySelectorAll("#accounts tbody tr").length === 3 && !document.querySelector("#found").firstChild`)
	b.Eval(`document.querySelector("#accounts th button").click()`)
	b.Await("another order", `document.querySelector("#accounts th[aria-sort=ascending]")?.innerText.startsWith("Sub-account")`)

	// A miner that has gone is listed as missing in the opened list.
	second := startMiner(t, stratumtest.MinerOptions{Addr: m.addr, Worker: "alice.rig2"})
	waitPool(t, second, "bcc")
	b.Eval(`document.querySelector("[data-do=open-account][data-account=alice]").click()`)
	b.Await("both miners", `document.querySelectorAll("[data-miners] .miners tbody tr:not(.detail)").length === 2`)
	second.Close()
	b.Await("the one that has gone", `/^gone since this list was opened: rig2 \([0-9]+ s ago\)$/.test(document.querySelector("[data-miners] .gone")?.innerText)`)
	b.Eval(`document.querySelector("[data-do=open-account][data-account=alice]").click()`)
	b.Await("the closed list", `!document.querySelector("[data-miners]")`)

	// What is wrong is shown at the top, and counted in the title.
	coins.set("bob", "nocoin")
	b.Await("the trouble", `document.title.startsWith("(1) ") && document.getElementById("problem").innerText.includes("1 sub-account has trouble")`)
	b.Eval(`document.querySelector("#problem button").click()`)
	b.Await("the one with trouble", `document.querySelectorAll("#accounts tbody tr").length === 1 && document.querySelector("#accounts .trouble")?.innerText === "coin without a pool"`)
	b.Eval(`document.getElementById("troubled").click()`)
	b.Await("the others", `document.querySelectorAll("#accounts tbody tr").length === 3`)
	coins.set("bob", "bcc")
	b.Await("the trouble's end", `!document.title.startsWith("(") && document.getElementById("troubled").hidden`)

	if n := b.Eval(`document.querySelectorAll("img, main script, iframe").length`); n != "0" {
		t.Errorf("%s elements came from miners' names", n)
	}
	host, _ := os.Hostname()
	if title := b.Eval(`document.title`); title != host+" – stratumSwitcher" {
		t.Errorf("the title is %q", title)
	}
	if zone := b.Eval(`document.getElementById("zone").innerText`); zone != "times in UTC" && !strings.HasPrefix(zone, "times in UTC; the switcher's log is in UTC") {
		t.Errorf("the page says that times are %q", zone)
	}
	if words := b.Eval(`document.body.textContent`); !strings.Contains(words, "each miner takes two") || !strings.Contains(words, "Open connections and files") {
		t.Error("the page does not say what descriptors are")
	}
	b.Size(1400, 1500, false)
	b.Await("the large layout", `innerWidth === 1400`)
	b.Picture("large.png")
	// On a phone only tables are wider than the screen.
	b.Size(360, 1800, true)
	b.Await("the phone's layout", `innerWidth === 360`)
	if width := b.Eval(`document.documentElement.scrollWidth`); width != "360" {
		t.Errorf("on a phone 360 wide the page is %s wide", width)
	}
	if light := b.Eval(`getComputedStyle(document.body).backgroundColor`); light != "rgb(15, 19, 26)" {
		t.Errorf("in dark mode the background is %s", light)
	}
	b.Await("a word on tables that are wider", `[...document.querySelectorAll(".hint")].filter((e) => e.offsetHeight > 0 && e.innerText.includes("scroll sideways")).length === 2`)
	if first := b.Eval(`[...document.querySelectorAll("#accounts th")].filter((e) => e.getBoundingClientRect().right <= innerWidth).map((e) => e.innerText.trim()).join()`); !strings.HasPrefix(first, "Sub-account ↑,Hashrate, 15 min,Miners") {
		t.Errorf("the first thing on a phone is %s", first)
	}
	b.Picture("phone.png")
	b.CheckConsole()
	checkMiner(t, alice)
	checkMiner(t, bob)
	if !strings.Contains(pagePolicy(), "script-src 'sha256-") {
		t.Errorf("the page's policy is %q", pagePolicy())
	}
}

// The limit leaves room for slow machines that are busy with other tests: on two
// free cores, the slowest step takes a third of a second. The figures are in the
// test's log.
const interactionBound = 8 * time.Second

func TestStatusPageWithManyMiners(t *testing.T) {
	const miners, accounts = 500, 500
	btc, bcc := twoPools(t)
	m, server := startStatusOf(t, newMemoryCoins(map[string]string{"farm": "btc"}), []*stratumtest.Pool{btc, bcc})
	fleet := stratumtest.NewFleet(stratumtest.FleetOptions{
		N: miners, Addr: m.addr, WorkerName: func(i int) string { return fmt.Sprintf("farm.rig%d", i+1) },
		Miner: stratumtest.MinerOptions{CheatHash: true, UserAgent: hostileName},
	})
	t.Cleanup(fleet.Close)
	for i := range accounts - 1 {
		account := m.accounts.expect(fmt.Sprintf("user%d", i+1), "btc")
		defer m.dropPending(account)
	}
	eventually(t, "all miners at the pool", func() bool { return fleet.Stats().Authorized == miners })
	fleet.SetRate(100)

	b := testkit.StartBrowser(t)
	b.Size(1400, 1500, false)
	b.Call("Page.navigate", map[string]any{"url": server.url("/")}, nil)
	b.Await("the sub-accounts", `document.querySelectorAll("#accounts tbody tr").length === 500`)
	const first = `document.querySelector("#accounts tbody tr")`
	head := func(i int) string {
		return fmt.Sprintf(`document.querySelectorAll("#accounts > thead button")[%d].click()`, i)
	}
	list := func(i int) string {
		return fmt.Sprintf(`document.querySelectorAll("[data-miners] thead button")[%d].click()`, i)
	}
	const firstMiner = `document.querySelector("[data-miners] tbody tr")?.cells`
	for _, step := range []struct{ what, do, until string }{
		{"500 sub-accounts sorted by name", head(0), first + `.innerText.includes("farm") && document.querySelectorAll("#accounts tbody tr")[10].innerText.includes("user10")`},
		{"500 sub-accounts sorted by miners", head(2), `document.querySelector("#accounts th[aria-sort]").innerText.startsWith("Miners") && ` + first + `.innerText.includes("farm")`},
		{"500 sub-accounts filtered", `document.getElementById("query").value = "user49"; document.getElementById("query").dispatchEvent(new Event("input"))`, `document.querySelectorAll("#accounts tbody tr").length === 11`},
		{"the filter taken away", `document.getElementById("query").value = ""; document.getElementById("query").dispatchEvent(new Event("input"))`, `document.querySelectorAll("#accounts tbody tr").length === 500`},
		{"a sub-account of 500 miners opened", first + `.querySelector("button").click()`, `document.querySelectorAll("[data-miners] tbody tr").length === 500`},
		{"500 miners sorted by name, the last first", list(0), firstMiner + `[0].innerText.includes("rig500")`},
		{"500 miners sorted by name again", list(0), firstMiner + `[0].innerText.endsWith("rig1") && document.querySelectorAll("[data-miners] tbody tr")[9].cells[0].innerText.endsWith("rig10")`},
		{"500 miners sorted by accepted shares", list(4), `document.querySelector("[data-miners] th[aria-sort=descending]")?.innerText.startsWith("Accepted")`},
		{"a miner opened", firstMiner + `[0].querySelector("button").click()`, `document.querySelectorAll("[data-miners] .facts").length === 1`},
		{"a miner searched", `document.getElementById("query").value = "farm.rig123"; document.getElementById("query").dispatchEvent(new Event("input"))`, `document.querySelector("#found .facts")`},
	} {
		if took := b.Took(step.what, step.do, step.until); took > interactionBound {
			t.Errorf("%s took %v, which is too long", step.what, took)
		}
	}
	b.Search("")
	b.Await("the opened sub-account, which has stayed open", `document.querySelectorAll("[data-miners] tbody > tr").length === 502`)

	// In the order of accepted shares, the first may be the same.
	b.Eval(list(0))
	b.Await("the order of names", `[...document.querySelectorAll("[data-miners] .miners tbody tr:not(.detail)")].every((row, i) => row.cells[0].innerText.trim().endsWith("rig" + (i + 1)))`)

	// A refresh keeps what the reader does: what is open, the focus, how far the
	// list is scrolled, and what is selected.
	b.Eval(`(() => {
		const list = document.querySelector("[data-miners] .scroll");
		list.scrollTop = 700;
		const name = document.querySelectorAll("[data-miners] .opener[aria-expanded=false]")[20];
		name.focus({ preventScroll: true });
		window.kept = { list, name, text: name.innerText, shown: 0 };
		getSelection().selectAllChildren(name.lastChild);
		new MutationObserver(() => window.kept.shown++).observe(list, { subtree: true, childList: true, characterData: true });
	})()`)
	b.Await("two refreshes", `window.kept.shown >= 2`)
	b.Await("the focus where it was", `document.activeElement === window.kept.name && window.kept.name.isConnected && document.querySelector("[data-miners] .scroll") === window.kept.list && window.kept.list.scrollTop === 700`)
	if text := b.Eval(`getSelection().toString()`); !strings.Contains(text, "rig") {
		t.Errorf("the selection has become %q", text)
	}
	// With the keyboard, Enter and the space bar press the button that has the
	// focus.
	b.Eval(`window.kept.name.focus()`)
	before := b.Eval(`document.querySelectorAll("[data-miners] .facts").length`)
	b.Key("Enter")
	b.Await("another miner opened by Enter", `document.querySelectorAll("[data-miners] .facts").length === `+before+` + 1 && document.activeElement === window.kept.name`)
	b.Key(" ")
	b.Await("it closed by the space bar", `document.querySelectorAll("[data-miners] .facts").length === `+before)
	b.Key("/")
	b.Await("the search field", `document.activeElement.id === "query"`)

	// The page's address names what is open, so a bookmark opens it again.
	if hash := b.Eval(`location.hash`); hash != "#open=farm" {
		t.Errorf("the page's address ends with %q", hash)
	}
	b.Call("Page.reload", nil, nil)
	b.Await("the list again", `document.querySelectorAll("[data-miners] tbody tr").length === 500`)

	b.Size(360, 1800, true)
	b.Await("the phone's layout", `innerWidth === 360`)
	if width := b.Eval(`document.documentElement.scrollWidth`); width != "360" {
		t.Errorf("on a phone 360 wide the page is %s wide", width)
	}
	if right := b.Eval(`Math.round(document.querySelector("[data-miners]").getBoundingClientRect().right)`); right > "360" {
		t.Errorf("the list of miners is as wide as the table around it: it ends at %s", right)
	}
	b.Picture("phone-miners.png")
	if n := b.Eval(`document.querySelectorAll("img, main script, iframe").length`); n != "0" {
		t.Errorf("%s elements came from miners' names", n)
	}
	b.CheckConsole()
}
