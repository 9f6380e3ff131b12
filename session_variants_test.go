package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// Pools have many ways of saying that there is no error, and of writing a mask.
// Some send a banner, or ask to reconnect without saying where.
func TestPoolVariants(t *testing.T) {
	for _, c := range []struct {
		name                                          string
		banner, configured, subscribed, between, auth string
		mask                                          string // sent to the miner
		failure                                       string // in the miner's answer
	}{
		{name: "P2Pool", auth: `null,"error":null`},
		{name: "null without error", auth: `null`},
		{name: "error false", configured: `,"error":false`, subscribed: `,"error":false`, auth: `true,"error":false`},
		{name: "error list", configured: `,"error":[]`, subscribed: `,"error":[ ]`, auth: `null,"error":[]`},
		{name: "error object", subscribed: `,"error":{}`, auth: `true,"error":{}`},
		{name: "mask with 0x", configured: `"0x1fffe000"`, mask: "1fffe000"},
		{name: "mask as number", configured: `536862720`, mask: "1fffe000"},
		{name: "mask as number with fraction", configured: `536862720.0`, mask: "1fffe000"},
		{name: "mask with spaces", configured: `" 1fffe000 "`, mask: "1fffe000"},
		{name: "short mask", configured: `"e000"`, mask: "0000e000"},
		{name: "mask later, as number", configured: `"00000000"`, between: `{"id":null,"method":"mining.set_version_mask","params":[57344]}` + "\n", mask: "0000e000"},
		{name: "banner", banner: "Welcome to the pool\r\n\r\n"},
		{name: "byte-order mark", banner: "\ufeff"},
		{name: "ends of C strings", between: "\x00"},
		{name: "reconnect to nowhere", between: `{"id":null,"method":"client.reconnect","params":[]}` + "\n" + `{"id":null,"method":"client.reconnect"}` + "\n"},
		{name: "reconnect to a host", between: `{"id":null,"method":"client.reconnect","params":["h",1]}` + "\n", failure: "302"},
		{name: "web server", banner: "HTTP/1.1 400 Bad Request\r\n", failure: "302"},
		{name: "six lines of junk", banner: strings.Repeat("junk\n", 6), failure: "302"},
		{name: "an error", auth: `null,"error":[24,"no",null]`, failure: "24"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			sw, pool, _ := startScripted(t, "bitcoin", func(cfg *Config) {
				cfg.StratumServerMap["btc"] = StratumServerInfo{URL: cfg.StratumServerMap["btc"].URL, Worker: "{account}{miner}"}
			})
			miner := stratumtest.DialRaw(t, sw.addr)
			miner.Send(joinLines(`{"id":0,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"0xffffffff"}]}`, textSubscribe, textAuthorize))
			expectLines(miner, `{"id":0,"result":{"version-rolling":true,"version-rolling.mask":"ffffffff"},"error":null}`, textSubscribed)
			link := pool.Next()
			expectLines(link, `{"id":2147400000,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"ffffffff"}]}`, withOwnID(textPoolSubscribe, 1))
			link.ExpectMethod("mining.authorize")
			mask, tail := `"00ffe000"`, `,"error":null`
			if strings.HasPrefix(c.configured, ",") {
				tail = c.configured
			} else if c.configured != "" {
				mask = c.configured
			}
			subscribed := withOwnID(textPoolSubscribed, 1)
			if c.subscribed != "" {
				subscribed = strings.Replace(subscribed, `,"error":null`, c.subscribed, 1)
			}
			if c.auth == "" {
				c.auth = `true,"error":null`
			}
			if c.mask == "" {
				c.mask = "00ffe000"
			}
			link.Send(c.banner + fmt.Sprintf(`{"id":2147400000,"result":{"version-rolling":true,"version-rolling.mask":%s}%s}`+"\n", mask, tail) +
				subscribed + "\n" + c.between + fmt.Sprintf(`{"id":2147400002,"result":%s}`+"\n", c.auth) + textJob + "\n")
			if c.failure != "" {
				if got := miner.Line(stratumtest.Patience); !strings.HasPrefix(got, `{"id":2,"result":null,"error":[`+c.failure) {
					t.Errorf("miner got %s", got)
				}
				return
			}
			expectLines(miner, `{"id":2,"result":true,"error":null}`, `{"id":null,"method":"mining.set_version_mask","params":["`+c.mask+`"]}`, textJob)
		})
	}
}

// There are bytes before the first line, and before and after later lines.
func TestMinerLeadingBytes(t *testing.T) {
	for name, leading := range map[string]string{
		"line end": "\r\n", "space": " ", "byte-order mark": "\ufeff", "NUL": "\x00", "sixteen": strings.Repeat("\n", maxLeading),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sw, pool, _ := startScripted(t, "bitcoin", nil)
			miner := stratumtest.DialRaw(t, sw.addr)
			for _, b := range []byte(leading) {
				miner.Send(string([]byte{b}))
			}
			miner.Send(textSubscribe + "\n")
			miner.ExpectLine(textSubscribed)
			miner.Send(leading + textAuthorize + "\n")
			expectLines(pool.Next(), textPoolSubscribe, textPoolAuthorize)
		})
	}
}

func TestSetCleanForms(t *testing.T) {
	const eight = `"j","00","01","02",[],"20000000","1703a30c","5e9a5c3b"`
	job := func(params string) string { return `{"id":null,"method":"mining.notify","params":[` + params + "]}\n" }
	for _, c := range []struct {
		chain       stratum.Chain
		params, out string
	}{
		{stratum.Bitcoin, eight, eight + `,true`},
		{stratum.Bitcoin, eight + `,0`, eight + `,true`},
		{stratum.Bitcoin, eight + `,1`, eight + `,true`},
		{stratum.Bitcoin, eight + `,null`, eight + `,true`},
		{stratum.Bitcoin, eight + `,"false"`, eight + `,true`},
		{stratum.Bitcoin, eight + `,false,"more"`, eight + `,true,"more"`},
		{stratum.Bitcoin, eight + `,0,false`, eight + `,true,false`},
		{stratum.Bitcoin, eight + `,"x",7`, eight + `,"x",7`},
		{stratum.DecredNormal, eight + `, 0 `, eight + `, true `},
		{stratum.Ethereum, `"j","seed","header",false`, `"j","seed","header",true`},
		{stratum.Ethereum, `"j","seed","header"`, `"j","seed","header",true`},
		{stratum.Ethereum, `"j","seed","header",0`, `"j","seed","header",true`},
		{stratum.Ethereum, `"j","header","seed","target"`, `"j","header","seed","target",true`},
		{stratum.Ethereum, `"j","header","seed","target",false,12345`, `"j","header","seed","target",true,12345`},
	} {
		if got := string(stratum.SetClean(c.chain, []byte(job(c.params)))); got != job(c.out) {
			t.Errorf("%s: the parameters %s became %s", c.chain, c.params, got)
		}
	}
}

// A job that cannot be translated is a fault of the link. The miner gets nothing of
// it, and a new link.
func TestJobNotUnderstood(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		`{"id":null,"method":"mining.notify","params":["b","00",1,"02"]}`,
		`{"id":null,"method":"mining.notify","params":{"job":"b"}}`,
		`{"id":null,"method":"mining.notify"}`,
	} {
		for _, first := range []bool{true, false} {
			t.Run(fmt.Sprint(line, first), func(t *testing.T) {
				t.Parallel()
				s := startPickingScene(t)
				good := sceneJob("a", "01", "02", true)
				if first {
					s.Handshake("aaaaaaaa", 4, nil, []string{line})
					s.Miner.ExpectLine(`{"id":2,"result":null,"error":[302,"Connect Stratum Server Failed",1]}`)
					return
				}
				s.Handshake("aaaaaaaa", 4, nil, []string{good})
				s.Miner.ExpectLine(`{"id":2,"result":true,"error":null}`)
				s.Miner.ExpectLine(sceneJob("a", "01aaaaaaaa", "02", true))
				s.Pool.SendLine(line)
				s.Pool.ExpectClosed()
				s.Pool = s.Scripted.Next()
				s.Handshake("bbbbbbbb", 4, nil, []string{sceneJob("c", "01", "02", true)})
				s.Miner.ExpectLine(sceneJob("c", "01bbbbbbbb", "02", true))
			})
		}
	}
}

// Some pools give all their answers the same id or none. Their answers count in the
// order of the requests, whatever the id is, until the link is ready.
func TestPoolAnswersWithFixedIDs(t *testing.T) {
	t.Parallel()
	const configured = `{"id":%s,"result":{"version-rolling":true,"version-rolling.mask":"00ffe000"},"error":null}`
	for _, id := range []string{"null", "0", "1", `"x"`, `""`} {
		for name, answers := range map[string]string{
			"all answered":           configured,
			"configure not answered": "",
			"configure refused":      `{"id":%s,"result":null,"error":[20,"Unknown method",null]}`,
			"configure false":        `{"id":%s,"result":false,"error":null}`,
		} {
			for _, kind := range []string{"session", extranonceOfPool} {
				t.Run(id+"/"+name+"/"+kind, func(t *testing.T) {
					t.Parallel()
					sw, pool, _ := startScripted(t, "bitcoin", func(c *Config) {
						c.StratumServerMap["btc"] = StratumServerInfo{URL: c.StratumServerMap["btc"].URL, ExtraNonce: kind}
					})
					sw.setTiming(impatient)
					miner := stratumtest.DialRaw(t, sw.addr)
					miner.Send(joinLines(`{"id":0,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"1fffe000"}]}`,
						rawSubscribe, `{"id":7,"method":"mining.suggest_difficulty","params":[512]}`, rawAuthorize))
					link := pool.Next()
					link.ExpectMethod("mining.configure")
					if answers != "" {
						link.SendLine(fmt.Sprintf(answers, id))
					}
					var asked struct{ Params []any }
					mustDo(t, json.Unmarshal([]byte(link.ExpectMethod("mining.subscribe")), &asked))
					extranonce := any("aaaaaaaa")
					if len(asked.Params) > 1 {
						extranonce = asked.Params[1]
					}
					link.SendLine(fmt.Sprintf(`{"id":%s,"result":[[],"%v",8],"error":null}`, id, extranonce))
					if kind == "session" {
						link.ExpectMethod("mining.suggest_difficulty")
						link.SendLine(goodAnswer(id))
					}
					link.ExpectMethod("mining.authorize")
					link.SendLine(goodAnswer(id))
					link.Send(joinLines(difficultyLine, sceneJob("j", "01", "02", true)))
					miner.ExpectMethodAfter(`{"id":2,"result":true,"error":null}`)
				})
			}
		}
	}
}
