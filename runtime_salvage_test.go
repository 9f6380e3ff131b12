package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// oneByteBroken are the values to which a byte is changed: a flipped bit, and
// characters that would change the form of the file.
func oneByteBroken(b byte, rng *rand.Rand) []byte {
	return []byte{b ^ 1<<rng.IntN(8), '\n', '"', '}', '9', 0}
}

// TestStateFileDamaged: whichever byte is broken, at most one session is lost, or
// two if the byte is the line end between them. The others are unchanged.
func TestStateFileDamaged(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 3} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			stateFileDamaged(t, n)
		})
	}
}

func stateFileDamaged(t *testing.T, n int) {
	const seed = 20
	rng := rand.New(rand.NewPCG(seed, uint64(n)))
	want := manySessions(n)
	want.Config, want.ListenAddr, want.ListenFD, want.NextIndex = defaultConfig(), "127.0.0.1:18080", 9, 200
	for i := range want.SessionDatas {
		want.SessionDatas[i].ClientConnFD, want.SessionDatas[i].ServerConnFD = 10+2*i, 11+2*i
		want.Descriptors = append(want.Descriptors, want.SessionDatas[i].descriptors()...)
	}
	content := encoded(t, want)
	for at, b := range content {
		for _, broken := range oneByteBroken(b, rng) {
			if broken == b {
				continue
			}
			damaged := bytes.Clone(content)
			damaged[at] = broken
			st, err := decodeState(damaged)
			if err != nil {
				t.Fatalf("%d sessions, byte %d is %q instead of %q: %v\n%s", n, at, broken, b, err, damaged[max(0, at-40):min(len(damaged), at+40)])
			}
			if len(st.SessionDatas) < n-1 {
				t.Fatalf("%d sessions, byte %d is %q instead of %q: %d are left", n, at, broken, b, len(st.SessionDatas))
			}
			if st.ListenFD != 9 || st.ListenAddr != want.ListenAddr || st.ServerID != 3 || st.Version != runtimeVersion || st.Config == nil || st.NextIndex != 200 {
				t.Fatalf("%d sessions, byte %d is %q instead of %q: got %+v", n, at, broken, b, st)
			}
			if lost := n - len(st.SessionDatas); lost > 0 && len(st.orphans) != 2*n {
				t.Fatalf("byte %d is %q instead of %q: the descriptors to close are %v, for %d lost sessions", at, broken, b, st.orphans, lost)
			}
			for _, ss := range st.SessionDatas {
				if w := want.SessionDatas[ss.SessionID]; ss.Account != w.Account || ss.ClientConnFD != w.ClientConnFD || ss.ServerConnFD != w.ServerConnFD {
					t.Fatalf("byte %d is %q instead of %q: a session was changed to %+v", at, broken, b, ss)
				}
			}
		}
	}
}

// TestStateFileDamagedOlder covers files of builds that wrote no checksums.
func TestStateFileDamagedOlder(t *testing.T) {
	const sessions = "{\"SessionID\":5,\"Phase\":\"relaying\",\"ClientConnFD\":10,\"ServerConnFD\":11},\n{\"SessionID\":6,\"Phase\":\"relaying\",\"ClientConnFD\":12,\"ServerConnFD\":13}"
	const frame = `{"Action":"upgrade","ServerID":3,"SessionDatas":[` + "\n" + sessions + "\n" + `],"Version":1,"ListenFD":9,"ListenAddr":"127.0.0.1:18080"}`
	for _, c := range []struct {
		name, from, to string
		sessions, fds  int
	}{
		{"whole", "", "", 2, 0},
		{"a session", `"Phase"`, `"Phase'`, 1, 2},
		{"the frame", `"Version"`, `"Version'`, 2, 0},
		{"the head", `"Action"`, `"Action'`, 2, 0},
	} {
		st, err := decodeState(bytes.Replace([]byte(frame), []byte(c.from), []byte(c.to), 1))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if len(st.SessionDatas) != c.sessions || len(st.orphans) != c.fds || st.Version != 1 {
			t.Errorf("%s: got %+v", c.name, st)
		}
	}
}
