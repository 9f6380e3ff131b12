package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/regularfile"
	"github.com/golang/glog"
)

const (
	// coinFilePatience is how long miners wait, after an upgrade, for the file
	// to be read before the coins of before serve.
	coinFilePatience = time.Second

	// coinFileProblems bounds how many different problems are logged in a row;
	// every coinFileProblemEvery there may be one more.
	coinFileProblems     = 10
	coinFileProblemEvery = 5 * time.Second
)

// fileCoinSource is the CoinSource for those who run without ZooKeeper: a JSON
// file that maps sub-accounts to coins, read again whenever it changes. A file
// that is broken changes nothing.
//
// The goroutine run owns all state and never touches the file: that is for the
// goroutine of watch, which may hang.
type fileCoinSource struct {
	path     string
	serverID uint8
	sink     CoinSink
	queries  openQueries
	mail     *mailbox
	watch    *coinFileWatch
	stop     chan struct{}
	ended    sync.WaitGroup

	lifeMu  sync.Mutex
	started bool
	closed  bool

	// The fields below belong to run.

	// content is the last good one; nil after an upgrade until there is one.
	content *coinFileContent
	// before has the coins of before an upgrade, for as long as content is nil.
	before map[string]string
	// impatient: before serves, as the file was not read in time or is broken.
	impatient bool
	// waiting are queries that only the file can answer.
	waiting map[*coinQuery]struct{}
	// told has the coin that was told of each account that has sessions.
	told map[string]*toldAccount
	// problem is the present one; it may not have been logged yet.
	problem       string
	problemLogged string
	problemBudget int  // how many may be logged now
	hung          bool // it was logged that the file system does not answer
	// warned is what was logged of the last good content.
	warned string
}

// newFileCoinSource reads the file once. serverID 0 stands for 1, as there are
// no other instances to tell apart.
func newFileCoinSource(path string, serverID uint8, rules coinFileRules) (*fileCoinSource, error) {
	content, err := readCoinFile(path, rules)
	if err != nil {
		return nil, err
	}
	f := openFileCoinSource(path, serverID, rules)
	f.content = content
	f.watch.alreadyRead(content)
	f.warn()
	return f, nil
}

// resumeFileCoinSource is for a process that takes over miners, none of whom
// may wait for the file. The coins of before serve if it can not be read soon,
// and until it can.
func resumeFileCoinSource(path string, serverID uint8, rules coinFileRules, before map[string]string) *fileCoinSource {
	f := openFileCoinSource(path, serverID, rules)
	f.before = before
	return f
}

// checkCoinFolder sees that the folder of a file exists. One that can not be
// looked at soon is given the benefit of the doubt.
func checkCoinFolder(path string) error {
	const wait = 200 * time.Millisecond
	_, err := regularfile.InTime(wait, func() (os.FileInfo, error) { return os.Stat(filepath.Dir(path)) })
	if err == nil || errors.Is(err, regularfile.ErrTooSlow) {
		return nil
	}
	return fmt.Errorf("coin file %s: %w", path, err)
}

func openFileCoinSource(path string, serverID uint8, rules coinFileRules) *fileCoinSource {
	f := &fileCoinSource{
		path:     path,
		serverID: max(serverID, 1),
		mail:     newMailbox(),
		stop:     make(chan struct{}),
		waiting:  make(map[*coinQuery]struct{}),
		told:     make(map[string]*toldAccount),

		problemBudget: coinFileProblems,
	}
	f.watch = newCoinFileWatch(path, rules, func(r coinFileReport) {
		f.mail.post(func() { f.take(r) })
	})
	return f
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
	f.watch.start()
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
func (f *fileCoinSource) Cancel(q *coinQuery) {
	if f.queries.remove(q) {
		f.mail.post(func() { delete(f.waiting, q) })
	}
}

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
	if f.started {
		f.watch.close()
	}
	f.ended.Wait()
	f.mail.close()
	for _, q := range left {
		f.queries.refuse(q, errCoinSourceClosed)
	}
}

func (f *fileCoinSource) run() {
	defer f.ended.Done()
	f.sink.ServerIDClaimed(f.serverID)
	var patience <-chan time.Time
	if f.content == nil {
		patience = time.After(coinFilePatience)
	}
	// A problem that comes after too many others is logged if it stays.
	problems := time.NewTicker(coinFileProblemEvery)
	defer problems.Stop()
	for {
		select {
		case <-f.stop:
			return
		case <-f.mail.ready:
			for _, work := range f.mail.take() {
				work()
			}
		case <-patience:
			patience = nil
			if f.content == nil && !f.impatient {
				glog.Warningf("coin file %s: not read yet; the coins of before the upgrade stay in use", f.path)
				f.serveBefore()
			}
		case <-problems.C:
			f.problemBudget = min(f.problemBudget+1, coinFileProblems)
			f.logProblem()
			f.logHang()
		}
	}
}

// logHang logs that the file system does not answer, and when it does again.
func (f *fileCoinSource) logHang() {
	hangs := f.watch.hangs()
	switch {
	case hangs && !f.hung:
		glog.Errorf("coin file %s: its file system does not answer; the coins stay as they are", f.path)
	case !hangs && f.hung:
		glog.Infof("coin file %s: its file system answers again", f.path)
	}
	f.hung = hangs
}

func (f *fileCoinSource) lookup(q *coinQuery) {
	if q.Account == "" || len(q.Account) > zkMaxName {
		f.queries.refuse(q, errBadSubAccount)
		return
	}
	if !f.queries.has(q) {
		return
	}
	coin, known := f.coin(q.Account)
	if !known {
		f.waiting[q] = struct{}{}
		return
	}
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

// coin is an account's coin, empty if it has none. Nothing is known while the
// file has not been read, but the coins of before once they serve.
func (f *fileCoinSource) coin(account string) (coin string, known bool) {
	if f.content == nil {
		coin, known = f.before[account]
		return coin, known && f.impatient
	}
	if coin, ok := f.content.coins[account]; ok {
		return coin, true
	}
	return f.content.coins[anySubAccount], true
}

// take takes a reading in, and reports the differences.
func (f *fileCoinSource) take(r coinFileReport) {
	if r.err != nil {
		f.problem = r.err.Error()
		f.logProblem()
		if f.content == nil {
			f.serveBefore()
		}
		return
	}
	f.problem = ""
	if f.problemLogged != "" {
		f.problemLogged = ""
		glog.Infof("coin file %s: good again", f.path)
	}
	first := f.content == nil
	if !first && bytes.Equal(r.content.text, f.content.text) {
		return
	}
	f.content, f.before = r.content, nil
	if !first {
		glog.Infof("coin file %s: read again, %d entries", f.path, len(f.content.coins))
	}
	f.warn()
	for account, told := range f.told {
		if coin, _ := f.coin(account); coin != told.coin {
			told.coin = coin
			f.sink.CoinChanged(account, coin)
		}
	}
	f.askAgain()
}

// serveBefore has the coins of before an upgrade serve. Miners of sub-accounts
// that had none then still wait for the file.
func (f *fileCoinSource) serveBefore() {
	if !f.impatient {
		f.impatient = true
		f.askAgain()
	}
}

func (f *fileCoinSource) askAgain() {
	waiting := f.waiting
	f.waiting = make(map[*coinQuery]struct{})
	for q := range waiting {
		f.lookup(q)
	}
}

// logProblem logs the present problem once, if the budget allows.
func (f *fileCoinSource) logProblem() {
	if f.problem == "" || f.problem == f.problemLogged || f.problemBudget == 0 {
		return
	}
	f.problemLogged = f.problem
	f.problemBudget--
	stays := "the last good one stays in use"
	if f.content == nil {
		stays = "the coins of before the upgrade stay in use"
	}
	glog.Errorf("%s; %s", f.problem, stays)
}

// warn logs what is of no use in the file, once for as long as it is the same.
func (f *fileCoinSource) warn() {
	text := strings.Join(f.content.warnings, "; ")
	if text != "" && text != f.warned {
		glog.Warningf("coin file %s: %s", f.path, text)
	}
	f.warned = text
}
