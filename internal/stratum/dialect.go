package stratum

import (
	"encoding/json"
	"fmt"
)

// Dialect is the form of the answers to a miner.
type Dialect uint8

const (
	DialectStratum Dialect = iota // id, result, error: JSON-RPC 1.0 style
	DialectRPC2                   // id, jsonrpc and either result or error
)

// AppendResult appends an answer with a result to b. result is JSON.
func (d Dialect) AppendResult(b []byte, id json.RawMessage, result []byte) []byte {
	b = append(b, `{"id":`...)
	b = append(b, OrNull(id)...)
	if d == DialectRPC2 {
		b = append(b, `,"jsonrpc":"2.0","result":`...)
		b = append(b, result...)
		return append(b, "}\n"...)
	}
	b = append(b, `,"result":`...)
	b = append(b, result...)
	return append(b, ",\"error\":null}\n"...)
}

// AppendError appends an answer with an error of the switcher to b.
func (d Dialect) AppendError(b []byte, id json.RawMessage, e *Error, serverID uint8) []byte {
	b = append(b, `{"id":`...)
	b = append(b, OrNull(id)...)
	if d == DialectRPC2 {
		return fmt.Appendf(b, `,"jsonrpc":"2.0","error":{"code":%d,"message":%s,"data":%d}}`+"\n", e.Code, Quote(e.Text), serverID)
	}
	return fmt.Appendf(b, `,"result":null,"error":[%d,%s,%d]}`+"\n", e.Code, Quote(e.Text), serverID)
}

// AppendForwarded appends a pool's answer to b, with the miner's id.
func (d Dialect) AppendForwarded(b []byte, id json.RawMessage, r *Response) []byte {
	b = append(b, `{"id":`...)
	b = append(b, OrNull(id)...)
	if d != DialectRPC2 {
		b = append(b, `,"result":`...)
		b = append(b, OrNull(r.Result)...)
		b = append(b, `,"error":`...)
		if NoError(r.Error) {
			b = append(b, "null"...)
		} else {
			b = append(b, r.Error...)
		}
		return append(b, "}\n"...)
	}
	b = append(b, `,"jsonrpc":"2.0",`...)
	if NoError(r.Error) {
		b = append(b, `"result":`...)
		b = append(b, OrNull(r.Result)...)
	} else {
		b = append(b, `"error":`...)
		b = append(b, rpc2Error(r.Error)...)
	}
	return append(b, "}\n"...)
}

// rpc2Error converts a pool's [code, text, data] to the object of JSON-RPC 2.0. An
// error of any other form becomes the message of that object.
func rpc2Error(raw json.RawMessage) []byte {
	if raw[0] == '{' {
		return raw
	}
	var list []json.RawMessage
	if raw[0] != '[' || JSON.Unmarshal(raw, &list) != nil || len(list) < 2 {
		message := []byte(raw)
		if raw[0] != '"' {
			message = Quote(string(raw))
		}
		return fmt.Appendf(nil, `{"code":%d,"message":%s,"data":null}`, ErrUnauthorized.Code, message)
	}
	var data json.RawMessage
	if len(list) > 2 {
		data = list[2]
	}
	return fmt.Appendf(nil, `{"code":%s,"message":%s,"data":%s}`, OrNull(list[0]), OrNull(list[1]), OrNull(data))
}
