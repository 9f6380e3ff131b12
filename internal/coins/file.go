package coins

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/golang/glog"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/regularfile"
)

const (
	// filePatience is how long miners wait for the file after an upgrade. Then they
	// are answered with the coins of before the upgrade.
	filePatience = time.Second

	// maxFileProblems bounds how many different problems are logged in a row. One
	// more is allowed every fileProblemEvery.
	maxFileProblems  = 10
	fileProblemEvery = 5 * time.Second
)

// File is the Source for operators without ZooKeeper: a JSON file that maps
// sub-accounts to coins. It is read again whenever it changes. A broken file changes
// nothing.
//
// The goroutine run owns all state and never touches the file. The goroutine of
// watch does that, because it may hang.
type File struct {
	path     string
	serverID uint8
	sink     Sink
	queries  openQueries
	mail     *mailbox
	watch    *fileWatch
	stop     chan struct{}
	ended    sync.WaitGroup

	lifeMu  sync.Mutex
	started bool
	closed  bool

	// The fields below belong to run.

	// content is that of the last good file. It is nil after an upgrade until the
	// file was read.
	content *fileContent
	// before holds the coins of before an upgrade, as long as content is nil.
	before map[string]string
	// impatient says that queries are answered from before, because the file was not
	// read in time or is broken.
	impatient bool
	// waiting holds the queries that only the file can answer.
	waiting map[*Query]struct{}
	// told holds the accounts that have sessions, with the coin last reported.
	told map[string]*toldAccount
	// problem is what is wrong with the file now. It may not have been logged yet.
	problem       string
	problemLogged string
	problemBudget int  // problems that may be logged now
	hung          bool // whether it was logged that the file system does not answer
	// warned is the last warning that was logged about the content.
	warned string
}

// NewFile returns a source that has read the file once. A serverID of 0 stands for
// 1, as there are no other instances to be distinguished from.
func NewFile(path string, serverID uint8, rules FileRules) (*File, error) {
	content, err := readFile(path, rules)
	if err != nil {
		return nil, err
	}
	f := openFile(path, serverID, rules)
	f.content = content
	f.watch.alreadyRead(content)
	f.warn()
	return f, nil
}

// ResumeFile returns a source for a process that takes over miners, who must not
// have to wait for the file. Until it can be read they are answered from before,
// which maps sub-accounts to the coins they had.
func ResumeFile(path string, serverID uint8, rules FileRules, before map[string]string) *File {
	f := openFile(path, serverID, rules)
	f.before = before
	return f
}

// CheckFolder returns an error if the folder of a coin file does not exist. It
// returns none if the file system does not answer soon.
func CheckFolder(path string) error {
	const wait = 200 * time.Millisecond
	_, err := regularfile.InTime(wait, func() (os.FileInfo, error) { return os.Stat(filepath.Dir(path)) })
	if err == nil || errors.Is(err, regularfile.ErrTooSlow) {
		return nil
	}
	return fmt.Errorf("coin file %s: %w", path, err)
}

func openFile(path string, serverID uint8, rules FileRules) *File {
	f := &File{
		path:     path,
		serverID: max(serverID, 1),
		mail:     newMailbox(),
		stop:     make(chan struct{}),
		waiting:  make(map[*Query]struct{}),
		told:     make(map[string]*toldAccount),

		problemBudget: maxFileProblems,
	}
	f.watch = newFileWatch(path, rules, func(r fileReport) {
		f.mail.post(func() { f.take(r) })
	})
	return f
}

// Start implements Source.
func (f *File) Start(sink Sink) {
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

// Lookup implements Source.
func (f *File) Lookup(q *Query) {
	if f.queries.add(q) {
		f.mail.post(func() { f.lookup(q) })
	}
}

// toldAccount is an account that has sessions.
type toldAccount struct {
	coin  string // last reported
	users int    // replies that were not taken back
}

// Cancel implements Source.
func (f *File) Cancel(q *Query) {
	if f.queries.remove(q) {
		f.mail.post(func() { delete(f.waiting, q) })
	}
}

// Release implements Source.
func (f *File) Release(account string) {
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

// Close implements Source.
func (f *File) Close() {
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
		f.queries.refuse(q, ErrClosed)
	}
}

func (f *File) run() {
	defer f.ended.Done()
	f.sink.ServerIDClaimed(f.serverID)
	var patience <-chan time.Time
	if f.content == nil {
		patience = time.After(filePatience)
	}
	// A problem that follows too many others is logged later if it persists.
	problems := time.NewTicker(fileProblemEvery)
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
			f.problemBudget = min(f.problemBudget+1, maxFileProblems)
			f.logProblem()
			f.logHang()
		}
	}
}

// logHang logs that the file system does not answer, or that it answers again.
func (f *File) logHang() {
	hangs := f.watch.hangs()
	switch {
	case hangs && !f.hung:
		glog.Errorf("coin file %s: its file system does not answer; the coins stay as they are", f.path)
	case !hangs && f.hung:
		glog.Infof("coin file %s: its file system answers again", f.path)
	}
	f.hung = hangs
}

func (f *File) lookup(q *Query) {
	if q.Account == "" || len(q.Account) > MaxName {
		f.queries.refuse(q, ErrBadSubAccount)
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
		f.queries.refuse(q, ErrUnknownSubAccount)
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

// coin returns an account's coin, which is empty if it has none. Before the file was
// read, coins are known only from before, and only when the wait for the file is
// over.
func (f *File) coin(account string) (coin string, known bool) {
	if f.content == nil {
		coin, known = f.before[account]
		return coin, known && f.impatient
	}
	if coin, ok := f.content.coins[account]; ok {
		return coin, true
	}
	return f.content.coins[anySubAccount], true
}

// take accepts what a reading of the file gave, and reports the differences.
func (f *File) take(r fileReport) {
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

// serveBefore answers queries with the coins of before an upgrade. Miners of
// sub-accounts that had none then still wait for the file.
func (f *File) serveBefore() {
	if !f.impatient {
		f.impatient = true
		f.askAgain()
	}
}

func (f *File) askAgain() {
	waiting := f.waiting
	f.waiting = make(map[*Query]struct{})
	for q := range waiting {
		f.lookup(q)
	}
}

// logProblem logs the current problem once, if the budget allows.
func (f *File) logProblem() {
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

// warn logs which entries have no effect, once as long as they stay the same.
func (f *File) warn() {
	text := strings.Join(f.content.warnings, "; ")
	if text != "" && text != f.warned {
		glog.Warningf("coin file %s: %s", f.path, text)
	}
	f.warned = text
}
