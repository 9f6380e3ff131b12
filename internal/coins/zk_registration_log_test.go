package coins

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/journal"
)

// The log says who waits for a registration, and what to change if there is no
// registration service. Many new sub-accounts do not fill the log.
func TestZKRegistrationBeginIsLogged(t *testing.T) {
	opts := zkTestOptions("127.0.0.1:1")
	opts.AutoReg, opts.AutoRegMaxWait = true, 1000
	s, err := NewZooKeeper(opts)
	if err != nil {
		t.Fatal(err)
	}
	// The source is not started, so this goroutine may do its owner's work.
	defer func() {
		for _, r := range s.registrations {
			r.timer.Stop()
		}
		s.Close()
	}()
	for i := range 500 {
		name := fmt.Sprintf("unknown%d", i)
		q := &Query{Account: name, SessionID: 1, Worker: name + ".rig", Addr: netip.MustParseAddr("192.0.2.7"), Reply: func(string, string, error) {}}
		s.queries.add(q)
		s.lookup(q)
		s.coinRead(s.accounts[name], zkNode{}, errZKNoNode, false, false)
		if s.registrations[name] == nil {
			t.Fatalf("there is no registration of %s", name)
		}
	}
	const begins = `registration of account="unknown\d+" begins`
	lines := logLines(t, begins)
	if len(lines) != journal.LinesPerMinute {
		t.Errorf("got %d lines, want %d", len(lines), journal.LinesPerMinute)
	}
	const want = `registration of account="unknown0" begins for miner=192.0.2.7: it waits up to 45s; without a registration service set "EnableUserAutoReg": false`
	if line := lines[0]; !strings.HasSuffix(line, "] "+want) || line[0] != 'I' {
		t.Errorf("got line %s\nwant %s", line, want)
	}
}
