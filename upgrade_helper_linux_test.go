//go:build linux && !portable_relay

package main

import (
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

// otherBinarySource is a program that stands in for the daemon's new binary.
// What it does, in the preflight and as the new process, is in a file of its
// working directory: a word, and the real binary that it becomes in the end.
const otherBinarySource = `package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	text, err := os.ReadFile("behaviour")
	words := strings.Fields(string(text))
	if err != nil || len(words) != 2 {
		panic(fmt.Sprint("behaviour: ", words, err))
	}
	check := slices.Contains(os.Args, "-check")
	switch words[0] {
	case "exit":
		fmt.Fprintln(os.Stderr, "this one is broken")
		os.Exit(3)
	case "kill":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "hang":
		if check {
			fmt.Fprintln(os.Stderr, "hanging")
			time.Sleep(time.Hour)
		}
	case "wait":
		if check {
			break
		}
		fmt.Fprintln(os.Stderr, "between two programs")
		for {
			if _, err := os.Stat("go"); err == nil {
				os.Remove("go")
				break
			}
			time.Sleep(time.Millisecond)
		}
	case "spoil":
		if !check {
			if err := os.Rename("config.spoilt", "config.json"); err != nil {
				panic(err)
			}
		}
	}
	panic(syscall.Exec(words[1], os.Args, os.Environ()))
}
`

var otherBinary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "stratumSwitcher-test")
	if err != nil {
		return "", err
	}
	testCleanups = append(testCleanups, func() { os.RemoveAll(dir) })
	source, path := filepath.Join(dir, "main.go"), filepath.Join(dir, "other")
	if err := os.WriteFile(source, []byte(otherBinarySource), 0o600); err != nil {
		return "", err
	}
	if out, err := exec.Command("go", "build", "-o", path, source).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// installOther puts a binary in place that behaves as said, and is version two
// besides.
func (p *process) installOther(behaviour string) {
	p.t.Helper()
	path, err := otherBinary()
	if err != nil {
		p.t.Fatal(err)
	}
	p.install(path)
	p.replace(filepath.Join(p.dir, "behaviour"), []byte(behaviour+" "+buildVersion(p.t, "two")), 0o644)
}

// upgradeWhile has during called when the old program is gone and the new one
// not there yet.
func (p *process) upgradeWhile(during func()) {
	p.t.Helper()
	p.installOther("wait")
	n := p.logged()
	p.signal(syscall.SIGUSR2)
	p.waitLogFrom(n, "between two programs")
	during()
	n = p.logged()
	if err := os.WriteFile(filepath.Join(p.dir, "go"), nil, 0o644); err != nil {
		p.t.Fatal(err)
	}
	if m := p.waitLogFrom(n, `upgraded version=two sessions=\d+ lost=(\d+)`); m[1] != "0" {
		p.t.Errorf("lost sessions: %s", m[0])
	}
	p.install(buildVersion(p.t, "one"))
}

// goodUpgrade wants an upgrade to work.
func (p *process) goodUpgrade() {
	p.t.Helper()
	if _, lost, _ := p.upgrade(); lost != "0" {
		p.t.Errorf("%s sessions lost", lost)
	}
}

// startMiners starts n miners of an account that mine slowly, and waits until
// they mine.
func startMiners(t testing.TB, addr, account string, n int) []*stratumtest.Miner {
	t.Helper()
	var miners []*stratumtest.Miner
	for i := range n {
		miners = append(miners, startMiner(t, stratumtest.MinerOptions{
			Addr: addr, Worker: account + ".w" + strconv.Itoa(i), Rate: 20, Configure: 0x1fffe000,
		}))
	}
	for _, m := range miners {
		wantAccepted(t, m, 1)
	}
	return miners
}

// wantAccepted waits for n more accepted shares.
func wantAccepted(t testing.TB, m *stratumtest.Miner, n uint64) {
	t.Helper()
	before := m.Stats().Accepted
	err := m.WaitFor(upgradeCtx(t), func(st stratumtest.MinerStats) bool { return st.Accepted >= before+n || st.Disconnected })
	if st := m.Stats(); err != nil || st.Disconnected {
		t.Fatalf("miner %s: %v; %+v", m.Worker(), err, st)
	}
}

// wantMining wants all miners to go on, at the named pool if one is given.
func wantMining(t testing.TB, miners []*stratumtest.Miner, pool string) {
	t.Helper()
	for _, m := range miners {
		if pool != "" {
			err := m.WaitFor(upgradeCtx(t), func(st stratumtest.MinerStats) bool { return st.Pool == pool || st.Disconnected })
			if err != nil {
				t.Fatalf("miner %s is not with pool %s: %+v", m.Worker(), pool, m.Stats())
			}
		}
		wantAccepted(t, m, 2)
		checkMiner(t, m)
	}
}

// wantMiningAfterLoss is wantMining for miners whose pool went away: shares
// under way at that moment are answered with an error.
func wantMiningAfterLoss(t testing.TB, miners []*stratumtest.Miner, pool string) {
	t.Helper()
	for _, m := range miners {
		err := m.WaitFor(upgradeCtx(t), func(st stratumtest.MinerStats) bool { return st.Pool == pool || st.Disconnected })
		if err != nil {
			t.Fatalf("miner %s is not with pool %s: %+v", m.Worker(), pool, m.Stats())
		}
		wantAccepted(t, m, 2)
		if st := m.Stats(); len(st.Violations) > 0 || st.Rejected != st.RejectedByCode[20] || st.Doubled > 0 || st.Unknown > 0 {
			t.Errorf("miner %s: %+v", m.Worker(), st)
		}
	}
}

// wantNewMiner wants a new connection to be served.
func wantNewMiner(t testing.TB, addr, account string) {
	t.Helper()
	m, err := stratumtest.NewMiner(stratumtest.MinerOptions{Addr: addr, Worker: account + ".new", Rate: 20})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	wantAccepted(t, m, 1)
	checkMiner(t, m)
}

func waitUntil(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(upgradeWait); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}
