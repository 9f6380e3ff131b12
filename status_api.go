package main

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/journal"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// This file has the JSON that the status page reads. Times are in Unix seconds. Texts
// may come from miners and pools, so they must be shown as plain text.

const maxQuery = 200 // bytes of a name or text in a request

func writeJSON(w http.ResponseWriter, value any) {
	content, err := stratum.JSON.Marshal(value)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = w.Write(content) // it is no error if the client has gone
}

// statusReply is /api/status.
type statusReply struct {
	Now         int64  `json:"now"`
	Host        string `json:"host"`       // the machine's name; empty if it is not known
	UTCOffset   int    `json:"utc_offset"` // seconds by which the switcher's local time, used in its log, is ahead of UTC
	Version     string `json:"version"`
	Chain       string `json:"chain"`
	Listen      string `json:"listen"`
	ServerID    int    `json:"server_id"`
	Started     int64  `json:"started"` // when this program started, at first or by an upgrade
	Ready       bool   `json:"ready"`
	NotReady    string `json:"not_ready,omitempty"`
	Upgrades    int    `json:"upgrades"`
	LastUpgrade int64  `json:"last_upgrade,omitempty"`
	PauseMS     int64  `json:"pause_ms"` // how long shares waited at the last upgrade; -1 if not known

	Sessions    int              `json:"sessions"`
	SessionsMax int              `json:"sessions_max"`
	PortsShort  map[string]int   `json:"local_ports_short,omitempty"` // the number of local ports of each coin that has too few
	Phases      map[string]int   `json:"phases"`
	Surveyed    int64            `json:"surveyed"` // when sessions were counted; 0 if they never were
	Accounts    int              `json:"accounts"`
	Descriptors int              `json:"descriptors"` // -1 if not known
	DescLimit   int              `json:"descriptors_limit"`
	Failures    map[string]int64 `json:"handshake_failures"`
	RefusedFull int64            `json:"refused_full"`
	Refused     map[string]int64 `json:"refused_connections"` // by reason

	TLS *tlsReply `json:"tls,omitempty"` // absent while nothing needs TLS

	CoinSource sourceReply  `json:"coin_source"`
	Coins      []coinStatus `json:"coins"`
}

type sourceReply struct {
	Kind        string `json:"kind"`
	Connected   bool   `json:"connected"`
	LastContact int64  `json:"last_contact,omitempty"`
	Watches     int    `json:"watches"`
	Missed      int64  `json:"missed_changes"`
	Unreadable  int64  `json:"unreadable_nodes"`
	IDTaken     bool   `json:"server_id_taken"`
}

// coinStatus is one coin's pool. A coin appears twice if an upgrade has changed its
// pool and miners are still at the former one.
type coinStatus struct {
	Coin      string `json:"coin"`
	Former    bool   `json:"former,omitempty"`
	Sessions  int    `json:"sessions"`
	Submitted uint64 `json:"submitted"`
	Accepted  uint64 `json:"accepted"`
	Refused   uint64 `json:"refused"`
	Unknown   uint64 `json:"unknown"` // shares whose work or verdict is not known

	// Reasons counts refused shares by reason. Hashrate has a rate for each window.
	// A former pool has none of its own; it is included in that of its coin.
	Reasons  map[string]uint64    `json:"refused_by_reason"`
	Hashrate map[string]rateReply `json:"hashrate,omitempty"`
	Pools    []addressReply       `json:"pools"`

	// LostRolling counts the miners that have lost version rolling, by how they lost
	// it.
	LostRolling map[string]int `json:"lost_version_rolling,omitempty"`
}

type addressReply struct {
	Address  string `json:"address"`
	Breaker  string `json:"breaker"`
	Tried    bool   `json:"tried"` // false if it is not known yet whether the address answers
	Sessions int    `json:"sessions"`
	Dials    int64  `json:"dials"`
	Failures int64  `json:"failures"`
	Lost     int64  `json:"lost"`

	Hashrate map[string]rateReply `json:"hashrate"` // by window

	// The shares that went to this address; see coinStatus.
	Submitted uint64            `json:"submitted"`
	Accepted  uint64            `json:"accepted"`
	Refused   uint64            `json:"refused"`
	Unknown   uint64            `json:"unknown"`
	Reasons   map[string]uint64 `json:"refused_by_reason"`

	// IPs has the IPs of a name that has several, with the states of their breakers.
	IPs []ipReply `json:"ips,omitempty"`
	// Blamed counts failed attempts and links that ended early, by the party
	// blamed for them.
	Blamed map[string]int64 `json:"blamed,omitempty"`
}

// ipReply is one IP of a pool's name.
type ipReply struct {
	IP      string `json:"ip"`
	Breaker string `json:"breaker"`
}

func (s *statusServer) serveStatus(w http.ResponseWriter, _ *http.Request) {
	m := s.manager
	v := s.surveyor.get()
	source := m.coinSourceStatus()
	reply := statusReply{
		Now: time.Now().Unix(), Host: s.host, UTCOffset: utcOffset(), Version: version, Chain: m.chain.String(), Listen: m.config.ListenAddr,
		ServerID: int(m.ids.server()), Started: m.created.Unix(), NotReady: s.notReady(),
		LastUpgrade: m.monitor.upgraded.Load(), PauseMS: m.monitor.pauseMS(), Upgrades: m.upgrades(),
		SessionsMax: m.sessionsMax(), PortsShort: portShortages(m.pools, m.sessionsMax()), Phases: make(map[string]int), Surveyed: v.unix(),
		Descriptors: openDescriptors(), DescLimit: m.fdLimit,
		Failures: m.monitor.failures.byName(), Refused: m.refusalCounts(),
		CoinSource: sourceReply{
			Kind: source.Kind, Connected: source.Connected, Watches: source.Watches,
			Missed: source.Missed, Unreadable: source.Unreadable, IDTaken: source.IDTaken,
		},
	}
	reply.TLS = m.tlsReply(v)
	reply.Ready = reply.NotReady == ""
	reply.RefusedFull = reply.Refused[refusedFull.String()]
	if !source.LastContact.IsZero() {
		reply.CoinSource.LastContact = source.LastContact.Unix()
	}
	for phase, n := range v.byPhase() {
		reply.Phases[sessionPhase(phase).String()] = n
		reply.Sessions += n
	}
	reply.Accounts = m.accounts.size()

	coinRates, poolRates := m.rates.coinRates(), m.rates.poolRates()
	for _, p := range m.allPools() {
		shares := p.totals()
		c := coinStatus{
			Coin: p.coin, Former: m.pools[p.coin] != p,
			Submitted: shares.Submitted, Accepted: shares.Accepted, Refused: shares.RefusedShares(),
			Unknown: shares.Unknown, Reasons: refusalsOf(shares.Refused),
		}
		if !c.Former {
			c.Hashrate = rateReplies(coinRates[p.coin])
		}
		for i, a := range p.addresses {
			row := addressReply{
				Address: a.text, Breaker: a.state(!p.picksExtranonce).String(), IPs: a.ipStates(!p.picksExtranonce),
				Hashrate: rateReplies(poolRates[poolKey{p.coin, a.text}]),
				Dials:    p.links[i].dials.Load(), Failures: p.links[i].failures(), Lost: p.links[i].lost.Load(),
			}
			shares := p.links[i].shares.Totals()
			row.Submitted, row.Accepted, row.Refused = shares.Submitted, shares.Accepted, shares.RefusedShares()
			row.Unknown, row.Reasons = shares.Unknown, refusalsOf(shares.Refused)
			for about := range blames {
				if n := p.links[i].blamed[about].Load(); n > 0 {
					if row.Blamed == nil {
						row.Blamed = make(map[string]int64)
					}
					row.Blamed[about.String()] = n
				}
			}
			for g, n := range v.groups {
				if g.pool != p || g.address != a {
					continue
				}
				row.Sessions += n
				if g.rolling != stratum.RollingKept {
					if c.LostRolling == nil {
						c.LostRolling = make(map[string]int)
					}
					c.LostRolling[g.rolling.String()] += n
				}
			}
			row.Tried = p.links[i].tried()
			c.Sessions += row.Sessions
			c.Pools = append(c.Pools, row)
		}
		if !c.Former || c.Sessions > 0 {
			reply.Coins = append(reply.Coins, c)
		}
	}
	slices.SortFunc(reply.Coins, func(a, b coinStatus) int {
		return cmp.Or(strings.Compare(a.Coin, b.Coin), boolCompare(a.Former, b.Former))
	})
	writeJSON(w, &reply)
}

func utcOffset() int {
	_, offset := time.Now().Zone()
	return offset
}

// ipStates returns the states of the breakers of a name's IPs, or nil if it has fewer
// than two. session is true for pools that take the session's extranonce.
func (a *poolAddress) ipStates(session bool) []ipReply {
	ips, _ := a.current()
	if len(ips) < 2 {
		return nil
	}
	var states []ipReply
	for _, e := range ips {
		states = append(states, ipReply{e.addr.Addr().String(), a.health.state(e, session).String()})
	}
	return states
}

func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func (v *survey) unix() int64 {
	if v.at.IsZero() {
		return 0
	}
	return v.at.Unix()
}

func (c *linkCounts) failures() (n int64) {
	for i := range c.failed {
		n += c.failed[i].Load()
	}
	return n
}

func (mon *monitor) pauseMS() int64 {
	pause := mon.upgradePause.Load()
	if pause < 0 {
		return -1
	}
	return time.Duration(pause).Milliseconds()
}

// upgrades returns how many upgrades there have been since the first start.
func (m *sessionManager) upgrades() int {
	if m.resumed == nil {
		return 0
	}
	return m.resumed.Upgrades
}

// eventReply is one event of /api/events.
type eventReply struct {
	Kind    string `json:"kind"`
	Level   string `json:"level"`
	What    string `json:"what"`
	Account string `json:"account,omitempty"`
	Coin    string `json:"coin,omitempty"`
	To      string `json:"to,omitempty"`
	Pool    string `json:"pool,omitempty"`
	Detail  string `json:"detail,omitempty"`
	First   int64  `json:"first"`
	Last    int64  `json:"last"`
	Count   int    `json:"count"`
}

const (
	eventsShown    = 200
	eventsShownAll = journal.EventsKept * len(journal.KindNames)
)

func (s *statusServer) serveEvents(w http.ResponseWriter, r *http.Request) {
	kind, limit := r.URL.Query().Get("kind"), eventsShown
	if kind != "" {
		if !slices.Contains(journal.KindNames[:], kind) {
			http.Error(w, "kind: one of "+strings.Join(journal.KindNames[:], ", "), http.StatusBadRequest)
			return
		}
		limit = eventsShownAll
	}
	replies := []eventReply{}
	for _, e := range s.manager.monitor.events.All() {
		if kind != "" && e.Kind.String() != kind {
			continue
		}
		if len(replies) == limit {
			break
		}
		replies = append(replies, eventReply{
			Kind: e.Kind.String(), Level: e.Level.String(), What: e.What, Account: e.Account, Coin: e.Coin, To: e.To,
			Pool: e.Pool, Detail: e.Detail, First: e.First.Unix(), Last: e.Last.Unix(), Count: e.Count,
		})
	}
	writeJSON(w, map[string]any{"events": replies})
}

// historyReply is /api/history: the last hour, and the hashrates of a day.
type historyReply struct {
	journal.Series
	Day dayChart `json:"day"`
}

func (s *statusServer) serveHistory(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, historyReply{s.manager.monitor.history.Series(), s.manager.rates.dayChart()})
}
