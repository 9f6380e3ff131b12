package main

import (
	"fmt"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// The requests of the handshake with a pool: which of them a poolLink sends, and when.

const (
	// authorizeGap is the least time between mining.subscribe and
	// mining.authorize at pools that pick their own extranonce.
	authorizeGap = 10 * time.Millisecond

	// configureGap is how long mining.subscribe waits for the answer to
	// mining.configure at these pools. It is short, because only the packets have to
	// differ, and some pools do not answer.
	configureGap = 25 * time.Millisecond
)

// sendHandshake begins the handshake. A pool that takes the session's extranonce gets all
// requests in one packet. Others get mining.configure and mining.subscribe first, then
// mining.authorize, and then the suggestions, because some refuse a worker before they have
// answered mining.subscribe, and some ignore suggestions before they have answered
// mining.authorize (docs/protocol.md, "Handshake with the pool").
func (k *poolLink) sendHandshake() {
	s := k.session
	s.lookAhead()
	k.pending |= pendingSubscribe | pendingAuthorize
	var b []byte
	if s.askedMask != 0 {
		k.configureID, _ = k.requests.Issue()
		b = stratum.AppendConfigure(b, k.configureID, s.askedMask)
		k.pending |= pendingConfigure
		if k.pool.picksExtranonce {
			// Some of these pools read one request at a time and lose the rest of a packet.
			k.gap = s.loop.After(s.manager.timing.configureGap, k.subscribeNext)
			k.socket.Write(b)
			return
		}
	}
	k.socket.Write(k.appendSubscribe(b))
}

// appendSubscribe appends mining.subscribe and, for a pool that takes the session's
// extranonce, the rest of the handshake.
func (k *poolLink) appendSubscribe(b []byte) []byte {
	s := k.session
	params := s.manager.chain.PoolSubscribeParams(s.subscription, s.id, s.addr.Addr())
	if k.pool.picksExtranonce {
		params = params[:1] // as an ordinary miner would
	}
	k.subscribeID, _ = k.requests.Issue()
	k.subscribedAt = time.Now()
	b = stratum.AppendRequest(b, stratum.OwnIDText(k.subscribeID), "mining.subscribe", params...)
	if !k.pool.picksExtranonce {
		b = k.appendSuggestions(b)
		b = k.appendAuthorize(b)
	}
	return b
}

// subscribeNext sends mining.subscribe after mining.configure, if it has not been sent.
func (k *poolLink) subscribeNext() {
	if k.subscribeID != 0 {
		return
	}
	k.session.loop.StopTimer(k.gap)
	k.gap = nil
	k.socket.Write(k.appendSubscribe(nil))
}

func (k *poolLink) appendSuggestions(b []byte) []byte {
	for _, suggestion := range k.session.suggestions {
		id, _ := k.requests.Issue()
		b = fmt.Appendf(b, `{"id":%d,"method":%s,"params":%s}`+"\n", id, stratum.Quote(suggestion.method), suggestion.params)
		k.requests.Expect(id)
	}
	return b
}

func (k *poolLink) appendAuthorize(b []byte) []byte {
	auth := k.session.auth
	name := k.pool.workerFor(auth.name, k.suffixed)
	k.authorizeID, _ = k.requests.Issue()
	return stratum.AppendRequest(b, stratum.OwnIDText(k.authorizeID), auth.method, append([][]byte{stratum.Quote(name)}, k.pool.passwordFor(auth.rest)...)...)
}

// authorizeNext sends mining.authorize after mining.subscribe has been
// answered. Some pools refuse a worker that comes within a few milliseconds of
// subscribe, so authorize to a nearby pool waits for a moment.
func (k *poolLink) authorizeNext() {
	s := k.session
	if wait := authorizeGap - time.Since(k.subscribedAt); wait > 0 {
		k.gap = s.loop.After(wait, func() { k.socket.Write(k.appendAuthorize(nil)) })
		return
	}
	k.socket.Write(k.appendAuthorize(nil))
}
