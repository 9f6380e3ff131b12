package main

import (
	"testing"
	"time"
)

func TestTokenBucket(t *testing.T) {
	b := newTokenBucket(10, 3)
	now := b.counted
	for i, want := range []bool{true, true, true, false} {
		if got := b.take(now); got != want {
			t.Errorf("token %d was taken: %v", i, got)
		}
	}
	now = now.Add(b.refill())
	if !b.take(now) || b.take(now) {
		t.Error("the bucket does not get exactly one token in a tenth of a second")
	}
	b.giveBack()
	if !b.take(now) {
		t.Error("the token that was given back is missing")
	}
	now = now.Add(time.Hour)
	for i := range 4 {
		if got := b.take(now); got != (i < 3) {
			t.Errorf("token %d after an hour was taken: %v", i, got)
		}
	}
	unlimited := newTokenBucket(0, 0)
	for range 100 {
		if !unlimited.take(now) {
			t.Fatal("a rate of 0 limits")
		}
	}
}
