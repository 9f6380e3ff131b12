//go:build linux && !portable_relay

package main

import (
	"encoding/json"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// TestFormerPoolsApart: pools whose names and passwords look the same when they are
// joined are different pools.
func TestFormerPoolsApart(t *testing.T) {
	sw := startSwitcher(t, newMemoryCoins(nil), []*stratumtest.Pool{startPool(t, stratumtest.PoolOptions{Name: "btc"})}, nil)
	one := sw.formerPool("btc", &StratumServerInfo{URL: "127.0.0.1:1", UserSuffix: "btc", Worker: "a b", Password: "c"})
	two := sw.formerPool("btc", &StratumServerInfo{URL: "127.0.0.1:1", UserSuffix: "btc", Worker: "a", Password: "b c"})
	again := sw.formerPool("btc", &StratumServerInfo{URL: "127.0.0.1:1", UserSuffix: "btc", Worker: "a", Password: "b c"})
	if one == nil || two == nil || one == two || two != again || two.password != "b c" {
		t.Errorf("pools were mixed up: got %+v, %+v, %+v", one, two, again)
	}
}

// TestResumeClosesAll: a session that cannot be resumed leaves no descriptor open,
// wherever it fails.
func TestResumeClosesAll(t *testing.T) {
	sw := startSwitcher(t, newMemoryCoins(nil), []*stratumtest.Pool{testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc"})}, nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, bad := range []string{"miner", "pool"} {
		_, minerFile := testkit.TCPPair(t, ln)
		_, poolFile := testkit.TCPPair(t, ln)
		files := []*os.File{minerFile, poolFile}
		ss := sessionState{
			SessionID: 1<<24 | 128, HasID: true, Phase: phaseRelaying.String(), MiningCoin: "btc",
			StratumSubscribeRequest: &requestState{ID: json.RawMessage("1"), Method: "mining.subscribe", Params: json.RawMessage(`["cgminer"]`)},
			StratumAuthorizeRequest: &requestState{ID: json.RawMessage("2"), Method: "mining.authorize", Params: json.RawMessage(`["alice.w0","x"]`)},
		}
		// epoll refuses a regular file.
		fds := make(map[string]int)
		for i, name := range []string{"miner", "pool", "drain"} {
			from := int(files[min(i, 1)].Fd())
			if name == bad {
				if from, err = unix.Open("go.mod", unix.O_RDONLY, 0); err != nil {
					t.Fatal(err)
				}
				defer unix.Close(from)
			}
			if fds[name], err = unix.FcntlInt(uintptr(from), unix.F_DUPFD_CLOEXEC, 500); err != nil {
				t.Fatal(err)
			}
		}
		ss.ClientConnFD, ss.ServerConnFD = fds["miner"], fds["pool"]
		ss.Drains = []linkState{{FD: fds["drain"], Coin: "btc"}}
		l := sw.loops[0]
		l.Call(func() {
			if _, err := resumeSession(sw.sessionManager, l, &ss, 1); err == nil {
				t.Errorf("with a bad %s there is no error", bad)
			}
		})
		for name, fd := range fds {
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != unix.EBADF {
				t.Errorf("with a bad %s, the descriptor of the %s is left open: %v", bad, name, err)
			}
		}
		for _, f := range files {
			f.Close()
		}
	}
}
