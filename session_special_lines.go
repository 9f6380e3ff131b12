package main

import (
	"github.com/golang/glog"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// The lines of a session with a pool that do not simply go on to the other side: requests
// of the miner that the switcher answers itself or remembers, and notifications of the
// pool that it acts on.

// minerSpecial handles a request that the switcher answers itself or remembers. It
// reports whether the line was handled and must not go to the pool.
func (s *Session) minerSpecial(line []byte) bool {
	switch string(stratum.LineMethod(line)) {
	case "mining.extranonce.subscribe":
		r, err := stratum.ParseRequest(line)
		if err != nil {
			return false
		}
		s.wantsExtranonce = true
		if !r.IsNotification() {
			s.miner.Write(s.dialect().AppendResult(nil, r.ID, []byte("true")))
		}
		return true
	case "mining.suggest_difficulty", "mining.suggest_target":
		if r, err := stratum.ParseRequest(line); err == nil {
			s.remember(r)
		}
	case "mining.subscribe":
		r, err := stratum.ParseRequest(line)
		if err != nil {
			return false
		}
		s.miner.Write(s.dialect().AppendError(nil, r.ID, stratum.ErrDuplicateSubscribed, s.manager.ids.server()))
		return true
	case "mining.authorize", "eth_submitLogin":
		return s.authorizeExtra(line)
	case "mining.configure":
		return s.configureLate(line)
	case "agent.get_capabilities":
		return s.askCapabilities(line)
	case "mining.get_transactions":
		return s.askTransactions(line)
	default:
		if r, err := stratum.ParseRequest(line); err == nil && stratum.ResemblesKnownMethod(r.Method) {
			s.miner.Write(s.dialect().AppendError(nil, r.ID, stratum.ErrUnknownMethod, s.manager.ids.server()))
			return true
		}
	}
	return false
}

// poolSpecial handles the notifications that must not reach the miner unchanged.
func (s *Session) poolSpecial(kind stratum.Kind, line []byte) {
	switch kind {
	case stratum.KindVersionMask:
		r, err := stratum.ParseRequest(line)
		if err != nil {
			return
		}
		if mask, ok := stratum.VersionMaskOf(r); ok && s.askedMask != 0 {
			s.recordSentMask(s.askedMask & mask)
			s.miner.Write(stratum.AppendVersionMask(nil, s.sentMask))
			if s.link.rules != nil {
				s.link.rules.dropBits = false // the pool supports version rolling after all
			}
		}
	case stratum.KindReconnect:
		if !s.mayRenew() {
			return
		}
		// The miner must stay at the switcher, so only the link is renewed.
		glog.V(2).Infof("%s pool asked to reconnect coin=%q", s, s.link.pool.coin)
		s.renew(nil)
	case stratum.KindSetExtranonce:
		if err := s.extranonceChanged(line); err != nil {
			s.poolLost(err)
		}
	}
}
