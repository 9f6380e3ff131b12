package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/golang/glog"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/relay"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// The handshake with the miner: docs/protocol.md, "Handshake with the miner".
// Answers go out in the order of the requests, and nothing that the miner did not ask for
// comes before the answer to its authorization, because some miners take the next line,
// whatever it is, for the answer they wait for.

const (
	firstByteTimeout = 15 * time.Second
	authorizeTimeout = 60 * time.Second

	// maxBadLines is how many lines that are not JSON a miner may send before
	// its connection is closed.
	maxBadLines = 5
	// tlsHandshakeRecord is the first byte of a TLS connection.
	tlsHandshakeRecord = 0x16
	// maxLeading is how many bytes of white space, a byte-order mark or NUL
	// may come before a miner's first line.
	maxLeading = 16
	// maxHandshakeLines is how many lines a miner may send before it is
	// authorized; real miners send fewer than ten. Each costs far more than a relayed
	// line. Without the limit, a few strangers that send 64 KB of them at a time would
	// keep all others waiting.
	maxHandshakeLines = 200
)

// handshake is what a session holds only until it relays.
type handshake struct {
	began    time.Time
	started  bool // the first byte of Stratum was received
	proxied  bool // a PROXY header was received
	secured  bool // the connection uses TLS, or its TLS handshake has begun
	held     bool // the next request waits until the extranonce is known
	badLines int  // lines that are not JSON
	leading  int  // bytes before the first line
	lines    int  // all lines
	// wantsAnswers is set if an agent asked for answers to its shares.
	wantsAnswers bool
	timer        *relay.Timer // see handshakeTimeout
	out          []byte       // answers to the requests of one read
}

// authorization is the miner's mining.authorize or eth_submitLogin.
type authorization struct {
	*authorizationForm
	name stratum.WorkerName
}

// authorizationForm is what the miners of a farm usually have in common: they count
// their requests in the same way and use the same password. So sessions share it, and
// nobody may change it.
type authorizationForm struct {
	id     json.RawMessage
	method string
	rest   [][]byte // the parameters after the worker name, JSON
}

func (f *authorizationForm) equals(g *authorizationForm) bool {
	return f.method == g.method && bytes.Equal(f.id, g.id) && slices.EqualFunc(f.rest, g.rest, bytes.Equal)
}

func (s *Session) beginHandshake() {
	s.handshake = &handshake{began: time.Now()}
	s.handshake.timer = s.loop.After(s.manager.timing.firstByte, s.handshakeTimeout)
}

// backToHandshake lets a miner that its pool refused try another worker name.
func (s *Session) backToHandshake() {
	s.phase = phaseHandshaking
	s.auth = nil
	s.manager.leaveAccount(s)
	s.miner.Resume()
}

func (s *Session) endHandshake() {
	if s.handshake != nil {
		s.loop.StopTimer(s.handshake.timer)
		s.handshake = nil
	}
}

func (s *Session) handshakeTimeout() {
	h := s.handshake
	if !h.started {
		s.handshakeFailed(failSilent)
		s.close("sent nothing")
		return
	}
	if left := s.manager.timing.authorize - time.Since(h.began); left > 0 {
		h.timer = s.loop.After(left, s.handshakeTimeout)
		return
	}
	if s.phase == phaseRouting {
		s.refuse(stratum.ErrConnectFailed, "no pool in time")
		return
	}
	s.handshakeFailed(failUnauthorized)
	s.close("not authorized in time")
}

// handshakeReceived consumes requests until one has to wait.
func (s *Session) handshakeReceived(b []byte) int {
	h := s.handshake
	used := 0
	if !h.started && !h.proxied && !h.secured && s.manager.trusts(s.addr.Addr()) {
		n, err := s.takeProxyHeader(b)
		switch {
		case err != nil:
			s.handshakeFailed(failNotStratum)
			s.close(err.Error())
			return len(b)
		case n < 0:
			return 0
		case n > 0:
			h.proxied = true
			if s.phase == phaseClosed {
				return len(b)
			}
			if n == len(b) {
				return n
			}
		}
		used = n
	}
	if !h.started && !h.secured && h.leading == 0 {
		switch {
		case b[used] == tlsHandshakeRecord && s.manager.config.TLSCertFile != "":
			s.secure(b[used:])
			return len(b)
		case s.manager.config.TLSRequired:
			s.handshakeFailed(failTLSRequired)
			s.close("came without TLS, which is required")
			return len(b)
		}
	}
	if !h.started {
		for used < len(b) && h.leading < maxLeading && isLeading(b[used]) {
			h.leading++
			used++
		}
		if used == len(b) {
			return used
		}
		if b[used] != '{' {
			s.handshakeFailed(failNotStratum)
			s.close(notStratum(b[used:]))
			return len(b)
		}
		h.started = true
	}
	for s.phase == phaseHandshaking && !h.held {
		line := stratum.NextLine(b[used:])
		if line == nil || len(line) > stratum.MaxMinerLine {
			if len(b)-used > stratum.MaxMinerLine {
				s.handshakeFailed(failLineTooLong)
				s.close(relay.ErrLineTooLong.Error())
				return len(b)
			}
			break
		}
		s.handshakeLine(line)
		if s.phase == phaseClosed {
			return len(b)
		}
		if h.held {
			break // this line is read again later
		}
		used += len(line)
	}
	if len(h.out) > 0 {
		s.miner.Write(h.out)
		h.out = nil
		if s.phase == phaseHandshaking && !h.held && s.miner.Congested() {
			s.miner.Pause(false) // the miner has to take its answers first
		}
	}
	return used
}

// isLeading reports whether a byte may come before a miner's first line: white
// space, a byte-order mark or NUL.
func isLeading(c byte) bool {
	switch c {
	case ' ', '\t', '\r', '\n', 0, 0xef, 0xbb, 0xbf:
		return true
	}
	return false
}

// notStratum describes the first bytes of a connection that are not Stratum.
func notStratum(b []byte) string {
	for _, method := range []string{"GET ", "HEAD ", "POST ", "PUT ", "OPTIONS ", "CONNECT "} {
		if bytes.HasPrefix(b, []byte(method)) {
			return "not Stratum: an HTTP request"
		}
	}
	return fmt.Sprintf("not Stratum: first byte %#02x", b[0])
}

// answer and answerError queue a result or an error for the miner. All answers to the
// lines of one read are written together.
func (s *Session) answer(id json.RawMessage, result []byte) {
	s.handshake.out = s.dialect().AppendResult(s.handshake.out, id, result)
}

func (s *Session) answerError(r *stratum.Request, e *stratum.Error) {
	d := s.dialect()
	if s.manager.chain == stratum.Ethereum && s.subscription == nil && bytes.HasPrefix([]byte(r.Method), []byte("eth_")) {
		d = stratum.DialectRPC2
	}
	s.handshakeFailed(handshakeFailureOf(e))
	s.handshake.out = d.AppendError(s.handshake.out, r.ID, e, s.manager.ids.server())
}

func (s *Session) handshakeLine(line []byte) {
	h := s.handshake
	if h.lines++; h.lines > maxHandshakeLines {
		s.handshakeFailed(failTooMany)
		s.close("too many requests before authorization")
		return
	}
	r, err := stratum.ParseRequest(line)
	if err != nil {
		if len(bytes.Trim(line, stratum.LineJunk)) == 0 {
			return
		}
		h.out = append(h.out, s.refuseLine(line, err)...)
		s.manager.monitor.dropped[dropNotJSON].Add(1)
		if h.badLines++; h.badLines > maxBadLines {
			s.handshakeFailed(failNotStratum)
			s.close("lines that are not JSON")
		}
		return
	}
	if glog.V(3) {
		glog.Infof("%s request method=%q", s, r.Method)
	}
	switch r.Method {
	case "mining.configure":
		s.handleConfigure(r)
	case "mining.subscribe":
		s.handleSubscribe(r)
	case "mining.authorize":
		r.Method = "mining.authorize" // the same text in all sessions' memory
		s.handleAuthorize(r)
	case "eth_submitLogin":
		if s.manager.chain != stratum.Ethereum {
			s.answerError(r, stratum.ErrUnknownMethod)
			return
		}
		if s.subscription == nil && !s.subscribe(stratum.ETHProxySubscription()) {
			return
		}
		s.handleAuthorize(r)
	case "mining.submit", "eth_submitWork":
		s.answerError(r, stratum.ErrUnauthorized)
	case "": // an answer to no request
	default:
		s.handleOther(r)
	}
}
