package main

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/journal"
)

// runtimeState is runtime.json: all that a process hands to the one that takes
// its place. The fields that protocol.md, "runtime.json" names are written and
// read by older switchers too; a file with only those is resumed.
type runtimeState struct {
	Action       string // "upgrade"
	ServerID     uint8
	SessionDatas []sessionState

	// Version is 0 in files of older switchers.
	Version  int       `json:",omitempty"`
	FrozenAt time.Time // when relaying stopped
	// FrozenClock is FrozenAt by the system's monotonic clock, in nanoseconds:
	// it goes on from process to process and nobody sets it.
	FrozenClock int64  `json:",omitempty"`
	ChainType   string `json:",omitempty"`

	// Config is the configuration that was in use. It serves on if the file
	// has turned bad.
	Config *Config `json:",omitempty"`

	// ListenFD is the open listener, ListenAddr what it was configured as.
	// A file without a listener has no ListenAddr.
	ListenFD   int    `json:",omitempty"`
	ListenAddr string `json:",omitempty"`

	// ServerIDOwner is the ephemeral owner of the server ID's node.
	ServerIDOwner int64             `json:",omitempty"`
	NextIndex     uint              `json:",omitempty"`
	Wanted        map[string]string `json:",omitempty"` // coin by sub-account
	Switched      map[string]int64  `json:",omitempty"` // when that changed, Unix seconds
	Upgrades      int               `json:",omitempty"` // since the first start
	Sizes         map[string]int    `json:",omitempty"` // of extranonce2, by pool address

	// Binary is the path that upgrades are taken from, if it is not the name
	// that this program was started by: a script may stand in its place.
	Binary string `json:",omitempty"`

	// Monitor is what the status page has shown.
	Monitor *monitorState `json:",omitempty"`

	// Descriptors are all connections that the sessions name. They tell what
	// to close if a session's own record turns out to be unreadable.
	Descriptors []int `json:",omitempty"`

	unreadable int   // sessions whose records were
	dropped    int   // sessions whose descriptors were not sound
	orphans    []int // descriptors that may be theirs
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
	ServerConnFD            int // -1: none
	StratumSubscribeRequest *requestState
	StratumAuthorizeRequest *requestState
	VersionMask             uint32

	// What follows is not in files of older switchers, whose sessions relay.

	Phase       string        `json:",omitempty"` // sessionPhase
	Age         time.Duration `json:",omitempty"` // of an unfinished handshake
	Started     bool          `json:",omitempty"`
	Proxied     bool          `json:",omitempty"`
	ClientAddr  string        `json:",omitempty"` // as a proxy may have told it
	BadLines    int           `json:",omitempty"`
	Lines       int           `json:",omitempty"` // of an unfinished handshake
	HasID       bool          `json:",omitempty"`
	Protocol    minerProtocol `json:",omitempty"`
	Account     string        `json:",omitempty"`
	SentMask    uint32        `json:",omitempty"`
	Extranonce  bool          `json:",omitempty"` // may be given a new one
	Suffixed    bool          `json:",omitempty"`
	PoolAddress string        `json:",omitempty"` // of StratumServerMap

	// Pool is where the session mines, if that is no longer what
	// StratumServerMap says of its coin.
	Pool *StratumServerInfo `json:",omitempty"`

	Since  int64     `json:",omitempty"` // when it connected, Unix seconds
	Shares [3]uint32 // submitted, accepted, refused
	Share  int64     `json:",omitempty"` // when the last one came, Unix seconds

	Owed         int       `json:",omitempty"`
	OwnAnswers   int       `json:",omitempty"` // to ids of builds that used words
	Own          *ownState `json:",omitempty"`
	NoDifficulty bool      `json:",omitempty"` // from this link; the miner is to be told the default
	Suggestions  []requestState
	Workers      []requestState
	Agent        [][]byte          `json:",omitempty"` // register messages
	AgentShares  *agentSharesState `json:",omitempty"`
	WantsAnswers bool              `json:",omitempty"` // to an agent's shares, as long as it has not subscribed
	Jobs         []string          `json:",omitempty"` // as the miner was told, in order
	RenamedJobs  []jobState        `json:",omitempty"` // those of them that the pool calls otherwise
	JobsNoted    bool              `json:",omitempty"` // Jobs has all jobs that count, also without former links
	RestJobs     bool              `json:",omitempty"`
	Drains       []linkState       `json:",omitempty"`
	Shape        extranonceShape
	OwnGiven     *givenExtranonce `json:",omitempty"`
	Rules        *rulesState      `json:",omitempty"`
	Link         linkTag          `json:",omitempty"`
	Requests     []byte           `json:",omitempty"` // requestQueue
	Held         []heldState      `json:",omitempty"`
	MinerPartial []byte           `json:",omitempty"`
	MinerUnsent  []byte           `json:",omitempty"`
	PoolPartial  []byte           `json:",omitempty"`
	PoolUnsent   []byte           `json:",omitempty"`
}

// descriptors are those that the session names.
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
	Sent   string          `json:"sent,omitempty"` // workerName.Sent
}

// rulesState is a link's lineRules in runtime.json.
type rulesState struct {
	Suffixed  bool
	Translate *translation
	Next      *translation
	Changed   bool
	DropBits  bool
	Former    []formerState
	Jobs      []string
}

// agentSharesState is what is known of an agent's shares in runtime.json.
type agentSharesState struct {
	Registered   bool
	WantsAnswers bool
	Next         uint32
	LastJob      int
	Links        []agentLinkState
	Held         []agentHeld `json:",omitempty"` // in place of pools that were lost
}

// agentLinkState is an agentLink in runtime.json.
type agentLinkState struct {
	Link    linkTag
	Answers bool
	Proved  bool
	Next    uint16
	Waiting []agentWaiting `json:",omitempty"`
	Held    []agentHeld    `json:",omitempty"`
}

// formerState is a formerTranslation in runtime.json.
type formerState struct {
	Translate *translation
	Noted     bool // Jobs are all jobs of it
	Jobs      []string
}

// ownState is a link's ownRequests in runtime.json.
type ownState struct {
	Next    uint32
	Pending []ownRequest `json:",omitempty"`
}

// heldState is a heldAnswer in runtime.json.
type heldState struct {
	Link linkTag
	ID   []byte
	Line []byte
}

// linkState is a link in runtime.json: as it stands for a former one, and as
// sessionState.setLink spreads it over a session for the one in use.
type linkState struct {
	FD       int // -1: it was lost
	Coin     string
	Pool     *StratumServerInfo `json:",omitempty"` // as in sessionState
	Address  string             `json:",omitempty"`
	Link     linkTag
	Suffixed bool      `json:",omitempty"`
	Own      *ownState `json:",omitempty"`
	Rules    *rulesState
	Noted    bool // Jobs are all jobs of the link; else jobs nobody noted are too
	Jobs     []string
	Renamed  []jobState `json:",omitempty"` // those of Jobs that the pool calls otherwise
	Partial  []byte
	Unsent   []byte

	FormerAnswers int  `json:",omitempty"` // of the link in use only
	NoDifficulty  bool `json:",omitempty"` // of the link in use only
}

// pause is how long nothing has been relayed; negative: unknown. clock is the
// monotonic one's time.
func (st *runtimeState) pause(now time.Time, clock int64) time.Duration {
	switch {
	case st.FrozenClock != 0 && clock >= st.FrozenClock:
		return time.Duration(clock - st.FrozenClock)
	case st.FrozenAt.IsZero() || st.FrozenAt.After(now):
		return -1
	}
	return now.Sub(st.FrozenAt)
}

// notAfter makes times that are later than now, because the clock was set back
// meanwhile, now. Else they would be the latest ones for as long.
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
	// Samples have to be in order.
	st.Monitor.History = slices.DeleteFunc(st.Monitor.History, func(s journal.Sample) bool { return s.At > latest })
}

// otherPoolKey names a pool that StratumServerMap no longer has: a coin, and a
// StratumServerInfo as JSON.
type otherPoolKey struct{ coin, server string }
