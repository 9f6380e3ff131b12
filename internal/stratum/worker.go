package stratum

import (
	"strings"
	"unicode/utf8"
)

// WorkerName is a worker's full name in two parts. Account is the part before the
// first dot, and Miner is the rest including the dot. Both contain only the characters
// that are allowed in names (docs/protocol.md, "Worker names").
type WorkerName struct {
	Account string
	Miner   string

	// Sent is the name as the miner wrote it, which its shares contain. Pools that
	// pick the extranonce get this name: if a character were dropped, they would
	// credit another user. Sent is empty if it would be the same as Account and Miner,
	// and for names from older state files.
	Sent string
}

// WithAccount returns the name with its account in another case, which is how the
// account is registered.
func (w WorkerName) WithAccount(account string) WorkerName {
	if w.Account != account && w.Sent == "" {
		w.Sent = w.String()
	}
	w.Account = account
	return w
}

func (w WorkerName) String() string { return w.Account + w.Miner }

// AsSent returns the name as the miner wrote it.
func (w WorkerName) AsSent() string {
	if w.Sent != "" {
		return w.Sent
	}
	return w.String()
}

// Sendable reports whether pools can be sent the name exactly as the miner wrote it. JSON
// cannot express what is not UTF-8, and shares whose name contains NUL are not passed on.
func (w WorkerName) Sendable() bool {
	return utf8.ValidString(w.Sent) && !strings.ContainsRune(w.Sent, utf8.RuneError) && strings.IndexByte(w.Sent, 0) < 0
}

// WithSuffix returns the name with a suffix after the account. Pools that keep the
// users of their coins apart know workers by this name.
func (w WorkerName) WithSuffix(suffix string) string { return w.Account + "_" + suffix + w.Miner }

// FilterWorker drops the characters that are not allowed in a worker's name.
func FilterWorker(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("._:|^/-", r):
			return r
		}
		return -1
	}, name)
}

func SplitWorker(full string) WorkerName {
	if dot := strings.IndexByte(full, '.'); dot >= 0 {
		return WorkerName{Account: full[:dot], Miner: full[dot:]}
	}
	return WorkerName{Account: full}
}

// ParseWorker reads a worker's name as the miner sent it. worker is the name of the
// miner that Ethereum's protocols send separately.
func (c Chain) ParseWorker(name, worker string) WorkerName {
	sent := name
	name = FilterWorker(name)
	if c == Ethereum {
		if worker = FilterWorker(worker); worker != "" {
			name += "." + worker
		}
		name = dropAddress(name)
	}
	w := SplitWorker(name)
	if sent != name {
		w.Sent = sent
	}
	return w
}

// ethAddressLen is the length of "0x" and 40 hex digits.
const ethAddressLen = 42

// dropAddress drops a leading Ethereum address and the dot after it. Some miners
// can only be configured as address.account.miner.
func dropAddress(name string) string {
	if strings.IndexByte(name, '.') == ethAddressLen && HasPrefixFold(name, "0x") {
		return name[ethAddressLen+1:]
	}
	return name
}
