package tunnel

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

var sampleMessages = []message{
	{kind: kindServer, id: 1, deadline: 15 * time.Second, address: "192.0.2.1", early: []byte("\x16\x03\x01")},
	{kind: kindClient, id: 2, deadline: time.Second, address: "192.0.2.1:443", serverName: "pool.test", trust: digest{1}, pins: []digest{{2}, {3}}, noVerify: true},
	{kind: kindReset, id: 1<<63 + 5},
	{kind: kindCertificate, id: 7},
	{kind: kindTrust, trust: digest{9}},
	{kind: kindRetire},
	{kind: kindAsk},
	{kind: kindHello, protocol: Protocol, pid: 77, descriptors: 1024, program: "v1.2"},
	{kind: kindReceived, count: 64},
	{kind: kindReady, id: 4, version: 0x304, suite: 0x1301, resumed: true, notAfter: 1 << 40},
	{kind: kindEnded, id: 5, ready: true, reason: Expired, text: "it has expired"},
	{kind: kindCertificateTaken, id: 8, reason: BadCertificate, notBefore: -1, notAfter: 2, text: "no"},
	{kind: kindReport, report: Report{Resident: 1, Private: 2, Connections: 3, Failed: [reasons]uint64{4, 5}}},
}

func TestMessages(t *testing.T) {
	for i := range sampleMessages {
		m := &sampleMessages[i]
		b := m.appendTo(nil)
		got, err := decode(b)
		if err != nil {
			t.Fatalf("%d: %v", m.kind, err)
		}
		if !reflect.DeepEqual(got, m) && m.early == nil == (got.early == nil) {
			t.Errorf("%+v became %+v", m, got)
		}
		for n := range b {
			if _, err := decode(b[:n]); err == nil {
				t.Errorf("kind %d: the first %d of %d bytes are accepted", m.kind, n, len(b))
			}
		}
		if _, err := decode(append(b, 0)); err == nil {
			t.Errorf("kind %d: a byte too many is accepted", m.kind)
		}
	}
	long := &message{kind: kindEnded, text: strings.Repeat("x", 1000)}
	if m, err := decode(long.appendTo(nil)); err != nil || len(m.text) != maxText {
		t.Errorf("unexpected error %v", err)
	}
	most := &message{kind: kindServer, early: make([]byte, MaxEarly), address: strings.Repeat("x", maxText)}
	if n := len(most.appendTo(nil)); n > maxMessage {
		t.Errorf("the message has %d bytes, which is too many", n)
	}
	if _, err := decode([]byte{Protocol + 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}); err == nil || !strings.Contains(err.Error(), "protocol") {
		t.Errorf("got error %v, want one about the protocol", err)
	}
}

// FuzzDecode covers both sides, because what a kind may contain does not depend on
// who reads it.
func FuzzDecode(f *testing.F) {
	for i := range sampleMessages {
		f.Add(sampleMessages[i].appendTo(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decode(b)
		if err != nil {
			return
		}
		if got := m.appendTo(nil); string(got) != string(b) {
			t.Errorf("%x became %x", b, got)
		}
	})
}
