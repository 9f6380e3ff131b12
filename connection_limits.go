package main

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang/glog"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/eventfile"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hostaddr"
)

// Connections over a limit are closed at once, before a session is created for them.
// The miner then tries another server, or this one again.

// refusal is the reason why a connection was turned away.
type refusal uint8

const (
	refusedFull  refusal = iota // MaxSessions, or no descriptors for more
	refusedPerIP                // MaxSessionsPerIP
	refusedRate                 // MaxConnectsPerSecond
	refusals
)

var refusalNames = [refusals]string{"full", "per_ip", "rate"}

func (r refusal) String() string { return refusalNames[r] }

// connectionLimits counts connections against the limits. Any goroutine may use
// it.
type connectionLimits struct {
	perIP int // MaxSessionsPerIP; 0 if there is no such limit

	refused [refusals]refusalCount

	mu       sync.Mutex
	sessions map[netip.Addr]int // by hostaddr.Key; empty if perIP is 0
	rate     tokenBucket        // connections that may be accepted now
}

func newConnectionLimits(c *Config) *connectionLimits {
	return &connectionLimits{
		perIP:    c.MaxSessionsPerIP,
		sessions: make(map[netip.Addr]int),
		rate:     newTokenBucket(float64(c.MaxConnectsPerSecond), float64(c.MaxConnectsPerSecond)),
	}
}

// enter counts a session of addr if one more is allowed. It reports whether it did.
func (l *connectionLimits) enter(addr netip.Addr) bool {
	key := hostaddr.Key(addr)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sessions[key] >= l.perIP {
		return false
	}
	l.sessions[key]++
	return true
}

// enterAnyway counts a session that exists already, regardless of the limit.
func (l *connectionLimits) enterAnyway(addr netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sessions[hostaddr.Key(addr)]++
}

func (l *connectionLimits) leave(addr netip.Addr) {
	key := hostaddr.Key(addr)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sessions[key]--; l.sessions[key] <= 0 {
		delete(l.sessions, key)
	}
}

// takeToken reports whether the rate allows one more connection.
func (l *connectionLimits) takeToken(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rate.take(now)
}

// refusalCount counts the refusals for one reason. They are logged together, at most
// once in alertEvery.
type refusalCount struct {
	total atomic.Int64

	mu       sync.Mutex
	unlogged int64
	last     netip.AddrPort
	logged   time.Time
}

// due returns how many refusals the next log line should report, or 0 if the
// last line is too recent.
func (c *refusalCount) due(now time.Time) (n int64, last netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unlogged == 0 || now.Sub(c.logged) < alertEvery {
		return 0, last
	}
	n, c.unlogged, c.logged = c.unlogged, 0, now
	return n, c.last
}

// turnedAway counts and logs a refused connection. Any goroutine may call it.
func (m *sessionManager) turnedAway(why refusal, addr netip.AddrPort) {
	c := &m.limits.refused[why]
	c.total.Add(1)
	c.mu.Lock()
	c.unlogged++
	c.last = addr
	c.mu.Unlock()
	m.monitor.refusal("", why.String(), "last from "+addr.Addr().String())
	if m.monitor.file != nil {
		m.monitor.record(eventfile.Event{Kind: eventfile.KindRefusal, What: why.String(), Miner: addr.String()})
	}
	m.logRefusals(why)
}

// logRefusals writes the reason's line if one is due. The sweeps call it too,
// so that the end of a flood is logged as well.
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

// refusalCounts returns the number of refusals by the name of their reason.
func (m *sessionManager) refusalCounts() map[string]int64 {
	counts := make(map[string]int64, refusals)
	for why := range m.limits.refused {
		counts[refusal(why).String()] = m.limits.refused[why].total.Load()
	}
	return counts
}

// admission records where an admitted connection is counted.
type admission struct {
	perIP bool // it counts towards MaxSessionsPerIP
}

// admit counts a new connection or turns it away. Connections refused by the
// limit per address take neither room nor tokens from others.
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

// dismiss undoes the counting of admit.
func (m *sessionManager) dismiss(a admission, addr netip.AddrPort) {
	m.admitted.Add(-1)
	if a.perIP {
		m.limits.leave(addr.Addr())
	}
}

// admitProxied counts the client address that a trusted proxy has reported. It does
// nothing if there is no limit per address.
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

// admitResumed counts a session of the previous process, whatever the limits
// are now, because an established miner stays. A session at the address of a
// trusted proxy is exempt from the limit per address, unless a proxy reported
// that address as its client's. peer is the other end of the miner's
// connection. It is not valid if the miner has gone meanwhile, which the loop
// will find out.
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

// mayDrain reports whether there are enough descriptors to keep a link that is no longer
// in use. New links come first. Each connection that may use TLS is assumed to use it,
// because the number of descriptors that a tunnel process has open is not known.
func (m *sessionManager) mayDrain() bool {
	sessions, draining := int(m.admitted.Load()), int(m.draining.Load())
	if m.tlsSides > 0 && 2*(m.tlsSides*sessions+draining+m.config.MaxPoolDials)+fdReserve >= m.fdLimit {
		return false
	}
	return 2*sessions+draining+m.config.MaxPoolDials+fdReserve < m.fdLimit
}
