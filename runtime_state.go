package main

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/eventfile"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/journal"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/tunnel"
)

// runtimeState is runtime.json: everything that a process hands to its
// successor. Older switchers write and read the fields that docs/protocol.md,
// "runtime.json" lists; a file with only these can be resumed.
type runtimeState struct {
	Action       string // "upgrade"
	ServerID     uint8
	SessionDatas []sessionState

	// Version is 0 in files of older switchers.
	Version  int       `json:",omitempty"`
	FrozenAt time.Time // when relaying stopped
	// FrozenClock is FrozenAt by the system's monotonic clock in nanoseconds,
	// which is the same for both processes and cannot be set.
	FrozenClock int64  `json:",omitempty"`
	ChainType   string `json:",omitempty"`

	// Config is the configuration that was in use. The next process uses it if
	// the file has become invalid.
	Config *Config `json:",omitempty"`

	// ListenFD is the open listener and ListenAddr its configured address,
	// which is empty if there is no listener.
	ListenFD   int    `json:",omitempty"`
	ListenAddr string `json:",omitempty"`

	// ServerIDOwner is the ephemeral owner of the server ID's node.
	ServerIDOwner int64 `json:",omitempty"`
	// ServerIDClaims are further sessions that may own it, because they were claiming it.
	ServerIDClaims []int64 `json:",omitempty"`

	NextIndex uint              `json:",omitempty"`
	Wanted    map[string]string `json:",omitempty"` // coin of each sub-account
	Switched  map[string]int64  `json:",omitempty"` // when the coin last changed, in Unix seconds
	Upgrades  int               `json:",omitempty"` // since the first start
	Sizes     map[string]int    `json:",omitempty"` // size of extranonce2 in bytes, by pool address

	// Binary is the path of the program that an upgrade starts, if that is not the name
	// by which this process was started, for instance because a script started it.
	Binary string `json:",omitempty"`

	// Monitor is the history that the status page shows.
	Monitor *monitorState `json:",omitempty"`

	// Rates are the hashrates so far.
	Rates *ratesState `json:",omitempty"`

	// Events are the counts of EventFile.
	Events *eventfile.State `json:",omitempty"`

	// Switches are the switches whose cost is not known yet, by sub-account.
	Switches map[string]switchState `json:",omitempty"`

	// Tunnel describes the processes that hold the connections with TLS, and their
	// control sockets.
	Tunnel *tunnel.State `json:",omitempty"`

	// Descriptors lists all connections that the sessions name, so that those
	// of a session with an unreadable record can be closed.
	Descriptors []int `json:",omitempty"`

	unreadable int   // sessions whose records were unreadable
	dropped    int   // sessions whose descriptors failed checkDescriptors
	orphans    []int // descriptors that may belong to unreadable sessions
}

const (
	runtimeAction  = "upgrade"
	runtimeVersion = 1
)

// sessionState is one session in runtime.json.
type sessionState struct {
	SessionID               uint32
	MiningCoin              string
	ClientConnFD            int
	ServerConnFD            int // -1 if there is none
	StratumSubscribeRequest *requestState
	StratumAuthorizeRequest *requestState
	VersionMask             uint32

	// Files of older switchers lack the following fields. All sessions in such files
	// are relaying.

	Phase       string           `json:",omitempty"` // sessionPhase
	Age         time.Duration    `json:",omitempty"` // of an unfinished handshake
	Started     bool             `json:",omitempty"`
	Proxied     bool             `json:",omitempty"`
	ClientAddr  string           `json:",omitempty"` // possibly as reported by a proxy
	BadLines    int              `json:",omitempty"`
	Lines       int              `json:",omitempty"` // of an unfinished handshake
	HasID       bool             `json:",omitempty"`
	Protocol    stratum.Protocol `json:",omitempty"`
	Account     string           `json:",omitempty"`
	SentMask    uint32           `json:",omitempty"`
	Rolling     stratum.Rolling  `json:",omitempty"`
	Extranonce  bool             `json:",omitempty"` // the miner may be given a new one
	Suffixed    bool             `json:",omitempty"`
	PoolAddress string           `json:",omitempty"` // of StratumServerMap

	// Pool is the session's pool if StratumServerMap no longer has it for the
	// coin.
	Pool *StratumServerInfo `json:",omitempty"`

	Since  int64     `json:",omitempty"` // when it connected, Unix seconds
	Shares [3]uint32 // submitted, accepted, refused
	Share  int64     `json:",omitempty"` // when the last one came, Unix seconds

	// Builds that measure hashrates write these fields too. Shares and Share are still
	// written for those that do not.
	Miner       *hashrate.MinerState `json:",omitempty"`
	Work        *hashrate.LinkState  `json:",omitempty"` // as in linkState
	Generations []byte               `json:",omitempty"` // as in linkState
	AgentMiners []byte               `json:",omitempty"` // as in linkState
	ShareWork   []byte               `json:",omitempty"` // generations of Requests, in their order

	Owed         int                       `json:",omitempty"`
	OwnAnswers   int                       `json:",omitempty"` // answers still due to requests of older builds, whose ids were words
	Own          *stratum.OwnRequestsState `json:",omitempty"`
	NoDifficulty bool                      `json:",omitempty"` // the pool has set no difficulty, so the miner has to be given the default
	Suggestions  []requestState
	Workers      []requestState
	Again        *requestState        `json:",omitempty"` // an unanswered request to change the first worker's parameters
	Agent        [][]byte             `json:",omitempty"` // register messages
	AgentShares  *agentSharesState    `json:",omitempty"`
	WantsAnswers bool                 `json:",omitempty"` // an agent that has not subscribed yet asked for answers to its shares
	Jobs         []string             `json:",omitempty"` // IDs as the miner knows them, in order
	RenamedJobs  []stratum.RenamedJob `json:",omitempty"` // those of Jobs that the pool knows by another ID
	JobsNoted    bool                 `json:",omitempty"` // Jobs has all jobs of the link, even without former links
	RestJobs     bool                 `json:",omitempty"`
	Drains       []linkState          `json:",omitempty"`
	Shape        stratum.Shape
	OwnGiven     *stratum.GivenExtranonce `json:",omitempty"`
	Rules        *rulesState              `json:",omitempty"`
	Link         stratum.LinkTag          `json:",omitempty"`
	Requests     []byte                   `json:",omitempty"` // stratum.RequestQueue
	Held         []heldState              `json:",omitempty"`
	MinerPartial []byte                   `json:",omitempty"`
	MinerUnsent  []byte                   `json:",omitempty"`
	PoolPartial  []byte                   `json:",omitempty"`
	PoolUnsent   []byte                   `json:",omitempty"`

	// The following describe connections with TLS. Builds without TLS cannot take these
	// over.
	MinerTunnel *tunnelState `json:",omitempty"`
	PoolTunnel  *tunnelState `json:",omitempty"` // as in linkState
}

// tunnelState is a tunnelEnd in runtime.json. Its descriptor is one end of a
// socketpair.
type tunnelState struct {
	Process int    `json:",omitempty"` // tunnel process that has the connection; 0 if none has it yet
	ID      uint64 `json:",omitempty"` // 0 if the connection has ended
	Version uint16 `json:",omitempty"` // TLS version; 0 until the handshake is done
	Peer    string `json:",omitempty"` // the other end of the TCP connection
}

// descriptors returns the descriptors that the session names.
func (ss *sessionState) descriptors() []int {
	fds := []int{ss.ClientConnFD}
	if ss.ServerConnFD != -1 {
		fds = append(fds, ss.ServerConnFD)
	}
	for _, d := range ss.Drains {
		if d.FD != -1 {
			fds = append(fds, d.FD)
		}
	}
	return fds
}

// requestState is a miner's request in runtime.json.
type requestState struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Worker string          `json:"worker,omitempty"`
	Sent   string          `json:"sent,omitempty"` // stratum.WorkerName.Sent
}

// rulesState is a link's lineRules in runtime.json.
type rulesState struct {
	Suffixed  bool
	Translate *stratum.Translation
	Next      *stratum.Translation
	Changed   bool
	DropBits  bool
	Former    []formerState
	Jobs      []string
}

// agentSharesState describes an agent's shares in runtime.json.
type agentSharesState struct {
	Registered   bool
	WantsAnswers bool
	Next         uint32
	LastJob      int
	Links        []agentLinkState
	Held         []agentHeld `json:",omitempty"` // the switcher's answers to shares that no pool will answer
}

// agentLinkState is an agentLink in runtime.json.
type agentLinkState struct {
	Link    stratum.LinkTag
	Answers bool
	Proved  bool
	Next    uint16
	Waiting []agentWaiting `json:",omitempty"`
	Held    []agentHeld    `json:",omitempty"`
}

// formerState is a formerTranslation in runtime.json.
type formerState struct {
	Translate *stratum.Translation
	Noted     bool // Jobs has all jobs of this translation
	Jobs      []string
}

// heldState is a heldAnswer in runtime.json.
type heldState struct {
	Link stratum.LinkTag
	ID   []byte
	Line []byte
}

// linkState is a link in runtime.json. A former link is written in this form;
// sessionState.setLink spreads the link in use over the session's own fields.
type linkState struct {
	FD       int // -1 if the connection was lost
	Coin     string
	Pool     *StratumServerInfo `json:",omitempty"` // as in sessionState
	Address  string             `json:",omitempty"`
	Link     stratum.LinkTag
	Suffixed bool                      `json:",omitempty"`
	Own      *stratum.OwnRequestsState `json:",omitempty"`
	Rules    *rulesState
	Noted    bool // Jobs has all jobs of the link; otherwise jobs that are in no list are the link's too
	Jobs     []string
	Renamed  []stratum.RenamedJob `json:",omitempty"` // those of Jobs that the pool knows by another ID
	Partial  []byte
	Unsent   []byte
	Tunnel   *tunnelState `json:",omitempty"` // nil without TLS

	Work        *hashrate.LinkState `json:",omitempty"` // the difficulties of jobs
	Generations []byte              `json:",omitempty"` // generations of Jobs, in their order
	AgentMiners []byte              `json:",omitempty"` // hashrate.AgentMiners

	FormerAnswers int  `json:",omitempty"` // of the link in use only
	NoDifficulty  bool `json:",omitempty"` // of the link in use only
}

// pause returns how long nothing has been relayed; a negative value means unknown. clock
// is the present time of the monotonic clock in nanoseconds.
func (st *runtimeState) pause(now time.Time, clock int64) time.Duration {
	switch {
	case st.FrozenClock != 0 && clock >= st.FrozenClock:
		return time.Duration(clock - st.FrozenClock)
	case st.FrozenAt.IsZero() || st.FrozenAt.After(now):
		return -1
	}
	return now.Sub(st.FrozenAt)
}

// notAfter replaces times later than now with now. Otherwise, if the clock was set back
// meanwhile, they would remain the latest ones until it has caught up.
func (st *runtimeState) notAfter(now time.Time) {
	latest := now.Unix()
	for i := range st.SessionDatas {
		s := &st.SessionDatas[i]
		s.Since, s.Share = min(s.Since, latest), min(s.Share, latest)
	}
	for account, at := range st.Switched {
		st.Switched[account] = min(at, latest)
	}
	if st.Monitor == nil {
		return
	}
	for i := range st.Monitor.Events {
		e := &st.Monitor.Events[i]
		if e.First.After(now) {
			e.First = now
		}
		if e.Last.After(now) {
			e.Last = now
		}
	}
	// Samples must be in chronological order.
	st.Monitor.History = slices.DeleteFunc(st.Monitor.History, func(s journal.Sample) bool { return s.At > latest })
}

// otherPoolKey identifies a pool that StratumServerMap no longer has, by its coin and its
// StratumServerInfo in JSON.
type otherPoolKey struct{ coin, server string }
