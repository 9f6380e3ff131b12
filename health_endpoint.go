package main

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"time"
)

// What is known about one address: its breakers and failures, the links to it, and in
// which order the addresses of a name are dialled.

type endpointKey struct {
	addr netip.AddrPort
	tls  poolTLSSettings
}

// endpoint holds what is known about one IP and port, with or without TLS.
type endpoint struct {
	health *health
	addr   netip.AddrPort
	tls    poolTLSSettings

	// heardAt is when a stable link last received something, and jobAt when any link
	// last received a job. Both are moments; 0 means never.
	heardAt, jobAt atomic.Int64
	// fastAt is when a link last became ready quickly, in Unix nanoseconds, and
	// fastTook how long it took. The dial gate uses both.
	fastAt, fastTook atomic.Int64

	// health.mu guards the following.
	breaker  breaker
	mismatch breaker // open if the pool does not take the session's extranonce; ignored by coins whose pool picks its own
	ports    shortage

	refusals            failureRow // tries that did not connect
	jobless             failureRow // tries that got no job in time
	unsubscribed        failureRow // tries that failed at mining.subscribe, one entry per user agent
	byAccount           failureRow // tries closed or not answered after mining.authorize, one entry per account
	byWorker            failureRow // the same, one entry per worker
	disconnects         failureRow // links lost before they were stable, one entry per account
	disconnectsByWorker failureRow // the same, one entry per worker
	mismatches          failureRow // tries that were given another extranonce, one entry per worker
	userAgents          []string   // user agents that have subscribed there, the latest last

	readyAt           time.Time // when a link last became ready
	tookAt            time.Time // when the pool last took a session's extranonce
	stableReadyAt     time.Time // the latest time at which a link became ready that was stable later
	lostAt            time.Time // when the pool last ended a stable link
	disconnectedAt    time.Time // when the pool last ended a link that was not stable
	outForDisconnects bool      // the address was taken out because it ended links, and no link there has been stable since
	// outlasts is how long a link has to last to show that the pool does not end all
	// links. It is 0 if the address was taken out for another reason.
	outlasts time.Duration
	tripped  time.Time   // when the address was last taken out for ending links
	trials   attemptList // the attempts of links that are ready and not stable yet, the oldest first

	connectedAt time.Time // when the address last accepted a connection
	sockets     int       // how many connections to it the switcher has
	stable      int       // how many of these are stable links
}

// String returns the address as it would be written in a pool's URL, because the same IP
// and port without TLS are another endpoint.
func (e *endpoint) String() string {
	if e.tls != (poolTLSSettings{}) {
		return tlsScheme + e.addr.String()
	}
	return e.addr.String()
}

// endpoint returns the endpoint of an address without TLS and creates it if
// needed.
func (h *health) endpoint(addr netip.AddrPort) *endpoint {
	return h.endpointWith(addr, poolTLSSettings{})
}

// endpointWith is endpoint for an address with the given TLS settings.
func (h *health) endpointWith(addr netip.AddrPort, tls poolTLSSettings) *endpoint {
	key := endpointKey{netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), tls}
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.endpoints[key]
	if e == nil {
		if len(h.endpoints) >= maxEndpoints {
			h.forgetUnused()
		}
		e = &endpoint{health: h, addr: key.addr, tls: key.tls}
		h.endpoints[key] = e
	}
	return e
}

// maxUserAgents bounds how many user agents are remembered for an address.
const maxUserAgents = 32

// maxEndpoints is the number of addresses at which unused ones begin to be forgotten. A
// name may change its IPs every few seconds for years.
const maxEndpoints = 1024

func (h *health) forgetUnused() {
	for key, e := range h.endpoints {
		if e.sockets == 0 && h.now().Sub(e.connectedAt) > time.Hour {
			delete(h.endpoints, key)
		}
	}
}

// servesSome reports whether the address is out only because the pool ended links, and
// another link there has lasted long enough to show that it does not end all.
func (e *endpoint) servesSome(now time.Time) bool {
	return e.outlasts > 0 && e.hasTrialOlderThan(e.outlasts, now)
}

// hasTrialOlderThan reports whether a link that is not stable yet has been ready for at
// least age.
func (e *endpoint) hasTrialOlderThan(age time.Duration, now time.Time) bool {
	oldest := e.trials.first
	return oldest != nil && now.Sub(oldest.readyAt()) >= age
}

// attemptList lists the links to an address that are not stable yet, the oldest first. The
// attempts themselves are its elements, which saves memory while all miners of a farm
// connect at once. health.mu guards it.
type attemptList struct{ first, last *attempt }

// add appends a, which must not be in a list.
func (l *attemptList) add(a *attempt) {
	a.listed, a.prev = true, l.last
	if l.last == nil {
		l.first = a
	} else {
		l.last.next = a
	}
	l.last = a
}

// remove takes a out of the list, which it must be in.
func (l *attemptList) remove(a *attempt) {
	if a.prev == nil {
		l.first = a.next
	} else {
		a.prev.next = a.next
	}
	if a.next == nil {
		l.last = a.prev
	} else {
		a.next.prev = a.prev
	}
	a.listed, a.next, a.prev = false, nil, nil
}

// linkTally counts an account's stable links by address. Few accounts have links to more
// than one or two addresses. health.mu guards it.
type linkTally []struct {
	at *endpoint
	n  int
}

func (t linkTally) count(e *endpoint) int {
	for _, x := range t {
		if x.at == e {
			return x.n
		}
	}
	return 0
}

func (t *linkTally) add(e *endpoint, by int) {
	for i := range *t {
		if x := &(*t)[i]; x.at == e {
			if x.n += by; x.n <= 0 {
				*t = slices.Delete(*t, i, i+1)
			}
			return
		}
	}
	if by > 0 {
		*t = append(*t, struct {
			at *endpoint
			n  int
		}{e, by})
	}
}

// inOrder returns the IPs of a name in the order in which to dial them. The one that
// connected last comes first. The others keep their order, but IPv4 and IPv6 alternate.
func (h *health) inOrder(ips []*endpoint) []*endpoint {
	if len(ips) < 2 {
		return ips
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	best := -1
	for i, e := range ips {
		if !e.connectedAt.IsZero() && (best < 0 || e.connectedAt.After(ips[best].connectedAt)) {
			best = i
		}
	}
	ordered := make([]*endpoint, 0, len(ips))
	if best >= 0 {
		ordered = append(ordered, ips[best])
	}
	var families [2][]*endpoint
	for i, e := range ips {
		if i == best {
			continue
		}
		family := 0
		if e.addr.Addr().Is6() {
			family = 1
		}
		families[family] = append(families[family], e)
	}
	turn := 0
	if first := ips[0]; best < 0 && first.addr.Addr().Is6() || best >= 0 && ips[best].addr.Addr().Is4() {
		turn = 1
	}
	for len(families[0])+len(families[1]) > 0 {
		if len(families[turn]) > 0 {
			ordered = append(ordered, families[turn][0])
			families[turn] = families[turn][1:]
		}
		turn = 1 - turn
	}
	return ordered
}
