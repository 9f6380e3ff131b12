package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// Miners with wrong names connect again and again to a pool that refuses them and
// closes. Then it drops all its connections once. The bad miners get the pool's own
// answer. The others notice nothing, not even those of the same account, and nobody
// needs the backup.
func TestRefusedWorkersAreNobodyElsesTrouble(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		bad  func(k *testkit.ChoosyLink) testkit.Conduct
	}{
		{"refuses", func(*testkit.ChoosyLink) testkit.Conduct { return testkit.ConductRefuse }},
		{"refuses and closes", func(*testkit.ChoosyLink) testkit.Conduct { return testkit.ConductRefuseClose }},
		{"refuses and closes at the second try, with the suffix", func(k *testkit.ChoosyLink) testkit.Conduct {
			if k.Asked == 1 {
				return testkit.ConductRefuse
			}
			return testkit.ConductClose
		}},
	} {
		for _, extranonce := range []string{"pool", "session"} {
			t.Run(extranonce+" "+c.name, func(t *testing.T) {
				t.Parallel()
				pool := testkit.StartChoosyPool(t, "btc", func(p *testkit.ChoosyPool) {
					p.Own = extranonce == "pool"
					p.OnAuthorize = func(k *testkit.ChoosyLink, worker string) testkit.Conduct {
						if testkit.IsBad(worker) {
							return c.bad(k)
						}
						return testkit.ConductServe
					}
				})
				backup := testkit.StartChoosyPool(t, "backup", func(p *testkit.ChoosyPool) { p.Own = pool.Own })
				accounts := append([]string{"alice"}, testkit.ManyAccounts("a", 4)...)
				sw := startSwitcher(t, coinsOf("btc", accounts...), nil, coinAt(extranonce, pool.Addr(), backup.Addr()))
				crew := testkit.GoodCrew(t, sw.addr, 20, accounts...)
				bad := func(i int) string { return fmt.Sprintf("%s.bad%d", accounts[i%len(accounts)], i) }
				stop := badCrowd(t, sw.addr, 20, 20*time.Millisecond, bad, "raw/1.0")
				for i := range 10 {
					if i == 5 {
						pool.DropServed()
					}
					testkit.WantPrompt(t, sw.addr, accounts[i%len(accounts)]+".new", "btc")
				}
				testkit.WaitAllAccepted(t, crew, 2)
				wantOnly(t, stop(), testkit.RefusalAnswer(testkit.ChoosyRefusal))
				if pool.Own {
					testkit.CheckServedAnew(t, crew, "btc") // shares for jobs of the lost links are stale
				} else {
					testkit.CheckServed(t, crew, "btc", true)
				}
				if n := backup.Total.Load(); n > 0 {
					t.Errorf("there were %d connections to the backup, want none", n)
				}
				if n := sw.timesTakenOut(); n > 0 {
					t.Errorf("the address was taken out %d times", n)
				}
			})
		}
	}
}

// Here pools close at mining.authorize without an answer. The workers that they
// reject use the backup at once; without a backup they get an error that there is
// no pool.
func TestWorkersThatAreClosedOnAreNobodyElsesTrouble(t *testing.T) {
	t.Parallel()
	for _, withBackup := range []bool{true, false} {
		for _, oneAccount := range []bool{true, false} {
			t.Run(fmt.Sprintf("backup %v one account %v", withBackup, oneAccount), func(t *testing.T) {
				t.Parallel()
				pool := testkit.StartChoosyPool(t, "btc", func(p *testkit.ChoosyPool) {
					p.OnAuthorize = func(k *testkit.ChoosyLink, worker string) testkit.Conduct {
						if testkit.IsBad(worker) {
							return testkit.ConductClose
						}
						return testkit.ConductServe
					}
				})
				backup := testkit.StartChoosyPool(t, "backup", nil)
				accounts := []string{"alice"}
				if !oneAccount {
					accounts = append(accounts, testkit.ManyAccounts("a", 4)...)
				}
				addrs := []string{pool.Addr()}
				if withBackup {
					addrs = append(addrs, backup.Addr())
				}
				sw := startSwitcher(t, coinsOf("btc", accounts...), nil, coinAt("session", addrs...))
				crew := testkit.GoodCrew(t, sw.addr, 20, accounts...)
				bad := func(i int) string { return fmt.Sprintf("%s.bad%d", accounts[i%len(accounts)], i) }
				stop := badCrowd(t, sw.addr, 20, 20*time.Millisecond, bad, "raw/1.0")
				for i := range 10 {
					if i == 5 {
						pool.DropServed()
					}
					testkit.WantPrompt(t, sw.addr, accounts[i%len(accounts)]+".new", "btc")
				}
				testkit.WaitAllAccepted(t, crew, 2)
				if answers := stop(); withBackup {
					wantOnly(t, answers, `{"id":2,"result":true,"error":null}`)
				} else {
					wantOnly(t, answers, testkit.ConnectFailed)
				}
				testkit.CheckServed(t, crew, "btc", true)
				if n := sw.timesTakenOut(); n > 0 {
					t.Errorf("the address was taken out %d times", n)
				}
			})
		}
	}
}

// Workers that a pool does not answer wait for the end of the handshake's time, all
// at the same time. Nobody else waits with them, whatever the account.
func TestWorkersThatHangHoldUpNobody(t *testing.T) {
	for _, oneAccount := range []bool{true, false} {
		t.Run(fmt.Sprintf("one account %v", oneAccount), func(t *testing.T) {
			pool := testkit.StartChoosyPool(t, "btc", func(p *testkit.ChoosyPool) {
				p.OnAuthorize = func(k *testkit.ChoosyLink, worker string) testkit.Conduct {
					if testkit.IsBad(worker) {
						return testkit.ConductHang
					}
					return testkit.ConductServe
				}
			})
			accounts := []string{"alice"}
			if !oneAccount {
				accounts = append(accounts, testkit.ManyAccounts("a", 9)...)
			}
			sw := startSwitcher(t, coinsOf("btc", accounts...), nil, coinAt("session", pool.Addr()))
			sw.setTiming(func(tm *timing) { tm.poolHandshake = 5 * time.Second })
			crew := testkit.GoodCrew(t, sw.addr, 20, accounts...)
			var hanging []*stratumtest.Raw
			for i := range 300 {
				r := dialSubscribed(t, sw.addr)
				r.SendLine(fmt.Sprintf(`{"id":2,"method":"mining.authorize","params":["%s.bad%d","x"]}`, accounts[i%len(accounts)], i))
				hanging = append(hanging, r)
			}
			eventually(t, "they hang", func() bool { return sw.linksInPreparation() > 100 })
			for began := time.Now(); time.Since(began) < 2*time.Second; time.Sleep(50 * time.Millisecond) {
				for i := range 5 {
					testkit.WantPrompt(t, sw.addr, accounts[i%len(accounts)]+".new", "btc")
				}
			}
			pool.DropServed()
			testkit.WaitAllAccepted(t, crew, 2)
			testkit.CheckServed(t, crew, "btc", true)
			for _, r := range hanging {
				r.Close()
			}
			if n := sw.timesTakenOut(); n > 0 {
				t.Errorf("the address was taken out %d times", n)
			}
		})
	}
}

// A miner whose user agent the pool rejects gets the pool's answer, and others are
// served. A miner whose connection the pool closes without an answer goes to the
// backup.
func TestDislikedUserAgentIsNobodyElsesTrouble(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		bad    testkit.Conduct
		backup bool
		want   string
	}{
		{"refuses", testkit.ConductRefuse, false, testkit.RefusalAnswer(testkit.ChoosyNoUserAgent)},
		{"refuses and closes", testkit.ConductRefuseClose, false, testkit.RefusalAnswer(testkit.ChoosyNoUserAgent)},
		{"closes", testkit.ConductClose, false, ""},
		{"refuses, with a backup", testkit.ConductRefuseClose, true, `{"id":2,"result":true,"error":null}`},
		{"closes, with a backup", testkit.ConductClose, true, `{"id":2,"result":true,"error":null}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			pool := testkit.StartChoosyPool(t, "btc", func(p *testkit.ChoosyPool) {
				p.OnSubscribe = func(k *testkit.ChoosyLink, userAgent string) testkit.Conduct {
					if strings.HasPrefix(userAgent, "odd") {
						return c.bad
					}
					return testkit.ConductServe
				}
			})
			backup := testkit.StartChoosyPool(t, "backup", nil)
			addrs := []string{pool.Addr()}
			if c.backup {
				addrs = append(addrs, backup.Addr())
			}
			accounts := append([]string{"alice"}, testkit.ManyAccounts("a", 4)...)
			sw := startSwitcher(t, coinsOf("btc", accounts...), nil, coinAt("session", addrs...))
			crew := testkit.GoodCrew(t, sw.addr, 20, accounts...)
			bad := func(i int) string { return fmt.Sprintf("%s.%d", accounts[i%len(accounts)], i) }
			stop := badCrowd(t, sw.addr, 20, 20*time.Millisecond, bad, "odd/1")
			for i := range 20 {
				if i == 10 {
					pool.DropServed()
				}
				testkit.WantPrompt(t, sw.addr, accounts[i%len(accounts)]+".new", "btc")
			}
			testkit.WaitAllAccepted(t, crew, 2)
			answers := stop()
			if c.want != "" {
				wantOnly(t, answers, c.want)
			}
			t.Logf("answers %v", answers)
			testkit.CheckServed(t, crew, "btc", true)
			if n := sw.timesTakenOut(); n > 0 {
				t.Errorf("the address was taken out %d times", n)
			}
		})
	}
}

// Other miners may find out more about an address between the moment when a session
// is allowed to dial it and the moment when it does. What they found then decides, as
// if the session had come a little later: here, that the pool refuses its user agent.
func TestUserAgentRefusedJustBeforeTheDial(t *testing.T) {
	t.Parallel()
	pool := testkit.StartChoosyPool(t, "btc", func(p *testkit.ChoosyPool) {
		p.OnSubscribe = func(*testkit.ChoosyLink, string) testkit.Conduct { return testkit.ConductHang }
		p.OnAuthorize = func(*testkit.ChoosyLink, string) testkit.Conduct { return testkit.ConductHang }
	})
	sw := startSwitcher(t, coinsOf("btc", "alice"), nil, coinAt("session", pool.Addr()))
	miner := dialSubscribed(t, sw.addr)
	miner.SendLine(rawAuthorize)
	eventually(t, "the pool hangs", func() bool { return pool.Total.Load() == 1 && sw.linksInPreparation() == 1 })
	refusal, err := stratum.ParseResponse([]byte(`{"id":1,"result":null,"error":` + testkit.ChoosyNoUserAgent + `}`))
	if err != nil {
		t.Fatal(err)
	}
	sw.eachSession(func(s *Session) {
		l := s.linking
		ips := l.link.pool.addresses[0].ips
		l.link.close()
		h := s.manager.health
		h.mu.Lock()
		h.remember(recordUserAgent, ips[0], s.subscription.UserAgent, h.now(), h.now()).answer = refusal
		h.mu.Unlock()
		l.link = &poolLink{session: s, pool: l.pool, address: l.address, dialer: s.dialer(l.pool)}
		l.link.start(ips)
	})
	miner.ExpectLine(testkit.RefusalAnswer(testkit.ChoosyNoUserAgent))
	if n := pool.Total.Load(); n != 1 {
		t.Errorf("there were %d connections to the pool, want 1", n)
	}
}
