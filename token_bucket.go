package main

import "time"

// tokenBucket limits a rate. It gains rate tokens a second and holds at most size.
// Its owner guards it with a lock.
type tokenBucket struct {
	rate    float64 // tokens a second; 0 if there is no limit
	size    float64
	tokens  float64
	counted time.Time // when tokens was last brought up to date
}

// newTokenBucket returns a full bucket.
func newTokenBucket(rate, size float64) tokenBucket {
	return tokenBucket{rate: rate, size: size, tokens: size, counted: time.Now()}
}

// take takes a token and reports whether there was one.
func (b *tokenBucket) take(now time.Time) bool {
	if b.rate == 0 {
		return true
	}
	b.tokens = min(b.size, b.tokens+b.rate*now.Sub(b.counted).Seconds())
	b.counted = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// giveBack returns a token that was not used after all.
func (b *tokenBucket) giveBack() { b.tokens++ }

// refill returns how long it takes until the next token.
func (b *tokenBucket) refill() time.Duration {
	return time.Duration(float64(time.Second) / b.rate)
}
