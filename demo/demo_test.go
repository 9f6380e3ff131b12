package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// demoBinary is the path of the demo that the tests run.
var demoBinary string

func TestMain(m *testing.M) {
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "demo-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	demoBinary = filepath.Join(dir, "demo.exe")
	if output, err := exec.Command("go", "build", "-o", demoBinary, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, output)
		return 1
	}
	return m.Run()
}

// played is a running demo, and what it has printed.
type played struct {
	t      *testing.T
	cmd    *exec.Cmd
	temp   string // its directory for temporary files
	lines  *bufio.Scanner
	said   strings.Builder
	stderr bytes.Buffer
}

func play(t *testing.T, env []string, args ...string) *played {
	t.Helper()
	p := &played{t: t, temp: t.TempDir(), cmd: exec.Command(demoBinary, args...)}
	p.cmd.Env = append(os.Environ(), "TMPDIR="+p.temp, "TMP="+p.temp, "TEMP="+p.temp)
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.Stderr = &p.stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.lines = bufio.NewScanner(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	hang := time.AfterFunc(3*time.Minute, func() { p.cmd.Process.Kill() })
	t.Cleanup(func() { hang.Stop() })
	return p
}

// until reads up to and including a line that contains text, or to the end if text is
// empty.
func (p *played) until(text string) {
	p.t.Helper()
	for p.lines.Scan() {
		line := p.lines.Text()
		p.said.WriteString(line + "\n")
		if text != "" && strings.Contains(line, text) {
			return
		}
	}
	if text != "" {
		p.cmd.Wait() // so that its standard error is complete
		p.t.Fatalf("%q was not printed\n%s\n%s", text, &p.said, &p.stderr)
	}
}

// end waits until the demo ends. It checks the exit status, and that neither files nor
// the switcher are left behind.
func (p *played) end(status int) {
	p.t.Helper()
	p.until("")
	p.cmd.Wait()
	if got := p.cmd.ProcessState.ExitCode(); got != status {
		p.t.Errorf("got exit status %d, want %d\n%s\n%s", got, status, &p.said, &p.stderr)
	}
	left, err := os.ReadDir(p.temp)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, file := range left {
		p.t.Errorf("the demo has left %s in the directory for temporary files", file.Name())
	}
	if m := listens.FindStringSubmatch(p.said.String()); m != nil {
		if conn, err := net.Dial("tcp", m[1]); err == nil {
			conn.Close()
			p.t.Errorf("the switcher at %s still runs", m[1])
		}
	}
}

var listens = regexp.MustCompile(`listens at (\S+) \(process (\d+)\)`)

func TestStory(t *testing.T) {
	t.Parallel()
	p := play(t, nil, "-pause", "300ms", "-outage", "300ms")
	p.end(0)
	wants := []string{
		"bob have a job of bcc after",
		"Outage: the btc pool fails, with 14 miners",
		"a job of the backup after",
		"14 miners are back",
		"bob have a job of btc after",
		"21 miners, switches: 2, outages: 1, ",
		" 0 refused otherwise, 0 never answered; 0 connections lost",
		"Passed: ",
	}
	if upgrades {
		wants = append(wants, "is version demo-2 now and has all 21 connections")
	}
	for _, want := range wants {
		if !strings.Contains(p.said.String(), want) {
			t.Errorf("%q was not printed\n%s", want, &p.said)
		}
	}
}

func TestSwitcherCrash(t *testing.T) {
	t.Parallel()
	p := play(t, nil, "-pause", "300ms")
	p.until("is to mine")
	pid, err := strconv.Atoi(listens.FindStringSubmatch(p.said.String())[2])
	if err != nil {
		t.Fatal(err)
	}
	daemon, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Kill(); err != nil {
		t.Fatal(err)
	}
	p.end(1)
	for _, want := range []string{"the switcher ended", "21 connections lost"} {
		if !strings.Contains(p.stderr.String(), want) {
			t.Errorf("%q is not in the error\n%s", want, &p.stderr)
		}
	}
}

func TestNoCompiler(t *testing.T) {
	t.Parallel()
	p := play(t, []string{"PATH="})
	p.end(1)
	if !strings.Contains(p.stderr.String(), "building the switcher") {
		t.Errorf("unexpected error %q", &p.stderr)
	}
}

func TestTableInPlace(t *testing.T) {
	var b bytes.Buffer
	s := &screen{out: &b, terminal: true, began: time.Now()}
	s.event("first")
	s.refresh([]string{"one", "two"})
	s.event("second")
	b.Reset()
	if err := s.refresh([]string{"three"}); err != nil {
		t.Fatal(err)
	}
	want := "\x1b[2A\r\x1b[J   0.0s  second\n\x1b[?7lthree\n\x1b[?7h"
	if b.String() != want {
		t.Errorf("it wrote %q, want %q", b.String(), want)
	}
	s.showTable([]string{"three"})
	if b.String() != want {
		t.Errorf("on a terminal the table was printed twice: %q", b.String())
	}
}
