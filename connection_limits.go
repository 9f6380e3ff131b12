package main

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang/glog"
)

// What is turned away before it costs a session. A connection over a limit is
// closed at once; the miner's own failover or its next try does the rest.

// refusal says why a connection was turned away.
type refusal uint8

const (
	refusedFull  refusal = iota // MaxSessions, or no descriptors for more
	refusedPerIP                // MaxSessionsPerIP
	refusedRate                 // MaxConnectsPerSecond
	refusals
)

var refusalNames = [refusals]string{"full", "per_ip", "rate"}

func (r refusal) String() string { return refusalNames[r] }

// connectionLimits keeps the books of the limits. Any goroutine may use it.
type connectionLimits struct {
	perIP int // 0: off

	refused [refusals]refusalCount

	mu       sync.Mutex
	sessions map[netip.Addr]int // by limitKey; empty while perIP is off
	rate     tokenBucket        // connections that may come now
}

func newConnectionLimits(c *Config) *connectionLimits {
	return &connectionLimits{
		perIP:    c.MaxSessionsPerIP,
		sessions: make(map[netip.Addr]int),
		rate:     newTokenBucket(float64(c.MaxConnectsPerSecond), float64(c.MaxConnectsPerSecond)),
	}
}

// limitKey is what counts as one address: a host has a whole IPv6 /64 to
// itself and could take another address for every connection.
func limitKey(addr netip.Addr) netip.Addr {
	if addr = addr.Unmap(); addr.Is4() {
		return addr
	}
	network, err := addr.Prefix(64) // drops the zone
	if err != nil {
		return addr
	}
	return network.Addr()
}

// enter counts a session of addr in, if there may be one more.
func (l *connectionLimits) enter(addr netip.Addr) bool {
	key := limitKey(addr)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sessions[key] >= l.perIP {
		return false
	}
	l.sessions[key]++
	return true
}

// enterAnyway is enter for a session that stands already.
func (l *connectionLimits) enterAnyway(addr netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sessions[limitKey(addr)]++
}

func (l *connectionLimits) leave(addr netip.Addr) {
	key := limitKey(addr)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sessions[key]--; l.sessions[key] <= 0 {
		delete(l.sessions, key)
	}
}

// takeToken says whether the rate lets one more connection in.
func (l *connectionLimits) takeToken(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rate.take(now)
}

// refusalCount counts one reason's refusals. The log has a line now and then,
// not one for each.
type refusalCount struct {
	total atomic.Int64

	mu       sync.Mutex
	unlogged int64
	last     netip.AddrPort
	logged   time.Time
}

// due takes what is to be logged, 0 if the last line is too fresh.
func (c *refusalCount) due(now time.Time) (n int64, last netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unlogged == 0 || now.Sub(c.logged) < alertEvery {
		return 0, last
	}
	n, c.unlogged, c.logged = c.unlogged, 0, now
	return n, c.last
}

// turnedAway notes a connection that was refused. Any goroutine may call it.
func (m *sessionManager) turnedAway(why refusal, addr netip.AddrPort) {
	c := &m.limits.refused[why]
	c.total.Add(1)
	c.mu.Lock()
	c.unlogged++
	c.last = addr
	c.mu.Unlock()
	m.monitor.refusal("", why.String(), "last from "+addr.Addr().String())
	m.logRefusals(why)
}

// logRefusals writes the reason's line if one is due. The sweeps call it too,
// so that the end of a flood is not left out.
func (m *sessionManager) logRefusals(why refusal) {
	n, last := m.limits.refused[why].due(time.Now())
	if n == 0 {
		return
	}
	line := fmt.Sprintf("refused reason=%s connections=%d last=%s: ", why, n, last)
	switch why {
	case refusedFull:
		glog.Errorf("%s%d sessions are all that MaxSessions, %d descriptors and the local ports allow", line, m.sessionsMax(), m.fdLimit)
	case refusedPerIP:
		glog.Warningf("%sMaxSessionsPerIP is %d", line, m.limits.perIP)
	case refusedRate:
		glog.Warningf("%sMaxConnectsPerSecond is %.0f", line, m.limits.rate.rate)
	}
}

// refusalCounts are all refusals by the names of their reasons.
func (m *sessionManager) refusalCounts() map[string]int64 {
	counts := make(map[string]int64, refusals)
	for why := range m.limits.refused {
		counts[refusal(why).String()] = m.limits.refused[why].total.Load()
	}
	return counts
}

// admission is what a connection that was let in is counted in.
type admission struct {
	perIP bool // MaxSessionsPerIP
}

// admit counts a new connection in, or turns it away. What the address's limit
// refuses takes no room and no token from others.
func (m *sessionManager) admit(addr netip.AddrPort) (a admission, ok bool) {
	if m.limits.perIP > 0 && !m.trusts(addr.Addr()) {
		if !m.limits.enter(addr.Addr()) {
			m.turnedAway(refusedPerIP, addr)
			return a, false
		}
		a.perIP = true
	}
	if m.admitted.Add(1) > int64(m.sessionsMax()) {
		m.dismiss(a, addr)
		m.turnedAway(refusedFull, addr)
		return a, false
	}
	if !m.limits.takeToken(time.Now()) {
		m.dismiss(a, addr)
		m.turnedAway(refusedRate, addr)
		return a, false
	}
	return a, true
}

// dismiss takes back what admit has counted.
func (m *sessionManager) dismiss(a admission, addr netip.AddrPort) {
	m.admitted.Add(-1)
	if a.perIP {
		m.limits.leave(addr.Addr())
	}
}

// admitProxied counts in the address that a trusted proxy has told. Without a
// limit there is nothing to count.
func (m *sessionManager) admitProxied(s *Session) bool {
	if m.limits.perIP == 0 {
		return true
	}
	if !m.limits.enter(s.addr.Addr()) {
		m.turnedAway(refusedPerIP, s.addr)
		return false
	}
	s.admission.perIP = true
	return true
}

// admitResumed counts in a session of the process before, whatever the limits
// are now: an established miner stays. One at the address of a trusted proxy
// is that proxy itself, which the limit is not for, unless a proxy has told
// that address. peer is the other end of the miner's connection; it is not valid
// if the miner has gone meanwhile, which the loop finds out.
func (m *sessionManager) admitResumed(s *Session, peer netip.Addr) {
	m.admitted.Add(1)
	if m.limits.perIP == 0 {
		return
	}
	if m.trusts(s.addr.Addr()) && (!peer.IsValid() || peer.Unmap() == s.addr.Addr().Unmap()) {
		return
	}
	m.limits.enterAnyway(s.addr.Addr())
	s.admission.perIP = true
}

// mayDrain says whether there is a descriptor for a link that is no longer in
// use. New links come first.
func (m *sessionManager) mayDrain() bool {
	return int(2*m.admitted.Load()+m.draining.Load())+m.config.MaxPoolDials+fdReserve < m.fdLimit
}
