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
	// resolveTimeout bounds a name look-up. The IPs found are used for resolveKeep
	// without another look-up. A name without IPs is looked up again after
	// resolveRetry.
	resolveTimeout = 5 * time.Second
	resolveKeep    = 30 * time.Second
	resolveRetry   = time.Second

	// refreshEvery is how often a name is looked up while none of its IPs can be used.
	refreshEvery = 2 * time.Second

	// resolveStale is how much longer than resolveKeep the IPs may still be used
	// while the name is looked up again.
	resolveStale = 5 * time.Minute

	maxPoolIPs = 32 // IPs of one name that are used
)

// pool is one coin's entry of StratumServerMap.
type pool struct {
	coin      string
	server    StratumServerInfo
	suffix    string         // added to a worker name in a second try, if the pool refuses the name without it
	addresses []*poolAddress // URL, then BackupURLs

	picksExtranonce bool   // the pool picks the extranonce (ExtraNonce is "pool")
	worker          string // template of worker names; empty if there is none
	password        string // for all workers; if empty, each miner's own is used

	links []linkCounts // by address
}

// newPools makes the pools of a configuration, by coin. Coins with the same address and
// the same TLS settings share one poolAddress. newPools reads no files; loadTrusts does.
func newPools(c *Config, h *health) (map[string]*pool, error) {
	type addressKey struct {
		text string
		tls  poolTLSSettings
	}
	known := make(map[addressKey]*poolAddress)
	pools := make(map[string]*pool, len(c.StratumServerMap))
	for coin, server := range c.StratumServerMap {
		p := &pool{
			coin: coin, server: server, suffix: server.UserSuffix,
			picksExtranonce: server.ExtraNonce == extranonceOfPool, worker: server.Worker, password: server.Password,
		}
		for i, url := range server.urls() {
			a, err := newPoolAddress(url, &server, h)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", urlKey("StratumServerMap."+coin, i), err)
			}
			key := addressKey{a.text, a.tls.is()}
			if known[key] == nil {
				known[key] = a
			}
			p.addresses = append(p.addresses, known[key])
		}
		p.links = make([]linkCounts, len(p.addresses))
		pools[coin] = p
	}
	return pools, nil
}

// has reports whether a is one of the pool's addresses.
func (p *pool) has(a *poolAddress) bool { return slices.Contains(p.addresses, a) }

// sameAs reports whether a link to p can serve as a link to q.
func (p *pool) sameAs(q *pool) bool {
	return p.suffix == q.suffix && p.picksExtranonce == q.picksExtranonce && p.worker == q.worker && p.password == q.password && slices.EqualFunc(p.addresses, q.addresses, func(a, b *poolAddress) bool { return a.text == b.text && a.tls.is() == b.tls.is() })
}

// leadsTo reports whether one of the pool's addresses has e among its IPs.
func (p *pool) leadsTo(e *endpoint) bool {
	return slices.ContainsFunc(p.addresses, func(a *poolAddress) bool { return a.leadsTo(e) })
}

// poolAddress is a pool's host and port. A host name is looked up once for all
// sessions that want it at the same time.
type poolAddress struct {
	text   string   // host:port, after tlsScheme if it is for TLS
	tls    *poolTLS // nil without TLS
	host   string
	port   uint16
	health *health
	named  bool // host is a name and not an IP

	mu        sync.Mutex
	ips       []*endpoint // result of the last successful look-up; never changed in place
	until     time.Time   // how long ips may be used without another look-up
	waiting   []func()    // called after the look-up under way; empty if none is
	lookupErr error       // error of the last look-up
	refreshed time.Time   // when refresh last started a look-up
}

// newPoolAddress makes one of the addresses of server.
func newPoolAddress(url string, server *StratumServerInfo, h *health) (*poolAddress, error) {
	hostPort, byTLS := splitPoolURL(url)
	host, portText, err := net.SplitHostPort(hostPort)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("port %q is not a number from 1 to 65535", portText)
	}
	a := &poolAddress{text: normalPoolURL(url), host: host, port: uint16(port), health: h}
	if byTLS {
		if a.tls, err = newPoolTLS(server, host); err != nil {
			return nil, err
		}
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		a.ips = []*endpoint{a.endpoint(netip.AddrPortFrom(ip, a.port))}
	} else {
		a.named = true
	}
	return a, nil
}

// endpoint returns what health knows about one of the address's IPs.
func (a *poolAddress) endpoint(addr netip.AddrPort) *endpoint {
	return a.health.endpointWith(addr, a.tls.is())
}

// current returns the address's IPs in the order in which to try them, and whether they
// were looked up recently. It returns no IPs for a name that was never found.
func (a *poolAddress) current() (ips []*endpoint, fresh bool) {
	a.mu.Lock()
	ips, fresh = a.ips, !a.named || time.Now().Before(a.until)
	a.mu.Unlock()
	return a.health.inOrder(ips), fresh
}

// usable returns the IPs to dial, as current does. wait means that the name has to be
// looked up first. IPs that are a few minutes old are used while the name is looked up
// in the background, so that a name server that does not answer keeps nobody from
// dialling.
func (a *poolAddress) usable() (ips []*endpoint, wait bool) {
	ips, fresh := a.current()
	if fresh {
		return ips, false
	}
	a.mu.Lock()
	failed := len(a.ips) == 0 && a.lookupErr != nil
	old := len(a.ips) > 0 && time.Since(a.until) < resolveStale
	a.mu.Unlock()
	if !failed && !old {
		return nil, true
	}
	a.refresh()
	return ips, false
}

func (a *poolAddress) leadsTo(e *endpoint) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Contains(a.ips, e)
}

// resolve looks the name up and then calls done from another goroutine. done must not
// block. If a look-up is under way, its result is shared.
func (a *poolAddress) resolve(done func()) {
	a.mu.Lock()
	a.waiting = append(a.waiting, done)
	first := len(a.waiting) == 1
	a.mu.Unlock()
	if first {
		go a.lookup()
	}
}

// refresh looks the name up in the background before its IPs are due, because
// none of them can be used and the pool may have moved. It does so at most once
// in refreshEvery.
func (a *poolAddress) refresh() {
	a.mu.Lock()
	now := time.Now()
	due := a.named && len(a.waiting) == 0 && now.Sub(a.refreshed) >= refreshEvery
	if due {
		a.refreshed = now
	}
	a.mu.Unlock()
	if due {
		a.resolve(func() {})
	}
}

// lookup asks the resolver. If that fails, the previous IPs stay in use, so that a name
// server that is away for a moment does not cut off a pool.
func (a *poolAddress) lookup() {
	ctx, cancel := context.WithTimeout(context.Background(), resolveTimeout)
	defer cancel()
	found, err := lookupIPs(ctx, a.host)
	var ips []*endpoint
	for _, ip := range found {
		if e := a.endpoint(netip.AddrPortFrom(ip, a.port)); !slices.Contains(ips, e) {
			ips = append(ips, e)
		}
	}
	a.mu.Lock()
	moved := err == nil && slices.ContainsFunc(ips, func(e *endpoint) bool { return !slices.Contains(a.ips, e) })
	if err == nil {
		a.ips = ips
	}
	a.until = time.Now().Add(resolveKeep)
	if len(a.ips) == 0 {
		a.until = time.Now().Add(resolveRetry)
	}
	changed := (err == nil) != (a.lookupErr == nil)
	a.lookupErr = err
	waiting := a.waiting
	a.waiting = nil
	a.mu.Unlock()
	if changed || moved {
		a.health.lookedUp(a, changed, err)
	}
	for _, done := range waiting {
		done()
	}
}

// state returns the best state of the address's IPs, because links go to the best one.
func (a *poolAddress) state(session bool) breakerState {
	a.mu.Lock()
	ips, failed := a.ips, a.lookupErr != nil
	a.mu.Unlock()
	if len(ips) == 0 {
		if failed {
			return breakerOpen
		}
		return breakerClosed // the name was not looked up yet
	}
	best := breakerOpen
	for _, e := range ips {
		switch a.health.state(e, session) {
		case breakerClosed:
			return breakerClosed
		case breakerProbing:
			best = breakerProbing
		}
	}
	return best
}

// lookupError returns why the last look-up failed, or nil.
func (a *poolAddress) lookupError() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lookupErr
}

// resolveAgain makes the IPs due for a new look-up after resolveRetry, because
// none of them answers.
func (a *poolAddress) resolveAgain() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if soon := time.Now().Add(resolveRetry); a.named && a.until.After(soon) {
		a.until = soon
	}
}
