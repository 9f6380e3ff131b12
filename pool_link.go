package main

import (
	"errors"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/relay"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

const (
	// poolHandshakeTimeout bounds the whole preparation of a link, dial
	// included.
	poolHandshakeTimeout = 10 * time.Second

	// firstJobGrace is how long the answer to a miner's authorization waits
	// for the pool's first job and for a late answer to mining.configure.
	firstJobGrace = time.Second

	// maxChanges is how often a pool may change its extranonce before its link is
	// ready. Each change costs a pass over all lines that the pool has sent.
	maxChanges = 8

	// maxJunkLines is how many lines that are not JSON a pool may send before
	// its link is ready.
	maxJunkLines = 5

	// maxEarly bounds what a pool may send before its link is ready.
	maxEarly = 2 * stratum.MaxPoolLine
)

var (
	errPoolTimeout   = errors.New("pool handshake not done in time")
	errPoolTooMuch   = errors.New("pool sent too much before the handshake was done")
	errPoolReconnect = errors.New("pool asked to reconnect")
	errPoolNoise     = errors.New("pool sent a line that is not JSON")
)

// poolLink prepares one connection to a pool: dial, subscribe with the
// session's extranonce, authorize, first job. First connects, switches and
// reconnects all use it. It belongs to its session and calls the session's
// linkReady or linkFailed once.
type poolLink struct {
	session  *Session
	pool     *pool
	address  *poolAddress
	dialer   dialer
	override bool // ignore the worker's pause, because the session has its own

	dial    *poolDial     // until one of the address's IPs is connected
	attempt *attempt      // set once connected
	socket  *relay.Socket // of attempt

	deadline *relay.Timer
	grace    *relay.Timer
	pending  linkPending
	done     bool

	suffixed    bool              // the last worker name sent has the suffix
	rolling     bool              // the pool supports version rolling (BIP 310)
	allowedMask uint32            // the version bits that the pool allows
	answer      *stratum.Response // the answer that accepted mining.authorize
	refusal     *stratum.Response // the last answer that refused mining.authorize
	requests    stratum.OwnRequests

	// The ids of the requests whose answers the link waits for.
	configureID uint32
	subscribeID uint32
	authorizeID uint32 // the latest one, if the name was tried twice
	// capabilitiesID is the id of the request for answers to an agent's shares; 0 if
	// there is none.
	capabilitiesID uint32
	junk           []byte // the first line that was not JSON
	junkLines      int
	introduced     bool // the pool was sent all workers

	subscribedAt time.Time    // when mining.subscribe was sent
	gap          *relay.Timer // until the next request of the handshake is sent

	answersShares bool // the pool says that it answers an agent's binary shares

	given             *stratum.GivenExtranonce // the pool's answer to mining.subscribe
	translate         *stratum.Translation
	rules             *lineRules // nil if lines are passed on unchanged
	changes           int        // how often the pool has changed the extranonce
	usePoolExtranonce bool       // the miner must be given the pool's extranonce

	early   []byte // lines for the miner, in order
	hasJob  bool
	noGrace bool // firstJobGrace has run out

	difficulty bool // the pool has set a difficulty
}

// linkPending are the answers a link waits for.
type linkPending uint8

const (
	pendingConfigure linkPending = 1 << iota
	pendingSubscribe
	pendingAuthorize
	pendingCapabilities
)

// start begins to connect to one of ips. Once connected, the requests are sent
// without waiting for the answers.
func (k *poolLink) start(ips []*endpoint) {
	s := k.session
	k.requests = stratum.NewOwnRequests()
	k.deadline = s.loop.After(s.manager.timing.poolHandshake, func() { k.fail(errPoolTimeout) })
	k.dial = &poolDial{link: k, ips: ips}
	begun := k.dial.next()
	if begun || k.dial.failure != nil {
		k.pool.linksTo(k.address).dials.Add(1)
	}
	if !begun {
		k.notConnected()
	}
}

// connected continues with the first IP that accepted the connection.
func (k *poolLink) connected(try dialTry) {
	k.dial, k.attempt, k.socket = nil, try.attempt, try.socket
	k.sendHandshake()
}

// received consumes lines until the link is ready. The session reads the lines
// after that.
func (k *poolLink) received(b []byte) int {
	used := 0
	for !k.done {
		line, err := k.next(b[used:])
		if line == nil {
			if err == nil && len(b)-used >= stratum.MaxPoolLine {
				err = relay.ErrLineTooLong
			}
			if err != nil {
				k.fail(err)
			}
			return used
		}
		used += len(line)
		k.line(line)
	}
	return used
}

func (k *poolLink) next(b []byte) ([]byte, error) {
	if k.session.agent != nil {
		return stratum.NextAgentMessage(b)
	}
	return stratum.NextLine(b), nil
}

func (k *poolLink) line(line []byte) {
	if line[0] == stratum.AgentMagic {
		k.keep(line)
		return
	}
	sc := stratum.ScanPoolLine(line)
	if !sc.Whole || sc.Odd {
		canonical, err := stratum.CanonicalLine(line)
		if err != nil {
			k.noise(line)
			return
		}
		line = canonical
		sc = stratum.ScanPoolLine(line)
	}
	kind := sc.PoolKind(line)
	if kind == stratum.KindOther {
		if usual := sc.WithUsualMethod(line); usual != nil {
			line = usual
			sc = stratum.ScanPoolLine(line)
			kind = sc.PoolKind(line)
		}
	}
	switch kind {
	case stratum.KindJob:
		k.hasJob = true
		k.keep(line)
	case stratum.KindDifficulty, stratum.KindTarget:
		k.difficulty = k.difficulty || setsDifficulty(kind, line)
		k.keep(line)
	case stratum.KindAnswer:
		k.answerLine(line)
	case stratum.KindVersionMask:
		r, err := stratum.ParseRequest(line)
		if err != nil {
			k.fail(errPoolNoise)
			return
		}
		if mask, ok := stratum.VersionMaskOf(r); ok {
			k.rolling, k.allowedMask = true, mask
		}
	case stratum.KindSetExtranonce:
		k.extranonceChanged(line)
	case stratum.KindReconnect:
		// The miner must stay with this pool, so the link can continue only if
		// the pool names no other host.
		if namesHost(line) {
			k.fail(errPoolReconnect)
		}
	default:
		k.requests.AddPoolRequest(sc.ID(line))
		k.keep(line)
	}
	k.progress()
}

// keep stores a line for the miner.
func (k *poolLink) keep(line []byte) {
	if len(k.early)+len(line) > maxEarly {
		k.fail(errPoolTooMuch)
		return
	}
	k.early = append(k.early, line...)
}

// progress checks whether the link is ready.
func (k *poolLink) progress() {
	if k.done || k.pending&(pendingSubscribe|pendingAuthorize) != 0 {
		return
	}
	if k.pending == 0 && k.hasJob {
		k.ready()
		return
	}
	if k.noGrace && (k.hasJob || k.session.phase == phaseRouting) {
		k.ready()
		return
	}
	if k.grace == nil {
		k.grace = k.session.loop.After(k.session.manager.timing.firstJobGrace, func() {
			k.noGrace = true
			k.progress()
		})
	}
}

func (k *poolLink) ready() {
	if err := k.untranslatable(); err != nil {
		k.fail(err)
		return
	}
	k.done = true
	rules := newRules(k.pool, k.suffixed, k.translate, k.session.askedMask != 0 && !k.rolling)
	k.rules = k.session.linkRules(k.pool, k.suffixed, rules)
	k.session.linkReady(k)
}

// untranslatable returns an error if a job that was received cannot be
// translated for the miner.
func (k *poolLink) untranslatable() error {
	if k.translate == nil || !k.hasJob {
		return nil
	}
	for rest := k.early; len(rest) > 0; {
		line := k.session.nextMessage(rest)
		rest = rest[len(line):]
		if line[0] == stratum.AgentMagic || stratum.PoolLineKind(line) != stratum.KindJob {
			continue
		}
		if _, ok := k.translate.AppendJob(nil, line); !ok {
			return jobError(line)
		}
	}
	return nil
}

// unanswered returns the switcher's own requests whose answers may still come.
func (k *poolLink) unanswered() stratum.OwnRequests {
	if k.pending&pendingConfigure != 0 {
		k.requests.ExpectConfigure(k.configureID)
	}
	if k.pending&pendingCapabilities != 0 {
		k.requests.ExpectCapabilities(k.capabilitiesID)
	}
	return k.requests
}

// greeting returns the lines that the pool has sent for the miner so far, in order, and
// records their jobs and difficulties. With clean, it sets the clean flag of the first job,
// because the miner still works on another pool's jobs.
func (k *poolLink) greeting(clean bool) []byte {
	s := k.session
	out := make([]byte, 0, len(k.early)+64)
	for rest := k.early; len(rest) > 0; {
		line := s.nextMessage(rest)
		rest = rest[len(line):]
		if line[0] == stratum.AgentMagic {
			if line[1] == hashrate.AgentDifficulty {
				s.recordAgentDifficulty(line)
			}
			out = append(out, line...)
			continue
		}
		sc := stratum.ScanPoolLine(line)
		switch kind := sc.PoolKind(line); kind {
		case stratum.KindDifficulty, stratum.KindTarget:
			s.recordDifficulty(kind, line)
		case stratum.KindJob:
			s.recordJobDifficulty(line)
			newID := s.recordJob(line, &sc)
			if clean {
				line = stratum.SetClean(k.session.manager.chain, line)
				clean = false
			}
			from := len(out)
			if k.rules != nil {
				out, _ = k.rules.job(out, line) // ready has checked that it can be translated
			} else {
				out = append(out, line...)
			}
			if newID != nil {
				out = append(out[:from], stratum.PutJobID(out[from:], 0, newID)...)
			}
			continue
		case stratum.KindAnswer:
			s.recordAnswerJob(line)
		}
		out = append(out, line...)
	}
	return out
}
