package stratum

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	jsoniter "github.com/json-iterator/go"
)

// MaxMinerLine and MaxPoolLine are the lengths of the longest lines that are accepted
// from a peer, in bytes and including the "\n".
const (
	MaxMinerLine = 16 << 10
	MaxPoolLine  = 256 << 10
)

var JSON = jsoniter.ConfigCompatibleWithStandardLibrary

// Request is a line with a method: a miner's request or a pool's notification.
// ID, Params and the elements of Params are the bytes that the sender wrote.
type Request struct {
	ID     json.RawMessage
	Method string
	Params json.RawMessage
	// Worker is the name of the miner. Ethereum's protocols send it separately from
	// the account.
	Worker string
}

// Response is an answer of a pool. Its fields are the bytes that the pool wrote.
type Response struct {
	ID     json.RawMessage
	Result json.RawMessage
	Error  json.RawMessage
}

// ParseRequest decodes one line. The result shares no memory with line.
func ParseRequest(line []byte) (*Request, error) {
	m, err := decodeLine(line)
	if err != nil {
		return nil, err
	}
	r := &Request{ID: m.notNull(MemberID), Params: m.notNull(MemberParams)}
	if r.Method, err = m.method(); err != nil {
		return nil, err
	}
	r.Worker = WorkerText(m.values[MemberWorker])
	return r, nil
}

// WorkerText returns the name in a request's worker field. It is empty if there is
// none.
func WorkerText(raw json.RawMessage) string {
	if text, ok := JsonString(raw); ok {
		return text
	}
	if isNumber(raw) {
		return string(raw) // some miners send numbers as names
	}
	return ""
}

// ParseResponse decodes one line. The result shares no memory with line.
func ParseResponse(line []byte) (*Response, error) {
	m, err := decodeLine(line)
	if err != nil {
		return nil, err
	}
	return &Response{ID: m.notNull(MemberID), Result: m.notNull(MemberResult), Error: m.notNull(MemberError)}, nil
}

// ParamList splits the parameters. It returns nil if they are not an array.
func (r *Request) ParamList() []json.RawMessage {
	var list []json.RawMessage
	if len(r.Params) == 0 || r.Params[0] != '[' || JSON.Unmarshal(r.Params, &list) != nil {
		return nil
	}
	for i := range list {
		list[i] = OrNull(list[i]) // the decoder leaves null elements empty
	}
	return list
}

// IsNotification reports whether the sender expects no answer.
func (r *Request) IsNotification() bool { return len(r.ID) == 0 || string(r.ID) == "null" }

// JsonString decodes raw if it is a JSON string, and reports whether it is one.
func JsonString(raw json.RawMessage) (string, bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	var s string
	if JSON.Unmarshal(raw, &s) != nil {
		return "", false
	}
	return s, true
}

// Quote returns s as a JSON string with as few escapes as possible, because some programs
// compare names without decoding them. What is not UTF-8 becomes U+FFFD.
func Quote(s string) []byte {
	const hexDigits = "0123456789abcdef"
	b := append(make([]byte, 0, len(s)+2), '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\r':
			b = append(b, `\r`...)
		case r == '\t':
			b = append(b, `\t`...)
		case r < ' ':
			b = append(b, '\\', 'u', '0', '0', hexDigits[r>>4], hexDigits[r&15])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}

// NoError reports whether raw, the error of an answer, means that there is no error.
// Pools express that in several ways.
func NoError(raw json.RawMessage) bool {
	switch string(bytes.Map(dropSpace, raw)) {
	case "", "null", "false", "0", `""`, "[]", "{}":
		return true
	}
	return false
}

func dropSpace(r rune) rune {
	if r == ' ' || r == '\t' {
		return -1
	}
	return r
}

// isTrue reports whether raw is the JSON value true.
func isTrue(raw json.RawMessage) bool { return string(raw) == "true" }

// IsNull reports whether raw is absent or null.
func IsNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// OrNull returns raw, or null if it is absent.
func OrNull(raw json.RawMessage) []byte {
	if len(raw) == 0 {
		return []byte("null")
	}
	return raw
}

// AppendRequest appends a request to b. id and the elements of params are JSON.
func AppendRequest(b, id []byte, method string, params ...[]byte) []byte {
	b = append(b, `{"id":`...)
	b = append(b, id...)
	b = append(b, `,"method":`...)
	b = append(b, Quote(method)...)
	b = append(b, `,"params":[`...)
	b = append(b, bytes.Join(params, []byte(","))...)
	return append(b, "]}\n"...)
}

// AppendConfigure appends BIP 310's mining.configure for version rolling to b.
func AppendConfigure(b []byte, id, mask uint32) []byte {
	return AppendRequest(b, OwnIDText(id), "mining.configure",
		[]byte(`["version-rolling"]`), fmt.Appendf(nil, `{"version-rolling.mask":"%08x"}`, mask))
}

// AppendVersionMask appends BIP 310's mining.set_version_mask to b.
func AppendVersionMask(b []byte, mask uint32) []byte {
	return fmt.Appendf(b, `{"id":null,"method":"mining.set_version_mask","params":["%08x"]}`+"\n", mask)
}

// ParseMask reads a version mask. raw is a number in any form, or a string of hex digits
// with or without 0x, leading zeros, and white space around them.
func ParseMask(raw json.RawMessage) (uint32, bool) {
	text, ok := JsonString(raw)
	if !ok {
		mask, ok := wholeNumber(raw)
		return uint32(mask), ok
	}
	text = strings.TrimSpace(text)
	if HasPrefixFold(text, "0x") {
		text = text[2:]
	}
	mask, err := strconv.ParseUint(text, 16, 32)
	return uint32(mask), err == nil
}

// Accepts reports whether an answer means that a share was accepted. The result is
// not true at all pools.
func Accepts(result, e []byte) bool {
	switch string(result) {
	case "true":
		return true
	case "", "null", "false":
		return false
	}
	return NoError(e)
}

// Consents reports whether an answer to mining.authorize authorizes the worker. P2Pool does
// so with neither a result nor an error.
func Consents(result, e []byte) bool { return NoError(e) && string(result) != "false" }

// VersionMaskOf reads the mask of a mining.set_version_mask.
func VersionMaskOf(r *Request) (uint32, bool) {
	params := r.ParamList()
	if len(params) == 0 {
		return 0, false
	}
	return ParseMask(params[0])
}
