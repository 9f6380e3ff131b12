package coins

import (
	"errors"
	"net/netip"
)

// Source tells which coin a sub-account mines and when that changes.
//
// Its methods may be called from any goroutine and do not block. All its
// answers and events come from one goroutine of its own, in order, so that an
// event that follows a reply is newer than that reply. The receiver must not
// block in them.
type Source interface {
	// Start begins the work; events are given to sink until Close. A broker
	// that is away is not an error: the source keeps trying.
	Start(sink Sink)

	// Lookup asks for a sub-account's coin. q.Reply is called exactly once,
	// unless q is cancelled first. With the broker away it waits until the
	// broker is back, except for sub-accounts whose last coin is known.
	// From a successful reply on, changes of the account are reported.
	Lookup(q *Query)

	// Cancel ends interest in a query, for a miner that went away. Reply is
	// not called once Cancel has returned, unless it is being called already.
	Cancel(q *Query)

	// Release takes one successful reply back: the session that it was for
	// ended. When all replies for an account, as named in Reply, are taken
	// back, its changes are of no interest until it is looked up again.
	Release(account string)

	// Close ends the source. It may be called more than once.
	Close()
}

// Sink receives what a Source has to tell.
type Sink interface {
	// CoinChanged reports the coin of an account that was looked up before.
	// An empty coin says that the account's entry was deleted. The same value
	// may be reported again, after a reconnect for instance.
	CoinChanged(account, coin string)

	// ServerIDClaimed gives the server ID (1-255) this process now holds. It
	// is called when the ID is first known and again if it had to change.
	ServerIDClaimed(id uint8)
}

// Query is one question for a sub-account's coin. All fields are set
// before Lookup and only read afterwards.
type Query struct {
	// Account is the sub-account as the miner named it, already filtered and,
	// with StratumServerCaseInsensitive, lower-cased.
	Account string

	// SessionID and Worker (the full worker name) go into the request node
	// of an auto-registration.
	SessionID uint32
	Worker    string

	// Addr is the miner's address, by which places for registrations are shared
	// out fairly.
	Addr netip.Addr

	// Established: the session mines already, after an upgrade. An account
	// without an entry then is no error and is not registered: the reply has an
	// empty coin, and an entry that comes later is reported.
	Established bool

	// Reply gets the account's name as registered (it differs from Account
	// if the case index says so) and its coin, or an error of those below.
	Reply func(account, coin string, err error)
}

var (
	// ErrUnknownSubAccount: there is no such sub-account, and none was registered.
	ErrUnknownSubAccount = errors.New("unknown sub-account")

	// ErrBadSubAccount: the name can not be a node of the coin directory.
	ErrBadSubAccount = errors.New("sub-account name not allowed")

	// ErrRegistrationBusy: as many new users as AutoRegMaxWaitUsers allows are
	// waiting for their registration already.
	ErrRegistrationBusy = errors.New("too many sub-accounts are waiting for registration")

	// ErrRegistrationTimeout: the registration service did not answer in time.
	ErrRegistrationTimeout = errors.New("registration of the sub-account timed out")

	// ErrClosed: the daemon is stopping.
	ErrClosed = errors.New("coin source closed")
)
