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
	// fileWait is how long miners wait for the file after an upgrade. Then their
	// queries are answered with the coins from before the upgrade.
	fileWait = time.Second

	// maxFileProblems bounds how many different problems are logged at a time. One
	// more may be logged after each fileProblemEvery.
	maxFileProblems  = 10
	fileProblemEvery = 5 * time.Second
)

// File is the Source for operators without ZooKeeper: a JSON file that maps
// sub-accounts to coins. It is read again whenever it changes. An invalid file is
// ignored, and the last valid content stays in use.
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

	// content is the content of the last valid file. After an upgrade it is nil until
	// the file has been read.
	content *fileContent
	// resumed holds the coins from before an upgrade while content is nil.
	resumed map[string]string
	// useResumed means that queries are answered from resumed, because the file was
	// not read in time or is invalid.
	useResumed bool
	// waiting holds the queries that only the file can answer.
	waiting map[*Query]struct{}
	// used holds the accounts that have sessions, with the coin last reported.
	used map[string]*usedAccount
	// problem is the current problem with the file, or "". It may not be logged yet.
	problem       string
	problemLogged string
	problemBudget int  // how many problems may be logged now
	hung          bool // it was logged that the file system does not answer
	// warned is the last warning that was logged about the content.
	warned string
}

// NewFile returns a source that has read the file once. A serverID of 0 stands for 1,
// because no other instances have to be told apart.
func NewFile(path string, serverID uint8, rules FileRules) (*File, error) {
	content, err := readFile(path, rules)
	if err != nil {
		return nil, err
	}
	f := openFile(path, serverID, rules)
	f.content = content
	f.watch.setContent(content)
	f.warn()
	return f, nil
}

// ResumeFile returns a source for a process that takes over miners, which must not have
// to wait for the file. Until the file has been read, queries are answered from
// resumed, which maps sub-accounts to the coins that they had.
func ResumeFile(path string, serverID uint8, rules FileRules, resumed map[string]string) *File {
	f := openFile(path, serverID, rules)
	f.resumed = resumed
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
		used:     make(map[string]*usedAccount),

		problemBudget: maxFileProblems,
	}
	f.watch = newFileWatch(path, rules, func(r fileReport) {
		f.mail.post(func() { f.accept(r) })
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

// usedAccount is an account that has sessions.
type usedAccount struct {
	coin  string // the coin last reported
	users int    // successful replies minus releases
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
		u := f.used[account]
		if u == nil {
			return
		}
		if u.users--; u.users == 0 {
			delete(f.used, account)
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
	var waitOver <-chan time.Time
	if f.content == nil {
		waitOver = time.After(fileWait)
	}
	// A problem that could not be logged, because there were too many, is logged later
	// if it persists.
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
		case <-waitOver:
			waitOver = nil
			if f.content == nil && !f.useResumed {
				glog.Warningf("coin file %s: not read yet; the coins from before the upgrade stay in use", f.path)
				f.serveResumed()
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
	u := f.used[q.Account]
	if u == nil {
		u = &usedAccount{coin: coin}
	}
	f.queries.answer(q, q.Account, coin, nil, &u.users)
	if u.users > 0 {
		f.used[q.Account] = u
	}
}

// coin returns an account's coin, which is empty if it has none, and whether it is
// known. Until the file has been read, only the resumed coins are known, and only if
// useResumed is set.
func (f *File) coin(account string) (coin string, known bool) {
	if f.content == nil {
		coin, known = f.resumed[account]
		return coin, known && f.useResumed
	}
	if coin, ok := f.content.coins[account]; ok {
		return coin, true
	}
	return f.content.coins[anySubAccount], true
}

// accept handles the result of reading the file, and reports the coins that differ.
func (f *File) accept(r fileReport) {
	if r.err != nil {
		f.problem = r.err.Error()
		f.logProblem()
		if f.content == nil {
			f.serveResumed()
		}
		return
	}
	f.problem = ""
	recovered := f.problemLogged != ""
	if recovered {
		f.problemLogged = ""
		glog.Infof("coin file %s: valid again", f.path)
	}
	first := f.content == nil
	same := !first && bytes.Equal(r.content.text, f.content.text)
	if recovered || !first && !same {
		f.report(len(r.content.coins), nil)
	}
	if same {
		return
	}
	f.content, f.resumed = r.content, nil
	if !first {
		glog.Infof("coin file %s: read again, entries=%d", f.path, len(f.content.coins))
	}
	f.warn()
	for account, u := range f.used {
		if coin, _ := f.coin(account); coin != u.coin {
			u.coin = coin
			f.sink.CoinChanged(account, coin)
		}
	}
	f.retryWaiting()
}

// serveResumed answers queries with the coins from before an upgrade. Miners of
// sub-accounts that had no coin then still wait for the file.
func (f *File) serveResumed() {
	if !f.useResumed {
		f.useResumed = true
		f.retryWaiting()
	}
}

func (f *File) retryWaiting() {
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
	consequence := "the last good one stays in use"
	if f.content == nil {
		consequence = "the coins from before the upgrade stay in use"
	}
	glog.Errorf("%s; %s", f.problem, consequence)
	f.report(0, errors.New(f.problem))
}

// report passes a reading to the sink, if it implements FileSink.
func (f *File) report(entries int, err error) {
	if sink, ok := f.sink.(FileSink); ok {
		sink.CoinFileRead(f.path, entries, err)
	}
}

// warn logs which entries have no effect, unless the same was logged before.
func (f *File) warn() {
	text := strings.Join(f.content.warnings, "; ")
	if text != "" && text != f.warned {
		glog.Warningf("coin file %s: %s", f.path, text)
	}
	f.warned = text
}
