package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"
)

const (
	// resolveTimeout bounds a name look-up, resolveKeep is how long its
	// outcome serves.
	resolveTimeout = 5 * time.Second
	resolveKeep    = 30 * time.Second
)

// pool is one coin's entry of StratumServerMap.
type pool struct {
	coin      string
	suffix    string         // for worker names that are not known without
	addresses []*poolAddress // URL, then BackupURLs

	ownExtranonce bool   // the pool picks it
	worker        string // template of names; empty: none
	password      string // for all workers; empty: the miners' own

	shares shareCounts
	links  []linkCounts // by address
}

// newPools makes the pools of a configuration. Coins with the same address
// share what is known of it.
func newPools(c *Config) (map[string]*pool, error) {
	known := make(map[string]*poolAddress)
	address := func(key, text string) (*poolAddress, error) {
		if a := known[text]; a != nil {
			return a, nil
		}
		a, err := newPoolAddress(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		known[text] = a
		return a, nil
	}
	pools := make(map[string]*pool, len(c.StratumServerMap))
	for coin, server := range c.StratumServerMap {
		p := &pool{
			coin: coin, suffix: server.UserSuffix,
			ownExtranonce: server.ExtraNonce == extranonceOfPool, worker: server.Worker, password: server.Password,
		}
		for i, url := range append([]string{server.URL}, server.BackupURLs...) {
			key := fmt.Sprintf("StratumServerMap.%s.URL", coin)
			if i > 0 {
				key = fmt.Sprintf("StratumServerMap.%s.BackupURLs[%d]", coin, i-1)
			}
			a, err := address(key, url)
			if err != nil {
				return nil, err
			}
			p.addresses = append(p.addresses, a)
		}
		p.links = make([]linkCounts, len(p.addresses))
		pools[coin] = p
	}
	return pools, nil
}

// pick chooses the address for the next link: the first one whose breaker is
// closed, else one that may be probed. probe has to be told to its breaker.
func (p *pool) pick() (a *poolAddress, probe, ok bool) {
	for _, a := range p.addresses {
		if a.breaker.state() == breakerClosed {
			if probe, ok := a.breaker.allow(); ok {
				return a, probe, true
			}
		}
	}
	for _, a := range p.addresses {
		if probe, ok := a.breaker.allow(); ok {
			return a, probe, true
		}
	}
	return nil, false, false
}

// has says whether a is one of the pool's addresses.
func (p *pool) has(a *poolAddress) bool { return slices.Contains(p.addresses, a) }

// sameAs says whether links to p are links to q.
func (p *pool) sameAs(q *pool) bool {
	return p.suffix == q.suffix && p.ownExtranonce == q.ownExtranonce && p.worker == q.worker && p.password == q.password && slices.EqualFunc(p.addresses, q.addresses, func(a, b *poolAddress) bool { return a.text == b.text })
}

// poolAddress is a pool's host and port. Host names are looked up once for all
// sessions that want them at the time.
type poolAddress struct {
	text    string
	host    string
	port    uint16
	breaker breaker

	mu      sync.Mutex
	ips     []netip.Addr // of the last look-up that worked
	turn    int          // which of ips is next
	until   time.Time    // how long ips serve
	waiting []func(netip.AddrPort, error)
}

func newPoolAddress(hostPort string) (*poolAddress, error) {
	host, portText, err := net.SplitHostPort(hostPort)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("port %q is not a number from 1 to 65535", portText)
	}
	a := &poolAddress{text: hostPort, host: host, port: uint16(port)}
	if ip, err := netip.ParseAddr(host); err == nil {
		a.ips = []netip.Addr{ip}
		a.until = time.Now().AddDate(1000, 0, 0)
	}
	return a, nil
}

// resolve gives one address of the pool, each in turn. found is called during
// the call or later, from another goroutine, and must not block.
func (a *poolAddress) resolve(found func(netip.AddrPort, error)) {
	a.mu.Lock()
	if len(a.ips) > 0 && time.Now().Before(a.until) {
		addr := a.next()
		a.mu.Unlock()
		found(addr, nil)
		return
	}
	first := len(a.waiting) == 0
	a.waiting = append(a.waiting, found)
	a.mu.Unlock()
	if first {
		go a.lookup()
	}
}

func (a *poolAddress) next() netip.AddrPort {
	a.turn++
	return netip.AddrPortFrom(a.ips[a.turn%len(a.ips)], a.port)
}

// lookup asks the resolver. If that fails, the addresses of before serve on: a
// name server that is away for a moment is no reason to lose a pool.
func (a *poolAddress) lookup() {
	ctx, cancel := context.WithTimeout(context.Background(), resolveTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", a.host)

	a.mu.Lock()
	if err == nil && len(ips) > 0 {
		a.ips = ips
	}
	if len(a.ips) > 0 {
		a.until = time.Now().Add(resolveKeep)
		err = nil
	}
	waiting := a.waiting
	a.waiting = nil
	addrs := make([]netip.AddrPort, len(waiting))
	for i := range addrs {
		if err == nil {
			addrs[i] = a.next()
		}
	}
	a.mu.Unlock()

	for i, found := range waiting {
		found(addrs[i], err)
	}
}

// known gives an address without a look-up, if one is at hand.
func (a *poolAddress) known() (netip.AddrPort, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.ips) == 0 || time.Now().After(a.until) {
		return netip.AddrPort{}, false
	}
	return a.next(), true
}
