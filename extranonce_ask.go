package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/golang/glog"
)

const (
	// askTimeout is for connecting to one IP and its answer.
	askTimeout = 3 * time.Second
	// maxAskedIPs bounds how many of a name's IPs are asked, one after the other.
	maxAskedIPs = 4
)

var errNotAskedNow = errors.New("it may not be dialled now")

// ask subscribes at an address as a miner without a name would, reads which
// extranonce2 size the pool gives, and ends the connection.
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
		if size, err = v.askIP(e); err == nil || v.ctx.Err() != nil {
			break
		}
	}
	return size, err
}

// askIP asks one IP, if health and the dial gate let it. While the IP is out,
// the try is one of its probes, and a failed one has the next pause begin. While
// it is well, what happens here is not held against it: miners need more of a
// pool than this, and tell of it themselves.
func (v *sizeSurvey) askIP(e *endpoint) (int, error) {
	d := dialer{account: v.account, userAgent: defaultUserAgent}
	h, gate := v.manager.health, v.manager.gate
	if h.mayDial(&d, e).obstacle != obstacleNone {
		return 0, errNotAskedNow
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
		return 0, errNotAskedNow
	}
	ctx, cancel := context.WithTimeout(v.ctx, askTimeout)
	defer cancel()
	size, err := askSize(ctx, e.addr.String(), try.connected)
	ev := evidenceTry
	if _, dialing := errors.AsType[*net.OpError](err); dialing {
		ev = dialEvidence(err, e.addr)
	}
	switch {
	case err == nil || v.ctx.Err() != nil:
		try.abandon()
	case ev == evidenceMachine || ev == evidencePorts:
		if f := try.failed(ev, nil); f.tell {
			v.manager.tellShortage(e, ev, err)
		}
	case try.probe != probeNone:
		try.failed(evidenceTry, nil)
	default:
		try.abandon()
	}
	return size, err
}

// askSize dials addr, subscribes and reads the answer. The connection ends with
// a reset, which frees the local port at once.
func askSize(ctx context.Context, addr string, connected func()) (int, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	conn.(*net.TCPConn).SetLinger(0)
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	connected()
	if _, err := conn.Write(appendRequest(nil, ownIDText(firstOwnID), "mining.subscribe", quote(defaultUserAgent))); err != nil {
		return 0, fmt.Errorf("mining.subscribe: %w", err)
	}
	return readGivenSize(conn)
}

// readGivenSize reads the answer to mining.subscribe, the only request there
// was. A pool may send other lines before it.
func readGivenSize(from io.Reader) (int, error) {
	lines := bufio.NewReaderSize(io.LimitReader(from, maxEarly), maxPoolLine)
	for {
		line, err := lines.ReadSlice('\n')
		if err != nil {
			return 0, fmt.Errorf("answer to mining.subscribe: %w", err)
		}
		if poolLineKind(line) != lineAnswer {
			continue
		}
		r, err := parseResponse(line)
		if err != nil {
			continue // a banner
		}
		if !isNull(r.Error) && isNull(r.Result) {
			return 0, &subscribeError{r}
		}
		given, err := parseGiven(r.Result)
		if err != nil {
			return 0, err
		}
		glog.V(2).Infof("extranonce2 size told: %d", given.Size)
		return given.Size, nil
	}
}
