package main

import (
	"context"
	"errors"
	"net"

	"github.com/golang/glog"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// maxAskedIPs bounds how many of a name's IPs are asked, one after the other.
const maxAskedIPs = 4

var errNotDialledNow = errors.New("it may not be dialled now")

// ask connects to an address, sends mining.subscribe without authorizing a worker, and
// returns the extranonce2 size (in bytes) that the pool gives.
func (v *sizeSurvey) ask(a *poolAddress) (size int, err error) {
	ips, fresh := a.current()
	if !fresh {
		found := make(chan struct{})
		a.resolve(func() { close(found) })
		select {
		case <-found:
		case <-v.ctx.Done():
			return 0, v.ctx.Err()
		}
		ips, _ = a.current()
	}
	err = errPoolsDown
	for _, e := range ips[:min(len(ips), maxAskedIPs)] {
		if size, err = v.askIP(a, e); err == nil || v.ctx.Err() != nil {
			break
		}
	}
	return size, err
}

// askIP asks one IP of an address if health and the dial gate allow it. If the IP is
// taken out, the attempt is one of its probes, and a failure begins the next pause.
// Otherwise a failure is not held against the IP, because miners' links show more about
// a pool than this question does.
func (v *sizeSurvey) askIP(a *poolAddress, e *endpoint) (int, error) {
	d := dialer{account: v.account, userAgent: stratum.DefaultUserAgent}
	h, gate := v.manager.health, v.manager.gate
	if h.mayDial(&d, e).obstacle != obstacleNone {
		return 0, errNotDialledNow
	}
	turn := make(chan struct{})
	ticket, held := gate.acquire(e, v.account, laneNew, func() { close(turn) })
	defer gate.release(ticket)
	if !held {
		select {
		case <-turn:
		case <-v.ctx.Done():
			return 0, v.ctx.Err()
		}
	}
	try := h.begin(&d, e, false)
	if try == nil {
		return 0, errNotDialledNow
	}
	ctx, cancel := context.WithTimeout(v.ctx, askTimeout)
	defer cancel()
	size, err := askSize(ctx, e.addr.String(), a.tls, try.connected)
	ev := evidenceTry
	if _, dialing := errors.AsType[*net.OpError](err); dialing {
		ev = dialEvidence(err, e.addr)
	}
	switch {
	case err == nil || v.ctx.Err() != nil:
		try.abandon()
	case ev == evidenceMachine || ev == evidencePorts:
		if f := try.failed(ev, nil); f.logDue {
			v.manager.logShortage(e, ev, err)
		}
	case try.probe != probeNone:
		try.failed(evidenceTry, nil)
	default:
		try.abandon()
	}
	return size, err
}

// askSize subscribes at addr and returns the extranonce2 size in the pool's
// answer.
func askSize(ctx context.Context, addr string, tls *poolTLS, connected func()) (size int, err error) {
	subscribe := stratum.AppendRequest(nil, stratum.OwnIDText(stratum.FirstOwnID), "mining.subscribe", stratum.Quote(stratum.DefaultUserAgent))
	err = askPool(ctx, &poolQuestion{addr: addr, tls: tls, requests: subscribe, connected: connected, answered: takeGivenSize(&size)})
	return size, err
}

// takeGivenSize reads the answer to mining.subscribe. Any id will do, because there
// was no other request. Without an id, only an extranonce can be the answer.
func takeGivenSize(size *int) func(*stratum.Response) (done bool, err error) {
	return func(r *stratum.Response) (bool, error) {
		given, err := stratum.ParseGiven(r.Result)
		if err != nil && stratum.IsNull(r.ID) {
			return false, nil // a banner in JSON
		}
		if !stratum.IsNull(r.Error) && stratum.IsNull(r.Result) {
			return true, &subscribeError{r}
		}
		if err != nil {
			return true, err
		}
		glog.V(2).Infof("extranonce2 size given by a pool: %d", given.Size)
		*size = given.Size
		return true, nil
	}
}
