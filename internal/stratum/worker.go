package stratum

import (
	"strings"
	"unicode/utf8"
)

// WorkerName is a worker's full name in its parts: Account is what stands before
// the first dot, and Miner is the rest with the dot. Both have only the characters
// that names of sub-accounts may have (docs/protocol.md, "Worker names").
type WorkerName struct {
	Account string
	Miner   string

	// Sent is the name as the miner wrote it. Pools that pick the extranonce get
	// this name, because with a character dropped they would credit somebody else.
	// Shares have it.
	// It is empty if it is the same as Account and Miner, and for names from older
	// state files.
	Sent string
}

// Of returns the name with another spelling of its account, as the rules of case
// have it.
func (w WorkerName) Of(account string) WorkerName {
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

// Sendable reports whether JSON can express the name exactly as the miner wrote it.
func (w WorkerName) Sendable() bool {
	return utf8.ValidString(w.Sent) && !strings.ContainsRune(w.Sent, utf8.RuneError)
}

// WithSuffix returns the name with a suffix after the account. Pools that keep the
// users of their coins apart know workers by this name.
func (w WorkerName) WithSuffix(suffix string) string { return w.Account + "_" + suffix + w.Miner }

// FilterWorker drops the characters that no worker name may have.
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

// ParseWorker reads a worker name as it was sent. worker is Ethereum's separate
// name of the miner.
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
