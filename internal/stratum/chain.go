package stratum

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Chain is a family of coins that use Stratum in the same way.
type Chain uint8

const (
	Bitcoin Chain = iota
	DecredNormal
	DecredGominer
	Ethereum
)

var chainNames = [...]string{
	Bitcoin:       "bitcoin",
	DecredNormal:  "decred-normal",
	DecredGominer: "decred-gominer",
	Ethereum:      "ethereum",
}

func (c Chain) String() string { return chainNames[c] }

// ChainNames returns the values that a configuration's ChainType may have.
func ChainNames() []string { return slices.Clone(chainNames[:]) }

// ParseChain reads a configuration's ChainType and ignores the case.
func ParseChain(name string) (Chain, error) {
	for c, known := range chainNames {
		if strings.EqualFold(name, known) {
			return Chain(c), nil
		}
	}
	return 0, fmt.Errorf("unknown chain type %q", name)
}

// Protocol is the protocol of a miner. All chains except Ethereum have only
// ProtocolStratum.
type Protocol uint8

const (
	ProtocolStratum         Protocol = iota
	ProtocolEthereumStratum          // NiceHash's protocol, with an extranonce
	ProtocolETHProxy                 // getwork methods over TCP, JSON-RPC 2.0
)

const (
	DefaultUserAgent   = "stratumSwitcher"
	defaultEthProtocol = "Stratum"
	agentPrefix        = "btccom-agent/"
	nicehashPrefix     = "nicehash/"
	ethereumStratum    = "EthereumStratum/"
	ethereumStratum1   = "EthereumStratum/1.0.0"
)

// IndexBits returns how many low bits of a session ID are the session's index.
func (c Chain) IndexBits() uint {
	if c == Ethereum {
		return 16
	}
	return 24
}

// IndexStep returns how many indexes are skipped after each allocation.
func (c Chain) IndexStep() uint {
	if c == Ethereum {
		return 256
	}
	return 0
}

// Extranonce returns the hex digits of a session ID as the extranonce that the miner
// gets (docs/protocol.md has the form for each chain).
func (c Chain) Extranonce(id uint32) string {
	switch c {
	case DecredNormal:
		return fmt.Sprintf("%016x%08x", 0, bits.ReverseBytes32(id))
	case DecredGominer:
		return fmt.Sprintf("%08x", bits.ReverseBytes32(id))
	case Ethereum:
		return fmt.Sprintf("%06x", id&0xffffff)
	}
	return fmt.Sprintf("%08x", id)
}

// poolExtranonce returns the hex digits of a session ID as the extranonce that pools
// get.
func (c Chain) poolExtranonce(id uint32) string {
	if c == Ethereum {
		return c.Extranonce(id)
	}
	return fmt.Sprintf("%08x", id)
}

// Subscription holds what a miner sent with mining.subscribe.
type Subscription struct {
	UserAgent string // as sent; empty if there was none
	Protocol  Protocol
	// ProtocolText is the name that an Ethereum miner has sent for its protocol.
	ProtocolText string
	ListedAgent  bool // the user agent is one of AgentUserAgents
}

// IsAgent reports whether the miner is a BTCAgent, which carries many miners on
// one connection.
func (s *Subscription) IsAgent() bool {
	return s.ListedAgent || HasPrefixFold(s.UserAgent, agentPrefix)
}

func HasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// NewSubscription reads the parameters of mining.subscribe.
func (c Chain) NewSubscription(params []json.RawMessage) *Subscription {
	var s Subscription
	if len(params) > 0 {
		s.UserAgent, _ = JsonString(params[0])
	}
	if c != Ethereum {
		return &s
	}
	if len(params) > 1 {
		s.ProtocolText, _ = JsonString(params[1])
	}
	if HasPrefixFold(s.ProtocolText, ethereumStratum) || s.IsAgent() {
		s.Protocol = ProtocolEthereumStratum
	}
	return &s
}

// ETHProxySubscription is the subscription of ETHProxy miners, which do not send
// mining.subscribe.
func ETHProxySubscription() *Subscription {
	return &Subscription{UserAgent: "ETHProxy", Protocol: ProtocolETHProxy, ProtocolText: "ETHProxy/1.0.0"}
}

// shortExtranonce returns the extranonce in hex for an Ethereum miner. NiceHash uses
// only the first 2 bytes.
func (c Chain) shortExtranonce(s *Subscription, id uint32) string {
	x := c.Extranonce(id)
	if HasPrefixFold(s.UserAgent, nicehashPrefix) {
		return x[:4]
	}
	return x
}

// SubscribeResult returns the result of the miner's mining.subscribe.
func (c Chain) SubscribeResult(s *Subscription, id uint32) []byte {
	x := c.Extranonce(id)
	if c != Ethereum {
		return fmt.Appendf(nil, `[[["mining.set_difficulty","%s"],["mining.notify","%s"]],"%s",8]`, x, x, x)
	}
	if s.Protocol == ProtocolEthereumStratum {
		return fmt.Appendf(nil, `[["mining.notify","%s","%s"],"%s"]`, x, ethereumStratum1, c.shortExtranonce(s, id))
	}
	return []byte("true")
}

// PoolSubscribeParams returns the parameters of mining.subscribe to a pool.
func (c Chain) PoolSubscribeParams(s *Subscription, id uint32, miner netip.Addr) [][]byte {
	userAgent := s.UserAgent
	if userAgent == "" {
		userAgent = DefaultUserAgent
	}
	params := [][]byte{Quote(userAgent)}
	if c == Ethereum {
		protocol := s.ProtocolText
		if protocol == "" {
			protocol = defaultEthProtocol
		}
		params = append(params, Quote(protocol))
	}
	return append(params, Quote(c.poolExtranonce(id)), fmt.Appendf(nil, "%d", ipv4Number(miner)))
}

// ipv4Number returns an IPv4 address as a big-endian number, or 0 for IPv6.
func ipv4Number(a netip.Addr) uint32 {
	if a = a.Unmap(); !a.Is4() {
		return 0
	}
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

// CheckPoolSubscribe returns nil if a pool uses the session's extranonce. With any
// other extranonce, all shares would be invalid. The error names both.
func (c Chain) CheckPoolSubscribe(s *Subscription, id uint32, result json.RawMessage) error {
	want := c.Extranonce(id)
	if c == Ethereum && s.Protocol != ProtocolEthereumStratum {
		if !isTrue(result) {
			return fmt.Errorf("pool answered subscribe with %s instead of true", Clip(result))
		}
		return nil
	}
	var parts []json.RawMessage
	if JSON.Unmarshal(result, &parts) != nil || len(parts) < 2 {
		return fmt.Errorf("pool answered subscribe with %s", Clip(result))
	}
	got, _ := JsonString(parts[1])
	if c != Ethereum {
		if !strings.EqualFold(got, want) {
			return fmt.Errorf("pool gave extranonce %q instead of %q: %s", Clip([]byte(got)), want, c.ownExtranonceHint())
		}
		if c != Bitcoin || len(parts) < 3 {
			return nil
		}
		if size, ok := givenSize(parts[2]); !ok || size != Extranonce2Size {
			return fmt.Errorf("pool gave extranonce2 size %s instead of %d: %s", Clip(parts[2]), Extranonce2Size, c.ownExtranonceHint())
		}
		return nil
	}
	var notify []json.RawMessage
	if JSON.Unmarshal(parts[0], &notify) != nil || len(notify) < 2 {
		return fmt.Errorf("pool answered subscribe with %s", Clip(result))
	}
	x, _ := JsonString(notify[1])
	if short := c.shortExtranonce(s, id); !strings.EqualFold(x, want) || !strings.EqualFold(got, short) {
		return fmt.Errorf("pool gave extranonces %q, %q instead of %q, %q: %s", Clip([]byte(x)), Clip([]byte(got)), want, short, c.ownExtranonceHint())
	}
	return nil
}

// ownExtranonceHint tells the operator what to do about a pool that ignores the
// extranonce that the switcher has sent.
func (c Chain) ownExtranonceHint() string {
	if c == Bitcoin {
		return `set "ExtraNonce": "pool" for this coin`
	}
	return "with ChainType " + c.String() + ", only pools that use the extranonce in mining.subscribe are possible"
}

// Extranonce2Size is the usual size of extranonce2 in bytes.
const Extranonce2Size = 8

// Clip shortens a peer's text for messages. It replaces control characters, which
// could control a terminal: JSON may contain those from U+0080 on without an escape.
func Clip(b []byte) []byte {
	clipped := b
	if len(b) > 120 {
		clipped = append(append([]byte(nil), b[:120]...), "..."...)
	}
	return bytes.Map(Printable, clipped)
}

// Printable returns r, or a question mark if r is not printable.
func Printable(r rune) rune {
	if unicode.IsPrint(r) && r != utf8.RuneError {
		return r
	}
	return '?'
}
