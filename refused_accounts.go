package main

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// maxRefusedAccounts bounds how many sub-accounts have their own log lines,
// because miners may send any name. All others share one line.
const maxRefusedAccounts = 256

// refusedAccounts logs the sub-accounts whose miners are all refused because their
// coin is not in StratumServerMap. Each has at most one line a minute, with the number
// of miners and the address of the last one. Any goroutine may use it. The zero value
// is ready to use.
type refusedAccounts struct {
	mu       sync.Mutex
	accounts map[string]*refusedAccount
}

type refusedAccount struct {
	coin   string
	count  int // miners since the last line
	last   netip.AddrPort
	logged time.Time
}

// note counts a miner that was refused. It returns the line to log, or an empty
// string if none is due.
func (r *refusedAccounts) note(account, coin string, addr netip.AddrPort, now time.Time) (line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.accounts == nil {
		r.accounts = make(map[string]*refusedAccount)
	}
	a := r.accounts[account]
	if a == nil {
		if len(r.accounts) >= maxRefusedAccounts {
			account = ""
		}
		if a = r.accounts[account]; a == nil {
			a = &refusedAccount{}
			r.accounts[account] = a
		}
	}
	a.coin, a.last = coin, addr
	a.count++
	return a.line(account, now)
}

// due returns the lines that are due about miners that were counted but not logged
// yet. It forgets the accounts that no miner has used since their last line.
func (r *refusedAccounts) due(now time.Time) (lines []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for account, a := range r.accounts {
		if line := a.line(account, now); line != "" {
			lines = append(lines, line)
		} else if a.count == 0 && now.Sub(a.logged) >= alertEvery {
			delete(r.accounts, account)
		}
	}
	return lines
}

func (a *refusedAccount) line(account string, now time.Time) string {
	if a.count == 0 || now.Sub(a.logged) < alertEvery {
		return ""
	}
	n := a.count
	a.count, a.logged = 0, now
	if account == "" {
		return fmt.Sprintf("refused code=%d miners=%d last=%s: coins of further sub-accounts, such as %q, are not in StratumServerMap", stratum.ErrServerNotFound.Code, n, a.last.Addr(), a.coin)
	}
	return fmt.Sprintf("refused code=%d account=%q miners=%d last=%s: its coin %q is not in StratumServerMap: correct the entry of the sub-account, or add the coin", stratum.ErrServerNotFound.Code, account, n, a.last.Addr(), a.coin)
}
