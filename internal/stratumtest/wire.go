package stratumtest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
)

// maxLine is the longest line that either side accepts.
const maxLine = 64 << 10

var errLineTooLong = errors.New("line too long")

// message is any JSON line: a request, a notification or an answer.
type message struct {
	ID      json.RawMessage `json:"id"`
	Method  string          `json:"method"`
	Params  json.RawMessage `json:"params"`
	Result  json.RawMessage `json:"result"`
	Error   json.RawMessage `json:"error"`
	Worker  string          `json:"worker"`
	JSONRPC string          `json:"jsonrpc"`
}

// readLine returns the next line without its line end. The slice is valid until the next
// read. An incomplete line at the end of the stream is dropped.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if err == nil {
		return trimEnd(line), nil
	}
	if !errors.Is(err, bufio.ErrBufferFull) {
		return nil, err
	}
	var long []byte
	for {
		if len(long)+len(line) > maxLine {
			return nil, errLineTooLong
		}
		long = append(long, line...)
		if err == nil {
			return trimEnd(long), nil
		}
		line, err = r.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
	}
}

func trimEnd(line []byte) []byte {
	line = line[:len(line)-1]
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return line
}

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// errorCode returns the code and the text of an error, which may be an array or an
// object.
func errorCode(raw json.RawMessage) (code int, text string) {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) == nil && len(list) >= 2 {
		json.Unmarshal(list[0], &code)
		json.Unmarshal(list[1], &text)
		return code, text
	}
	var object struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}
	json.Unmarshal(raw, &object)
	return object.Code, object.Message
}

func setDifficultyLine(zeroBits int) []byte {
	b := append([]byte(nil), `{"id":null,"method":"mining.set_difficulty","params":[`...)
	b = strconv.AppendFloat(b, DifficultyOfBits(zeroBits), 'g', -1, 64)
	return append(b, "]}\n"...)
}

func setVersionMaskLine(mask uint32) []byte {
	b := append([]byte(nil), `{"id":null,"method":"mining.set_version_mask","params":["`...)
	return append(appendHex32(b, mask), "\"]}\n"...)
}

// watch lets goroutines wait until a condition is true. A notification costs one atomic
// load if no goroutine waits.
type watch struct {
	waiting atomic.Int32
	mu      sync.Mutex
	changed chan struct{} // closed and set to nil by notify
}

// notify wakes the waiting goroutines, so that they check their conditions again.
func (w *watch) notify() {
	if w.waiting.Load() == 0 {
		return
	}
	w.mu.Lock()
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
	w.mu.Unlock()
}

// wait returns nil once condition is true, or the error of ctx once it is done.
func (w *watch) wait(ctx context.Context, condition func() bool) error {
	w.waiting.Add(1)
	defer w.waiting.Add(-1)
	for {
		w.mu.Lock()
		if w.changed == nil {
			w.changed = make(chan struct{})
		}
		changed := w.changed
		w.mu.Unlock()
		if condition() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
