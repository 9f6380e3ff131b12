package main

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// The table says what happened, to whom and where, and who may dial where
// afterwards.
func TestHealthSequences(t *testing.T) {
	const closed, open, probing = breakerClosed, breakerOpen, breakerProbing
	for _, c := range []struct {
		name  string
		steps [][]healthStep
	}{
		{"three refused connections in a row take an address out, whoever made them", [][]healthStep{
			each(healthStep{do: "fail", ev: evidenceConnect, want: blameAddress}, "a.1", "a.1"),
			{{do: "state", want: closed}},
			{{do: "out", who: "a.1", ev: evidenceConnect, want: true}},
			{{do: "state", want: open}, {do: "may", who: "b.1", want: obstacleOut}, {do: "may", who: "b.1", at: "b", want: obstacleNone}},
			{{do: "state", wait: 1600 * time.Millisecond, want: probing}, {do: "may", who: "b.1", want: obstacleNone}},
			{{do: "ready", who: "b.1"}, {do: "state", want: closed}},
		}},
		{"a connection that succeeds in between ends the row of failures", [][]healthStep{
			each(healthStep{do: "fail", ev: evidenceConnect}, "a.1", "a.1"),
			{{do: "ready", who: "b.1"}},
			each(healthStep{do: "out", ev: evidenceConnect, want: false}, "a.1", "a.1"),
		}},
		{"an address that is out is probed by three at a time: new miners may have all places, others two, suspects one", [][]healthStep{
			each(healthStep{do: "fail", ev: evidenceConnect}, "a.1", "a.1", "a.1"),
			{{do: "wait", wait: 2 * time.Second}},
			each(healthStep{do: "begin"}, "+x.1", "+x.2"),
			{{do: "may", who: "+x.3", want: obstacleOut}, {do: "may", who: "new.1", want: obstacleNone}},
			each(healthStep{do: "begin"}, "new.1"),
			{{do: "may", who: "new.2", want: obstacleOut}},
			{{do: "fail", who: "new.1", ev: evidenceConnect}, {do: "state", want: open}},
		}},
		{"a refused worker affects nobody else", [][]healthStep{
			each(healthStep{do: "fail", ev: evidenceRefused, want: blameWorker}, "a.typo", "b.typo", "c.typo", "d.typo", "a.typo", "e.typo"),
			{{do: "state", want: closed}},
			each(healthStep{do: "may", want: obstacleNone}, "a.right", "a.typo", "f.1"),
			{{do: "suspect", who: "a.typo", want: true}, {do: "suspect", who: "a.right", want: false}},
		}},
		{"if the pool closes at authorize, the worker pauses there and others of its account do not", [][]healthStep{
			{{do: "fail", who: "a.1", ev: evidenceAuthorize, want: blameWorker}},
			{{do: "may", who: "a.1", want: obstacleWorker}, {do: "may", who: "a.1", at: "b", want: obstacleNone}},
			each(healthStep{do: "elsewhere", want: false}, "a.2", "b.1"),
			{{do: "may", who: "a.1", wait: 1100 * time.Millisecond, want: obstacleNone}},
		}},
		{"the pause of a worker doubles; failures at the same time count once", [][]healthStep{
			each(healthStep{do: "begin"}, "+a.1", "+a.1 ", "+a.1  "),
			{{do: "fail", who: "+a.1", ev: evidenceAuthorize}, {do: "may", who: "+a.1", wait: 1100 * time.Millisecond, want: obstacleNone}},
			{{do: "fail", who: "+a.1", ev: evidenceAuthorize}, {do: "may", who: "+a.1", wait: 1100 * time.Millisecond, want: obstacleWorker}},
			{{do: "may", who: "+a.1", wait: time.Second, want: obstacleNone}},
			{{do: "fail", who: "+a.1", ev: evidenceAuthorize}, {do: "wait", wait: 4 * time.Second}},
			{{do: "fail", who: "+a.1", ev: evidenceAuthorize}, {do: "wait", wait: 8 * time.Second}},
			{{do: "fail", who: "+a.1", ev: evidenceAuthorize}, {do: "may", who: "+a.1", wait: 11 * time.Second, want: obstacleWorker}},
			// A new connection of the worker need not wait that long.
			{{do: "may", who: "a.1", want: obstacleNone}},
			{{do: "ready", who: "+a.1", wait: 20 * time.Second}, {do: "stable", who: "+a.1"}, {do: "may", who: "+a.1", want: obstacleNone}},
		}},
		{"three failed workers of an account make another address better for that account only", [][]healthStep{
			each(healthStep{do: "fail", ev: evidenceAuthorize}, "a.1", "a.2"),
			{{do: "fail", who: "a.3", ev: evidenceAuthorize, want: blameAccount}},
			{{do: "elsewhere", who: "a.4", want: true}, {do: "may", who: "a.4", want: obstacleNone}, {do: "suspect", who: "a.4", want: true}},
			{{do: "elsewhere", who: "b.1", want: false}, {do: "state", want: closed}},
			{{do: "ready", who: "a.4"}, {do: "elsewhere", who: "a.5", want: false}},
		}},
		{"three failed workers do not make another address better while one of the account's links there is stable", [][]healthStep{
			{{do: "ready", who: "a.good"}, {do: "stable", who: "a.good"}, {do: "wait", wait: time.Minute}},
			each(healthStep{do: "fail", ev: evidenceAuthorize, want: blameWorker}, "a.1", "a.2", "a.3", "a.4"),
			{{do: "elsewhere", who: "a.5", want: false}, {do: "state", want: closed}},
		}},
		{"if the pool closes at authorize for three accounts and nobody fares well, the address is taken out", [][]healthStep{
			each(healthStep{do: "fail", ev: evidenceAuthorize}, "a.1", "b.1", "a.2", "b.2"),
			{{do: "state", want: closed}},
			{{do: "fail", who: "c.1", ev: evidenceAuthorize, want: blameAddress}, {do: "state", want: open}},
		}},
		{"a stable link that receives something shows that the pool works", [][]healthStep{
			{{do: "ready", who: "good.1"}, {do: "stable", who: "good.1"}, {do: "heard", wait: 31 * time.Second}},
			each(healthStep{do: "fail", ev: evidenceAuthorize, want: blameWorker, wait: time.Second}, "a.1", "b.1", "c.1", "d.1"),
			{{do: "state", want: closed}},
		}},
		{"quiet stable links show that a pool works which closes at once, but not one that lets others wait", [][]healthStep{
			{{do: "ready", who: "good.1"}, {do: "stable", who: "good.1"}, {do: "heard", wait: 31 * time.Second}},
			each(healthStep{do: "fail", ev: evidenceAuthorize, want: blameWorker, wait: 10 * time.Second}, "a.1", "b.1", "c.1"),
			{{do: "state", want: closed}, {do: "wait", wait: 10 * time.Second}},
			each(healthStep{do: "begin"}, "d.1", "e.1", "f.1"),
			{{do: "wait", wait: poolHandshakeTimeout}},
			each(healthStep{do: "fail", ev: evidenceSubscribe}, "d.1", "e.1", "f.1"),
			{{do: "state", want: open}},
		}},
		{"a stable link that was lost since does not show that the pool works", [][]healthStep{
			{{do: "ready", who: "good.1"}, {do: "stable", who: "good.1"}, {do: "heard", wait: 31 * time.Second}, {do: "lost", who: "good.1", wait: time.Second}},
			each(healthStep{do: "fail", ev: evidenceAuthorize}, "a.1", "b.1", "c.1"),
			{{do: "state", want: open}},
		}},
		{"tries that end when the pool drops its links say nothing about the pool, but the tries after them do", [][]healthStep{
			{{do: "ready", who: "good.1"}, {do: "stable", who: "good.1"}, {do: "heard", wait: 31 * time.Second}},
			each(healthStep{do: "begin"}, "a.1", "b.1", "c.1", "d.1"),
			{{do: "lost", who: "good.1", wait: time.Second}},
			each(healthStep{do: "fail", ev: evidenceAuthorize, want: blameWorker}, "a.1", "b.1", "c.1", "d.1"),
			{{do: "state", want: closed}, {do: "wait", wait: time.Second}},
			each(healthStep{do: "fail", ev: evidenceAuthorize}, "e.1", "f.1", "g.1"),
			{{do: "state", want: open}},
		}},
		{"a link that got ready meanwhile shows that the pool works up to authorize", [][]healthStep{
			each(healthStep{do: "begin"}, "a.1", "b.1", "c.1"),
			{{do: "ready", who: "good.1", wait: 2 * time.Second}},
			each(healthStep{do: "fail", ev: evidenceAuthorize, wait: 3 * time.Second}, "a.1", "b.1", "c.1"),
			{{do: "state", want: closed}},
		}},
		{"if there is only one account, three workers are enough", [][]healthStep{
			{{do: "one account"}},
			each(healthStep{do: "fail", ev: evidenceAuthorize}, "a.1", "a.2", "a.3"),
			{{do: "state", want: open}},
		}},
		{"links of three accounts that end after they were ready take the address out; being ready proves nothing", [][]healthStep{
			each(healthStep{do: "ready"}, "a.1", "b.1", "c.1", "d.1"),
			each(healthStep{do: "disconnect", want: blameWorker}, "a.1", "b.1"),
			{{do: "disconnect", who: "c.1", want: blameAddress}, {do: "state", want: open}},
			{{do: "may", who: "e.1", wait: 2 * time.Second, want: obstacleNone}, {do: "ready", who: "e.1"}, {do: "state", want: closed}},
		}},
		{"a link that lasts longer than those that end shows that the pool works", [][]healthStep{
			each(healthStep{do: "ready"}, "good.1", "a.1", "b.1", "c.1"),
			each(healthStep{do: "disconnect", want: blameWorker, wait: 60 * time.Millisecond}, "a.1", "b.1"),
			{{do: "disconnect", who: "c.1", want: blameAddress, wait: 60 * time.Millisecond}, {do: "may", who: "new.1", want: obstacleOut}},
			{{do: "wait", wait: 500 * time.Millisecond}, {do: "state", want: open}, {do: "may", who: "new.1", want: obstacleOut}},
			{{do: "wait", wait: 50 * time.Millisecond}, {do: "state", want: closed}, {do: "may", who: "new.1", want: obstacleNone}},
			each(healthStep{do: "ready"}, "a.2", "b.2", "c.2", "d.2"),
			each(healthStep{do: "disconnect", want: blameWorker, wait: 10 * time.Millisecond}, "a.2", "b.2", "c.2", "d.2"),
			{{do: "state", want: closed}},
		}},
		{"a link that lasts longer does not show that a pool works which no longer answers", [][]healthStep{
			each(healthStep{do: "ready"}, "good.1", "a.1", "b.1", "c.1"),
			each(healthStep{do: "begin"}, "x.1", "x.2", "x.3"),
			each(healthStep{do: "disconnect"}, "a.1", "b.1", "c.1"),
			each(healthStep{do: "fail", ev: evidenceConnect, wait: 10 * time.Millisecond}, "x.1", "x.2", "x.3"),
			{{do: "may", who: "new.1", wait: 300 * time.Millisecond, want: obstacleOut}, {do: "state", want: open}},
		}},
		{"a link that is only as old as those that end get does not show that the pool works", [][]healthStep{
			each(healthStep{do: "ready"}, "good.1", "a.1", "b.1", "c.1"),
			each(healthStep{do: "disconnect", wait: time.Second}, "a.1", "b.1", "c.1"),
			{{do: "state", want: open}, {do: "disconnect", who: "good.1", wait: time.Second}, {do: "state", wait: 8 * time.Second, want: breakerProbing}},
		}},
		{"a new miner that never failed there probes a pool that ends links after a first pause", [][]healthStep{
			each(healthStep{do: "ready"}, "a.1", "b.1", "c.1", "a.2", "b.2", "c.2"),
			each(healthStep{do: "disconnect"}, "a.1", "b.1", "c.1"),
			{{do: "ready", who: "d.1", wait: 2 * time.Second}},
			each(healthStep{do: "disconnect"}, "a.2", "b.2", "d.1"), // the next pause is 1 to 3 s
			{{do: "may", who: "new.1", wait: 900 * time.Millisecond, want: obstacleOut}},
			{{do: "may", who: "new.1", wait: 100 * time.Millisecond, want: obstacleNone}, {do: "may", who: "d.1", want: obstacleOut}},
		}},
		{"if links end after they were ready while a stable one receives something, this is held against their workers", [][]healthStep{
			{{do: "ready", who: "good.1"}, {do: "stable", who: "good.1"}, {do: "heard", wait: 31 * time.Second}},
			each(healthStep{do: "ready"}, "a.1", "b.1", "c.1", "d.1"),
			each(healthStep{do: "disconnect", want: blameWorker, wait: time.Second}, "a.1", "b.1", "c.1", "d.1"),
			{{do: "state", want: closed}},
		}},
		{"when a stable link is lost, the others still show that the pool works", [][]healthStep{
			each(healthStep{do: "stable"}, "good.1", "good.2"),
			{{do: "heard", wait: 31 * time.Second}, {do: "lost", who: "good.2", wait: time.Second}},
			each(healthStep{do: "fail", ev: evidenceAuthorize, want: blameWorker}, "a.1", "b.1", "c.1"),
			{{do: "state", want: closed}},
		}},
		{"links that end after they were ready are not held against the address while a stable one there receives something", [][]healthStep{
			{{do: "ready", who: "good.1"}, {do: "stable", who: "good.1"}, {do: "wait", wait: 31 * time.Second}},
			each(healthStep{do: "ready"}, "a.1", "b.1", "c.1", "d.1"),
			{{do: "heard", wait: time.Second}},
			each(healthStep{do: "disconnect", want: blameWorker, wait: time.Second}, "a.1", "b.1", "c.1", "d.1"),
			{{do: "state", want: closed}},
		}},
		{"the address is not taken out when the pool drops all its links once", [][]healthStep{
			{{do: "ready", who: "good.1"}, {do: "stable", who: "good.1"}, {do: "heard", wait: 31 * time.Second}},
			each(healthStep{do: "ready"}, "a.1", "b.1", "c.1", "d.1"),
			{{do: "lost", who: "good.1", wait: time.Second}},
			each(healthStep{do: "disconnect", want: blameWorker}, "a.1", "b.1", "c.1", "d.1"),
			{{do: "state", want: closed}},
		}},
		{"a worker whose link ended before it was stable does not return until its pause is over", [][]healthStep{
			{{do: "ready", who: "+a.1"}, {do: "disconnect", who: "+a.1"}, {do: "may", who: "+a.1", want: obstacleWorker}},
			{{do: "may", who: "+a.1", wait: 1100 * time.Millisecond, want: obstacleNone}},
			{{do: "may", who: "+a.2", want: obstacleNone}, {do: "state", want: closed}},
		}},
		{"the pause of an address grows until a link is stable, up to a minute if it ends links", [][]healthStep{
			growing(8),
			{{do: "state", wait: 29 * time.Second, want: open}, {do: "state", wait: 62 * time.Second, want: probing}},
			{{do: "ready", who: "s.1"}, {do: "stable", who: "s.1", wait: 30 * time.Second}},
			{{do: "lost", who: "s.1"}},
			each(healthStep{do: "fail", ev: evidenceConnect}, "x.1", "x.1", "x.1"),
			{{do: "state", want: open}, {do: "state", wait: 1600 * time.Millisecond, want: probing}},
		}},
		{"a refused user agent affects nobody else, and gets the pool's answer", [][]healthStep{
			{{do: "ready", who: "g.1/good"}, {do: "stable", who: "g.1/good"}},
			each(healthStep{do: "fail", ev: evidenceSubscribeError, want: blameUserAgent}, "a.1/bad", "b.1/bad", "c.1/bad", "d.1/bad"),
			{{do: "state", want: closed}},
			each(healthStep{do: "may", want: obstacleUserAgent}, "e.1/bad", "a.1/bad"),
			each(healthStep{do: "may", want: obstacleNone}, "e.1/good", "a.1/other"),
		}},
		{"silence after subscribe for all user agents is held against the address", [][]healthStep{
			each(healthStep{do: "fail", ev: evidenceSubscribe, want: blameUserAgent}, "a.1", "b.1"),
			{{do: "fail", who: "c.1", ev: evidenceSubscribe, want: blameAddress}, {do: "state", want: open}},
		}},
		{"silence for one user agent of two is not held against the address", [][]healthStep{
			{{do: "ready", who: "g.1/good"}, {do: "wait", wait: time.Minute}},
			each(healthStep{do: "fail", ev: evidenceSubscribe, want: blameUserAgent}, "a.1/bad", "b.1/bad", "c.1/bad", "d.1/bad"),
			{{do: "state", want: closed}, {do: "may", who: "e.1/good", want: obstacleNone}, {do: "may", who: "e.1/bad", want: obstacleUserAgent}},
		}},
		{"after the pause of a user agent, its established miners try one at a time, until one succeeds", [][]healthStep{
			{{do: "ready", who: "g.1/good"}, {do: "stable", who: "g.1/good"}, {do: "heard"}},
			each(healthStep{do: "fail", ev: evidenceSubscribeError, want: blameUserAgent}, "+a.1/bad", "+b.1/bad", "+c.1/bad"),
			{{do: "may", who: "+d.1/bad", wait: recordPauseFirst, want: obstacleNone}, {do: "begin", who: "+d.1/bad"}},
			{{do: "may", who: "+e.1/bad", want: obstacleUserAgent}, {do: "may", who: "new.1/bad", want: obstacleNone}, {do: "may", who: "+e.1/good", want: obstacleNone}},
			{{do: "may", who: "+e.1/bad", wait: userAgentTryEvery, want: obstacleNone}, {do: "begin", who: "+e.1/bad"}},
			{{do: "ready", who: "+d.1/bad"}, {do: "may", who: "+f.1/bad", want: obstacleNone}},
		}},
		{"another extranonce takes the address out at once, for coins whose pool must not pick it", [][]healthStep{
			{{do: "out", who: "a.1", ev: evidenceExtranonce, want: true}, {do: "may", who: "b.1", want: obstacleOut}, {do: "may", who: "own:b.1", want: obstacleNone}},
			{{do: "ready", who: "own:b.1", wait: 2 * time.Second}, {do: "state", want: probing}},
			{{do: "ready", who: "b.1"}, {do: "state", want: closed}},
		}},
		{"another extranonce for some workers, while others' are taken, is held against those workers", [][]healthStep{
			{{do: "ready", who: "g.1"}, {do: "stable", who: "g.1"}},
			each(healthStep{do: "fail", ev: evidenceExtranonce, want: blameWorker}, "a.1", "b.1", "c.1", "d.1"),
			{{do: "state", want: closed}, {do: "may", who: "e.1", want: obstacleNone}, {do: "may", who: "+a.1", want: obstacleWorker}},
			// Nobody has received anything for a while, so three are enough.
			{{do: "wait", wait: time.Minute}},
			each(healthStep{do: "out", ev: evidenceExtranonce, want: false}, "f.1", "h.1"),
			{{do: "out", who: "i.1", ev: evidenceExtranonce, want: true}, {do: "may", who: "e.1", want: obstacleOut}},
		}},
		{"another extranonce after the links were lost takes the address out at once", [][]healthStep{
			{{do: "ready", who: "g.1"}, {do: "stable", who: "g.1"}, {do: "lost", who: "g.1", wait: time.Second}},
			{{do: "out", who: "a.1", ev: evidenceExtranonce, want: true, wait: time.Second}, {do: "may", who: "b.1", want: obstacleOut}},
		}},
		{"a failed probe for the extranonce does not take the address away from coins that it suits", [][]healthStep{
			{{do: "out", who: "a.1", ev: evidenceExtranonce, want: true}, {do: "wait", wait: 2 * time.Second}},
			{{do: "out", who: "c.1", ev: evidenceExtranonce, want: false}, {do: "may", who: "own:b.1", want: obstacleNone}, {do: "may", who: "d.1", want: obstacleOut}},
		}},
		{"a share that is accepted after others had the address taken out puts it back in", [][]healthStep{
			{{do: "ready", who: "g.1"}},
			each(healthStep{do: "fail", ev: evidenceUnstable}, "e1.1", "e2.1", "e3.1"),
			{{do: "state", want: open}, {do: "stable", who: "g.1"}, {do: "state", want: closed}},
		}},
		{"new miners whose probes fail keep nobody away that was served before", [][]healthStep{
			each(healthStep{do: "fail", ev: evidenceConnect}, "x.1", "x.1", "x.1"),
			{{do: "may", who: "+old.1", want: obstacleOut}, {do: "may", who: "+old.1", wait: 2 * time.Second, want: obstacleNone}},
			// A miner that may never have been welcome says nothing about the
			// address.
			{{do: "fail", who: "e1.1", ev: evidenceAuthorize}, {do: "state", want: probing}, {do: "may", who: "f.1", want: obstacleNone}},
			{{do: "may", who: "+old.1", want: obstacleNone}},
			// Three of them make a row, which only counts for miners like them.
			{{do: "fail", who: "e2.1", ev: evidenceAuthorize, wait: 10 * time.Second}, {do: "fail", who: "e3.1", ev: evidenceAuthorize, wait: 10 * time.Second}},
			{{do: "state", want: open}, {do: "may", who: "+old.1", want: obstacleNone}},
			// One that was served, and a connection that failed, count for all.
			{{do: "fail", who: "+old.1", ev: evidenceAuthorize}, {do: "may", who: "+other.1", want: obstacleOut}},
			{{do: "fail", who: "g.1", ev: evidenceConnect, wait: 30 * time.Second}, {do: "may", who: "+other.1", want: obstacleOut}},
		}},
		{"new miners that hold all places leave one for miners that were served", [][]healthStep{
			each(healthStep{do: "fail", ev: evidenceConnect}, "x.1", "x.1", "x.1"),
			{{do: "wait", wait: 2 * time.Second}},
			each(healthStep{do: "begin"}, "a.1", "b.1", "c.1"),
			{{do: "may", who: "d.1", want: obstacleOut}, {do: "may", who: "+old.1", want: obstacleNone}},
			{{do: "begin", who: "+old.1"}, {do: "may", who: "+other.1", want: obstacleOut}},
		}},
		{"miners that the pool lets wait do not keep away those that lost their links there, new or not", [][]healthStep{
			each(healthStep{do: "ready"}, "a.1", "b.1", "c.1", "d.1"),
			each(healthStep{do: "fail", ev: evidenceAuthorize, want: blameWorker, wait: time.Second}, "e1.1", "e2.1", "e3.1", "e4.1"),
			{{do: "wait", wait: 10 * time.Second}},
			each(healthStep{do: "disconnect"}, "a.1", "b.1", "c.1", "d.1"),
			{{do: "state", want: open}, {do: "wait", wait: 2 * time.Second}},
			each(healthStep{do: "begin"}, "e1.1", "n1.1", "+n2.1"),
			each(healthStep{do: "may", want: obstacleOut}, "e2.1", "n3.1", "+a.1"),
			{{do: "may", who: "back:a.1", want: obstacleNone}, {do: "begin", who: "back:a.1"}, {do: "may", who: "back:b.1", want: obstacleOut}},
			// One that fails now makes room for the next, and may try again itself.
			{{do: "fail", who: "back:a.1", ev: evidenceTry}, {do: "may", who: "back:a.1", wait: 2 * time.Second, want: obstacleNone}},
			{{do: "ready", who: "back:b.1"}, {do: "state", want: closed}, {do: "may", who: "back:c.1", want: obstacleNone}},
		}},
		{"new miners that fail at once keep away only their like, not miners that lost their links there", [][]healthStep{
			each(healthStep{do: "ready"}, "a.1", "b.1", "c.1"),
			each(healthStep{do: "disconnect"}, "a.1", "b.1", "c.1"),
			each(healthStep{do: "may", want: obstacleOut}, "back:a.1", "n.1"),
			{{do: "fail", who: "n.1", ev: evidenceSubscribe, wait: 2 * time.Second}, {do: "may", who: "n.2", want: obstacleOut}},
			each(healthStep{do: "may", want: obstacleNone}, "back:a.1", "+old.1", "+back:z.1"),
			// The same holds for miners that were served elsewhere.
			{{do: "fail", who: "+old.1", ev: evidenceAuthorize, wait: 2 * time.Second}, {do: "may", who: "+old.2", want: obstacleOut}},
			each(healthStep{do: "may", want: obstacleNone}, "back:a.1", "+back:z.1"),
			// A miner that lost its link there counts for all that may be welcome there no more
			// than it.
			{{do: "fail", who: "back:a.1", ev: evidenceTry}, {do: "may", who: "back:b.1", want: obstacleOut}, {do: "may", who: "+back:z.1", want: obstacleNone}},
			{{do: "fail", who: "+back:z.1", ev: evidenceTry}, {do: "may", who: "+back:z.2", want: obstacleOut}},
			// A connection that fails counts for all, whoever made it.
			each(healthStep{do: "may", wait: 4 * time.Second, want: obstacleNone}, "back:b.1", "+back:z.2"),
			{{do: "fail", who: "n.3", ev: evidenceConnect}},
			each(healthStep{do: "may", want: obstacleOut}, "back:b.1", "+back:z.2"),
		}},
		{"new user agents that the pool refuses keep away no miner that was served or lost its link there", [][]healthStep{
			each(healthStep{do: "fail", ev: evidenceSubscribeError}, "a.1/x1", "b.1/x2", "c.1/x3"),
			{{do: "state", want: open}, {do: "may", who: "d.1/y", want: obstacleOut}},
			each(healthStep{do: "may", want: obstacleNone}, "+old.1", "back:old.2"),
		}},
		{"a pause that a ready link has ended is not resumed when others have the address taken out", [][]healthStep{
			growing(6),
			{{do: "ready", who: "g.1", wait: 62 * time.Second}, {do: "begin", who: "late.1"}},
			each(healthStep{do: "fail", ev: evidenceConnect}, "x.1", "x.1", "x.1"),
			{{do: "state", want: open}, {do: "ready", who: "late.1"}, {do: "state", want: closed}, {do: "disconnect", who: "late.1"}},
			each(healthStep{do: "fail", ev: evidenceSubscribe, wait: 10 * time.Millisecond}, "n.1/x1", "n.2/x2", "n.3/x3"),
			{{do: "state", want: open}, {do: "may", who: "+old.1", want: obstacleNone}},
		}},
		{"a probe that fails after another has succeeded is an ordinary failure", [][]healthStep{
			each(healthStep{do: "fail", ev: evidenceConnect}, "x.1", "x.1", "x.1"),
			{{do: "wait", wait: 2 * time.Second}},
			each(healthStep{do: "begin"}, "a.1", "b.1"),
			{{do: "ready", who: "b.1", wait: time.Second}, {do: "fail", who: "a.1", ev: evidenceAuthorize, wait: 5 * time.Second}, {do: "state", want: closed}},
		}},
		{"without descriptors, nobody dials for a moment and no address is taken out", [][]healthStep{
			each(healthStep{do: "begin"}, "a.1", "b.1", "c.1", "d.1"),
			each(healthStep{do: "fail", ev: evidenceMachine, want: blameMachine}, "a.1", "b.1", "c.1", "d.1"),
			{{do: "state", want: closed}, {do: "may", who: "e.1", at: "b", want: obstacleMachine}},
			{{do: "may", who: "e.1", wait: 110 * time.Millisecond, want: obstacleNone}},
		}},
		{"without a local port, only that address waits", [][]healthStep{
			each(healthStep{do: "begin"}, "a.1", "b.1", "c.1", "d.1"),
			each(healthStep{do: "fail", ev: evidencePorts, want: blameMachine}, "a.1", "b.1", "c.1", "d.1"),
			{{do: "state", want: closed}, {do: "may", who: "e.1", want: obstaclePorts}, {do: "may", who: "e.1", at: "b", want: obstacleNone}},
			{{do: "may", who: "e.1", wait: 110 * time.Millisecond, want: obstacleNone}},
		}},
		{"a missing job is held against the address if no link there has had one since", [][]healthStep{
			each(healthStep{do: "fail", ev: evidenceNoJob, want: blameAddress}, "a.1", "b.1"),
			{{do: "out", who: "c.1", ev: evidenceNoJob, want: true}},
		}},
		{"a missing job for some, while others get theirs, is not held against the address", [][]healthStep{
			{{do: "ready", who: "g.1"}},
			each(healthStep{do: "begin"}, "a.1", "b.1", "c.1"),
			{{do: "job", wait: time.Second}},
			each(healthStep{do: "fail", ev: evidenceNoJob, want: blameNobody}, "a.1", "b.1", "c.1"),
			{{do: "state", want: closed}},
		}},
		{"noise and a size that does not fit are held against nobody", [][]healthStep{
			each(healthStep{do: "fail", ev: evidenceTry, want: blameNobody}, "a.1", "b.1", "c.1", "d.1"),
			each(healthStep{do: "fail", ev: evidenceSession, want: blameSession}, "e.1", "f.1", "g.1", "h.1"),
			{{do: "state", want: closed}, {do: "may", who: "i.1", want: obstacleNone}, {do: "may", who: "a.1", want: obstacleWorker}},
		}},
		{"a size that did not fit one connection may fit another of the same worker", [][]healthStep{
			{{do: "ready", who: "9:a.1"}, {do: "fail", who: "9:a.1", ev: evidenceUnstable, want: blameWorker}, {do: "wait", wait: 2 * time.Second}},
			each(healthStep{do: "fail", ev: evidenceSession, want: blameSession}, "9:a.1", "9:a.1"),
			{{do: "may", who: "9:a.1", want: obstacleWorker}, {do: "may", who: "4:a.1", want: obstacleNone}, {do: "suspect", who: "9:a.1", want: true}},
			{{do: "fail", who: "5:a.1", ev: evidenceSession, want: blameSession}, {do: "fail", who: "9:a.1", ev: evidenceSession, want: blameSession}},
			{{do: "may", who: "5:a.1", want: obstacleWorker}, {do: "may", who: "4:a.1", want: obstacleNone}},
			{{do: "may", who: "5:a.1", wait: newMinerPauseMost, want: obstacleNone}},
		}},
		{"what is remembered is forgotten after ten minutes", [][]healthStep{
			each(healthStep{do: "fail", ev: evidenceAuthorize}, "a.1", "a.2", "a.3"),
			{{do: "suspect", who: "a.4", want: true}, {do: "suspect", who: "a.4", wait: recordMemory + time.Second, want: false}},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			lab := newHealthLab(t)
			i := 0
			for _, steps := range c.steps {
				for _, st := range steps {
					i++
					switch st.do {
					case "one account":
						lab.h.accountsHere.Store(1)
					case "job":
						lab.at = lab.at.Add(st.wait)
						lab.endpoint(st.at).jobAt.Store(lab.h.moment(lab.at))
					default:
						lab.step(i, st)
					}
				}
			}
		})
	}
}

// growing makes an address end the links of everybody, n times.
func growing(n int) (steps []healthStep) {
	for i := range n {
		who := []string{fmt.Sprintf("a%d.1", i), fmt.Sprintf("b%d.1", i), fmt.Sprintf("c%d.1", i)}
		steps = append(steps, healthStep{do: "wait", wait: 91 * time.Second})
		steps = append(steps, each(healthStep{do: "ready"}, who...)...)
		steps = append(steps, each(healthStep{do: "disconnect"}, who...)...)
		steps = append(steps, healthStep{do: "state", want: breakerOpen})
	}
	return steps
}

// What is remembered about workers is bounded; the oldest is forgotten first.
func TestHealthRecordsAreBounded(t *testing.T) {
	lab := newHealthLab(t)
	for i := range maxHealthRecords {
		lab.step(i, healthStep{do: "fail", who: fmt.Sprintf("a.%d", i), ev: evidenceRefused})
		lab.at = lab.at.Add(time.Millisecond)
	}
	lab.step(0, healthStep{do: "suspect", who: "a.0", want: true})
	lab.step(1, healthStep{do: "fail", who: "b.1", ev: evidenceRefused})
	lab.step(2, healthStep{do: "suspect", who: "a.0", want: false})
	lab.step(3, healthStep{do: "suspect", who: "b.1", want: true})
	if n := lab.h.records.order.Len(); n != maxHealthRecords || len(lab.h.records.byKey) != n {
		t.Errorf("there are %d records, %d of them by key", n, len(lab.h.records.byKey))
	}
}

// Many sessions try at the same time. In the end, all places for probes are free again.
func TestHealthProbesAreGivenBack(t *testing.T) {
	lab := newHealthLab(t)
	for range breakerFailures {
		lab.step(0, healthStep{do: "fail", who: "a.1", ev: evidenceConnect})
	}
	e := lab.endpoint("a")
	for round := range 50 {
		lab.at = lab.at.Add(10 * time.Second)
		var begun []*attempt
		for i := range 2 * breakerProbes {
			who := fmt.Sprintf("%sx.%d", []string{"", "+"}[i%2], i)
			if a := lab.h.begin(lab.dialer(who), e, false); a != nil {
				begun = append(begun, a)
			}
		}
		if len(begun) != breakerProbes {
			t.Fatalf("round %d: %d probes were allowed", round, len(begun))
		}
		for i, a := range slices.Backward(begun) {
			if i == 0 {
				a.failed(evidenceConnect, nil)
			} else {
				a.abandon()
			}
		}
		if b := &e.breaker; b.probes != 0 || b.ofOthers != 0 || b.ofSuspects != 0 || b.ofReturning != 0 || e.sockets != 0 {
			t.Fatalf("round %d: the breaker is %+v, with %d sockets left", round, b, e.sockets)
		}
	}
}
