package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/relay"
)

// raceDelay is how long one of a name's IPs may take to connect before the next
// one is tried in parallel.
const raceDelay = 500 * time.Millisecond

// poolDial connects to the first of a pool address's IPs that takes the
// connection. It belongs to the link it is for.
type poolDial struct {
	link  *poolLink
	ips   []*endpoint // IPs that were not tried yet
	tries []dialTry   // tries that are under way
	timer *relay.Timer

	// The last try that failed, what that proves, and how it failed.
	failure error
	found   finding
	proof   evidence
}

type dialTry struct {
	attempt *attempt
	socket  *relay.Socket
}

// next starts a connection to the next IP, and a timer for the one after it. It returns
// false when no IP is left and no try is under way.
func (d *poolDial) next() bool {
	s := d.link.session
	s.loop.StopTimer(d.timer)
	d.timer = nil
	for len(d.ips) > 0 {
		e := d.ips[0]
		d.ips = d.ips[1:]
		a := s.manager.health.begin(d.link.dialerAt(e), e, d.link.override)
		if a == nil {
			continue // as many sessions as may probe the IP already do
		}
		sock, err := s.loop.Dial(e.addr, s)
		if err != nil {
			d.failed(a, err)
			if d.found.blame == blameMachine {
				break
			}
			continue
		}
		d.tries = append(d.tries, dialTry{a, sock})
		break
	}
	if len(d.tries) == 0 {
		return false
	}
	if len(d.ips) > 0 || d.link.address.named {
		d.timer = s.loop.After(raceDelay, d.waited)
	}
	return true
}

// waited starts a try at the next IP in parallel with those that have not answered yet.
// After the last IP, those that failed or could not be dialled get another turn, because
// a silent IP must not keep the miner from one that has recovered.
func (d *poolDial) waited() {
	if len(d.ips) == 0 {
		d.ips = d.nowDiallable()
	}
	if !d.next() {
		d.link.notConnected()
	}
}

// nowDiallable returns the address's IPs that may be dialled and have no try
// under way.
func (d *poolDial) nowDiallable() (ips []*endpoint) {
	k := d.link
	all, _ := k.address.current()
	for _, e := range all {
		if slices.ContainsFunc(d.tries, func(t dialTry) bool { return t.attempt.at == e }) {
			continue
		}
		if v := k.session.manager.health.mayDial(k.dialerAt(e), e); v.obstacle == obstacleNone || k.override && v.obstacle.personal() {
			ips = append(ips, e)
		}
	}
	return ips
}

// dialerAt completes the link's dialer for a try at e, and returns it.
func (k *poolLink) dialerAt(e *endpoint) *dialer {
	k.dialer.returning = k.session.returnsTo(e)
	return &k.dialer
}

// owns reports whether sock is the socket of a try under way.
func (d *poolDial) owns(sock *relay.Socket) bool {
	for _, t := range d.tries {
		if t.socket == sock {
			return true
		}
	}
	return false
}

// connected handles the outcome for one IP. The first connection becomes the link's, and
// the other tries are given up. With TLS, an IP counts as connected only after the TLS
// handshake.
func (d *poolDial) connected(sock *relay.Socket, err error) {
	i := slices.IndexFunc(d.tries, func(t dialTry) bool { return t.socket == sock })
	if err == nil && d.link.address.tls != nil && !sock.Carried() {
		if err = d.secure(i); err == nil {
			return
		}
	}
	try := d.tries[i]
	d.tries = slices.Delete(d.tries, i, i+1)
	if err != nil {
		d.failed(try.attempt, err)
		if !d.next() {
			d.link.notConnected()
		}
		return
	}
	d.stop()
	try.attempt.connected()
	d.link.connected(try)
}

// failed reports to health that an IP did not connect.
func (d *poolDial) failed(a *attempt, err error) {
	m := d.link.session.manager
	ev := evidenceTunnel
	if !isTunnelFault(err) {
		ev = dialEvidence(err, a.at.addr)
	}
	f := a.failed(ev, nil)
	if ev == evidencePorts {
		err = fmt.Errorf("%w to %s (%w)", errNoLocalPort, a.at, err)
	}
	d.failure, d.found, d.proof = err, f, ev
	m.linkFound(d.link.pool, d.link.address, a.at, ev, f, err)
}

// stop gives up all tries that are under way.
func (d *poolDial) stop() {
	d.link.session.loop.StopTimer(d.timer)
	for _, t := range d.tries {
		t.attempt.abandon()
		t.socket.Reset()
	}
	d.tries, d.ips = nil, nil
}

var (
	errNoLocalPort    = errors.New("no local port is free for a connection")
	errMachineIsShort = errors.New("this machine is short of descriptors or memory for sockets")
)
