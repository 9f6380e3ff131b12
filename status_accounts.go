package main

import (
	"cmp"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/natural"
)

// The table of sub-accounts that the status page reads.

const (
	maxAccountRows = 500
	accountsKeep   = 900 * time.Millisecond // how long rows are shown before they are computed again

	// accountBatch is how many sub-accounts are read while the book's lock is held
	// once.
	accountBatch = 128
)

// accountRow is one sub-account. Rate and Refused are null until there are
// shares to compute them from.
type accountRow struct {
	Account     string               `json:"account"`
	Wanted      string               `json:"wanted"` // empty if its entry was deleted
	Mining      map[string]int       `json:"mining"` // miners by coin
	Miners      int                  `json:"miners"`
	Rate        *float64             `json:"shares_per_minute"`
	Refused     *float64             `json:"refused_percent"`
	Hashrate    map[string]rateReply `json:"hashrate"` // by window
	Unknown     uint64               `json:"unknown"`  // shares whose work or verdict is not known
	Reasons     map[string]uint64    `json:"refused_by_reason"`
	LastSwitch  int64                `json:"last_switch"` // 0 if there was none in this process
	Moving      bool                 `json:"moving,omitempty"`
	LastError   string               `json:"last_error"`
	LastErrorAt int64                `json:"last_error_at"`
	LastErrorOf string               `json:"last_error_about"` // the party blamed for it

	// Troubles describes in words what is wrong now; see accountTroubles.
	Troubles    []string `json:"troubles,omitempty"`
	manyRefused bool

	work accountWork // complete computes Hashrate and Reasons from it
}

// complete returns the row with all its fields. It is called only for rows that are
// shown.
func (r accountRow) complete() accountRow {
	r.Hashrate, r.Reasons = rateReplies(r.work.rates), refusalsOf(r.work.totals.Refused)
	return r
}

// accountTable keeps the rows for accountsKeep and serves all requests from them.
type accountTable struct {
	mu      sync.Mutex
	builtAt time.Time
	rows    []accountRow
}

func (t *accountTable) get(m *sessionManager, r *statusRecorder) []accountRow {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.builtAt) < accountsKeep {
		return t.rows
	}
	accounts := m.accounts.all()
	rows := make([]accountRow, 0, len(accounts))
	for batch := range slices.Chunk(accounts, accountBatch) {
		rows = m.appendAccountRows(rows, batch)
	}
	r.mu.Lock()
	for i := range rows {
		rate, refused, many := r.rate(accounts[i])
		rows[i].Rate, rows[i].Refused, rows[i].manyRefused = numberOrNull(rate), numberOrNull(refused), many
	}
	r.mu.Unlock()
	work := m.rates.accountRates()
	for i := range rows {
		w := work[rows[i].Account]
		rows[i].work, rows[i].Unknown = w, w.totals.Unknown
		rows[i].Troubles = m.accountTroubles(&rows[i], time.Now())
	}
	t.rows, t.builtAt = rows, time.Now()
	return rows
}

// numberOrNull returns v with two decimals, or nil, which is null in JSON, if v is
// not a number.
func numberOrNull(v float64) *float64 {
	if math.IsNaN(v) {
		return nil
	}
	v = math.Round(v*100) / 100
	return &v
}

func (m *sessionManager) appendAccountRows(rows []accountRow, accounts []*subAccount) []accountRow {
	m.accounts.mu.Lock()
	defer m.accounts.mu.Unlock()
	for _, a := range accounts {
		row := accountRow{
			Account: a.name, Wanted: a.wanted, Mining: maps.Clone(a.mining), Miners: len(a.sessions),
			Moving: a.run != nil, LastError: a.lastError,
		}
		if !a.lastSwitch.IsZero() {
			row.LastSwitch = a.lastSwitch.Unix()
		}
		if !a.lastErrorAt.IsZero() {
			row.LastErrorAt, row.LastErrorOf = a.lastErrorAt.Unix(), a.lastErrorOf.String()
		}
		rows = append(rows, row)
	}
	return rows
}

// accountOrders has the orders in which rows can be requested.
var accountOrders = map[string]func(a, b *accountRow) int{
	"account":  compareAccounts,
	"wanted":   func(a, b *accountRow) int { return natural.Compare(a.Wanted, b.Wanted) },
	"miners":   func(a, b *accountRow) int { return cmp.Compare(a.Miners, b.Miners) },
	"rate":     func(a, b *accountRow) int { return cmp.Compare(orMinusOne(a.Rate), orMinusOne(b.Rate)) },
	"hashrate": func(a, b *accountRow) int { return cmp.Compare(a.hashrate(), b.hashrate()) },
	"refused":  func(a, b *accountRow) int { return cmp.Compare(orMinusOne(a.Refused), orMinusOne(b.Refused)) },
	"switched": func(a, b *accountRow) int { return cmp.Compare(a.LastSwitch, b.LastSwitch) },
	"error":    func(a, b *accountRow) int { return cmp.Compare(a.LastErrorAt, b.LastErrorAt) },
	"elsewhere": func(a, b *accountRow) int {
		return cmp.Compare(a.Miners-a.Mining[a.Wanted], b.Miners-b.Mining[b.Wanted])
	},
}

func compareAccounts(a, b *accountRow) int { return natural.Compare(a.Account, b.Account) }

// hashrate returns the value by which rows are sorted: the rate over 15 minutes, or -1
// if it is not known.
func (r *accountRow) hashrate() float64 {
	if perSecond, known := r.work.rates[hashrate.QuarterHour].Value(); known {
		return perSecond
	}
	return -1
}

// orMinusOne returns *v, or -1 if v is nil, so that unknown numbers sort below all
// others.
func orMinusOne(v *float64) float64 {
	if v == nil {
		return -1
	}
	return *v
}

func (s *statusServer) serveAccounts(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	order, filter := q.Get("sort"), strings.ToLower(q.Get("filter"))
	if order == "" {
		order = "miners"
	}
	compare, ok := accountOrders[order]
	if !ok {
		http.Error(w, "sort: one of "+strings.Join(slices.Sorted(maps.Keys(accountOrders)), ", "), http.StatusBadRequest)
		return
	}
	if len(filter) > maxQuery {
		http.Error(w, "filter: too long", http.StatusBadRequest)
		return
	}
	limit, ok := numberIn(w, q.Get("limit"), "limit", 1, maxAccountRows, maxAccountRows)
	if !ok {
		return
	}
	direction := 1
	if q.Get("desc") == "1" {
		direction = -1
	}
	all, troubled := s.accounts.get(s.manager, s.recorder), 0
	rows := make([]*accountRow, 0, len(all))
	for i := range all {
		trouble := len(all[i].Troubles) > 0
		if trouble {
			troubled++
		}
		if (trouble || q.Get("troubled") != "1") && (filter == "" || containsFold(all[i].Account, filter)) {
			rows = append(rows, &all[i])
		}
	}
	matching, shown := len(rows), []accountRow{}
	for _, row := range firstInOrder(rows, limit, func(a, b *accountRow) int {
		return cmp.Or(direction*compare(a, b), compareAccounts(a, b))
	}) {
		shown = append(shown, row.complete())
	}
	writeJSON(w, map[string]any{"accounts": shown, "matching": matching, "total": len(all), "troubled": troubled})
}
