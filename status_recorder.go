package main

import (
	"math"
	"sync"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/coins"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/journal"
)

const (
	// recordEvery is how often the coin source is checked. Charts and rates
	// advance every journal.HistoryStep.
	recordEvery = time.Second

	// The weight of a share in the averages falls to 1/e in these times: rateSpan for
	// shares per minute, refusalSpan for the percentage of refused shares.
	rateSpan    = time.Minute
	refusalSpan = 10 * time.Minute

	// manyRefused is how many refused shares in about refusalSpan it takes for their
	// percentage to be more than chance.
	manyRefused = 5
)

// statusRecorder samples the counters for charts and rates. The goroutine
// record owns it, except for rates.
type statusRecorder struct {
	manager   *sessionManager
	last      time.Time
	coins     map[string]hashrate.Totals
	connected bool // whether the coin source was connected at the last check
	idTaken   bool // whether another process held the server ID then

	mu    sync.Mutex
	rates map[*subAccount]*shareRate
}

// shareRate holds moving averages of one sub-account's shares, in which older shares
// have less weight. They are divided by the sum of the weights so far, so they are
// right from the start if shares come evenly.
type shareRate struct {
	before            hashrate.Totals // the counts at the last step
	submitted, weight float64         // shares and seconds, weighted with rateSpan
	accepted, refused float64         // shares, weighted with refusalSpan
}

// move adds the shares since the last step, which was elapsed ago.
func (r *shareRate) move(now hashrate.Totals, elapsed time.Duration) {
	keep := math.Exp(-float64(elapsed) / float64(rateSpan))
	r.submitted = r.submitted*keep + float64(now.Submitted-r.before.Submitted)
	r.weight = r.weight*keep + elapsed.Seconds()
	keep = math.Exp(-float64(elapsed) / float64(refusalSpan))
	r.accepted = r.accepted*keep + float64(now.Accepted-r.before.Accepted)
	r.refused = r.refused*keep + float64(now.RefusedShares()-r.before.RefusedShares())
	r.before = now
}

func newStatusRecorder(m *sessionManager) *statusRecorder {
	return &statusRecorder{
		manager: m, last: time.Now(), coins: make(map[string]hashrate.Totals),
		rates: make(map[*subAccount]*shareRate),
	}
}

// record checks the coin source and samples the counters until the server is closed.
func (s *statusServer) record() {
	defer close(s.stopped)
	tick := time.NewTicker(recordEvery)
	defer tick.Stop()
	s.recorder.noteCoins()
	if s.manager.monitor.history.Empty() {
		s.recorder.step(s.surveyor.get(), time.Now())
	}
	for {
		select {
		case <-s.stop:
			return
		case now := <-tick.C:
			s.recorder.noteCoins()
			s.miners.forget()
			if now.Sub(s.recorder.last) >= journal.HistoryStep-recordEvery/2 {
				s.recorder.step(s.surveyor.get(), now)
			}
		}
	}
}

// noteCoins adds an event when ZooKeeper connects or disconnects, and when another
// process takes or releases the server ID.
func (r *statusRecorder) noteCoins() {
	source := r.manager.coinSourceStatus()
	if source.IDTaken != r.idTaken {
		r.idTaken = source.IDTaken
		if source.IDTaken {
			r.manager.monitor.events.Add(journal.Bad, journal.Key{Kind: journal.Coins, What: "server ID is held by somebody else"}, "the log says by whom; miners of both are given the same extranonces")
		} else {
			r.manager.monitor.events.Add(journal.Good, journal.Key{Kind: journal.Coins, What: "server ID is ours alone"}, "")
		}
	}
	if source.Kind != coinSourceZooKeeper || source.Connected == r.connected {
		return
	}
	r.connected = source.Connected
	if source.Connected {
		r.manager.monitor.events.Add(journal.Good, journal.Key{Kind: journal.Coins, What: "ZooKeeper connected"}, "")
	} else {
		r.manager.monitor.events.Add(journal.Bad, journal.Key{Kind: journal.Coins, What: "ZooKeeper lost"}, "known sub-accounts keep their coins")
	}
}

// step adds a sample to the charts and updates the rates.
func (r *statusRecorder) step(v *survey, now time.Time) {
	elapsed := now.Sub(r.last)
	r.last = now
	sample := journal.Sample{At: now.Unix(), Span: elapsed.Seconds(), Coins: make(map[string]journal.Point)}
	for g, n := range v.groups {
		if g.pool != nil {
			p := sample.Coins[g.pool.coin]
			p.Sessions += n
			sample.Coins[g.pool.coin] = p
		}
	}
	for coin, totals := range r.manager.rates.byCoin() {
		before := r.coins[coin]
		r.coins[coin] = totals
		p := sample.Coins[coin]
		p.Submitted, p.Refused = totals.Submitted-before.Submitted, totals.RefusedShares()-before.RefusedShares()
		p.Work, p.Unknown = (totals.Work-before.Work)*float64(hashrate.UnitBitcoin), totals.Unknown-before.Unknown
		sample.Coins[coin] = p
	}
	r.manager.monitor.history.Add(sample)

	accounts := r.manager.accounts.all()
	r.mu.Lock()
	defer r.mu.Unlock()
	rates := make(map[*subAccount]*shareRate, len(accounts))
	for _, a := range accounts {
		rate := r.rates[a]
		if rate == nil {
			rate = &shareRate{before: a.before}
		}
		rate.move(a.shares.Totals(), elapsed)
		rates[a] = rate
	}
	r.rates = rates // accounts without miners are forgotten
}

// rate returns the shares per minute and the percentage of refused shares. They are
// NaN if there are no shares to compute them from. many is true if enough shares
// were refused for the percentage to mean something. r.mu is held.
func (r *statusRecorder) rate(a *subAccount) (perMinute, refused float64, many bool) {
	perMinute, refused = math.NaN(), math.NaN()
	rate := r.rates[a]
	if rate == nil {
		return perMinute, refused, false
	}
	if rate.weight > 0 {
		perMinute = rate.submitted * 60 / rate.weight
	}
	if answered := rate.accepted + rate.refused; answered > 0 {
		refused = 100 * rate.refused / answered
	}
	return perMinute, refused, rate.refused >= manyRefused
}

// allPools returns all pools that sessions may be connected to.
func (m *sessionManager) allPools() []*pool {
	pools := make([]*pool, 0, len(m.pools))
	for _, p := range m.pools {
		pools = append(pools, p)
	}
	for _, p := range m.former {
		if now := m.pools[p.coin]; now == nil || now != p && !now.sameAs(p) {
			pools = append(pools, p)
		}
	}
	return pools
}

// coinSourceStatus is the state of the coin source. With a coin file, only Kind and
// Connected are set.
type coinSourceStatus struct {
	Kind        string
	Connected   bool
	LastContact time.Time // with ZooKeeper; zero if there was none
	Watches     int
	Missed      int64 // changes for which no watch fired
	Unreadable  int64 // sub-accounts' nodes that cannot be read
	IDTaken     bool  // another process holds the configured server ID
}

const (
	coinSourceZooKeeper = "zookeeper"
	coinSourceFile      = "file"
)

func (m *sessionManager) coinSourceStatus() coinSourceStatus {
	if zk, ok := m.coins.(*coins.ZooKeeper); ok {
		st := zk.Status()
		return coinSourceStatus{coinSourceZooKeeper, st.Connected, st.LastContact, st.Watches, st.Missed, st.Unreadable, st.IDTaken}
	}
	return coinSourceStatus{Kind: coinSourceFile, Connected: true} // the program does not start if it cannot read the file
}
