package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	jsoniter "github.com/json-iterator/go"
)

// Limits of what a peer may send in one line, "\n" included.
const (
	maxMinerLine = 16 << 10
	maxPoolLine  = 256 << 10
)

var wireJSON = jsoniter.ConfigCompatibleWithStandardLibrary

// stratumError is an error a miner is told: docs/protocol.md, "Errors".
type stratumError struct {
	Code int
	Text string
}

func (e *stratumError) Error() string { return fmt.Sprintf("%d %s", e.Code, e.Text) }

var (
	errNeedSubscribed      = &stratumError{101, "Need Subscribed"}
	errDuplicateSubscribed = &stratumError{102, "Duplicate Subscribed"}
	errTooFewParams        = &stratumError{103, "Too Few Params"}
	errWorkerNotString     = &stratumError{104, "Worker Name Must be a String"}
	errEmptySubAccount     = &stratumError{105, "Sub-account Name Cannot be Empty"}
	errInvalidSubAccount   = &stratumError{201, "Invalid Sub-account Name"}
	errServerNotFound      = &stratumError{301, "Stratum Server Not Found"}
	errConnectFailed       = &stratumError{302, "Connect Stratum Server Failed"}

	// The codes every Stratum V1 pool uses for these.
	errUnauthorized  = &stratumError{24, "Unauthorized worker"}
	errUnknownMethod = &stratumError{20, "Unknown method"}

	errBatch         = &stratumError{20, "Batches Are Not Supported"}
	errNotUnderstood = &stratumError{20, "Request Not Understood"}
	errTooMany       = &stratumError{20, "Too Many Requests"}
)

// request is a line with a method, from a miner or as notification of a pool.
// ID, Params and the elements of Params are the sender's own bytes.
type request struct {
	ID     json.RawMessage
	Method string
	Params json.RawMessage
	// Worker is the miner's name beside the account in Ethereum protocols.
	Worker string
}

// response is an answer of a pool. Result and Error are as sent.
type response struct {
	ID     json.RawMessage
	Result json.RawMessage
	Error  json.RawMessage
}

// parseRequest decodes one line. The result shares no memory with line.
func parseRequest(line []byte) (*request, error) {
	m, err := decodeLine(line)
	if err != nil {
		return nil, err
	}
	r := &request{ID: m.notNull(memberID), Params: m.notNull(memberParams)}
	if r.Method, err = m.method(); err != nil {
		return nil, err
	}
	if raw := m.values[memberWorker]; len(raw) > 0 {
		if text, ok := jsonString(raw); ok {
			r.Worker = text
		} else if isNumber(raw) {
			r.Worker = string(raw) // some miners number their rigs
		}
	}
	return r, nil
}

func parseResponse(line []byte) (*response, error) {
	m, err := decodeLine(line)
	if err != nil {
		return nil, err
	}
	return &response{ID: m.notNull(memberID), Result: m.notNull(memberResult), Error: m.notNull(memberError)}, nil
}

// paramList splits the parameters; anything but an array has none.
func (r *request) paramList() []json.RawMessage {
	var list []json.RawMessage
	if len(r.Params) == 0 || r.Params[0] != '[' || wireJSON.Unmarshal(r.Params, &list) != nil {
		return nil
	}
	for i := range list {
		list[i] = orNull(list[i]) // the decoder leaves null elements empty
	}
	return list
}

// isNotification says that the sender expects no answer.
func (r *request) isNotification() bool { return len(r.ID) == 0 || string(r.ID) == "null" }

// jsonString returns the string that raw is, if it is one.
func jsonString(raw json.RawMessage) (string, bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	var s string
	if wireJSON.Unmarshal(raw, &s) != nil {
		return "", false
	}
	return s, true
}

// quote returns s as a JSON string.
func quote(s string) []byte {
	b, err := wireJSON.Marshal(s)
	if err != nil {
		return []byte(`""`)
	}
	return b
}

// noError says that raw, an answer's error, stands for none. Pools write that in
// several ways.
func noError(raw json.RawMessage) bool {
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

// isTrue says that raw is the JSON value true.
func isTrue(raw json.RawMessage) bool { return string(raw) == "true" }

// isNull says that raw is absent or null.
func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// orNull gives absent values their JSON form.
func orNull(raw json.RawMessage) []byte {
	if len(raw) == 0 {
		return []byte("null")
	}
	return raw
}

// dialect is how answers to a miner look.
type dialect uint8

const (
	dialectStratum dialect = iota // id, result, error: JSON-RPC 1.0 style
	dialectRPC2                   // id, jsonrpc and either result or error
)

// appendResult appends an answer with a result to b. result is JSON.
func (d dialect) appendResult(b []byte, id json.RawMessage, result []byte) []byte {
	b = append(b, `{"id":`...)
	b = append(b, orNull(id)...)
	if d == dialectRPC2 {
		b = append(b, `,"jsonrpc":"2.0","result":`...)
		b = append(b, result...)
		return append(b, "}\n"...)
	}
	b = append(b, `,"result":`...)
	b = append(b, result...)
	return append(b, ",\"error\":null}\n"...)
}

// appendError appends an answer with an error of the switcher to b.
func (d dialect) appendError(b []byte, id json.RawMessage, e *stratumError, serverID uint8) []byte {
	b = append(b, `{"id":`...)
	b = append(b, orNull(id)...)
	if d == dialectRPC2 {
		return fmt.Appendf(b, `,"jsonrpc":"2.0","error":{"code":%d,"message":%s,"data":%d}}`+"\n", e.Code, quote(e.Text), serverID)
	}
	return fmt.Appendf(b, `,"result":null,"error":[%d,%s,%d]}`+"\n", e.Code, quote(e.Text), serverID)
}

// appendForwarded appends a pool's answer to b under the miner's own id.
func (d dialect) appendForwarded(b []byte, id json.RawMessage, r *response) []byte {
	b = append(b, `{"id":`...)
	b = append(b, orNull(id)...)
	if d != dialectRPC2 {
		b = append(b, `,"result":`...)
		b = append(b, orNull(r.Result)...)
		b = append(b, `,"error":`...)
		if noError(r.Error) {
			b = append(b, "null"...)
		} else {
			b = append(b, r.Error...)
		}
		return append(b, "}\n"...)
	}
	b = append(b, `,"jsonrpc":"2.0",`...)
	if noError(r.Error) {
		b = append(b, `"result":`...)
		b = append(b, orNull(r.Result)...)
	} else {
		b = append(b, `"error":`...)
		b = append(b, rpc2Error(r.Error)...)
	}
	return append(b, "}\n"...)
}

// rpc2Error turns a pool's [code, text, data] into JSON-RPC 2.0's object. Of
// an error of any other form it makes the message.
func rpc2Error(raw json.RawMessage) []byte {
	if raw[0] == '{' {
		return raw
	}
	var list []json.RawMessage
	if raw[0] != '[' || wireJSON.Unmarshal(raw, &list) != nil || len(list) < 2 {
		message := []byte(raw)
		if raw[0] != '"' {
			message = quote(string(raw))
		}
		return fmt.Appendf(nil, `{"code":%d,"message":%s,"data":null}`, errUnauthorized.Code, message)
	}
	var data json.RawMessage
	if len(list) > 2 {
		data = list[2]
	}
	return fmt.Appendf(nil, `{"code":%s,"message":%s,"data":%s}`, orNull(list[0]), orNull(list[1]), orNull(data))
}

// appendRequest appends a request to b. id is JSON, params the inside of the array.
func appendRequest(b, id []byte, method string, params ...[]byte) []byte {
	b = append(b, `{"id":`...)
	b = append(b, id...)
	b = append(b, `,"method":`...)
	b = append(b, quote(method)...)
	b = append(b, `,"params":[`...)
	b = append(b, bytes.Join(params, []byte(","))...)
	return append(b, "]}\n"...)
}

// appendConfigure appends BIP 310's mining.configure for version rolling to b.
func appendConfigure(b []byte, id, mask uint32) []byte {
	return appendRequest(b, ownIDText(id), "mining.configure",
		[]byte(`["version-rolling"]`), fmt.Appendf(nil, `{"version-rolling.mask":"%08x"}`, mask))
}

// appendVersionMask appends BIP 310's mining.set_version_mask to b.
func appendVersionMask(b []byte, mask uint32) []byte {
	return fmt.Appendf(b, `{"id":null,"method":"mining.set_version_mask","params":["%08x"]}`+"\n", mask)
}

// parseMask reads a version mask: a text of hex digits, with or without 0x and
// leading zeros, or a number.
func parseMask(raw json.RawMessage) (uint32, bool) {
	text, base := string(raw), 10
	if s, ok := jsonString(raw); ok {
		text, base = s, 16
		if hasPrefixFold(text, "0x") {
			text = text[2:]
		}
	}
	mask, err := strconv.ParseUint(text, base, 32)
	return uint32(mask), err == nil
}

// workerName is a worker's full name in its parts: Account is up to the first
// dot, Miner the rest with the dot. Both have only the characters by which
// sub-accounts are found (docs/protocol.md, "Worker names").
type workerName struct {
	Account string
	Miner   string

	// Sent is the name as the miner wrote it. It is what pools that pick their own
	// extranonce are told: to drop a character there would credit somebody else.
	// Empty if it is Account and Miner, as it is for names from older state files.
	Sent string
}

func (w workerName) String() string { return w.Account + w.Miner }

// asSent is the name as the miner wrote it.
func (w workerName) asSent() string {
	if w.Sent != "" {
		return w.Sent
	}
	return w.String()
}

// sendable says that the name can be written in JSON as the miner wrote it.
func (w workerName) sendable() bool {
	return utf8.ValidString(w.Sent) && !strings.ContainsRune(w.Sent, utf8.RuneError)
}

// withSuffix is the name a pool that keeps its coins' users apart knows.
func (w workerName) withSuffix(suffix string) string { return w.Account + "_" + suffix + w.Miner }

// filterWorker drops the characters that no worker name may have.
func filterWorker(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("._:|^/-", r):
			return r
		}
		return -1
	}, name)
}

func splitWorker(full string) workerName {
	if dot := strings.IndexByte(full, '.'); dot >= 0 {
		return workerName{Account: full[:dot], Miner: full[dot:]}
	}
	return workerName{Account: full}
}

// nextLine returns the first line of b with its "\n", or nil.
func nextLine(b []byte) []byte {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return b[:i+1]
	}
	return nil
}
