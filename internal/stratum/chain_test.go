package stratum

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
)

func TestParseChainType(t *testing.T) {
	for name, want := range map[string]Chain{
		"bitcoin": Bitcoin, "Bitcoin": Bitcoin, "BITCOIN": Bitcoin,
		"decred-normal": DecredNormal, "Decred-Normal": DecredNormal,
		"decred-gominer": DecredGominer, "DECRED-GOMINER": DecredGominer,
		"ethereum": Ethereum, "Ethereum": Ethereum,
	} {
		if got, err := ParseChain(name); err != nil || got != want {
			t.Errorf("parseChainType(%q) = %v, %v", name, got, err)
		}
	}
	for _, name := range []string{"", "bit coin", "bitcoin ", "decred", "eth", "decred_normal"} {
		if got, err := ParseChain(name); err == nil {
			t.Errorf("parseChainType(%q) = %v", name, got)
		}
	}
	for _, c := range allChains {
		if got, err := ParseChain(c.String()); err != nil || got != c {
			t.Errorf("parseChainType(%q) = %v, %v", c, got, err)
		}
	}
}

func TestExtranonce(t *testing.T) {
	for _, tc := range []struct {
		chain       Chain
		id          uint32
		miner, pool string
	}{
		{Bitcoin, 0x01000080, "01000080", "01000080"},
		{Bitcoin, 0xff0000ff, "ff0000ff", "ff0000ff"},
		{Bitcoin, 0xffabcdef, "ffabcdef", "ffabcdef"},
		{DecredNormal, 0x01000080, "000000000000000080000001", "01000080"},
		{DecredNormal, 0x12345678, "000000000000000078563412", "12345678"},
		{DecredNormal, 0xff000000, "0000000000000000000000ff", "ff000000"},
		{DecredGominer, 0x01000080, "80000001", "01000080"},
		{DecredGominer, 0x12345678, "78563412", "12345678"},
		{DecredGominer, 0xff000000, "000000ff", "ff000000"},
		{Ethereum, 0x010080, "010080", "010080"},
		{Ethereum, 0xffffff, "ffffff", "ffffff"},
		{Ethereum, 0xab00cd, "ab00cd", "ab00cd"},
		{Ethereum, 0xff010080, "010080", "010080"}, // the low 6 digits
	} {
		if got := tc.chain.Extranonce(tc.id); got != tc.miner {
			t.Errorf("%s %08x: extranonce %q, want %q", tc.chain, tc.id, got, tc.miner)
		}
		if got := tc.chain.poolExtranonce(tc.id); got != tc.pool {
			t.Errorf("%s %08x: pool's extranonce %q, want %q", tc.chain, tc.id, got, tc.pool)
		}
	}
}

func rawList(t testing.TB, list string) []json.RawMessage {
	t.Helper()
	return (&Request{Params: json.RawMessage(list)}).ParamList()
}

func TestSubscription(t *testing.T) {
	local := netip.MustParseAddr("127.0.0.1")
	const btcResult = `[[["mining.set_difficulty","01000080"],["mining.notify","01000080"]],"01000080",8]`
	const ethResult = `[["mining.notify","010080","EthereumStratum/1.0.0"],"010080"]`
	const ethShort = `[["mining.notify","010080","EthereumStratum/1.0.0"],"0100"]`
	for _, tc := range []struct {
		chain  Chain
		params string
		result string
		pool   string
		agent  bool
	}{
		{Bitcoin, ``, btcResult, `"stratumSwitcher","01000080",2130706433`, false},
		{Bitcoin, `[]`, btcResult, `"stratumSwitcher","01000080",2130706433`, false},
		{Bitcoin, `{}`, btcResult, `"stratumSwitcher","01000080",2130706433`, false},
		{Bitcoin, `[""]`, btcResult, `"stratumSwitcher","01000080",2130706433`, false},
		{Bitcoin, `[7]`, btcResult, `"stratumSwitcher","01000080",2130706433`, false},
		{Bitcoin, `["a","b","c"]`, btcResult, `"a","01000080",2130706433`, false},
		{Bitcoin, `["a\"\\\n"]`, btcResult, `"a\"\\\n","01000080",2130706433`, false},
		{Bitcoin, `["btccom-agent/1"]`, btcResult, `"btccom-agent/1","01000080",2130706433`, true},
		{Bitcoin, `["BTCCOM-AGENT/1"]`, btcResult, `"BTCCOM-AGENT/1","01000080",2130706433`, true},
		{Bitcoin, `["btccom-agent"]`, btcResult, `"btccom-agent","01000080",2130706433`, false},
		{Bitcoin, `[" btccom-agent/1"]`, btcResult, `" btccom-agent/1","01000080",2130706433`, false},
		{Bitcoin, `["nicehash/1","EthereumStratum/1.0.0"]`, btcResult, `"nicehash/1","01000080",2130706433`, false},
		{DecredNormal, `["x"]`, strings.ReplaceAll(btcResult, "01000080", "000000000000000080000001"), `"x","01000080",2130706433`, false},
		{DecredGominer, `["x"]`, strings.ReplaceAll(btcResult, "01000080", "80000001"), `"x","01000080",2130706433`, false},
		{Ethereum, ``, `true`, `"stratumSwitcher","Stratum","010080",2130706433`, false},
		{Ethereum, `["x"]`, `true`, `"x","Stratum","010080",2130706433`, false},
		{Ethereum, `["x",""]`, `true`, `"x","Stratum","010080",2130706433`, false},
		{Ethereum, `["x",5]`, `true`, `"x","Stratum","010080",2130706433`, false},
		{Ethereum, `["x",null]`, `true`, `"x","Stratum","010080",2130706433`, false},
		{Ethereum, `[null,"Stratum/9"]`, `true`, `"stratumSwitcher","Stratum/9","010080",2130706433`, false},
		{Ethereum, `["nicehash/1"]`, `true`, `"nicehash/1","Stratum","010080",2130706433`, false},
		{Ethereum, `["x","EthereumStratum/1.0.0"]`, ethResult, `"x","EthereumStratum/1.0.0","010080",2130706433`, false},
		{Ethereum, `["x","ethereumstratum/2"]`, ethResult, `"x","ethereumstratum/2","010080",2130706433`, false},
		{Ethereum, `["x","EthereumStratum"]`, `true`, `"x","EthereumStratum","010080",2130706433`, false},
		{Ethereum, `["NiceHash/1.0.0","EthereumStratum/1.0.0","more"]`, ethShort, `"NiceHash/1.0.0","EthereumStratum/1.0.0","010080",2130706433`, false},
		{Ethereum, `["nicehash","EthereumStratum/1.0.0"]`, ethResult, `"nicehash","EthereumStratum/1.0.0","010080",2130706433`, false},
		{Ethereum, `["btccom-agent/1"]`, ethResult, `"btccom-agent/1","Stratum","010080",2130706433`, true},
	} {
		id := uint32(0x01000080)
		if tc.chain == Ethereum {
			id = 0x010080
		}
		s := tc.chain.NewSubscription(rawList(t, tc.params))
		if got := string(tc.chain.SubscribeResult(s, id)); got != tc.result {
			t.Errorf("%s %s: result\n got %s\nwant %s", tc.chain, tc.params, got, tc.result)
		}
		if got := string(bytes.Join(tc.chain.PoolSubscribeParams(s, id, local), []byte(","))); got != tc.pool {
			t.Errorf("%s %s: pool's parameters\n got %s\nwant %s", tc.chain, tc.params, got, tc.pool)
		}
		if s.IsAgent() != tc.agent {
			t.Errorf("%s %s: counts as an agent: %v", tc.chain, tc.params, s.IsAgent())
		}
		// What the miner gets is what a pool should answer.
		if err := tc.chain.CheckPoolSubscribe(s, id, tc.chain.SubscribeResult(s, id)); err != nil {
			t.Errorf("%s %s: %v", tc.chain, tc.params, err)
		}
	}
}

func TestIPv4Number(t *testing.T) {
	for _, tc := range []struct {
		addr netip.Addr
		want uint32
	}{
		{netip.MustParseAddr("12.34.56.78"), 203569230},
		{netip.MustParseAddr("127.0.0.1"), 2130706433},
		{netip.MustParseAddr("0.0.0.0"), 0},
		{netip.MustParseAddr("255.255.255.255"), 4294967295},
		{netip.MustParseAddr("::ffff:12.34.56.78"), 203569230},
		{netip.MustParseAddr("::1"), 0},
		{netip.MustParseAddr("2001:db8::c22:384e"), 0},
		{netip.MustParseAddr("fe80::1%eth0"), 0},
		{netip.Addr{}, 0},
	} {
		if got := ipv4Number(tc.addr); got != tc.want {
			t.Errorf("%s: got %d, want %d", tc.addr, got, tc.want)
		}
	}
	params := Bitcoin.PoolSubscribeParams(&Subscription{}, 1, netip.MustParseAddr("255.255.255.255"))
	if got := string(params[2]); got != "4294967295" {
		t.Errorf("the address as a number is %s", got)
	}
}

func TestCheckPoolSubscribe(t *testing.T) {
	stratum := &Subscription{}
	nicehash := &Subscription{UserAgent: "NiceHash/1", Protocol: ProtocolEthereumStratum}
	ethStratum := &Subscription{Protocol: ProtocolEthereumStratum}
	ethProxy := ETHProxySubscription()
	for _, tc := range []struct {
		chain  Chain
		sub    *Subscription
		id     uint32
		result string
		good   bool
	}{
		{Bitcoin, stratum, 0x010000ab, `[[["mining.set_difficulty","1"],["mining.notify","1"]],"010000ab",8]`, true},
		{Bitcoin, stratum, 0x010000ab, `[[], "010000AB", 8]`, true},
		{Bitcoin, stratum, 0x010000ab, `[null,"010000ab",8]`, true},
		{Bitcoin, stratum, 0x010000ab, `[[],"010000ac",8]`, false},
		{Bitcoin, stratum, 0x010000ab, `[[],"ab000001",8]`, false},
		{Bitcoin, stratum, 0x010000ab, `[[],"010000ab00",8]`, false},
		{Bitcoin, stratum, 0x010000ab, `[[],"10000ab",8]`, false},
		{Bitcoin, stratum, 0x010000ab, `[[],"",8]`, false},
		{Bitcoin, stratum, 0x010000ab, `[[],16777387,8]`, false},
		{Bitcoin, stratum, 0x010000ab, `[[],null,8]`, false},
		{Bitcoin, stratum, 0x010000ab, `[[],"010000ab",4]`, false},
		{Bitcoin, stratum, 0x010000ab, `[[],"010000ab","8"]`, false},
		{Bitcoin, stratum, 0x010000ab, `[[],"010000ab",8.0]`, true},
		{Bitcoin, stratum, 0x010000ab, `[[],"010000ab",0]`, false},
		{Bitcoin, stratum, 0x010000ab, `[[],"010000ab",null]`, false},
		{Bitcoin, stratum, 0x010000ab, `[[]]`, false},
		{Bitcoin, stratum, 0x010000ab, `[]`, false},
		{Bitcoin, stratum, 0x010000ab, `true`, false},
		{Bitcoin, stratum, 0x010000ab, `null`, false},
		{Bitcoin, stratum, 0x010000ab, ``, false},
		{Bitcoin, stratum, 0x010000ab, `{"1":"010000ab"}`, false},
		{Bitcoin, stratum, 0x010000ab, `"010000ab"`, false},
		{DecredNormal, stratum, 0x010000ab, `[[],"0000000000000000ab000001",8]`, true},
		{DecredNormal, stratum, 0x010000ab, `[[],"010000ab",8]`, false},
		{DecredNormal, stratum, 0x010000ab, `[[],"ab000001",8]`, false},
		{DecredGominer, stratum, 0x010000ab, `[[],"ab000001",8]`, true},
		{DecredGominer, stratum, 0x010000ab, `[[],"010000ab",8]`, false},
		{Ethereum, stratum, 0x0100ab, `true`, true},
		{Ethereum, stratum, 0x0100ab, `false`, false},
		{Ethereum, stratum, 0x0100ab, `null`, false},
		{Ethereum, stratum, 0x0100ab, ``, false},
		{Ethereum, stratum, 0x0100ab, `"true"`, false},
		{Ethereum, stratum, 0x0100ab, `1`, false},
		{Ethereum, stratum, 0x0100ab, `[["mining.notify","0100ab","EthereumStratum/1.0.0"],"0100ab"]`, false},
		{Ethereum, ethProxy, 0x0100ab, `true`, true},
		{Ethereum, ethProxy, 0x0100ab, `[true]`, false},
		{Ethereum, ethStratum, 0x0100ab, `[["mining.notify","0100ab","EthereumStratum/1.0.0"],"0100ab"]`, true},
		{Ethereum, ethStratum, 0x0100ab, `[["mining.notify","0100AB","EthereumStratum/1.0.0"],"0100AB"]`, true},
		{Ethereum, ethStratum, 0x0100ab, `[["mining.notify","0100ac","EthereumStratum/1.0.0"],"0100ab"]`, false},
		{Ethereum, ethStratum, 0x0100ab, `[["mining.notify","0100ab","EthereumStratum/1.0.0"],"0100ac"]`, false},
		{Ethereum, ethStratum, 0x0100ab, `[["mining.notify","0100ab","EthereumStratum/1.0.0"],"0100"]`, false},
		{Ethereum, ethStratum, 0x0100ab, `[["mining.notify","0100ab"]]`, false},
		{Ethereum, ethStratum, 0x0100ab, `[["mining.notify"],"0100ab"]`, false},
		{Ethereum, ethStratum, 0x0100ab, `["mining.notify","0100ab"]`, false},
		{Ethereum, ethStratum, 0x0100ab, `[null,"0100ab"]`, false},
		{Ethereum, ethStratum, 0x0100ab, `true`, false},
		{Ethereum, nicehash, 0x0100ab, `[["mining.notify","0100ab","EthereumStratum/1.0.0"],"0100"]`, true},
		{Ethereum, nicehash, 0x0100ab, `[["mining.notify","0100ab","EthereumStratum/1.0.0"],"0100ab"]`, false},
		{Ethereum, nicehash, 0x0100ab, `[["mining.notify","0100","EthereumStratum/1.0.0"],"0100"]`, false},
	} {
		err := tc.chain.CheckPoolSubscribe(tc.sub, tc.id, json.RawMessage(tc.result))
		if (err == nil) != tc.good {
			t.Errorf("%s %+v %s: %v", tc.chain, tc.sub, tc.result, err)
		}
		// Only on bitcoin can a pool pick the extranonce, and only there is it suggested.
		if err != nil && tc.chain != Bitcoin && strings.Contains(err.Error(), `"ExtraNonce"`) {
			t.Errorf("%s: the error suggests a setting that this chain does not have: %v", tc.chain, err)
		}
	}
	// Both values are in the error, and only as much of the pool's as fits.
	err := Bitcoin.CheckPoolSubscribe(stratum, 0x010000ab, json.RawMessage(`[[],"`+strings.Repeat("00", 5000)+`",8]`))
	if err == nil || !strings.Contains(err.Error(), "010000ab") || !strings.Contains(err.Error(), "0000000") || len(err.Error()) > 400 {
		t.Errorf("unexpected error %.1000v", err)
	}
}

func TestParseWorker(t *testing.T) {
	addr := "0x" + strings.Repeat("aB", 20)
	for _, tc := range []struct {
		name, worker   string
		account, miner string
		eth            string // account and miner on ethereum, if these are others
	}{
		{"alice", "", "alice", "", ""},
		{"alice.rig1", "", "alice", ".rig1", ""},
		{"alice.rig1.gpu2", "", "alice", ".rig1.gpu2", ""},
		{"alice.", "", "alice", ".", ""},
		{"alice..", "", "alice", "..", ""},
		{"", "", "", "", ""},
		{".", "", "", ".", ""},
		{".rig1", "", "", ".rig1", ""},
		{"alice", "rig1", "alice", "", "alice|.rig1"},
		{"alice.rig1", "gpu2", "alice", ".rig1", "alice|.rig1.gpu2"},
		{"alice", "", "alice", "", ""},
		{"alice", "矿", "alice", "", ""},
		{"", "rig1", "", "", "|.rig1"},
		{addr, "", addr, "", ""},
		{addr + ".alice.rig1", "", addr, ".alice.rig1", "alice|.rig1"},
		{addr + ".alice", "rig1", addr, ".alice", "alice|.rig1"},
		{addr, "alice.rig1", addr, "", "alice|.rig1"},
		{addr, "alice", addr, "", "alice|"},
		{addr + ".", "", addr, ".", "|"},
		{addr + ".", "alice", addr, ".", "|.alice"},
		{addr + "0.alice", "", addr + "0", ".alice", ""},
		{addr[:41] + ".alice", "", addr[:41], ".alice", ""},
		{"1x" + addr[2:] + ".alice", "", "1x" + addr[2:], ".alice", ""},
		{"0X" + addr[2:] + ".alice", "", "0X" + addr[2:], ".alice", "alice|"},
		{addr + ".." + "alice", "", addr, "..alice", "|.alice"},
		{addr + "." + addr + ".alice", "", addr, "." + addr + ".alice", addr + "|.alice"}, // only one address is dropped
		{"a l\ti\nc\re\x00", "", "alice", "", ""},
		{"alice\".rig'1", "", "alice", ".rig1", ""},
		{"矿工.1", "", "", ".1", ""},
		{"\xff\xfealice\xf0.\x80r", "", "alice", ".r", ""},
		{"../../etc", "", "", "../../etc", ""},
		{"a/../b", "", "a/", "../b", ""},
		{"/a//b/", "", "/a//b/", "", ""},
		{"a_b:c|d^e-f/g", "", "a_b:c|d^e-f/g", "", ""},
		{"a*b?c=d&e@f#g%h$i!j,k;l<m>n[o]p{q}r(s)t\\u~v`w+x", "", "abcdefghijklmnopqrstuvwx", "", ""},
		{"АlісЕ", "", "l", "", ""},       // Cyrillic look-alikes
		{"\u017f\u212a", "", "", "", ""}, // fold to s and K
	} {
		for _, c := range allChains {
			account, miner := tc.account, tc.miner
			if c == Ethereum && tc.eth != "" {
				account, miner, _ = strings.Cut(tc.eth, "|")
			}
			got := c.ParseWorker(tc.name, tc.worker)
			if got.Account != account || got.Miner != miner {
				t.Errorf("%s %q, %q: got %q, %q, want %q, %q", c, tc.name, tc.worker, got.Account, got.Miner, account, miner)
			}
		}
	}
}
