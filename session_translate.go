package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/golang/glog"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// Lines to and from pools that pick the extranonce are translated, as
// stratum.Translation explains. The translation works on the bytes of the line.

var errAgentPool = errors.New("agents need a pool that takes the session's extranonce")

// lineRules say how the lines of one link are changed. With nil rules, lines
// pass unchanged.
type lineRules struct {
	pool      *pool
	suffixed  bool
	names     bool                 // the pool has authorized other names than those in the miner's shares
	translate *stratum.Translation // nil if the miner uses the pool's extranonce unchanged
	dropBits  bool                 // the miner rolls the version, but the pool does not allow it
	next      *stratum.Translation // used from the next job on if changed is set
	changed   bool                 // use next from the next job on, even if it is nil

	// After a change, shares for jobs that are not in jobs belong to a former
	// translation.
	former []formerTranslation // the oldest first
	jobs   stratum.JobSet      // the jobs since the last change; nil if there was none

	// The last worker name that was replaced and its replacement, as raw JSON. The
	// name is followed by its quote and, on ethereum, the share's worker field.
	name, renamed []byte
}

// formerTranslation is what a link used before its pool picked another
// extranonce.
type formerTranslation struct {
	translate *stratum.Translation
	jobs      stratum.JobSet // nil if every job belongs to it that belongs to no later translation
}

const (
	// maxFormer is how many former translations a link keeps.
	maxFormer = 8
	// formerJobs is the number of new jobs after which former translations are
	// forgotten, because shares for older jobs are stale at any pool by then.
	formerJobs = 32
)

// linkRules returns the rules for a link that is ready. These are known (nil if there are
// none) and, if the pool knows workers by other names than the miner sends, the names.
func (s *Session) linkRules(p *pool, suffixed bool, known *lineRules) *lineRules {
	names := p.renames() || suffixed || s.auth.name.Sent != "" ||
		slices.ContainsFunc(s.workers, func(w *extraWorker) bool { return w.name.Sent != "" })
	if !names {
		return known
	}
	if known == nil {
		known = &lineRules{pool: p, suffixed: suffixed}
	}
	known.names = true
	return known
}

// newRules returns the rules for everything but names, or nil if nothing is changed.
func newRules(p *pool, suffixed bool, t *stratum.Translation, dropBits bool) *lineRules {
	if t == nil && !dropBits {
		return nil
	}
	return &lineRules{pool: p, suffixed: suffixed, translate: t, dropBits: dropBits}
}

// renames reports whether names in shares are replaced.
func (r *lineRules) renames() bool { return r != nil && r.names }

// translates reports whether jobs are changed.
func (r *lineRules) translates() bool { return r != nil && (r.translate != nil || r.next != nil) }

// state describes the rules for the next process, and rulesState.rules restores them.
// Both return nil for nil.
func (r *lineRules) state() *rulesState {
	if r == nil {
		return nil
	}
	st := &rulesState{
		Suffixed: r.suffixed, Translate: r.translate, Next: r.next, Changed: r.changed, DropBits: r.dropBits,
		Jobs: slices.Collect(maps.Keys(r.jobs)),
	}
	for _, f := range r.former {
		st.Former = append(st.Former, formerState{f.translate, f.jobs != nil, slices.Collect(maps.Keys(f.jobs))})
	}
	return st
}

func (st *rulesState) rules(p *pool) *lineRules {
	if st == nil {
		return nil
	}
	r := &lineRules{
		pool: p, suffixed: st.Suffixed, translate: st.Translate, next: st.Next, changed: st.Changed, dropBits: st.DropBits,
	}
	for _, f := range st.Former {
		former := formerTranslation{translate: f.Translate}
		if f.Noted {
			former.jobs = stratum.NewJobSet(f.Jobs)
		}
		r.former = append(r.former, former)
	}
	if len(r.former) > 0 {
		r.jobs = stratum.NewJobSet(st.Jobs)
	}
	return r
}

// jobError is the error for a job that cannot be translated; all shares for it
// would be invalid.
func jobError(line []byte) error {
	return fmt.Errorf("pool sent a job that cannot be understood: %s", stratum.Clip(bytes.TrimSpace(line)))
}

// job appends a job to out in the form in which the miner gets it. It reports whether the
// line could be parsed.
func (r *lineRules) job(out, line []byte) ([]byte, bool) {
	if r.changed {
		if len(r.former) == maxFormer {
			r.former = slices.Delete(r.former, 0, 1)
		}
		r.former = append(r.former, formerTranslation{r.translate, r.jobs})
		r.translate, r.next, r.changed, r.jobs = r.next, nil, false, make(stratum.JobSet)
	}
	if r.jobs != nil {
		if r.jobs.Add(line); len(r.jobs) >= formerJobs {
			r.former, r.jobs = nil, nil
		}
	}
	if r.translate == nil {
		return append(out, line...), true
	}
	return r.translate.AppendJob(out, line)
}

// share appends a share to out in the form in which the pool gets it. It reports whether
// the line could be parsed.
func (r *lineRules) share(s *Session, out, line []byte) ([]byte, bool) {
	var rename func([]byte) []byte
	if r.names && (s.manager.chain != stratum.Ethereum || stratum.NamesWorker(line)) {
		var worker []byte
		if s.manager.chain == stratum.Ethereum {
			worker = stratum.WorkerField(line)
		}
		rename = func(raw []byte) []byte { return r.rename(s, raw, worker) }
	}
	t := r.translationOf(line)
	if t == nil && rename == nil {
		out = append(out, line...)
	} else {
		var ok bool
		if out, ok = t.AppendShare(out, line, rename); !ok {
			return out, false
		}
	}
	if r.dropBits {
		out = stratum.CutVersionBits(out)
	}
	return out, true
}

// translationOf returns the translation that was in use when the share's job
// was given.
func (r *lineRules) translationOf(share []byte) *stratum.Translation {
	if len(r.former) == 0 {
		return r.translate
	}
	id := stratum.PlainID(stratum.ShareJobID(share))
	if r.jobs.Has(id) {
		return r.translate
	}
	for _, f := range slices.Backward(r.former) {
		if f.jobs == nil || f.jobs.Has(id) {
			return f.translate
		}
	}
	return r.former[0].translate
}

// workerSent returns the worker that a share names. text is the name in the share's
// parameters. field is the worker field of an Ethereum share, empty if there is none.
func (s *Session) workerSent(text, field string) stratum.WorkerName {
	if field == "" && text == s.auth.name.AsSent() {
		return s.auth.name
	}
	if s.manager.chain != stratum.Ethereum { // there, names do not depend on how they were authorized
		if s.workerIndex == nil && len(s.workers) > 0 {
			s.workerIndex = s.newWorkerIndex()
		}
		if x := s.workerIndex; x != nil {
			if at, ok := x.at[text]; ok && s.workers[at].name.Sent == text {
				return s.workers[at].name
			}
		}
	}
	name := s.manager.chain.ParseWorker(text, field)
	if s.sameAccount(name.Account) {
		return name.WithAccount(s.account.name)
	}
	if s.manager.chain == stratum.Ethereum {
		name.Account = s.account.name
	}
	return name // another account must not lose its share to this one
}

// rename returns the name that the pool knows for the name raw in a share, or nil if that
// name cannot be sent. Both are raw JSON without quotes. worker is the share's worker field.
func (r *lineRules) rename(s *Session, raw, worker []byte) []byte {
	if n := len(raw); len(r.name) == n+1+len(worker) && r.name[n] == '"' && bytes.Equal(raw, r.name[:n]) && bytes.Equal(worker, r.name[n+1:]) {
		return r.renamed
	}
	text, ok := stratum.JsonString(fmt.Appendf(nil, `"%s"`, raw))
	if !ok {
		return raw
	}
	name := s.workerSent(text, stratum.WorkerText(worker))
	if !r.pool.canName(name) {
		return nil
	}
	renamed := stratum.Quote(r.pool.workerFor(name, r.suffixed))
	r.name, r.renamed = slices.Concat(raw, []byte{'"'}, worker), renamed[1:len(renamed)-1]
	return r.renamed
}

// writeShare sends a share to a link, changed by the link's rules. If the share cannot be
// sent, writeShare returns the error for the miner and sends nothing.
func (s *Session) writeShare(to *link, line []byte) *stratum.Error {
	out, ok := to.rules.share(s, s.loop.scratch[:0], line)
	if s.loop.scratch = out; ok {
		to.socket.Write(out)
		return nil
	}
	if to.rules.names && to.rules.rename(s, stratum.ScalarParam(line, 0), nil) == nil {
		return stratum.ErrEmptySubAccount // as for the authorization of such a worker
	}
	s.manager.notUnderstood.Add(1)
	return stratum.ErrNotUnderstood
}

// writeJob sends the miner a job, changed by the link's rules. If newID is not nil, it
// replaces the pool's ID of the job. If the job cannot be translated, writeJob returns an
// error and sends nothing.
func (s *Session) writeJob(line, newID []byte) error {
	out := s.loop.scratch[:0]
	if s.link.rules != nil {
		var ok bool
		if out, ok = s.link.rules.job(out, line); !ok {
			s.manager.notUnderstood.Add(1)
			return jobError(line)
		}
	} else {
		out = append(out, line...)
	}
	if newID != nil {
		out = stratum.PutJobID(out, 0, newID)
	}
	s.loop.scratch = out
	s.miner.Write(out)
	return nil
}

// neededSize returns the size of extranonce2 that p has to give to the session, or 0
// if every size will do.
func (s *Session) neededSize(p *pool) int {
	shape := s.shape.OrUsual(s.manager.chain, s.id)
	switch {
	case !p.picksExtranonce:
		return shape.Size
	case s.wantsExtranonce && s.agent == nil:
		return 0
	}
	return shape.Needs()
}

// translationFor decides how to use the extranonce that a pool gave.
// usePoolExtranonce means that the miner has to get the pool's extranonce, because
// its size leaves no room for a translation.
func (s *Session) translationFor(p *pool, given *stratum.GivenExtranonce) (t *stratum.Translation, usePoolExtranonce bool, err error) {
	shape := s.shape.OrUsual(s.manager.chain, s.id)
	if !p.picksExtranonce {
		if strings.EqualFold(given.Extranonce1, shape.Extranonce1) {
			t, err = shape.Fill(given.Size)
		} else {
			// The pool took the whole session ID, of which the miner has only a
			// part as its extranonce1: there were no such pools when it connected.
			t, err = shape.Translate(given.Extranonce1, given.Size)
		}
		return t, false, err
	}
	if s.agent != nil {
		return nil, false, errAgentPool
	}
	t, err = shape.Translate(given.Extranonce1, given.Size)
	if err != nil && s.wantsExtranonce && given.Size > 0 {
		return nil, true, nil
	}
	return t, false, err
}

// appendExtranonce appends mining.set_extranonce to b, with the pool's extranonce or with
// the one from the miner's handshake. In most cases the miner already uses the right one,
// and nothing is appended.
func (s *Session) appendExtranonce(b []byte, given *stratum.GivenExtranonce, usePoolExtranonce bool) []byte {
	if usePoolExtranonce {
		if s.poolExtranonce == nil || *s.poolExtranonce != *given {
			s.poolExtranonce = given
			b = stratum.AppendSetExtranonce(b, *given)
		}
		return b
	}
	if s.poolExtranonce != nil {
		s.poolExtranonce = nil
		shape := s.shape.OrUsual(s.manager.chain, s.id)
		b = stratum.AppendSetExtranonce(b, stratum.GivenExtranonce(shape))
	}
	return b
}

// extranonceChanged handles mining.set_extranonce from the pool of the link in
// use. It returns an error if the link cannot be used any more.
func (s *Session) extranonceChanged(line []byte) error {
	if s.link.rules == nil || !s.link.rules.pool.picksExtranonce {
		return s.extranonceRefused(line)
	}
	given, err := extranonceOf(line)
	if err != nil {
		return err
	}
	s.manager.sizes.saw(s.link.address, given.Size)
	t, usePoolExtranonce, err := s.translationFor(s.link.rules.pool, given)
	if err != nil {
		return err
	}
	s.miner.Write(s.appendExtranonce(nil, given, usePoolExtranonce))
	s.link.rules.next, s.link.rules.changed = t, true
	glog.V(2).Infof("%s pool changed its extranonce coin=%q", s, s.link.pool.coin)
	return nil
}

// extranonceOf reads mining.set_extranonce.
func extranonceOf(line []byte) (*stratum.GivenExtranonce, error) {
	r, err := stratum.ParseRequest(line)
	if err != nil {
		return nil, errPoolNoise
	}
	params := r.ParamList()
	if len(params) < 2 {
		return nil, fmt.Errorf("pool sent %s", stratum.Clip(bytes.TrimSpace(line)))
	}
	return stratum.NewGiven(params[0], params[1])
}

// extranonceRefused logs that a pool has changed the extranonce, and returns the
// error. Such a pool would refuse every share.
func (s *Session) extranonceRefused(line []byte) error {
	if glog.V(1) {
		s.manager.limitedLog.Infof("extranonce changed", "%s pool changed the extranonce: %q", s, stratum.Clip(bytes.TrimSpace(line)))
	}
	return fmt.Errorf("pool changed the extranonce: %q", stratum.Clip(bytes.TrimSpace(line)))
}
