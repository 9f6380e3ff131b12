package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/golang/glog"
)

const (
	// anySubAccount stands for all sub-accounts a coin file does not name.
	anySubAccount = "*"
	// coinFileSettle lets an editor finish before the file is read.
	coinFileSettle = 100 * time.Millisecond
	coinFileLimit  = 64 << 20
)

// fileCoinSource is the CoinSource for those who run without ZooKeeper: a JSON
// file that maps sub-accounts to coins, read again whenever it changes. A file
// that is broken changes nothing.
//
// The goroutine run owns all state.
type fileCoinSource struct {
	path     string
	serverID uint8
	sink     CoinSink
	queries  openQueries
	mail     *mailbox
	stop     chan struct{}
	ended    sync.WaitGroup

	lifeMu  sync.Mutex
	started bool
	closed  bool
	watcher *fsnotify.Watcher

	// The fields below belong to run.

	content []byte
	coins   map[string]string
	// told has the coin that was told of each account that has sessions.
	told map[string]*toldAccount
	// problem is the last one reported.
	problem string
	// targetDir is watched beside the file's own directory if the file is a
	// link to somewhere else.
	targetDir string
}

// newFileCoinSource reads the file once. serverID 0 stands for 1, as there are
// no other instances to tell apart.
func newFileCoinSource(path string, serverID uint8) (*fileCoinSource, error) {
	content, coins, err := readCoinFile(path)
	if err != nil {
		return nil, err
	}
	return openFileCoinSource(path, serverID, content, coins)
}

// resumeFileCoinSource is for a process that takes over miners: if the file
// can not be read now, the coins of before serve until it can.
func resumeFileCoinSource(path string, serverID uint8, before map[string]string) (*fileCoinSource, error) {
	content, coins, err := readCoinFile(path)
	if err == nil {
		return openFileCoinSource(path, serverID, content, coins)
	}
	glog.Errorf("%v; the coins of before the upgrade stay in use", err)
	f, openErr := openFileCoinSource(path, serverID, nil, before)
	if openErr == nil {
		f.problem = err.Error()
	}
	return f, openErr
}

func openFileCoinSource(path string, serverID uint8, content []byte, coins map[string]string) (*fileCoinSource, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("coin file %s: watching: %w", path, err)
	}
	// The directory, not the file: editors put a new file in its place.
	if err := watcher.Add(filepath.Dir(path)); err != nil {
		watcher.Close()
		return nil, fmt.Errorf("coin file %s: watching its directory: %w", path, err)
	}
	f := &fileCoinSource{
		path:     path,
		serverID: max(serverID, 1),
		mail:     newMailbox(),
		stop:     make(chan struct{}),
		watcher:  watcher,
		content:  content,
		coins:    coins,
		told:     make(map[string]*toldAccount),
	}
	f.watchTarget()
	return f, nil
}

// Start implements CoinSource.
func (f *fileCoinSource) Start(sink CoinSink) {
	f.lifeMu.Lock()
	defer f.lifeMu.Unlock()
	if f.closed || f.started {
		return
	}
	f.started = true
	f.sink = sink
	f.ended.Add(1)
	go f.run()
}

// Lookup implements CoinSource.
func (f *fileCoinSource) Lookup(q *coinQuery) {
	if f.queries.add(q) {
		f.mail.post(func() { f.lookup(q) })
	}
}

// toldAccount is an account that has sessions.
type toldAccount struct {
	coin  string // as last told
	users int    // replies not taken back
}

// Cancel implements CoinSource.
func (f *fileCoinSource) Cancel(q *coinQuery) { f.queries.remove(q) }

// Release implements CoinSource.
func (f *fileCoinSource) Release(account string) {
	f.mail.post(func() {
		t := f.told[account]
		if t == nil {
			return
		}
		if t.users--; t.users == 0 {
			delete(f.told, account)
		}
	})
}

// Close implements CoinSource. It must not be called by the sink or by a
// query's Reply.
func (f *fileCoinSource) Close() {
	f.lifeMu.Lock()
	defer f.lifeMu.Unlock()
	if f.closed {
		return
	}
	f.closed = true
	left := f.queries.close()
	close(f.stop)
	f.ended.Wait()
	f.mail.close()
	for _, q := range left {
		f.queries.refuse(q, errCoinSourceClosed)
	}
	f.watcher.Close()
}

func (f *fileCoinSource) run() {
	defer f.ended.Done()
	f.sink.ServerIDClaimed(f.serverID)
	// What changed since the constructor read the file sent an event already.
	var settled <-chan time.Time
	for {
		select {
		case <-f.stop:
			return
		case <-f.mail.ready:
			for _, work := range f.mail.take() {
				work()
			}
		case _, ok := <-f.watcher.Events:
			// Events may concern other files: a link's target may be
			// swapped anywhere on the way. Reading once more is cheap.
			if ok && settled == nil {
				settled = time.After(coinFileSettle)
			}
		case err, ok := <-f.watcher.Errors:
			if ok {
				glog.Warningf("coin file %s: watching: %v", f.path, err)
				if settled == nil {
					settled = time.After(coinFileSettle)
				}
			}
		case <-settled:
			settled = nil
			f.reload()
		}
	}
}

func (f *fileCoinSource) lookup(q *coinQuery) {
	if !validSubAccount(q.Account) {
		f.queries.refuse(q, errBadSubAccount)
		return
	}
	coin := f.coin(q.Account)
	if coin == "" && !q.Established {
		f.queries.refuse(q, errUnknownSubAccount)
		return
	}
	t := f.told[q.Account]
	if t == nil {
		t = &toldAccount{coin: coin}
	}
	f.queries.answer(q, q.Account, coin, nil, &t.users)
	if t.users > 0 {
		f.told[q.Account] = t
	}
}

func (f *fileCoinSource) coin(account string) string {
	if coin, ok := f.coins[account]; ok {
		return coin
	}
	return f.coins[anySubAccount]
}

// reload takes the file in if it changed, and reports the differences.
func (f *fileCoinSource) reload() {
	f.watchTarget()
	content, coins, err := readCoinFile(f.path)
	if err != nil {
		if problem := err.Error(); problem != f.problem {
			f.problem = problem
			glog.Errorf("%v; the last good one stays in use", err)
		}
		return
	}
	if f.problem != "" {
		f.problem = ""
		glog.Infof("coin file %s: good again", f.path)
	}
	if bytes.Equal(content, f.content) {
		return
	}
	f.content, f.coins = content, coins
	glog.Infof("coin file %s: read again, %d entries", f.path, len(coins))
	for account, told := range f.told {
		if coin := f.coin(account); coin != told.coin {
			told.coin = coin
			f.sink.CoinChanged(account, coin)
		}
	}
}

// watchTarget watches the directory a link leads to.
func (f *fileCoinSource) watchTarget() {
	target, err := filepath.EvalSymlinks(f.path)
	if err != nil {
		return // reading the file tells why
	}
	dir := filepath.Dir(target)
	if dir == f.targetDir {
		return
	}
	own := filepath.Clean(filepath.Dir(f.path))
	if f.targetDir != "" && f.targetDir != own {
		// Its directory may be gone, and the watch with it.
		_ = f.watcher.Remove(f.targetDir)
	}
	f.targetDir = dir
	if dir == own {
		return
	}
	if err := f.watcher.Add(dir); err != nil {
		glog.Warningf("coin file %s: watching %s: %v", f.path, dir, err)
	}
}

// readCoinFile reads and checks a coin file.
func readCoinFile(path string) (content []byte, coins map[string]string, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("coin file: %w", err)
	}
	defer file.Close()
	content, err = io.ReadAll(io.LimitReader(file, coinFileLimit+1))
	if err != nil {
		return nil, nil, fmt.Errorf("coin file: %w", err)
	}
	if len(content) > coinFileLimit {
		return nil, nil, fmt.Errorf("coin file %s: larger than %d bytes", path, coinFileLimit)
	}
	coins, at, err := parseCoinFile(content)
	if err != nil {
		line := 1 + bytes.Count(content[:at], []byte("\n"))
		column := at - bytes.LastIndexByte(content[:at], '\n')
		return nil, nil, fmt.Errorf("coin file %s:%d:%d: %w", path, line, column, err)
	}
	return content, coins, nil
}

// parseCoinFile gives the entries, or what is wrong and where.
func parseCoinFile(content []byte) (coins map[string]string, at int, err error) {
	var whole json.RawMessage
	var syntax *json.SyntaxError
	if err := json.Unmarshal(content, &whole); errors.As(err, &syntax) {
		at = min(max(int(syntax.Offset)-1, 0), len(content))
		if syntax.Error() == "unexpected end of JSON input" {
			return nil, len(content), errors.New("the file ends too early")
		}
		return nil, at, err
	}
	d := json.NewDecoder(bytes.NewReader(content))
	// next gives a token, with at where it begins.
	next := func() (json.Token, error) {
		at = int(d.InputOffset())
		for at < len(content) && strings.IndexByte(" \t\r\n,:", content[at]) >= 0 {
			at++
		}
		return d.Token()
	}
	token, err := next()
	if err != nil {
		return nil, at, err
	}
	if token != json.Delim('{') {
		return nil, at, errors.New("must be an object of sub-accounts and coins")
	}
	coins = make(map[string]string)
	for d.More() {
		token, err = next()
		if err != nil {
			return nil, at, err
		}
		account, ok := token.(string)
		if !ok {
			return nil, at, errors.New("expected a sub-account's name")
		}
		if account != anySubAccount && !validSubAccount(account) {
			return nil, at, fmt.Errorf("%q can not be a sub-account", account)
		}
		if _, twice := coins[account]; twice {
			return nil, at, fmt.Errorf("sub-account %q is there twice", account)
		}
		token, err = next()
		if err != nil {
			return nil, at, err
		}
		text, ok := token.(string)
		if !ok {
			return nil, at, fmt.Errorf("sub-account %q: the coin must be a string", account)
		}
		coin, err := parseCoin([]byte(text))
		if err != nil {
			return nil, at, fmt.Errorf("sub-account %q: %w", account, err)
		}
		if coin == "" {
			return nil, at, fmt.Errorf("sub-account %q: the coin is empty", account)
		}
		coins[account] = coin
	}
	return coins, at, nil
}
