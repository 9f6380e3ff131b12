package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/golang/glog"
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

	// Monitor is what the status page has shown.
	Monitor *monitorState `json:",omitempty"`
}

const (
	runtimeAction  = "upgrade"
	runtimeVersion = 1

	// maxRuntimeFile bounds what is read: 100,000 agents' worth.
	maxRuntimeFile = 1 << 30
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

	Owed         int `json:",omitempty"`
	OwnAnswers   int `json:",omitempty"`
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

// writeRuntimeState writes the file whole or not at all, readable by this user
// only: it holds the miners' passwords.
func writeRuntimeState(path string, st *runtimeState) (err error) {
	content, err := wireJSON.Marshal(st)
	if err != nil {
		return fmt.Errorf("encode state: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(content); err == nil {
		err = f.Close()
	} else {
		f.Close()
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}

// readRuntimeState reads and checks the file. Only a regular file of this user
// that nobody else may write is taken.
func readRuntimeState(path string) (*runtimeState, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|openNoFollow, 0)
	if err != nil {
		return nil, fmt.Errorf("runtime file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("runtime file: %w", err)
	}
	if err := checkOwnFile(info); err != nil {
		return nil, fmt.Errorf("runtime file %s: %w", path, err)
	}
	content, err := io.ReadAll(io.LimitReader(f, maxRuntimeFile))
	if err != nil {
		return nil, fmt.Errorf("runtime file: %w", err)
	}
	var st runtimeState
	if err := wireJSON.Unmarshal(content, &st); err != nil {
		return nil, fmt.Errorf("runtime file %s: %w", path, err)
	}
	switch {
	case st.Action != runtimeAction:
		return nil, fmt.Errorf("runtime file %s: Action is %q, must be %q", path, st.Action, runtimeAction)
	case st.Version > runtimeVersion:
		return nil, fmt.Errorf("runtime file %s: Version %d is newer than this program's %d", path, st.Version, runtimeVersion)
	case st.ServerID == 0 && st.Version == 0:
		return nil, fmt.Errorf("runtime file %s: ServerID is missing", path)
	}
	return &st, nil
}

// runtimeFile is where the state is written, in the working directory.
const runtimeFile = "runtime.json"

// removeStaleState removes a state file that nobody came to read, because the
// process was ended in the middle of an upgrade: it holds passwords.
func removeStaleState() {
	info, err := os.Lstat(runtimeFile)
	if err != nil || checkOwnFile(info) != nil {
		return
	}
	if err := os.Remove(runtimeFile); err != nil {
		glog.Warningf("stale %s: %v", runtimeFile, err)
	}
}

var errNotOwnFile = errors.New("must be a regular file of this user that no other may write")

func checkOwnFile(info os.FileInfo) error {
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o022 != 0 || !ownedByUs(info) {
		return errNotOwnFile
	}
	return nil
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
