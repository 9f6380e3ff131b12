package coins

import (
	"errors"
	"net/netip"
)

// Source knows which coin a sub-account mines and reports when that changes.
//
// All methods except Close may be called from any goroutine and do not block. The
// package comment says on which goroutine answers and events arrive.
type Source interface {
	// Start begins the work. Events are given to sink until Close. If ZooKeeper is
	// unavailable, the source keeps trying.
	Start(sink Sink)

	// Lookup asks for a sub-account's coin. q.Reply is called exactly once, unless
	// q is cancelled first. While ZooKeeper is unavailable, only queries for
	// sub-accounts whose last coin is known are answered, and the others wait until it
	// is back. After a successful reply, changes of the account are reported.
	Lookup(q *Query)

	// Cancel withdraws a query, for instance because its miner has left. Reply is not
	// called after Cancel has returned, unless it is already running.
	Cancel(q *Query)

	// Release ends the use of one successful reply, because its session has ended. The
	// account is named as in Reply. When there have been as many releases as successful
	// replies, the account's changes are not reported until it is looked up again.
	Release(account string)

	// Close ends the source. It may be called more than once, but not by the sink or
	// by a Reply. It returns within a few seconds.
	Close()
}

// Sink receives the events of a Source.
type Sink interface {
	// CoinChanged reports the coin of an account that was looked up before. An empty
	// coin means that the account's entry was deleted. The same coin may be reported
	// again, for instance after a reconnect.
	CoinChanged(account, coin string)

	// ServerIDClaimed reports the server ID (1-255) that this process holds. It is
	// called when the ID is first known, and again if it had to change.
	ServerIDClaimed(id uint8)
}

// FileSink is implemented by a Sink that also wants to know how readings of a coin
// file went. It receives them from a [File].
type FileSink interface {
	// CoinFileRead reports that a changed file was taken and has so many entries, or
	// with an error that it was refused.
	CoinFileRead(path string, entries int, err error)
}

// Query asks for the coin of one sub-account. All fields are set before Lookup and
// only read afterwards.
type Query struct {
	// Account is the sub-account as the miner named it, without the characters that
	// are not allowed in names, and in lower case with StratumServerCaseInsensitive.
	Account string

	// SessionID and Worker (the full worker name) are written to the request node if
	// the account is unknown and has to be registered.
	SessionID uint32
	Worker    string

	// Addr is the miner's address. The simultaneous registrations are shared fairly
	// between addresses.
	Addr netip.Addr

	// Established means that the session already mines, as after an upgrade. An account
	// without an entry is then no error and is not registered: the reply has an empty
	// coin, and an entry that appears later is reported.
	Established bool

	// Reply receives the account's registered name, which differs from Account if
	// the case index says so, and its coin; or one of the errors below.
	Reply func(account, coin string, err error)
}

var (
	// ErrUnknownSubAccount means that there is no such sub-account, and that none was
	// registered.
	ErrUnknownSubAccount = errors.New("unknown sub-account")

	// ErrBadSubAccount means that the name cannot be a node of the coin directory.
	ErrBadSubAccount = errors.New("sub-account name not allowed")

	// ErrRegistrationBusy means that AutoRegMaxWait new sub-accounts are already
	// waiting for their registration.
	ErrRegistrationBusy = errors.New("too many sub-accounts are waiting for registration")

	// ErrRegistrationTimeout means that the registration service did not answer in
	// time.
	ErrRegistrationTimeout = errors.New("registration of the sub-account timed out")

	// ErrClosed means that the source is closed, because the daemon is stopping.
	ErrClosed = errors.New("coin source closed")
)
