package main

import (
	"sync/atomic"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/journal"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// handshakeFailure is the reason why a miner's handshake failed. It is not the same as
// the code of a Stratum error, because a miner that stays silent or is refused by its
// pool gets no error from the switcher.
type handshakeFailure uint8

const (
	failOther handshakeFailure = iota
	failNotSubscribed
	failSubscribedTwice
	failTooFewParams
	failWorkerNotString
	failNoSubAccount
	failUnknownSubAccount
	failCoinWithoutPool
	failNoPoolLink
	failShareTooEarly
	failUnknownMethod
	failSilent
	failNotStratum
	failLineTooLong
	failUnauthorized
	failRefused
	failTooMany
	failTLS
	failTLSRequired
	handshakeFailures
)

// handshakeFailureNames are used in metrics, in the API and in events.
var handshakeFailureNames = [handshakeFailures]string{
	"other", "not_subscribed", "subscribed_twice", "too_few_params", "worker_not_a_string", "no_sub_account",
	"unknown_sub_account", "coin_without_pool", "no_pool_link", "share_before_authorize", "unknown_method",
	"silent", "not_stratum", "line_too_long", "not_authorized_in_time", "refused_by_pool", "too_many_requests",
	"tls_handshake", "tls_required",
}

func (f handshakeFailure) String() string { return handshakeFailureNames[f] }

// failureByErrorCode has the failures for which miners get an error, by the error's code.
var failureByErrorCode = map[int]handshakeFailure{
	stratum.ErrNeedSubscribed.Code:      failNotSubscribed,
	stratum.ErrDuplicateSubscribed.Code: failSubscribedTwice,
	stratum.ErrTooFewParams.Code:        failTooFewParams,
	stratum.ErrWorkerNotString.Code:     failWorkerNotString,
	stratum.ErrEmptySubAccount.Code:     failNoSubAccount,
	stratum.ErrInvalidSubAccount.Code:   failUnknownSubAccount,
	stratum.ErrServerNotFound.Code:      failCoinWithoutPool,
	stratum.ErrConnectFailed.Code:       failNoPoolLink,
	stratum.ErrUnauthorized.Code:        failShareTooEarly,
	stratum.ErrUnknownMethod.Code:       failUnknownMethod,
}

// handshakeFailureOf returns the failure for which miners get the error e. It is
// failOther for errors that are not in failureByErrorCode.
func handshakeFailureOf(e *stratum.Error) handshakeFailure { return failureByErrorCode[e.Code] }

// handshakeFailureCounts counts failed handshakes by reason.
type handshakeFailureCounts [handshakeFailures]atomic.Int64

// byName returns the counts by the names of their reasons.
func (c *handshakeFailureCounts) byName() map[string]int64 {
	counts := make(map[string]int64, handshakeFailures)
	for f := range handshakeFailures {
		counts[f.String()] = c[f].Load()
	}
	return counts
}

// handshakeFailed counts a failed handshake. If the miner has not named its
// sub-account, it also adds an event; otherwise refused does that.
func (mon *monitor) handshakeFailed(f handshakeFailure) {
	mon.failures[f].Add(1)
	switch f {
	case failUnknownSubAccount, failCoinWithoutPool, failNoPoolLink, failRefused:
		return
	case failLineTooLong:
		mon.dropped[dropTooLong].Add(1)
	}
	mon.events.Add(journal.Bad, journal.Key{Kind: journal.Refusal, What: f.String()}, "")
}

// handshakeFailed counts a failed handshake of this session's miner, and records
// it for the file of events.
func (s *Session) handshakeFailed(f handshakeFailure) {
	s.manager.monitor.handshakeFailed(f)
	s.recordRefused(f, "")
}

// refused counts a miner that is refused after it has named its sub-account, and
// adds an event.
func (mon *monitor) refused(account string, f handshakeFailure, why string) {
	mon.handshakeFailed(f)
	mon.refusal(account, f.String(), why)
}
