package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"
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

	// Monitor is what the status page has shown.
	Monitor *monitorState `json:",omitempty"`
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

	Owed         int  `json:",omitempty"`
	OwnAnswers   int  `json:",omitempty"`
	NoDifficulty bool `json:",omitempty"` // from this link; the miner is to be told the default
	Suggestions  []requestState
	Workers      []requestState
	Agent        [][]byte     `json:",omitempty"` // register messages
	Jobs         []string     `json:",omitempty"`
	RestJobs     bool         `json:",omitempty"`
	Drains       []drainState `json:",omitempty"`
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

// formerState is a formerTranslation in runtime.json.
type formerState struct {
	Translate *translation
	Noted     bool // Jobs are all jobs of it
	Jobs      []string
}

// heldState is a heldAnswer in runtime.json.
type heldState struct {
	Link linkTag
	ID   []byte
	Line []byte
}

// drainState is a former pool link in runtime.json.
type drainState struct {
	FD      int // -1: it was lost
	Coin    string
	Pool    *StratumServerInfo `json:",omitempty"` // as in sessionState
	Link    linkTag
	Rules   *rulesState
	Owed    int
	Noted   bool // Jobs are all jobs of the link; else jobs nobody noted are too
	Jobs    []string
	Partial []byte
	Unsent  []byte
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
	st.Monitor.History = slices.DeleteFunc(st.Monitor.History, func(s historySample) bool { return s.At > latest })
}

// upgradeContext is what a process that wants to be replaced tells the
// preflight of its successor, in the environment.
type upgradeContext struct {
	StateVersion int // of the state file to come
	ListenAddr   string
	HTTPAddr     string // empty: no HTTP listener
	ChainType    string
}

const upgradeContextVariable = "STRATUM_SWITCHER_PREFLIGHT"

// preflightContext is the context of a preflight, nil if this is none.
func preflightContext() (*upgradeContext, error) {
	text, ok := os.LookupEnv(upgradeContextVariable)
	if !ok {
		return nil, nil
	}
	var c upgradeContext
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return nil, fmt.Errorf("%s: %w", upgradeContextVariable, err)
	}
	return &c, nil
}
