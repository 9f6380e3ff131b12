package main

import (
	"bytes"
	"hash/crc32"
	"regexp"
	"strconv"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// After exec, nothing but the state file describes thousands of connections, so a broken
// byte must not cost them all. If a session's record is broken, only that session is
// lost. If the frame around the sessions is broken, its spare copy is used. Parts that an
// older build wrote without a checksum are accepted if they can be decoded.

// A seal is the last member of an object: the checksum of the object without
// this member.
const (
	sealBegin  = ",\"Sum\":\""
	sealDigits = 8
	sealEnd    = "\"}"
	sealSize   = len(sealBegin) + sealDigits + len(sealEnd)
)

var sealTable = crc32.MakeTable(crc32.Castagnoli)

// seal adds a seal to the last object of b, which begins at begin.
func seal(b []byte, begin int) []byte {
	sum := crc32.Checksum(b[begin:], sealTable)
	b = append(b[:len(b)-1], sealBegin...)
	for shift := 28; shift >= 0; shift -= 4 {
		b = append(b, "0123456789abcdef"[sum>>shift&0xf])
	}
	return append(b, sealEnd...)
}

// sealHolds reports whether an object's checksum is right or missing.
func sealHolds(object []byte) bool {
	at := len(object) - sealSize
	if at < 0 || string(object[at:at+len(sealBegin)]) != sealBegin || !bytes.HasSuffix(object, []byte(sealEnd)) {
		return true
	}
	want, err := strconv.ParseUint(string(object[at+len(sealBegin):len(object)-len(sealEnd)]), 16, 32)
	sum := crc32.Update(crc32.Checksum(object[:at], sealTable), sealTable, []byte{'}'})
	return err == nil && sum == uint32(want)
}

// hasSeal reports whether an object ends with a correct seal.
func hasSeal(object []byte) bool {
	at := len(object) - sealSize
	return at >= 0 && bytes.HasPrefix(object[at:], []byte(sealBegin)) && sealHolds(object)
}

// recordBegin is the beginning of a session's line. A miner may have sent the
// same text in one of its requests, so it counts only after a line end or if
// the object that begins there has a correct seal.
const recordBegin = "{\"SessionID\":"

// isSealed reports whether a file looks like one written by encodeState.
func isSealed(content []byte) bool {
	return bytes.Contains(content, []byte("\n"+recordBegin)) && bytes.Contains(content, []byte(sealBegin)) ||
		bytes.Contains(content, []byte(spareMember+spareBegin)) || endsAsWritten(content)
}

// spareBegin is how the spare copy begins.
const spareBegin = "{\"Action\":"

// salvageState reads the intact parts of a damaged file that encodeState wrote,
// with or without seals. It returns nil if there are none or the file is cut
// off.
func salvageState(content []byte) *runtimeState {
	st := salvageFrame(content)
	if st == nil {
		return nil
	}
	// The frame before the first session and after the last contains no
	// session.
	begin := bytes.Index(content, []byte(sessionsBegin))
	if begin >= 0 {
		begin += len(sessionsBegin)
	} else if begin = bytes.Index(content, []byte(recordBegin)); begin < 0 {
		return st
	}
	end := bytes.LastIndex(content, []byte(sessionsEnd))
	if end < begin {
		end = len(content)
	}
	st.SessionDatas, st.orphans = nil, st.Descriptors
	for line := range bytes.SplitSeq(content[begin:end], []byte{'\n'}) {
		records := salvageLine(bytes.TrimSuffix(line, []byte{','}))
		st.SessionDatas = append(st.SessionDatas, records...)
		if len(records) > 0 || end == len(content) && bytes.HasPrefix(line, []byte(spareMember)) {
			continue
		}
		st.unreadable++
		if st.Descriptors == nil {
			st.orphans = append(st.orphans, descriptorsIn(line)...)
		}
	}
	return st
}

// salvageLine reads the session of a line, or two if the line end between them
// is broken.
func salvageLine(line []byte) []sessionState {
	var one sessionState
	if bytes.HasPrefix(line, []byte(recordBegin)) && sealHolds(line) && stratum.JSON.Unmarshal(line, &one) == nil {
		return []sessionState{one}
	}
	const tries = 64 // bounds the work if a miner has filled its request with recordBegin or sealBegin
	var records []sessionState
	for range tries {
		begin := bytes.Index(line, []byte(recordBegin))
		if begin < 0 {
			break
		}
		line = line[begin:]
		used := 1
		for at, left := 0, tries; left > 0; left-- {
			next := bytes.Index(line[at:], []byte(sealBegin))
			if next < 0 || at+next+sealSize > len(line) {
				break
			}
			at += next + sealSize
			var ss sessionState
			if object := line[:at]; hasSeal(object) && stratum.JSON.Unmarshal(object, &ss) == nil {
				records = append(records, ss)
				used = at
				break
			}
		}
		line = line[used:]
	}
	return records
}

// salvageFrame reads the frame around the sessions or, if that is broken, its
// spare copy.
func salvageFrame(content []byte) *runtimeState {
	if !isSealed(content) {
		return salvageOlderFrame(content)
	}
	if !endsAsWritten(content) {
		return nil
	}
	// The spare copy is marked more than once, so one broken byte cannot hide
	// it.
	marks := []int{bytes.LastIndexByte(content, '\n') + 1, bytes.LastIndex(content, []byte(",\n")) + 2, bytes.LastIndex(content, []byte(spareMember+spareBegin))}
	for _, at := range marks {
		if at < 2 {
			continue
		}
		frame := append(bytes.Clone(content[:at-2]), '}')
		begin, end := bytes.Index(frame, []byte(sessionsBegin)), bytes.LastIndex(frame, []byte(sessionsEnd))
		if begin >= 0 && end > begin {
			frame = bytes.Join([][]byte{frame[:begin], frame[end+len(sessionsEnd):]}, []byte(sessionsNone))
		}
		var st runtimeState
		if hasSeal(frame) && stratum.JSON.Unmarshal(frame, &st) == nil {
			return &st
		}
	}
	for _, at := range marks {
		if at < 0 || at+len(spareMember) >= len(content) {
			continue
		}
		var st runtimeState
		if spare := content[at+len(spareMember) : len(content)-1]; hasSeal(spare) && stratum.JSON.Unmarshal(spare, &st) == nil {
			return &st
		}
	}
	return nil
}

// salvageOlderFrame is salvageFrame for files of builds that wrote no seals. If
// the frame is broken, it still looks for the configuration and the listener.
func salvageOlderFrame(content []byte) *runtimeState {
	begin, end := bytes.Index(content, []byte(sessionsBegin)), bytes.LastIndex(content, []byte(sessionsEnd))
	if begin < 0 || end < begin {
		return nil
	}
	if st := decodeFrame(content[:begin], content[end+len(sessionsEnd):]); st != nil {
		return st
	}
	if content[len(content)-1] != '}' {
		return nil // cut off
	}
	return &runtimeState{Action: runtimeAction, Version: runtimeVersion}
}

// endsAsWritten reports whether a file has the ending that encodeState writes,
// with at most one wrong byte.
func endsAsWritten(content []byte) bool {
	const form = sealBegin + "00000000" + sealEnd + "}"
	if len(content) < len(form) {
		return false
	}
	wrong := 0
	for i, c := range content[len(content)-len(form):] {
		isDigit := c >= '0' && c <= '9' || c >= 'a' && c <= 'f'
		if form[i] == '0' && !isDigit || form[i] != '0' && c != form[i] {
			wrong++
		}
	}
	return wrong <= 1
}

var descriptorMember = regexp.MustCompile(`"(?:ClientConnFD|ServerConnFD|FD)":(\d{1,9})\b`)

// descriptorsIn returns the descriptors that a broken record seems to name.
func descriptorsIn(record []byte) []int {
	var fds []int
	for _, m := range descriptorMember.FindAllSubmatch(record, -1) {
		if fd, err := strconv.Atoi(string(m[1])); err == nil {
			fds = append(fds, fd)
		}
	}
	return fds
}
