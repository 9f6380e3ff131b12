package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// Miners with wrong names come again and again to a pool that refuses them and
// closes; then it drops all its connections once. They get the pool's own
// answer. The others do not notice: not those of the same account either, and
// nobody needs the backup.
func TestRefusedWorkersAreNobodyElsesTrouble(t *testing.T) {
	for _, c := range []struct {
		name string
		bad  func(k *choosyLink) conduct
	}{
		{"refuses", func(*choosyLink) conduct { return conductRefuse }},
		{"refuses and closes", func(*choosyLink) conduct { return conductRefuseClose }},
		{"refuses and closes at the second try, with the suffix", func(k *choosyLink) conduct {
			if k.asked == 1 {
				return conductRefuse
			}
			return conductClose
		}},
	} {
		for _, extranonce := range []string{"pool", "session"} {
			t.Run(extranonce+" "+c.name, func(t *testing.T) {
				t.Parallel()
				pool := startChoosyPool(t, "btc", func(p *choosyPool) {
					p.own = extranonce == "pool"
					p.onAuthorize = func(k *choosyLink, worker string) conduct {
						if isBad(worker) {
							return c.bad(k)
						}
						return conductServe
					}
				})
				backup := startChoosyPool(t, "backup", func(p *choosyPool) { p.own = pool.own })
				accounts := append([]string{"alice"}, manyAccounts("a", 4)...)
				sw := startSwitcher(t, coinsOf("btc", accounts...), nil, coinAt(extranonce, pool.addr(), backup.addr()))
				crew := goodCrew(t, sw.addr, 20, accounts...)
				bad := func(i int) string { return fmt.Sprintf("%s.bad%d", accounts[i%len(accounts)], i) }
				stop := badCrowd(t, sw.addr, 20, 20*time.Millisecond, bad, "raw/1.0")
				for i := range 10 {
					if i == 5 {
						pool.dropServed()
					}
					wantPrompt(t, sw.addr, accounts[i%len(accounts)]+".new", "btc")
				}
				waitAllAccepted(t, crew, 2)
				wantOnly(t, stop(), refusalAnswer(choosyRefusal))
				checkServed(t, crew, "btc", true)
				if n := backup.total.Load(); n > 0 {
					t.Errorf("%d connections to the backup", n)
				}
				if n := sw.timesTakenOut(); n > 0 {
					t.Errorf("the address was taken out %d times", n)
				}
			})
		}
	}
}

// The same with pools that close at mining.authorize without an answer. The
// workers they do not like use the backup at once; without one they are told
// that there is no pool for them.
func TestWorkersThatAreClosedOnAreNobodyElsesTrouble(t *testing.T) {
	for _, withBackup := range []bool{true, false} {
		for _, oneAccount := range []bool{true, false} {
			t.Run(fmt.Sprintf("backup %v one account %v", withBackup, oneAccount), func(t *testing.T) {
				t.Parallel()
				pool := startChoosyPool(t, "btc", func(p *choosyPool) {
					p.onAuthorize = func(k *choosyLink, worker string) conduct {
						if isBad(worker) {
							return conductClose
						}
						return conductServe
					}
				})
				backup := startChoosyPool(t, "backup", nil)
				accounts := []string{"alice"}
				if !oneAccount {
					accounts = append(accounts, manyAccounts("a", 4)...)
				}
				addrs := []string{pool.addr()}
				if withBackup {
					addrs = append(addrs, backup.addr())
				}
				sw := startSwitcher(t, coinsOf("btc", accounts...), nil, coinAt("session", addrs...))
				crew := goodCrew(t, sw.addr, 20, accounts...)
				bad := func(i int) string { return fmt.Sprintf("%s.bad%d", accounts[i%len(accounts)], i) }
				stop := badCrowd(t, sw.addr, 20, 20*time.Millisecond, bad, "raw/1.0")
				for i := range 10 {
					if i == 5 {
						pool.dropServed()
					}
					wantPrompt(t, sw.addr, accounts[i%len(accounts)]+".new", "btc")
				}
				waitAllAccepted(t, crew, 2)
				if answers := stop(); withBackup {
					wantOnly(t, answers, `{"id":2,"result":true,"error":null}`)
				} else {
					wantOnly(t, answers, connectFailed)
				}
				checkServed(t, crew, "btc", true)
				if n := sw.timesTakenOut(); n > 0 {
					t.Errorf("the address was taken out %d times", n)
				}
			})
		}
	}
}

// Workers that a pool does not answer wait for the end of the handshake's time,
// all at once. Nobody else waits with them, of whatever account.
func TestWorkersThatHangHoldUpNobody(t *testing.T) {
	for _, oneAccount := range []bool{true, false} {
		t.Run(fmt.Sprintf("one account %v", oneAccount), func(t *testing.T) {
			pool := startChoosyPool(t, "btc", func(p *choosyPool) {
				p.onAuthorize = func(k *choosyLink, worker string) conduct {
					if isBad(worker) {
						return conductHang
					}
					return conductServe
				}
			})
			accounts := []string{"alice"}
			if !oneAccount {
				accounts = append(accounts, manyAccounts("a", 9)...)
			}
			sw := startSwitcher(t, coinsOf("btc", accounts...), nil, coinAt("session", pool.addr()))
			sw.setTiming(func(tm *timing) { tm.poolHandshake = 1500 * time.Millisecond })
			crew := goodCrew(t, sw.addr, 20, accounts...)
			var hanging []*stratumtest.Raw
			for i := range 300 {
				r := dialSubscribed(t, sw.addr)
				r.SendLine(fmt.Sprintf(`{"id":2,"method":"mining.authorize","params":["%s.bad%d","x"]}`, accounts[i%len(accounts)], i))
				hanging = append(hanging, r)
			}
			eventually(t, "they hang", func() bool { return sw.linksInPreparation() > 100 })
			for began := time.Now(); time.Since(began) < 2*time.Second; time.Sleep(50 * time.Millisecond) {
				for i := range 5 {
					wantPrompt(t, sw.addr, accounts[i%len(accounts)]+".new", "btc")
				}
			}
			pool.dropServed()
			waitAllAccepted(t, crew, 2)
			checkServed(t, crew, "btc", true)
			for _, r := range hanging {
				r.Close()
			}
			if n := sw.timesTakenOut(); n > 0 {
				t.Errorf("the address was taken out %d times", n)
			}
		})
	}
}

// A user agent that the pool does not like is told what the pool says; others
// are served. One that the pool closes on without a word goes to the backup.
func TestDislikedUserAgentIsNobodyElsesTrouble(t *testing.T) {
	for _, c := range []struct {
		name   string
		bad    conduct
		backup bool
		want   string
	}{
		{"refuses", conductRefuse, false, refusalAnswer(choosyNoUserAgent)},
		{"refuses and closes", conductRefuseClose, false, refusalAnswer(choosyNoUserAgent)},
		{"closes", conductClose, false, ""},
		{"refuses, with a backup", conductRefuseClose, true, `{"id":2,"result":true,"error":null}`},
		{"closes, with a backup", conductClose, true, `{"id":2,"result":true,"error":null}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			pool := startChoosyPool(t, "btc", func(p *choosyPool) {
				p.onSubscribe = func(k *choosyLink, userAgent string) conduct {
					if strings.HasPrefix(userAgent, "odd") {
						return c.bad
					}
					return conductServe
				}
			})
			backup := startChoosyPool(t, "backup", nil)
			addrs := []string{pool.addr()}
			if c.backup {
				addrs = append(addrs, backup.addr())
			}
			accounts := append([]string{"alice"}, manyAccounts("a", 4)...)
			sw := startSwitcher(t, coinsOf("btc", accounts...), nil, coinAt("session", addrs...))
			sw.setTiming(func(tm *timing) { tm.poolHandshake = time.Second })
			crew := goodCrew(t, sw.addr, 20, accounts...)
			bad := func(i int) string { return fmt.Sprintf("%s.%d", accounts[i%len(accounts)], i) }
			stop := badCrowd(t, sw.addr, 20, 20*time.Millisecond, bad, "odd/1")
			for i := range 20 {
				if i == 10 {
					pool.dropServed()
				}
				wantPrompt(t, sw.addr, accounts[i%len(accounts)]+".new", "btc")
			}
			waitAllAccepted(t, crew, 2)
			answers := stop()
			if c.want != "" {
				wantOnly(t, answers, c.want)
			}
			t.Logf("answers %v", answers)
			checkServed(t, crew, "btc", true)
			if n := sw.timesTakenOut(); n > 0 {
				t.Errorf("the address was taken out %d times", n)
			}
		})
	}
}
