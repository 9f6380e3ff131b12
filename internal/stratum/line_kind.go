package stratum

import (
	"bytes"
	"strings"
)

// Kind is the kind of a line. A byte scan is enough to find it.
type Kind uint8

const (
	KindAnswer Kind = iota // no method
	KindJob
	KindDifficulty
	KindTarget
	KindVersionMask
	KindSetExtranonce
	KindReconnect
	KindShare
	KindOther
)

func PoolLineKind(line []byte) Kind {
	sc := ScanPoolLine(line)
	return sc.PoolKind(line)
}

func (sc *ScannedLine) PoolKind(line []byte) Kind {
	if sc.Members[MemberMethod].End == 0 {
		return KindAnswer
	}
	return sc.poolMethodKind(line)
}

// poolMethodKind is PoolKind for lines with a method. It is a function of its own so that
// PoolKind is inlined.
func (sc *ScannedLine) poolMethodKind(line []byte) Kind {
	if sc.IsAnswerWithMethod(line) {
		return KindAnswer
	}
	switch string(sc.Method(line)) {
	case "":
		return KindAnswer
	case "mining.notify":
		return KindJob
	case "mining.set_difficulty":
		return KindDifficulty
	case "mining.set_target":
		return KindTarget
	case "mining.set_version_mask":
		return KindVersionMask
	case "mining.set_extranonce":
		return KindSetExtranonce
	case "client.reconnect":
		return KindReconnect
	}
	return KindOther
}

// usualMethods are the methods of pools that the switcher has rules for. Methods that may
// come without the part before the dot are bare.
var usualMethods = [...]struct {
	name string
	bare bool
}{
	{"mining.notify", false},
	{"mining.set_difficulty", false},
	{"mining.set_target", false},
	{"mining.set_version_mask", false},
	{"mining.set_extranonce", true},
	{"client.reconnect", false},
}

// WithUsualMethod returns a copy of a line of KindOther with the usual spelling of its
// method, or nil if the method is not one of usualMethods in another spelling. Some miners
// ignore the case of methods, and some pools omit "mining." in mining.set_extranonce.
func (sc *ScannedLine) WithUsualMethod(line []byte) []byte {
	method := string(sc.Method(line))
	for _, usual := range usualMethods {
		bare := usual.name[strings.IndexByte(usual.name, '.')+1:]
		if strings.EqualFold(method, usual.name) || usual.bare && strings.EqualFold(method, bare) {
			return replaceSpan(line, sc.Members[MemberMethod], `"`+usual.name+`"`)
		}
	}
	return nil
}

// IsAnswerWithMethod reports whether a line is an answer although it has a method.
// Some pools repeat the request in their answer. Others put a result into their jobs;
// these lines are not answers, because nobody requests a job.
func (sc *ScannedLine) IsAnswerWithMethod(line []byte) bool {
	return sc.Members[MemberMethod].End > 0 && sc.answersWithMethod(line)
}

// answersWithMethod is IsAnswerWithMethod for lines with a method.
func (sc *ScannedLine) answersWithMethod(line []byte) bool {
	if sc.ID(line) == nil {
		return false
	}
	if sc.Members[MemberParams].End == 0 {
		return sc.Members[MemberResult].End > 0 || sc.Members[MemberError].End > 0
	}
	switch string(sc.Method(line)) {
	case "mining.notify", "mining.set_difficulty", "mining.set_target", "mining.set_version_mask", "mining.set_extranonce":
		return false
	}
	return sc.Has(line, MemberResult) || sc.Has(line, MemberError) && !NoError(sc.Value(line, MemberError))
}

func MinerLineKind(line []byte) Kind {
	sc := ScanMinerLine(line)
	return sc.MinerKind(line)
}

func (sc *ScannedLine) MinerKind(line []byte) Kind {
	if sc.Members[MemberMethod].End == 0 {
		return KindAnswer
	}
	switch string(sc.Method(line)) {
	case "mining.submit", "eth_submitWork":
		return KindShare
	}
	return KindOther
}

// HasMethodName reports whether the method, if there is one, is a string.
func (sc *ScannedLine) HasMethodName(line []byte) bool {
	at := sc.Members[MemberMethod]
	return at.End == 0 || line[at.Start] == '"'
}

// ResemblesKnownMethod reports whether a pool may mistake a method for one that the
// switcher has rules for. For instance, ckpool compares only the beginning and ignores
// the case.
func ResemblesKnownMethod(method string) bool {
	method = strings.TrimSpace(method)
	for _, known := range []string{"mining.auth", "mining.submit", "mining.subscribe", "eth_submitLogin", "eth_submitWork"} {
		if HasPrefixFold(method, known) {
			return true
		}
	}
	return false
}

// NamesWorker reports whether the first parameter of a share is the worker's name. It
// is not for eth_submitWork.
func NamesWorker(share []byte) bool { return string(LineMethod(share)) == "mining.submit" }

// NextLine returns the first line of b with its "\n", or nil.
func NextLine(b []byte) []byte {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return b[:i+1]
	}
	return nil
}
