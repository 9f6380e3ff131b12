package main

import (
	"testing"
	"time"
)

const zkTestLimit = 15 * time.Second

func awaitTrue(t *testing.T, what string, done func() bool) {
	t.Helper()
	for limit := time.Now().Add(zkTestLimit); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%s: not within %v", what, zkTestLimit)
		}
	}
}

type coinEvent struct{ account, coin string }

// coinRecorder is a CoinSink for tests.
type coinRecorder struct {
	coins chan coinEvent
	ids   chan uint8
}

func newCoinRecorder() *coinRecorder {
	return &coinRecorder{make(chan coinEvent, 10000), make(chan uint8, 100)}
}

func (r *coinRecorder) CoinChanged(account, coin string) { r.coins <- coinEvent{account, coin} }
func (r *coinRecorder) ServerIDClaimed(id uint8)         { r.ids <- id }

func (r *coinRecorder) wantCoin(t *testing.T, account, coin string) {
	t.Helper()
	select {
	case e := <-r.coins:
		if e != (coinEvent{account, coin}) {
			t.Fatalf("got change %v, want %s %q", e, account, coin)
		}
	case <-time.After(zkTestLimit):
		t.Fatalf("no change of %s to %q", account, coin)
	}
}

// wantQuiet fails if there was a change. Call it after something that came later.
func (r *coinRecorder) wantQuiet(t *testing.T) {
	t.Helper()
	select {
	case e := <-r.coins:
		t.Fatalf("unexpected change %v", e)
	default:
	}
}

func (r *coinRecorder) wantID(t *testing.T) uint8 {
	t.Helper()
	select {
	case id := <-r.ids:
		return id
	case <-time.After(zkTestLimit):
		t.Fatal("no server ID")
		return 0
	}
}

type coinReply struct {
	account, coin string
	err           error
}

// ask looks an account up; the answer comes through the channel.
func askCoin(s CoinSource, account string) (*coinQuery, <-chan coinReply) {
	replies := make(chan coinReply, 2)
	q := &coinQuery{Account: account, SessionID: 0x01000080, Worker: account + ".rig1"}
	q.Reply = func(account, coin string, err error) { replies <- coinReply{account, coin, err} }
	s.Lookup(q)
	return q, replies
}

func wantCoinReply(t *testing.T, replies <-chan coinReply, want coinReply) {
	t.Helper()
	select {
	case got := <-replies:
		if got != want {
			t.Fatalf("got %v, want %v", got, want)
		}
	case <-time.After(zkTestLimit):
		t.Fatalf("no answer, want %v", want)
	}
}

func wantLookup(t *testing.T, s CoinSource, account, coin string) {
	t.Helper()
	_, replies := askCoin(s, account)
	wantCoinReply(t, replies, coinReply{account, coin, nil})
}

func wantLookupError(t *testing.T, s CoinSource, account string, err error) {
	t.Helper()
	_, replies := askCoin(s, account)
	wantCoinReply(t, replies, coinReply{account, "", err})
}
