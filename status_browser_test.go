//go:build linux && e2e

package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// browser is a headless Chromium, driven by its DevTools protocol over a pair
// of pipes: JSON messages, each ended by a zero byte.
type browser struct {
	t       testing.TB
	to      *os.File
	session string // of the one page

	mu       sync.Mutex
	nextID   int
	waiting  map[int]chan devToolsMessage
	problems []string // of the page's console
	dead     bool
}

type devToolsMessage struct {
	ID      int             `json:"id,omitempty"`
	Session string          `json:"sessionId,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  json.RawMessage `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

func startBrowser(t testing.TB) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("%v; scripts/install-test-tools.sh installs it", err)
	}
	theirIn, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
		"--user-data-dir="+dir, "--remote-debugging-pipe", "about:blank")
	cmd.ExtraFiles = []*os.File{theirIn, theirOut} // 3 and 4
	cmd.Env = append(os.Environ(), "HOME="+dir, "TZ=UTC")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirIn.Close()
	theirOut.Close()
	b := &browser{t: t, to: to, waiting: make(map[int]chan devToolsMessage)}
	ended := make(chan struct{})
	go func() { defer close(ended); b.read(from) }()
	t.Cleanup(func() {
		to.Close()
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // all its processes
		_ = cmd.Wait()
		from.Close()
		<-ended
		if t.Failed() {
			t.Logf("chromium: %s", stderr.Bytes())
		}
	})
	var target struct{ TargetID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		b.call(domain+".enable", nil, nil)
	}
	return b
}

// read takes answers to who waits for them, and notes what the console says.
func (b *browser) read(from *os.File) {
	r := bufio.NewReader(from)
	for {
		text, err := r.ReadBytes(0)
		b.mu.Lock()
		if err != nil {
			b.dead = true
			for id, c := range b.waiting {
				close(c)
				delete(b.waiting, id)
			}
			b.mu.Unlock()
			return
		}
		var m devToolsMessage
		switch err := json.Unmarshal(bytes.TrimSuffix(text, []byte{0}), &m); {
		case err != nil:
			b.problems = append(b.problems, err.Error())
		case m.ID != 0:
			if c := b.waiting[m.ID]; c != nil {
				delete(b.waiting, m.ID)
				c <- m
			}
		case m.Method == "Runtime.exceptionThrown", m.Method == "Log.entryAdded", m.Method == "Runtime.consoleAPICalled",
			m.Method == "Page.javascriptDialogOpening":
			b.problems = append(b.problems, m.Method+": "+string(m.Params))
		}
		b.mu.Unlock()
	}
}

func (b *browser) call(method string, params, result any) {
	b.t.Helper()
	content, err := json.Marshal(params)
	if err != nil {
		b.t.Fatal(err)
	}
	if params == nil {
		content = []byte("{}")
	}
	answer := make(chan devToolsMessage, 1)
	b.mu.Lock()
	b.nextID++
	id := b.nextID
	if b.dead {
		b.mu.Unlock()
		b.t.Fatalf("%s: the browser has ended", method)
	}
	b.waiting[id] = answer
	b.mu.Unlock()
	message, err := json.Marshal(devToolsMessage{ID: id, Session: b.session, Method: method, Params: content})
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.to.Write(append(message, 0)); err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
	select {
	case m, ok := <-answer:
		switch {
		case !ok:
			b.t.Fatalf("%s: the browser has ended", method)
		case m.Error != nil:
			b.t.Fatalf("%s: %s", method, m.Error.Message)
		case result != nil:
			if err := json.Unmarshal(m.Result, result); err != nil {
				b.t.Fatalf("%s: %v", method, err)
			}
		}
	case <-time.After(20 * time.Second):
		b.t.Fatalf("%s: no answer", method)
	}
}

// eval gives the value of an expression in the page, as text.
func (b *browser) eval(expression string) string {
	b.t.Helper()
	var reply struct {
		Result struct {
			Value any
		}
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	b.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &reply)
	if e := reply.ExceptionDetails; e != nil {
		b.t.Fatalf("%s: %s %s", expression, e.Text, e.Exception.Description)
	}
	return fmt.Sprint(reply.Result.Value)
}

// await waits until an expression is true.
func (b *browser) await(what, expression string) {
	b.t.Helper()
	for end := time.Now().Add(testWait); b.eval("Boolean("+expression+")") != "true"; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("the page does not show %s; it says:\n%s", what, b.eval("document.body.innerText"))
		}
	}
}

func (b *browser) size(width, height int, dark bool) {
	b.t.Helper()
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	b.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}

// picture keeps a screenshot if STATUS_PICTURES names a directory.
func (b *browser) picture(name string) {
	b.t.Helper()
	var reply struct{ Data string }
	b.call("Page.captureScreenshot", map[string]any{"format": "png"}, &reply)
	content, err := base64.StdEncoding.DecodeString(reply.Data)
	if err != nil || len(content) < 1000 {
		b.t.Fatalf("screenshot: %v, %d bytes", err, len(content))
	}
	if dir := os.Getenv("STATUS_PICTURES"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *browser) checkConsole() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.problems {
		b.t.Errorf("console: %s", p)
	}
}

// hostileName is what the page must never take for markup.
const hostileName = `<img src=x onerror="alert(1)"><script>document.title='owned'</script>`

func TestStatusPageInBrowser(t *testing.T) {
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

	b := startBrowser(t)
	b.size(1200, 1500, false)
	b.call("Page.navigate", map[string]any{"url": server.url("/")}, nil)
	b.await("the miners", `document.querySelector("#accounts tbody")?.innerText.includes("alice")`)
	b.await("a hostile sub-account as text", fmt.Sprintf(`[...document.querySelectorAll("#accounts td")].some((e) => e.textContent === %q)`, hostileName))
	b.await("the pools", fmt.Sprintf(`document.querySelector("#pools tbody").innerText.includes(%q)`, btc.Addr()))
	b.await("the charts", `document.querySelectorAll("#sessions-chart svg line").length > 3`)
	b.picture("page.png")

	coins.set("alice", "bcc")
	waitPool(t, alice, "bcc")
	b.await("the switch", `[...document.querySelectorAll("#events li")].some((e) => /alice · btc → bcc · .*1 miner moved/.test(e.innerText))`)
	b.await("the new coin", `[...document.querySelectorAll("#accounts tbody tr")].some((e) => e.cells[0].innerText === "alice" && e.cells[1].innerText === "bcc" && e.cells[2].innerText === "bcc")`)

	b.eval(`(() => { document.getElementById("query").value = "BOB.rig"; document.getElementById("search").requestSubmit(); })()`)
	b.await("the miner that was searched", `document.querySelector("#found .miner h3")?.innerText.includes("bob.rig1")`)
	b.await("a hostile user agent as text", fmt.Sprintf(`[...document.querySelectorAll("#found dd")].some((e) => e.textContent === %q)`, hostileName))
	b.picture("search.png")

	b.eval(`(() => { const f = document.getElementById("filter"); f.value = "ali"; f.dispatchEvent(new Event("input")); })()`)
	b.await("the filtered sub-accounts", `document.querySelectorAll("#accounts tbody tr").length === 1`)
	b.eval(`document.querySelector("#accounts th button").click()`)
	b.await("another order", `document.querySelector("#accounts th[aria-sort=ascending]")?.innerText.startsWith("Sub-account")`)

	if n := b.eval(`document.querySelectorAll("img, main script, iframe").length`); n != "0" {
		t.Errorf("%s elements came from miners' names", n)
	}
	if title := b.eval(`document.title`); title != "stratumSwitcher" {
		t.Errorf("title %q", title)
	}
	// On a phone nothing but tables is wider than the screen.
	b.size(375, 1800, true)
	b.await("the phone's layout", `innerWidth === 375`)
	if width := b.eval(`document.documentElement.scrollWidth`); width != "375" {
		t.Errorf("on a phone 375 wide the page is %s wide", width)
	}
	if light := b.eval(`getComputedStyle(document.body).backgroundColor`); light != "rgb(15, 19, 26)" {
		t.Errorf("in dark mode the background is %s", light)
	}
	b.picture("phone.png")
	b.checkConsole()
	checkMiner(t, alice)
	checkMiner(t, bob)
	if !strings.Contains(pagePolicy(), "script-src 'sha256-") {
		t.Errorf("policy %q", pagePolicy())
	}
}
