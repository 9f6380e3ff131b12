package testkit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// Browser is a headless Chromium, driven by its DevTools protocol over a pair
// of pipes: JSON messages, each ended by a zero byte.
type Browser struct {
	t       testing.TB
	to      *os.File
	session string // DevTools session of the only page

	mu       sync.Mutex
	nextID   int
	waiting  map[int]chan devToolsMessage
	problems []string // what the page's console reported
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

// StartBrowser starts a browser that ends with the test. It needs chromium, which
// scripts/install-test-tools.sh installs.
func StartBrowser(t testing.TB) *Browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("%v; run scripts/install-test-tools.sh to install it", err)
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
	cmd.ExtraFiles = []*os.File{theirIn, theirOut} // the browser gets them as descriptors 3 and 4
	cmd.Env = append(os.Environ(), "HOME="+dir, "TZ=UTC")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirIn.Close()
	theirOut.Close()
	b := &Browser{t: t, to: to, waiting: make(map[int]chan devToolsMessage)}
	ended := make(chan struct{})
	go func() { defer close(ended); b.read(from) }()
	t.Cleanup(func() {
		to.Close()
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // the signal goes to all processes of its group
		_ = cmd.Wait()
		from.Close()
		<-ended
		if t.Failed() {
			t.Logf("chromium: %s", stderr.Bytes())
		}
	})
	var target struct{ TargetID string }
	b.Call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.Call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		b.Call(domain+".enable", nil, nil)
	}
	return b
}

// read passes each answer to the call that waits for it, and records what the page's
// console reports.
func (b *Browser) read(from *os.File) {
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

// Call sends a DevTools command and waits for its answer, which is decoded into result
// unless result is nil.
func (b *Browser) Call(method string, params, result any) {
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
		b.t.Fatalf("%s: the browser did not answer in time", method)
	}
}

// Eval returns the value of an expression in the page, as text.
func (b *Browser) Eval(expression string) string {
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
	b.Call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &reply)
	if e := reply.ExceptionDetails; e != nil {
		b.t.Fatalf("%s: %s %s", expression, e.Text, e.Exception.Description)
	}
	return fmt.Sprint(reply.Result.Value)
}

// Await waits until an expression is true. what describes it in the failure message.
func (b *Browser) Await(what, expression string) {
	b.t.Helper()
	ctx, cancel := stratumtest.WithPatience(context.Background(), LongWait)
	defer cancel()
	for ; b.Eval("Boolean("+expression+")") != "true"; time.Sleep(20 * time.Millisecond) {
		if ctx.Err() != nil {
			b.t.Fatalf("the page does not show %s; its text is:\n%s", what, b.Eval("document.body.innerText"))
		}
	}
}

// Size sets the size of the page and whether it is told to use dark colors.
func (b *Browser) Size(width, height int, dark bool) {
	b.t.Helper()
	b.Call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	b.Call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}

// Picture takes a screenshot. If STATUS_PICTURES names a directory, the screenshot is
// stored there.
func (b *Browser) Picture(name string) {
	b.t.Helper()
	var reply struct{ Data string }
	b.Call("Page.captureScreenshot", map[string]any{"format": "png"}, &reply)
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

// CheckConsole fails the test if the page's console has reported anything.
func (b *Browser) CheckConsole() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.problems {
		b.t.Errorf("the page's console reported %s", p)
	}
}

// Key presses and releases a key.
func (b *Browser) Key(key string) {
	b.t.Helper()
	text := key
	if key == "Enter" {
		text = "\r"
	}
	b.Call("Input.dispatchKeyEvent", map[string]any{"type": "keyDown", "key": key, "text": text}, nil)
	b.Call("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": key}, nil)
}

// Search enters text in the page's search field.
func (b *Browser) Search(text string) {
	b.t.Helper()
	b.Eval(fmt.Sprintf(`(() => { const f = document.getElementById("query"); f.value = %q; f.dispatchEvent(new Event("input")); })()`, text))
}

// Took runs the statement do in the page. It returns the time until the expression until
// is true and the page has been painted.
func (b *Browser) Took(what, do, until string) time.Duration {
	b.t.Helper()
	text := b.Eval(fmt.Sprintf(`(async () => {
		const began = performance.now(), frame = () => new Promise(requestAnimationFrame);
		%s;
		while (!(%s)) { if (performance.now() - began > 20000) return -1; await frame(); }
		await frame(); await new Promise((done) => setTimeout(done)); // it has been painted
		return performance.now() - began;
	})()`, do, until))
	ms, err := strconv.ParseFloat(text, 64)
	if err != nil || ms < 0 {
		b.t.Fatalf("%s: the page does not show it (%s)", what, text)
	}
	b.t.Logf("%-50s %6.0f ms", what, ms)
	return time.Duration(ms * float64(time.Millisecond))
}
