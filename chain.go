package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/bits"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ownExtranonceHint says what helps when a pool does not give miners the
// extranonce that the switcher has asked for.
const ownExtranonceHint = `set "ExtraNonce": "pool" for this coin`

// chainType is a family of coins with one way of Stratum.
type chainType uint8

const (
	chainBitcoin chainType = iota
	chainDecredNormal
	chainDecredGominer
	chainEthereum
)

var chainNames = [...]string{
	chainBitcoin:       "bitcoin",
	chainDecredNormal:  "decred-normal",
	chainDecredGominer: "decred-gominer",
	chainEthereum:      "ethereum",
}

func (c chainType) String() string { return chainNames[c] }

// parseChainType reads a configuration's ChainType, in any case.
func parseChainType(name string) (chainType, error) {
	for c, known := range chainNames {
		if strings.EqualFold(name, known) {
			return chainType(c), nil
		}
	}
	return 0, fmt.Errorf("unknown chain type %q", name)
}

// minerProtocol is what a miner speaks. All chains but Ethereum have only
// protocolStratum.
type minerProtocol uint8

const (
	protocolStratum         minerProtocol = iota
	protocolEthereumStratum               // NiceHash's, with extranonce
	protocolETHProxy                      // getwork methods over TCP, JSON-RPC 2.0
)

const (
	defaultUserAgent   = "stratumSwitcher"
	defaultEthProtocol = "Stratum"
	agentPrefix        = "btccom-agent/"
	nicehashPrefix     = "nicehash/"
	ethereumStratum    = "EthereumStratum/"
	ethereumStratum1   = "EthereumStratum/1.0.0"
)

// indexBits is how many low bits of a session ID count sessions.
func (c chainType) indexBits() uint {
	if c == chainEthereum {
		return 16
	}
	return 24
}

// indexStep is how far session indexes skip after each allocation.
func (c chainType) indexStep() uint {
	if c == chainEthereum {
		return 256
	}
	return 0
}

// extranonce is the text of a session ID as the miner gets it.
func (c chainType) extranonce(id uint32) string {
	switch c {
	case chainDecredNormal:
		return fmt.Sprintf("%016x%08x", 0, bits.ReverseBytes32(id))
	case chainDecredGominer:
		return fmt.Sprintf("%08x", bits.ReverseBytes32(id))
	case chainEthereum:
		return fmt.Sprintf("%06x", id&0xffffff)
	}
	return fmt.Sprintf("%08x", id)
}

// poolExtranonce is the text of a session ID as pools get it.
func (c chainType) poolExtranonce(id uint32) string {
	if c == chainEthereum {
		return c.extranonce(id)
	}
	return fmt.Sprintf("%08x", id)
}

// subscription is what a miner said at mining.subscribe.
type subscription struct {
	UserAgent string        // as sent; empty if none
	Protocol  minerProtocol // how it is spoken to
	// ProtocolText is an Ethereum miner's own name of its protocol.
	ProtocolText string
	agent        bool // the user agent is one of AgentUserAgents
}

// isAgent says that the miner is a BTCAgent, which carries many miners on one
// connection.
func (s *subscription) isAgent() bool { return s.agent || hasPrefixFold(s.UserAgent, agentPrefix) }

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// newSubscription reads the parameters of mining.subscribe.
func (c chainType) newSubscription(params []json.RawMessage) *subscription {
	var s subscription
	if len(params) > 0 {
		s.UserAgent, _ = jsonString(params[0])
	}
	if c != chainEthereum {
		return &s
	}
	if len(params) > 1 {
		s.ProtocolText, _ = jsonString(params[1])
	}
	if hasPrefixFold(s.ProtocolText, ethereumStratum) || s.isAgent() {
		s.Protocol = protocolEthereumStratum
	}
	return &s
}

// ethProxySubscription stands for the mining.subscribe that ETHProxy miners do
// not send.
func ethProxySubscription() *subscription {
	return &subscription{UserAgent: "ETHProxy", Protocol: protocolETHProxy, ProtocolText: "ETHProxy/1.0.0"}
}

// shortExtranonce is the extranonce NiceHash gives its miners' 2 bytes of.
func (c chainType) shortExtranonce(s *subscription, id uint32) string {
	x := c.extranonce(id)
	if hasPrefixFold(s.UserAgent, nicehashPrefix) {
		return x[:4]
	}
	return x
}

// subscribeResult is the result of the miner's mining.subscribe.
func (c chainType) subscribeResult(s *subscription, id uint32) []byte {
	x := c.extranonce(id)
	if c != chainEthereum {
		return fmt.Appendf(nil, `[[["mining.set_difficulty","%s"],["mining.notify","%s"]],"%s",8]`, x, x, x)
	}
	if s.Protocol == protocolEthereumStratum {
		return fmt.Appendf(nil, `[["mining.notify","%s","%s"],"%s"]`, x, ethereumStratum1, c.shortExtranonce(s, id))
	}
	return []byte("true")
}

// poolSubscribeParams are the parameters of mining.subscribe to a pool.
func (c chainType) poolSubscribeParams(s *subscription, id uint32, miner netip.Addr) [][]byte {
	userAgent := s.UserAgent
	if userAgent == "" {
		userAgent = defaultUserAgent
	}
	params := [][]byte{quote(userAgent)}
	if c == chainEthereum {
		protocol := s.ProtocolText
		if protocol == "" {
			protocol = defaultEthProtocol
		}
		params = append(params, quote(protocol))
	}
	return append(params, quote(c.poolExtranonce(id)), fmt.Appendf(nil, "%d", ipv4Number(miner)))
}

// ipv4Number is an IPv4 address as a big-endian number, 0 for IPv6.
func ipv4Number(a netip.Addr) uint32 {
	if a = a.Unmap(); !a.Is4() {
		return 0
	}
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

// checkPoolSubscribe tells whether a pool took the session's extranonce. The
// error names what was wanted and what came: with another extranonce all
// shares would be invalid.
func (c chainType) checkPoolSubscribe(s *subscription, id uint32, result json.RawMessage) error {
	want := c.extranonce(id)
	if c == chainEthereum && s.Protocol != protocolEthereumStratum {
		if !isTrue(result) {
			return fmt.Errorf("pool answered subscribe with %s instead of true", clip(result))
		}
		return nil
	}
	var parts []json.RawMessage
	if wireJSON.Unmarshal(result, &parts) != nil || len(parts) < 2 {
		return fmt.Errorf("pool answered subscribe with %s", clip(result))
	}
	got, _ := jsonString(parts[1])
	if c != chainEthereum {
		if !strings.EqualFold(got, want) {
			return fmt.Errorf("pool gave extranonce %q instead of %q: %s", clip([]byte(got)), want, ownExtranonceHint)
		}
		var size int
		if c == chainBitcoin && len(parts) > 2 && (wireJSON.Unmarshal(parts[2], &size) != nil || size != extranonce2Size) {
			return fmt.Errorf("pool gave extranonce2 size %s instead of %d: %s", clip(parts[2]), extranonce2Size, ownExtranonceHint)
		}
		return nil
	}
	var notify []json.RawMessage
	if wireJSON.Unmarshal(parts[0], &notify) != nil || len(notify) < 2 {
		return fmt.Errorf("pool answered subscribe with %s", clip(result))
	}
	x, _ := jsonString(notify[1])
	if short := c.shortExtranonce(s, id); !strings.EqualFold(x, want) || !strings.EqualFold(got, short) {
		return fmt.Errorf("pool gave extranonces %q, %q instead of %q, %q: %s", clip([]byte(x)), clip([]byte(got)), want, short, ownExtranonceHint)
	}
	return nil
}

// extranonce2Size is the number of bytes a miner may count in.
const extranonce2Size = 8

// clip bounds text of a peer for messages, and takes from it what a terminal
// would obey: JSON may hold control characters from U+0080 on as they are.
func clip(b []byte) []byte {
	clipped := b
	if len(b) > 120 {
		clipped = append(append([]byte(nil), b[:120]...), "..."...)
	}
	return bytes.Map(printable, clipped)
}

// printable has a question mark for what a terminal would not show.
func printable(r rune) rune {
	if unicode.IsPrint(r) && r != utf8.RuneError {
		return r
	}
	return '?'
}

// parseWorker reads a worker name as sent, with Ethereum's separate worker.
func (c chainType) parseWorker(name, worker string) workerName {
	sent := name
	name = filterWorker(name)
	if c == chainEthereum {
		if worker = filterWorker(worker); worker != "" {
			name += "." + worker
		}
		name = dropAddress(name)
	}
	w := splitWorker(name)
	if c == chainBitcoin && sent != name { // the chain of pools that are told it
		w.Sent = sent
	}
	return w
}

// ethAddressLen is the length of "0x" and 40 hex digits.
const ethAddressLen = 42

// dropAddress drops a leading Ethereum address and the dot after it, for
// miners that can only be configured as address.account.miner.
func dropAddress(name string) string {
	if strings.IndexByte(name, '.') == ethAddressLen && hasPrefixFold(name, "0x") {
		return name[ethAddressLen+1:]
	}
	return name
}
