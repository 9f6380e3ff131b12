package stratum

import (
	"bytes"
	"testing"
)

// Messages and lines are cut where they end. A message of an impossible length is
// an error.
func TestNextAgentMessage(t *testing.T) {
	for _, c := range []struct {
		in, want string
		bad      bool
	}{
		{in: ""},
		{in: "{}"},
		{in: "{}\nrest", want: "{}\n"},
		{in: "\x7f\x02\x06"},
		{in: "\x7f\x02\x06\x00\x01"},
		{in: "\x7f\x02\x06\x00\x01\x02", want: "\x7f\x02\x06\x00\x01\x02"},
		{in: "\x7f\x02\x06\x00\n\n\n", want: "\x7f\x02\x06\x00\n\n"},
		{in: "\x7f\x02\x04\x00{}\n", want: "\x7f\x02\x04\x00"},
		{in: "\x7f\x02\x03\x00{}\n", bad: true},
		{in: "\x7f\x02\x00\x00", bad: true},
	} {
		got, err := NextAgentMessage([]byte(c.in))
		if string(got) != c.want || (err != nil) != c.bad {
			t.Errorf("%q: %q, %v, want %q", c.in, got, err, c.want)
		}
	}
}

// The numbers are those that BTCAgent and sserver use.
func TestAgentStatusAccepted(t *testing.T) {
	for status, want := range map[AgentStatus]bool{
		StatusAccept: true, StatusAcceptStale: true, StatusSolved: true, StatusSolvedStale: true,
		StatusUnauthorized: false, StatusUnknown: false, 0: false, 21: false,
	} {
		if got := status.Accepted(); got != want {
			t.Errorf("status %d: accepted %v", status, got)
		}
	}
	answer := AppendAgentAnswer([]byte("<"), 1<<16+7, StatusUnauthorized)
	if want := []byte("<\x7f\x10\x0a\x00\x07\x00\x18\x00\x00\x00"); !bytes.Equal(answer, want) {
		t.Errorf("an answer is %q, want %q", answer, want)
	}
}

// FuzzNextAgentMessage: what is cut off is a beginning of the input and never
// empty, so that a reader always makes progress. Its parts are read within bounds.
func FuzzNextAgentMessage(f *testing.F) {
	f.Add([]byte("\x7f\x01\x0b\x00\x07\x00cgm\x00w"))
	f.Add([]byte("\x7f\x04\x06\x00\x07\x00{\"id\":1}\n\x7f\x02\x06\x00\x00\x00"))
	f.Add([]byte("\x7f\x01\x03\x00"))
	f.Add(append([]byte("\x7f\x14\x4e\x00"), make([]byte, 74)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			message, err := NextAgentMessage(b)
			if err != nil && message != nil {
				t.Fatalf("got both the message %q and the error %v", message, err)
			}
			if message == nil {
				return
			}
			if len(message) == 0 || !bytes.HasPrefix(b, message) {
				t.Fatalf("%q is not a beginning of %q", message, b)
			}
			if message[0] == AgentMagic && IsAgentSubmit(message[1]) {
				for _, c := range allChains {
					c.AgentShareSession(message)
					if job := c.AgentShareJob(nil, message); len(job) > 2*32 {
						t.Fatalf("a job ID has %d characters", len(job))
					}
				}
			}
			b = b[len(message):]
		}
	})
}
