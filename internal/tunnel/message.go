package tunnel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Protocol is the version of the messages. A child of another version keeps its
// connections and gets no new ones.
const Protocol = 1

// kind is the kind of a message. The daemon sends those below 64.
type kind uint8

const (
	kindServer      kind = 1 // take a connection, TLS server
	kindClient      kind = 2 // take a connection, TLS client
	kindReset       kind = 3 // reset a connection
	kindCertificate kind = 4 // use this certificate from now on
	kindTrust       kind = 5 // certificates to trust, for later clients
	kindRetire      kind = 6 // end with the last connection
	kindAsk         kind = 7 // send a report

	kindHello            kind = 65 // the first message of a child
	kindReceived         kind = 66 // how many descriptors have arrived
	kindReady            kind = 67 // a handshake is done
	kindEnded            kind = 68 // a connection is gone
	kindCertificateTaken kind = 69 // the outcome of kindCertificate
	kindReport           kind = 70 // memory and counts
)

// descriptors returns how many descriptors a message of this kind carries.
func (k kind) descriptors() int {
	switch k {
	case kindServer, kindClient, kindCertificate:
		return 2
	case kindTrust:
		return 1
	}
	return 0
}

const (
	// maxMessage is the longest message: a hello of MaxEarly bytes and its frame.
	maxMessage = MaxEarly + 1024

	// MaxEarly is how many bytes that were already read may be handed over together
	// with a connection.
	MaxEarly = 16 << 10

	maxText         = 200
	maxName         = 255
	maxFingerprints = 8
)

// digest is a SHA-256.
type digest [32]byte

// message is one packet on the control socket. Its kind decides which fields are used;
// only appendTo and decode depend on that.
type message struct {
	kind kind
	id   uint64 // the number of a connection or of a certificate

	// kindServer, kindClient
	deadline   time.Duration // for the handshake
	address    string        // of the peer, for the limit of half-open handshakes
	early      []byte        // already read from the peer
	serverName string
	trust      digest // zero: the system's certificates
	pins       []digest
	noVerify   bool

	// kindHello
	protocol    uint16
	pid         uint32
	descriptors uint32
	program     string

	// kindReceived
	count uint32

	// kindReady
	version, suite uint16
	resumed        bool

	// kindReady, kindCertificateTaken
	notBefore, notAfter int64

	// kindEnded, kindCertificateTaken
	reason Reason
	ready  bool
	text   string

	report Report
}

var errMessage = errors.New("malformed message")

// appendTo appends the message's bytes to b. It shortens text that is too long. All other
// fields must have been checked when the message was created.
func (m *message) appendTo(b []byte) []byte {
	b = append(b, Protocol, byte(m.kind), 0, 0)
	b = binary.BigEndian.AppendUint64(b, m.id)
	u16 := func(v uint16) { b = binary.BigEndian.AppendUint16(b, v) }
	u32 := func(v uint32) { b = binary.BigEndian.AppendUint32(b, v) }
	u64 := func(v uint64) { b = binary.BigEndian.AppendUint64(b, v) }
	flag := func(v bool) {
		if v {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	text := func(s string, most int) {
		if len(s) > most {
			s = s[:most]
		}
		u16(uint16(len(s)))
		b = append(b, s...)
	}
	switch m.kind {
	case kindServer:
		u32(uint32(m.deadline.Milliseconds()))
		text(m.address, maxText)
		u16(uint16(len(m.early)))
		b = append(b, m.early...)
	case kindClient:
		u32(uint32(m.deadline.Milliseconds()))
		text(m.address, maxText)
		text(m.serverName, maxName)
		flag(m.noVerify)
		b = append(b, m.trust[:]...)
		b = append(b, byte(len(m.pins)))
		for i := range m.pins {
			b = append(b, m.pins[i][:]...)
		}
	case kindTrust:
		b = append(b, m.trust[:]...)
	case kindHello:
		u16(m.protocol)
		u32(m.pid)
		u32(m.descriptors)
		text(m.program, maxText)
	case kindReceived:
		u32(m.count)
	case kindReady:
		u16(m.version)
		u16(m.suite)
		flag(m.resumed)
		u64(uint64(m.notAfter))
	case kindEnded:
		flag(m.ready)
		b = append(b, byte(m.reason))
		text(m.text, maxText)
	case kindCertificateTaken:
		b = append(b, byte(m.reason))
		u64(uint64(m.notBefore))
		u64(uint64(m.notAfter))
		text(m.text, maxText)
	case kindReport:
		r := &m.report
		for _, v := range []uint64{r.Resident, r.Private, r.Heap, r.Goroutines, r.Connections, r.Handshaking, r.Descriptors, r.DescriptorLimit, r.Handshakes} {
			u64(v)
		}
		b = append(b, byte(len(r.Failed)))
		for _, v := range r.Failed {
			u64(v)
		}
	}
	return b
}

// reader reads fields from a message; after an error it returns only zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || len(r.b) < n {
		r.bad = true
		return nil
	}
	taken := r.b[:n:n]
	r.b = r.b[n:]
	return taken
}

func (r *reader) u8() uint8 {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) flag() bool {
	v := r.u8()
	r.bad = r.bad || v > 1
	return v == 1
}

func (r *reader) text(most int) string {
	n := int(r.u16())
	if n > most {
		r.bad = true
	}
	return string(r.take(n))
}

func (r *reader) digest() (d digest) {
	copy(d[:], r.take(len(d)))
	return d
}

// decode reads one message. The result shares no memory with b.
func decode(b []byte) (*message, error) {
	r := &reader{b: b}
	version := r.u8()
	m := &message{kind: kind(r.u8())}
	reserved := r.u16()
	m.id = r.u64()
	if r.bad {
		return nil, errMessage
	}
	if version != Protocol {
		return nil, fmt.Errorf("message of protocol %d, not %d", version, Protocol)
	}
	if reserved != 0 {
		return nil, errMessage
	}
	switch m.kind {
	case kindServer:
		m.deadline = time.Duration(r.u32()) * time.Millisecond
		m.address = r.text(maxText)
		n := int(r.u16())
		r.bad = r.bad || n > MaxEarly
		m.early = append([]byte(nil), r.take(n)...)
	case kindClient:
		m.deadline = time.Duration(r.u32()) * time.Millisecond
		m.address = r.text(maxText)
		m.serverName = r.text(maxName)
		m.noVerify = r.flag()
		m.trust = r.digest()
		n := int(r.u8())
		r.bad = r.bad || n > maxFingerprints
		for i := 0; i < n && !r.bad; i++ {
			m.pins = append(m.pins, r.digest())
		}
	case kindReset, kindCertificate, kindRetire, kindAsk:
	case kindTrust:
		m.trust = r.digest()
	case kindHello:
		m.protocol = r.u16()
		m.pid = r.u32()
		m.descriptors = r.u32()
		m.program = r.text(maxText)
	case kindReceived:
		m.count = r.u32()
	case kindReady:
		m.version = r.u16()
		m.suite = r.u16()
		m.resumed = r.flag()
		m.notAfter = int64(r.u64())
	case kindEnded:
		m.ready = r.flag()
		m.reason = Reason(r.u8())
		m.text = r.text(maxText)
	case kindCertificateTaken:
		m.reason = Reason(r.u8())
		m.notBefore = int64(r.u64())
		m.notAfter = int64(r.u64())
		m.text = r.text(maxText)
	case kindReport:
		p := &m.report
		for _, v := range []*uint64{&p.Resident, &p.Private, &p.Heap, &p.Goroutines, &p.Connections, &p.Handshaking, &p.Descriptors, &p.DescriptorLimit, &p.Handshakes} {
			*v = r.u64()
		}
		n := int(r.u8())
		r.bad = r.bad || n != len(p.Failed)
		for i := 0; i < n && !r.bad; i++ {
			p.Failed[i] = r.u64()
		}
	default:
		return nil, fmt.Errorf("message of unknown kind %d", m.kind)
	}
	if r.bad || len(r.b) > 0 {
		return nil, errMessage
	}
	return m, nil
}
