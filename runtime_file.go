package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/golang/glog"
	jsoniter "github.com/json-iterator/go"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// This file writes a runtimeState to a file and reads it back. Nothing is relayed
// meanwhile, so the sessions, which make up nearly all of the state, are encoded and
// decoded on all processors.

// maxRuntimeFile bounds how many bytes are read. It is enough for 100,000 agents.
const maxRuntimeFile = 1 << 30

// writeStateFile writes the whole file or nothing. Only this user can read the file,
// because it contains the miners' passwords.
func writeStateFile(path string, parts [][]byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	for _, part := range parts {
		if _, err = f.Write(part); err != nil {
			break
		}
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return err
}

// readRuntimeState reads and checks the file. It accepts only a regular file of
// this user that nobody else may write.
func readRuntimeState(path string) (*runtimeState, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|openNoFollow, 0)
	if err != nil {
		return nil, fmt.Errorf("runtime file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("runtime file: %w", err)
	}
	if err := checkOwnFile(info); err != nil {
		return nil, fmt.Errorf("runtime file %s: %w", path, err)
	}
	content, err := io.ReadAll(io.LimitReader(f, maxRuntimeFile))
	if err != nil {
		return nil, fmt.Errorf("runtime file: %w", err)
	}
	st, err := decodeState(content)
	if err != nil {
		return nil, fmt.Errorf("runtime file %s: %w", path, err)
	}
	switch {
	case st.Action != runtimeAction:
		return nil, fmt.Errorf("runtime file %s: Action is %q, must be %q", path, st.Action, runtimeAction)
	case st.Version > runtimeVersion:
		return nil, fmt.Errorf("runtime file %s: Version %d is newer than this program's %d", path, st.Version, runtimeVersion)
	case st.ServerID == 0 && st.Version == 0:
		return nil, fmt.Errorf("runtime file %s: ServerID is missing", path)
	}
	return st, nil
}

// runtimeFile is where the state is written, in the working directory.
const runtimeFile = "runtime.json"

// removeStaleState removes a state file that was never read because the process
// ended in the middle of an upgrade.
func removeStaleState() { removeState(runtimeFile) }

// removeState removes a state file, because it contains passwords. It keeps a file that
// was not written by a process of this user, and one with another name, because only an
// operator can have passed that to -runtime.
func removeState(path string) {
	if filepath.Base(path) != runtimeFile {
		return
	}
	info, err := os.Lstat(path)
	if err != nil || checkOwnFile(info) != nil {
		return
	}
	if err := os.Remove(path); err != nil {
		glog.Warningf("state file: %v", err)
	}
}

var errNotOwnFile = errors.New("must be a regular file of this user that no other may write")

func checkOwnFile(info os.FileInfo) error {
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o022 != 0 || !ownedByUs(info) {
		return errNotOwnFile
	}
	return nil
}

// Each session has a line of its own in the file, between sessionsBegin and sessionsEnd.
const (
	sessionsBegin = "\"SessionDatas\":[\n"
	sessionsNext  = ",\n"
	sessionsEnd   = "\n]"

	// sessionsNone is how a state without sessions begins.
	sessionsNone = "\"SessionDatas\":[]"

	// sessionSize is the length of most sessions' records, in bytes.
	sessionSize = 1024
)

// encodeState returns st as JSON, in consecutive parts. Each session and the frame
// around the sessions have a checksum, so that a broken byte costs only the session that
// contains it; see runtime_salvage.go.
func encodeState(st *runtimeState) ([][]byte, error) {
	frame, err := encodeFrame(st)
	if err != nil || len(st.SessionDatas) == 0 {
		return [][]byte{frame}, err
	}
	before, after, ok := bytes.Cut(frame, []byte(sessionsNone))
	if !ok {
		whole, err := stratum.JSON.Marshal(st)
		return [][]byte{whole}, err
	}
	parts := make([][]byte, processors(len(st.SessionDatas)))
	errs := make([]error, len(parts))
	inParallel(len(parts), len(st.SessionDatas), func(part, from, to int) {
		stream := jsoniter.NewStream(stratum.JSON, nil, sessionSize*(to-from))
		for i := from; i < to; i++ {
			if i > 0 {
				stream.WriteRaw(sessionsNext)
			}
			begin := stream.Buffered()
			stream.WriteVal(&st.SessionDatas[i])
			if stream.Error == nil {
				stream.SetBuffer(seal(stream.Buffer(), begin))
			}
		}
		parts[part], errs[part] = stream.Buffer(), stream.Error
	})
	parts = append([][]byte{before, []byte(sessionsBegin)}, append(parts, []byte(sessionsEnd), after)...)
	return parts, errors.Join(errs...)
}

// encodeFrame returns st without its sessions as JSON, with a spare copy of the
// essential fields.
func encodeFrame(st *runtimeState) ([]byte, error) {
	rest := *st
	rest.SessionDatas = []sessionState{}
	frame, err := stratum.JSON.Marshal(&rest)
	if err != nil {
		return nil, err
	}
	rest.SessionDatas, rest.Wanted, rest.Switched, rest.Monitor, rest.Descriptors = nil, nil, nil, nil, nil
	spare, err := stratum.JSON.Marshal(&rest)
	if err != nil {
		return nil, err
	}
	frame = seal(frame, 0)
	frame = append(frame[:len(frame)-1], spareLine...)
	return append(append(frame, seal(spare, 0)...), '}'), nil
}

// The spare copy is an object in the last line, which begins like this.
const (
	spareMember = "\"Spare\":"
	spareLine   = ",\n" + spareMember
)

// decodeState reads what encodeState wrote, or any other JSON with the same
// members.
func decodeState(content []byte) (*runtimeState, error) {
	if st := decodeLines(content); st != nil {
		return st, nil
	}
	var st runtimeState
	if !isSealed(content) {
		err := stratum.JSON.Unmarshal(content, &st)
		if err == nil {
			return &st, nil
		}
		if st := salvageState(content); st != nil {
			return st, nil
		}
		return nil, err
	}
	if st := salvageState(content); st != nil {
		return st, nil
	}
	return nil, errors.New("it is damaged or cut off")
}

// decodeLines is decodeState for files in which each session has a line of its
// own. It returns nil if the file is not of that form or any part is damaged.
// Strings in JSON contain no line ends, so the lines can be decoded separately.
func decodeLines(content []byte) *runtimeState {
	before, sessions, ok := bytes.Cut(content, []byte(sessionsBegin))
	if !ok {
		return nil
	}
	sessions, after, ok := bytes.Cut(sessions, []byte(sessionsEnd))
	if !ok {
		return nil
	}
	st := decodeFrame(before, after)
	if st == nil {
		return nil
	}
	lines := bytes.Split(sessions, []byte(sessionsNext))
	st.SessionDatas = make([]sessionState, len(lines))
	good := make([]bool, processors(len(lines)))
	inParallel(len(good), len(lines), func(part, from, to int) {
		good[part] = true
		for i := from; i < to && good[part]; i++ {
			good[part] = sealHolds(lines[i]) && stratum.JSON.Unmarshal(lines[i], &st.SessionDatas[i]) == nil
		}
	})
	for _, ok := range good {
		if !ok {
			return nil
		}
	}
	return st
}

// decodeFrame decodes what comes before and after the sessions. It returns nil
// if that is not valid JSON or its checksum is wrong.
func decodeFrame(before, after []byte) *runtimeState {
	sealed := false
	if end := bytes.LastIndex(after, []byte(spareLine)); end >= 0 {
		if spare, ok := bytes.CutSuffix(after[end+len(spareLine):], []byte{'}'}); !ok || !hasSeal(spare) {
			return nil
		}
		after, sealed = append(after[:end:end], '}'), true
	}
	frame := bytes.Join([][]byte{before, after}, []byte(sessionsNone))
	var st runtimeState
	if sealed && !hasSeal(frame) || stratum.JSON.Unmarshal(frame, &st) != nil {
		return nil
	}
	return &st
}

// processors is the number of parts in which n items are processed.
func processors(n int) int { return max(1, min(n, runtime.GOMAXPROCS(0))) }

// inParallel divides n items into parts and works on all of them in parallel.
func inParallel(parts, n int, work func(part, from, to int)) {
	var wg sync.WaitGroup
	for part := range parts {
		wg.Go(func() { work(part, part*n/parts, (part+1)*n/parts) })
	}
	wg.Wait()
}
