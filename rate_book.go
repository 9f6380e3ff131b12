package main

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
)

const (
	// advanceEvery is how often the averages are advanced.
	advanceEvery = 10 * time.Second

	// absentKept is how long the averages of a sub-account without miners, or of a
	// pool that is no longer configured, are kept. After that time they are zero.
	// maxAbsent bounds how many sub-accounts without miners are kept, because
	// miners choose their names.
	absentKept = 24 * time.Hour
	maxAbsent  = 4096

	// maxClock is far beyond any time of the common clock.
	maxClock = 100 * 365 * 24 * time.Hour
)

// rateBook has the hashrates of all coins, pool addresses and sub-accounts. The sum
// over the coins always equals the sum over the sub-accounts: the averages of a
// sub-account whose miners have left are kept, or added to absent if there are too
// many. Any goroutine may use the book. Its own goroutine, run, advances the averages.
type rateBook struct {
	began time.Time // by the process's clock
	stop  chan struct{}
	done  chan struct{} // closed when run has returned; nil if it was not started

	mu    sync.Mutex
	since time.Duration // the common clock at began, continued from the former process
	coins map[string]*coinRates
	// pools has the pool addresses of each coin. If several configurations had the
	// same one, their counts are added up.
	pools    map[poolKey]*poolRates
	accounts map[string]*accountRates
	absent   *hashrate.Averages // sum of the sub-accounts that were removed from accounts
}

type poolKey struct{ coin, address string }

type coinRates struct {
	averages *hashrate.Averages
	day      *hashrate.Chart
}

type poolRates struct {
	counters []*hashrate.Counter
	averages *hashrate.Averages
}

func (p *poolRates) totals() (t hashrate.Totals) {
	for _, c := range p.counters {
		t = t.Plus(c.Totals())
	}
	return t
}

type accountRates struct {
	shares   hashrate.Counter
	averages *hashrate.Averages
	here     bool          // the sub-account has miners
	left     time.Duration // when the last miner left
}

func newRateBook() *rateBook {
	b := &rateBook{
		began: time.Now(), stop: make(chan struct{}),
		coins: make(map[string]*coinRates), pools: make(map[poolKey]*poolRates), accounts: make(map[string]*accountRates),
	}
	b.absent = hashrate.NewAverages(0, hashrate.Totals{})
	return b
}

// clock returns the common clock of all averages. mu is held.
func (b *rateBook) clock() time.Duration { return b.since + time.Since(b.began) }

// start advances the averages until close is called.
func (b *rateBook) start() {
	b.done = make(chan struct{})
	go b.run()
}

func (b *rateBook) run() {
	defer close(b.done)
	tick := time.NewTicker(advanceEvery)
	defer tick.Stop()
	for {
		select {
		case <-b.stop:
			return
		case <-tick.C:
			b.advance()
		}
	}
}

func (b *rateBook) close() {
	if b.done != nil {
		close(b.stop)
		<-b.done
	}
}

// adopt makes the book count the shares of pools.
func (b *rateBook) adopt(pools map[string]*pool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.clock()
	for _, p := range pools {
		b.coin(p.coin, now)
		for i, a := range p.addresses {
			key := poolKey{p.coin, a.text}
			rates := b.pools[key]
			if rates == nil {
				rates = &poolRates{averages: hashrate.NewAverages(now, hashrate.Totals{})}
				b.pools[key] = rates
			}
			rates.counters = append(rates.counters, &p.links[i].shares)
		}
	}
}

// coin returns a coin's hashrates and creates them if needed. mu is held.
func (b *rateBook) coin(name string, now time.Duration) *coinRates {
	c := b.coins[name]
	if c == nil {
		c = &coinRates{hashrate.NewAverages(now, hashrate.Totals{}), hashrate.NewChart(now, hashrate.Totals{})}
		b.coins[name] = c
	}
	return c
}

// comes returns the counter of a sub-account whose first miner has connected.
func (b *rateBook) comes(name string) *hashrate.Counter {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.accounts[name]
	if a == nil {
		a = &accountRates{averages: hashrate.NewAverages(b.clock(), hashrate.Totals{})}
		b.accounts[name] = a
	}
	a.here = true
	return &a.shares
}

// leaves records that a sub-account's last miner has gone. Nobody uses its counter
// before comes is called again.
func (b *rateBook) leaves(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a := b.accounts[name]; a != nil {
		a.here, a.left = false, b.clock()
	}
}

// advance advances all averages to now.
func (b *rateBook) advance() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advanceTo(b.clock())
}

// advanceTo advances all averages to a time of the common clock. mu is held.
func (b *rateBook) advanceTo(now time.Duration) {
	for key, p := range b.pools {
		p.averages.Advance(now, p.totals())
		if len(p.counters) == 0 && isOver(p.averages) {
			delete(b.pools, key)
		}
	}
	totals := b.coinTotals()
	for name, c := range b.coins {
		t, configured := totals[name]
		c.averages.Advance(now, t)
		c.day.Advance(now, t)
		if !configured && isOver(c.averages) {
			delete(b.coins, name)
		}
	}
	var absent []string
	for name, a := range b.accounts {
		a.averages.Advance(now, a.shares.Totals())
		if !a.here {
			absent = append(absent, name)
		}
	}
	b.absent.Advance(now, hashrate.Totals{})
	slices.SortFunc(absent, func(x, y string) int {
		return cmp.Compare(b.accounts[y].left, b.accounts[x].left) // the latest to leave comes first
	})
	for i, name := range absent {
		if a := b.accounts[name]; i >= maxAbsent || now-a.left > absentKept {
			b.absent.Absorb(a.averages)
			delete(b.accounts, name)
		}
	}
}

// isOver reports whether nothing of the last day is left in the averages.
func isOver(a *hashrate.Averages) bool {
	perSecond, known := a.Rate(hashrate.Day).Value()
	return known && perSecond == 0
}

// coinTotals returns what this process has counted for each coin. mu is held.
func (b *rateBook) coinTotals() map[string]hashrate.Totals {
	totals := make(map[string]hashrate.Totals)
	for key, p := range b.pools {
		if len(p.counters) > 0 {
			totals[key.coin] = totals[key.coin].Plus(p.totals())
		}
	}
	return totals
}

// byCoin returns what this process has counted for each coin.
func (b *rateBook) byCoin() map[string]hashrate.Totals {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.coinTotals()
}

// rates has the hashrate over each window.
type rates [hashrate.Windows]hashrate.Rate

func ratesOf(a *hashrate.Averages) (r rates) {
	for w := range hashrate.Windows {
		r[w] = a.Rate(w)
	}
	return r
}

// coinRates returns the hashrates of all coins, as last advanced.
func (b *rateBook) coinRates() map[string]rates {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make(map[string]rates, len(b.coins))
	for name, c := range b.coins {
		all[name] = ratesOf(c.averages)
	}
	return all
}

// poolRates returns the hashrates of all pool addresses, as last advanced.
func (b *rateBook) poolRates() map[poolKey]rates {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make(map[poolKey]rates, len(b.pools))
	for key, p := range b.pools {
		all[key] = ratesOf(p.averages)
	}
	return all
}

// accountRates returns the hashrates and counts of all sub-accounts with miners here.
func (b *rateBook) accountRates() map[string]accountWork {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make(map[string]accountWork, len(b.accounts))
	for name, a := range b.accounts {
		if a.here {
			all[name] = accountWork{ratesOf(a.averages), a.shares.Totals()}
		}
	}
	return all
}

// accountWork holds the hashrates and counts of one sub-account.
type accountWork struct {
	rates  rates
	totals hashrate.Totals
}

// lostBefore returns the work of an account's shares that were refused in the last
// minute, in units of difficulty, and how much of that minute the account is known for.
func (b *rateBook) lostBefore(account string) (work float64, of time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.accounts[account]
	if a == nil {
		return 0, 0
	}
	return a.averages.LostBefore(b.clock(), a.shares.Totals())
}

// dayChart has the coins' hashrates of the last day. The last values of all coins are
// for the same time; a coin that was added later has fewer values.
type dayChart struct {
	Step  int                  `json:"step"` // seconds
	Coins map[string][]float64 `json:"coins"`
}

func (b *rateBook) dayChart() dayChart {
	b.mu.Lock()
	defer b.mu.Unlock()
	chart := dayChart{Step: int(hashrate.ChartStep / time.Second), Coins: make(map[string][]float64, len(b.coins))}
	for name, c := range b.coins {
		points, _ := c.day.Points()
		chart.Coins[name] = append([]float64{}, points...) // a list in JSON, even if empty
	}
	return chart
}

// ratesState is the book in runtime.json. The next process continues the averages and
// begins its counters at zero.
type ratesState struct {
	Clock    time.Duration
	Coins    map[string]hashrate.AveragesState
	Charts   map[string]hashrate.ChartState
	Pools    map[string]map[string]hashrate.AveragesState // by coin and address
	Accounts map[string]hashrate.AveragesState
	Left     map[string]time.Duration // of the sub-accounts without miners
	Absent   hashrate.AveragesState
}

// state describes the book for the next process.
func (b *rateBook) state() *ratesState {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.clock()
	b.advanceTo(now)
	st := &ratesState{
		Clock: now, Coins: make(map[string]hashrate.AveragesState), Charts: make(map[string]hashrate.ChartState),
		Pools: make(map[string]map[string]hashrate.AveragesState), Accounts: make(map[string]hashrate.AveragesState),
		Left: make(map[string]time.Duration), Absent: b.absent.State(),
	}
	for name, c := range b.coins {
		st.Coins[name], st.Charts[name] = c.averages.State(), c.day.State()
	}
	for key, p := range b.pools {
		if st.Pools[key.coin] == nil {
			st.Pools[key.coin] = make(map[string]hashrate.AveragesState)
		}
		st.Pools[key.coin][key.address] = p.averages.State()
	}
	for name, a := range b.accounts {
		st.Accounts[name] = a.averages.State()
		if !a.here {
			st.Left[name] = a.left
		}
	}
	return st
}

// resume continues the book of the former process. pause is how long ago that process
// stopped, or negative if it is not known. No session may have joined yet. st is nil if
// the former process was a build without hashrates.
func (b *rateBook) resume(st *ratesState, pause time.Duration) {
	if st == nil || st.Clock < 0 || st.Clock > maxClock {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.began = time.Now()
	b.since = st.Clock + min(max(0, pause), absentKept)
	now, none := b.clock(), hashrate.Totals{}
	for name, c := range b.coins { // of this configuration
		c.averages, c.day = hashrate.NewAverages(now, none), hashrate.NewChart(now, none)
		b.coins[name] = c
	}
	for _, p := range b.pools {
		p.averages = hashrate.NewAverages(now, none)
	}
	for name, past := range st.Coins {
		b.coin(name, now).averages = past.Averages(now, none)
	}
	for name, past := range st.Charts {
		b.coin(name, now).day = past.Chart(now, none)
	}
	for coin, pools := range st.Pools {
		for address, past := range pools {
			key := poolKey{coin, address}
			if b.pools[key] == nil {
				b.pools[key] = &poolRates{}
			}
			b.pools[key].averages = past.Averages(now, none)
		}
	}
	for name, past := range st.Accounts {
		left, ok := st.Left[name]
		if !ok {
			left = now // until one of its miners is taken over
		}
		b.accounts[name] = &accountRates{averages: past.Averages(now, none), left: min(left, now)}
	}
	b.absent = st.Absent.Averages(now, none)
}
