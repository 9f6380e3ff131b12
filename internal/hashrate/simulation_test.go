package hashrate

import (
	"encoding/json"
	"math"
	"testing"
	"time"
)

const tera = 1e12

// simulation is a farm with a simulated clock: miners of known rates find a share
// each time that they have done its work, evenly. Nothing is left to chance, so
// averages can be compared with the truth.
type simulation struct {
	t       *testing.T
	now     time.Duration
	miners  []*simMiner
	coins   [2]*simGroup
	account map[string]*simGroup
	step    time.Duration
	epoch   time.Duration // when the present process began
	dropped []*simGroup   // sub-accounts without miners
}

// simGroup is a coin or a sub-account: what is counted, and what is true.
type simGroup struct {
	counter  *Counter
	averages *Averages
	chart    *Chart
	truth    []float64 // hashes that its miners have computed so far, after each step
}

type simMiner struct {
	name    string
	account string
	group   *simGroup // the group of account
	perSec  float64
	coin    int
	link    Link
	job     Generation
	done    float64 // hashes done for the next share
	hashes  float64 // all hashes done so far
	since   time.Duration
	count   Miner
}

func newSimGroup(now time.Duration) *simGroup {
	c := &Counter{}
	return &simGroup{counter: c, averages: NewAverages(now, c.Totals()), chart: NewChart(now, c.Totals()), truth: []float64{0}}
}

func newSimulation(t *testing.T, step time.Duration) *simulation {
	sim := &simulation{t: t, account: make(map[string]*simGroup), step: step}
	for i := range sim.coins {
		sim.coins[i] = newSimGroup(0)
	}
	return sim
}

// seconds is the clock of the process, which begins again with each process.
func (sim *simulation) seconds() uint32 { return uint32((sim.now - sim.epoch) / time.Second) }

func (sim *simulation) add(name, account string, perSec float64, coin int, d Difficulty) *simMiner {
	m := &simMiner{name: name, account: account, perSec: perSec, coin: coin, since: sim.now, count: NewMiner(sim.seconds())}
	if sim.account[account] == nil {
		sim.account[account] = newSimGroup(sim.now)
	}
	m.group = sim.account[account]
	sim.miners = append(sim.miners, m)
	m.tell(sim, d)
	return m
}

// tell gives the miner a difficulty and a job.
func (m *simMiner) tell(sim *simulation, d Difficulty) {
	m.link.SetDifficulty(d, sim.seconds())
	m.job = m.link.Job(sim.seconds())
}

// move takes the miner to the other coin.
func (m *simMiner) move(sim *simulation, coin int, d Difficulty) {
	m.coin, m.link = coin, Link{}
	m.tell(sim, d)
}

// run lets this much time pass, with the averages advanced every 10 s.
func (sim *simulation) run(d time.Duration) {
	groups := sim.groups()
	for end := sim.now + d; sim.now < end; {
		sim.now += sim.step
		for _, g := range groups {
			g.truth = append(g.truth, g.truth[len(g.truth)-1])
		}
		for _, m := range sim.miners {
			account, coin := m.group, sim.coins[m.coin]
			hashes := m.perSec * sim.step.Seconds()
			m.done += hashes
			m.hashes += hashes
			account.truth[len(account.truth)-1] += hashes
			coin.truth[len(coin.truth)-1] += hashes
			for {
				d := m.link.Difficulty(m.job)
				if m.done < d.Hashes() {
					break
				}
				m.done -= d.Hashes()
				m.count.Submit(sim.seconds())
				m.count.Accept(d, sim.seconds())
				account.counter.Accept(d)
				coin.counter.Accept(d)
			}
		}
		if sim.now%(10*time.Second) == 0 {
			sim.advance()
		}
	}
}

func (sim *simulation) groups() []*simGroup {
	groups := sim.coins[:]
	for _, g := range sim.account {
		groups = append(groups[:len(groups):len(groups)], g)
	}
	return groups
}

func (sim *simulation) advance() {
	for _, g := range sim.groups() {
		g.averages.Advance(sim.now, g.counter.Totals())
		g.chart.Advance(sim.now, g.counter.Totals())
	}
}

// truthOf is the true hashrate of a group over the last w.
func (sim *simulation) truthOf(g *simGroup, w time.Duration) float64 {
	last := len(g.truth) - 1
	n := min(int(w/sim.step), last)
	return (g.truth[last] - g.truth[last-n]) / (time.Duration(n) * sim.step).Seconds()
}

// check compares all averages with the truth.
func (sim *simulation) check(when string, tolerance float64) {
	sim.t.Helper()
	for i, g := range sim.groups() {
		for w := range Windows {
			got, truth := g.averages.Rate(w), sim.truthOf(g, w.Length())
			if math.Abs(got.PerSecond-truth) > tolerance*truth || got.Knowledge != FullyKnown {
				sim.t.Errorf("%s: group %d, %s: got %v, want %s (%+.1f %%)", when, i, w, got, Format(truth), 100*(got.PerSecond/truth-1))
			}
		}
	}
	for _, m := range sim.miners {
		age := sim.now - m.since
		if age < time.Minute {
			continue
		}
		for what, got := range map[string]Rate{"15m": m.count.Recent(sim.seconds()), "since it connected": m.count.Average(sim.seconds())} {
			if math.Abs(got.PerSecond/m.perSec-1) > tolerance {
				sim.t.Errorf("%s: miner %s, %s: got %v, want %s", when, m.name, what, got, Format(m.perSec))
			}
		}
	}
	sim.checkSums(when)
}

// checkSums checks that all coins together have as much as all sub-accounts.
func (sim *simulation) checkSums(when string) {
	sim.t.Helper()
	var coins, accounts Totals
	for _, g := range sim.coins {
		coins = coins.Plus(g.counter.Totals())
	}
	for _, g := range sim.account {
		accounts = accounts.Plus(g.counter.Totals())
	}
	for _, g := range sim.dropped {
		accounts = accounts.Plus(g.counter.Totals())
	}
	if math.Abs(coins.Work-accounts.Work) > 1e-9*coins.Work || coins.Accepted != accounts.Accepted {
		sim.t.Errorf("%s: coins have %+v, but sub-accounts %+v", when, coins, accounts)
	}
	for w := range Windows {
		var rates [2]float64
		for _, g := range sim.coins {
			rates[0] += g.averages.Rate(w).PerSecond
		}
		for _, g := range sim.account {
			rates[1] += g.averages.Rate(w).PerSecond
		}
		// The buckets have a precision of seven digits. For the time since the
		// beginning, sub-accounts may divide by another time.
		if math.Abs(rates[0]/rates[1]-1) > 1e-5 {
			sim.t.Errorf("%s, %s: coins have %s, but sub-accounts %s", when, w, Format(rates[0]), Format(rates[1]))
		}
	}
}

// upgrade hands everything to the next process, whose counters and clock begin
// again.
func (sim *simulation) upgrade() {
	sim.advance()
	before := sim.seconds()
	sim.epoch = sim.now
	for _, g := range sim.groups() {
		var averages AveragesState
		var chart ChartState
		sim.throughJSON(g.averages.State(), &averages)
		sim.throughJSON(g.chart.State(), &chart)
		g.counter = &Counter{}
		g.averages, g.chart = averages.Averages(sim.now, g.counter.Totals()), chart.Chart(sim.now, g.counter.Totals())
	}
	for _, m := range sim.miners {
		var st MinerState
		var link LinkState
		sim.throughJSON(m.count.State(before), &st)
		sim.throughJSON(m.link.State(before), &link)
		m.count, m.link = st.Miner(sim.seconds()), link.Link(sim.seconds())
	}
}

func (sim *simulation) throughJSON(from, into any) {
	sim.t.Helper()
	b, err := json.Marshal(from)
	if err == nil {
		err = json.Unmarshal(b, into)
	}
	if err != nil {
		sim.t.Fatal(err)
	}
}

// 10 miners of 3 rates mine on 2 coins with different difficulties, which change,
// and are switched. Each average is within 5 % of the truth from the first minute
// on, also over an upgrade, and coins and sub-accounts have the same sum.
func TestAveragesOfAFarm(t *testing.T) {
	t.Parallel()
	sim := newSimulation(t, 500*time.Millisecond)
	rates := []float64{14 * tera, 100 * tera, 234 * tera}
	accounts := []string{"alice", "bob", "carol"}
	// Each miner finds about a share a second, whatever its rate.
	difficulty := func(m *simMiner, factor float64) Difficulty {
		return Difficulty(math.Round(m.perSec / (1 << 32) * factor))
	}
	for i := range 10 {
		m := sim.add(string(rune('a'+i)), accounts[i%3], rates[i*7%3], i%2, 1)
		m.tell(sim, difficulty(m, 0.5))
	}
	sim.run(time.Minute)
	sim.check("after the first minute", 0.05)
	for hour := range 26 {
		// In each hour the difficulties change, and a sub-account is switched.
		sim.run(17 * time.Minute)
		for i, m := range sim.miners {
			m.tell(sim, difficulty(m, 0.4+float64((hour+i)%5)/4))
		}
		sim.run(13 * time.Minute)
		sim.check("after a change of difficulty", 0.05)
		for _, m := range sim.miners {
			if m.account == accounts[hour%3] {
				m.move(sim, 1-m.coin, difficulty(m, 0.3+float64(hour%3)/2))
			}
		}
		sim.run(30 * time.Second)
		sim.check("30 s after a switch", 0.05)
		sim.run(29*time.Minute + 30*time.Second)
		sim.check("half an hour after a switch", 0.05)
		if hour == 12 {
			sim.upgrade()
			sim.check("after an upgrade", 0.05)
		}
	}
	// A day's chart ends with the truth of the last steps.
	for i, g := range sim.coins {
		points, end := g.chart.Points()
		if len(points) < ChartPoints || end != sim.now {
			t.Fatalf("coin %d: the chart has %d points up to %v", i, len(points), end)
		}
		step := int(ChartStep / sim.step)
		over := len(g.truth) - 1 - int(sim.now%ChartStep/sim.step) // how long ago the last point but one ended
		for back := range 280 {
			at := over - step*back
			truth, got := (g.truth[at]-g.truth[at-step])/ChartStep.Seconds(), points[len(points)-2-back]
			if math.Abs(got-truth) > 0.05*truth {
				t.Errorf("coin %d, %d steps ago: got %s, want %s", i, back, Format(got), Format(truth))
			}
		}
	}
}

// A coin that most miners leave has its new hashrate after each window has passed.
func TestAveragesAfterAStep(t *testing.T) {
	t.Parallel()
	sim := newSimulation(t, 500*time.Millisecond)
	for i := range 10 {
		sim.add(string(rune('a'+i)), "alice", 50*tera, 0, 4096)
	}
	sim.add("k", "bob", 50*tera, 1, 4096)
	sim.run(30*time.Hour + 3*time.Second) // in the middle of every bucket
	for _, m := range sim.miners[1:10] {
		m.move(sim, 1, 2048)
	}
	at := sim.now
	for w := range Windows {
		sim.run(at + w.Length() + shapes[w].bucket - sim.now + 7*time.Second)
		for i, want := range []float64{50 * tera, 500 * tera} {
			if got := sim.coins[i].averages.Rate(w); math.Abs(got.PerSecond/want-1) > 0.05 {
				t.Errorf("coin %d, %s later: got %v, want %s", i, w, got, Format(want))
			}
		}
	}
	// One miner became ten times as fast, and one stopped.
	fast, idle := sim.miners[0], sim.miners[1]
	fast.perSec *= 10
	sim.run(MinerWindow * time.Second)
	if got := fast.count.Recent(sim.seconds()); math.Abs(got.PerSecond/fast.perSec-1) > 0.05 {
		t.Errorf("the faster miner has %v, want %s", got, Format(fast.perSec))
	}
	before := idle.perSec
	idle.perSec = 0
	sim.run(MinerWindow * time.Second)
	if got := idle.count.Recent(sim.seconds()); got.PerSecond > 0.05*before {
		t.Errorf("a miner that stopped 15 minutes ago has %v", got)
	}
}

// If shares are rare, an average is wrong by one share at most.
func TestAveragesOfRareShares(t *testing.T) {
	for _, every := range []time.Duration{7 * time.Second, 40 * time.Second, 3 * time.Minute, 20 * time.Minute} {
		sim := newSimulation(t, time.Second)
		const d = 65536
		m := sim.add("a", "alice", d*(1<<32)/every.Seconds(), 0, d)
		start := m.perSec
		for range 60 {
			sim.run(29 * time.Minute)
			g := sim.account["alice"]
			for w := range Windows {
				span := min(w.Length(), sim.now)
				// This is one share more or less, and the share of the bucket that
				// is divided.
				off := max(0.01, 1.001*float64(every+shapes[w].bucket/4)/float64(span))
				if got := g.averages.Rate(w).PerSecond; math.Abs(got/start-1) > off {
					t.Errorf("a share each %v, %s after %v: got %s, want %s within %.1f %%", every, w, sim.now, Format(got), Format(start), 100*off)
				}
			}
			// The latest share weighs most: half a share per span.
			off := 0.005 + 1.2*every.Seconds()/minerSpan
			if got := m.count.Recent(sim.seconds()).PerSecond; math.Abs(got/start-1) > off {
				t.Errorf("a share each %v, the miner after %v: got %s, want %s within %.1f %%", every, sim.now, Format(got), Format(start), 100*off)
			}
			if got := m.count.Average(sim.seconds()).PerSecond; math.Abs(got/start-1) > 1.001*every.Seconds()/sim.now.Seconds() {
				t.Errorf("a share each %v, the miner since it connected %v ago: got %s, want %s", every, sim.now, Format(got), Format(start))
			}
		}
	}
}

// A sub-account whose miners have left takes nothing from the sum of all.
func TestAveragesOfTheGone(t *testing.T) {
	sim := newSimulation(t, 500*time.Millisecond)
	sim.account["gone"] = newSimGroup(0)
	stays := sim.add("a", "alice", 50*tera, 0, 4096)
	for i, name := range []string{"bob", "carol"} {
		sim.run(7 * time.Minute)
		sim.add("b", name, float64(10+20*i)*tera, 1, 2048)
		sim.run(9 * time.Minute)
		g := sim.account[name]
		sim.account["gone"].averages.Absorb(g.averages)
		sim.dropped = append(sim.dropped, g)
		delete(sim.account, name)
		sim.miners = []*simMiner{stays}
	}
	sim.run(50 * time.Second)
	for w := range Windows {
		var coins, all float64
		for _, g := range sim.coins {
			coins += g.averages.Rate(w).PerSecond
		}
		for _, g := range sim.account {
			all += g.averages.Rate(w).PerSecond
		}
		if math.Abs(coins/all-1) > 1e-5 {
			t.Errorf("%s: coins have %s, but sub-accounts, including those without miners, %s", w, Format(coins), Format(all))
		}
	}
}
