package main

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/journal"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// maxShownWorkers bounds how many further workers of a connection are shown.
const maxShownWorkers = 20

// sessionSnapshot describes a session at one moment. The status page's search and lists
// of miners use it, and the saved state takes the values from it that both contain. It
// refers to nothing that the session changes, so any goroutine may read it.
type sessionSnapshot struct {
	id    uint32 // valid if hasID
	hasID bool
	addr  netip.AddrPort
	since int64 // Unix seconds; 0 if not known
	phase sessionPhase

	worker    stratum.WorkerName // empty before mining.authorize
	others    []string           // at most maxShownWorkers
	devices   int                // behind an agent
	account   string             // empty before the coin is known
	userAgent string             // as the miner sent it

	coin, pool string // of the link in use or lost; empty before the first
	nextCoin   string // of the link being prepared

	tls, poolTLS tlsVersion // with the miner, and with the pool

	shares          hashrate.MinerTotals
	lastShare       int64 // Unix seconds; 0 if there was none yet
	recent, average hashrate.Rate
	difficulty      *float64 // in the unit of its pool; nil if not known
	rolling         stratum.RollingLoss
}

// snapshot describes the session. now is a time of the manager's clock. It must be
// called on the session's loop or while the loop is stopped.
func (s *Session) snapshot(now uint32) sessionSnapshot {
	v := sessionSnapshot{
		id: s.id, hasID: s.hasID, addr: s.addr, since: s.manager.shownUnix(s.since), phase: s.phase,
		shares: s.shares.Totals(), lastShare: s.lastShare(), recent: s.shares.Recent(now), average: s.shares.Average(now),
		rolling: s.rolling.Loss(),
	}
	v.tls, v.poolTLS = s.tlsVersions()
	if s.auth != nil {
		v.worker = s.auth.name
	}
	for _, w := range s.workers[:min(len(s.workers), maxShownWorkers)] {
		v.others = append(v.others, w.name.String())
	}
	if s.agent != nil {
		v.devices = len(s.agent.messages)
	}
	if s.account != nil {
		v.account = s.account.name
	}
	if s.subscription != nil {
		v.userAgent = s.subscription.UserAgent
	}
	if s.link != nil {
		v.coin = s.link.pool.coin
		if s.link.address != nil {
			v.pool = s.link.address.text
		}
		if d := s.link.work.Current(); d.Known() && s.agent == nil {
			difficulty := d.In(unitOf(s.manager.chain, s.subscription))
			v.difficulty = &difficulty
		}
	}
	if s.linking != nil {
		v.nextCoin = s.linking.pool.coin
	}
	return v
}

// shownMiner is a session in JSON. The miner chooses Worker, Agent and the further
// names.
type shownMiner struct {
	Session   string   `json:"session"`
	Address   string   `json:"address"`
	Worker    string   `json:"worker"`
	Others    []string `json:"other_workers,omitempty"`
	Devices   int      `json:"devices,omitempty"` // behind an agent
	Account   string   `json:"account"`
	Agent     string   `json:"user_agent"`
	Phase     string   `json:"phase"`
	Since     int64    `json:"since"` // Unix seconds; 0 if not known
	Coin      string   `json:"coin"`
	Pool      string   `json:"pool"`
	NextCoin  string   `json:"next_coin,omitempty"`
	TLS       string   `json:"tls,omitempty"`      // version; empty without TLS
	PoolTLS   string   `json:"pool_tls,omitempty"` // of the connection to the pool
	Submitted uint32   `json:"submitted"`
	Accepted  uint32   `json:"accepted"`
	Refused   uint32   `json:"refused"`
	LastShare int64    `json:"last_share"` // Unix seconds; 0 if there was none yet

	Unknown    uint32            `json:"unknown"` // shares whose work or verdict is not known
	Reasons    map[string]uint32 `json:"refused_by_reason"`
	Recent     rateReply         `json:"hashrate_15m"`
	Average    rateReply         `json:"hashrate_session"` // since it connected
	Difficulty *float64          `json:"difficulty"`       // in the unit of its pool; null if not known

	LostRolling string `json:"lost_version_rolling,omitempty"` // how; see coinStatus
}

// noSessionID is shown before a session has an ID.
const noSessionID = "--------"

// shown returns the JSON form of the snapshot, with names of bounded length.
func (v *sessionSnapshot) shown() shownMiner {
	m := shownMiner{
		Session: noSessionID, Address: v.addr.String(), Phase: v.phase.String(), Since: v.since,
		Worker: journal.Clip(v.worker.String(), journal.MaxText), Devices: v.devices, Account: journal.Clip(v.account, journal.MaxField),
		Agent: strings.Map(stratum.Printable, journal.Clip(v.userAgent, journal.MaxText)),
		Coin:  v.coin, Pool: v.pool, NextCoin: v.nextCoin,
		Submitted: v.shares.Submitted, Accepted: v.shares.Accepted, Refused: v.shares.RefusedShares(), LastShare: v.lastShare,
		Unknown: v.shares.Unknown, Reasons: refusalsOf(v.shares.Refused),
		Recent: rateReplyOf(v.recent), Average: rateReplyOf(v.average), Difficulty: v.difficulty,
	}
	if v.rolling != stratum.RollingKept {
		m.LostRolling = v.rolling.String()
	}
	if v.tls != tlsNone {
		m.TLS = v.tls.String()
	}
	if v.poolTLS != tlsNone {
		m.PoolTLS = v.poolTLS.String()
	}
	if v.hasID {
		m.Session = fmt.Sprintf("%08x", v.id)
	}
	for _, name := range v.others {
		m.Others = append(m.Others, journal.Clip(name, journal.MaxField))
	}
	return m
}
