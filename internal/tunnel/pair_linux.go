package tunnel

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// pairFiles holds copies of the certificate and its key: the last ones seen and the
// last good ones. The kernel makes the copies, so the key is never in the daemon's
// memory. Tunnel.mu guards all fields.
type pairFiles struct {
	serial    uint64
	latest    *openPair // the files as they were last copied
	good      *openPair // the last pair that a process accepted; may be latest
	err       error     // why latest is not in use
	seen      string    // lookAtPair's text at that time
	described *Pair
}

type openPair struct {
	serial    uint64
	cert, key *os.File
}

func (o *openPair) close() {
	if o != nil {
		o.cert.Close()
		o.key.Close()
	}
}

func (f *pairFiles) close() {
	if f.latest != f.good {
		f.latest.close()
	}
	f.good.close()
	f.latest, f.good = nil, nil
}

// give sends a process the certificate. It prefers the last good one, so that a
// process started in the middle of a renewal gets it too.
func (f *pairFiles) give(p *process) {
	o := f.good
	if o == nil {
		o = f.latest
	}
	if o != nil {
		o.send(p)
	}
}

func (o *openPair) send(p *process) {
	var fds []int
	for _, file := range []*os.File{o.cert, o.key} {
		fd, err := duplicate(file)
		if err != nil {
			closeAll(fds)
			p.tunnel.options.Logf("certificate: %v", err)
			return
		}
		fds = append(fds, fd)
	}
	p.enqueue(&request{message: &message{kind: kindCertificate, id: o.serial}, fds: fds})
}

func duplicate(f *os.File) (int, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	if controlErr := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); controlErr != nil {
		return -1, controlErr
	}
	return fd, err
}

// watchPair checks the files periodically. It reads unusable files each time, even
// if they look unchanged, because a renewal may have been half done.
func (t *Tunnel) watchPair(stop <-chan struct{}) {
	tick := time.NewTicker(t.options.CheckEvery)
	defer tick.Stop()
	for {
		t.checkPair()
		select {
		case <-stop:
			return
		case <-tick.C:
		}
	}
}

func (t *Tunnel) checkPair() {
	seen, err := t.lookAtPair()
	t.mu.Lock()
	same := err == nil && seen == t.pair.seen && t.pair.err == nil && t.pair.latest != nil
	t.mu.Unlock()
	if same {
		return
	}
	var o *openPair
	if err == nil {
		o, err = t.openPair()
	}
	if err != nil {
		t.pairFailed(err)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		o.close()
		return
	}
	t.pair.serial++
	o.serial = t.pair.serial
	if t.pair.latest != t.pair.good {
		t.pair.latest.close()
	}
	t.pair.latest, t.pair.seen = o, seen
	for _, p := range t.all {
		if p.protocol == Protocol && !p.hungUp {
			o.send(p)
		}
	}
}

// lookAtPair returns a text that changes when one of the files does.
func (t *Tunnel) lookAtPair() (string, error) {
	seen := ""
	for _, path := range []string{t.options.CertFile, t.options.KeyFile} {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			return "", &os.PathError{Op: "stat", Path: path, Err: err}
		}
		seen += fmt.Sprint(st.Dev, " ", st.Ino, " ", st.Size, " ", st.Mtim.Nano(), " ", st.Ctim.Nano(), " ")
	}
	return seen, nil
}

func (t *Tunnel) openPair() (*openPair, error) {
	cert, err := openFile(t.options.CertFile)
	if err != nil {
		return nil, err
	}
	key, err := openFile(t.options.KeyFile)
	if err != nil {
		cert.Close()
		return nil, err
	}
	return &openPair{cert: copyOf(cert), key: copyOf(key)}, nil
}

// copyOf returns a copy of f in a file without a name, and closes f. Somebody may
// write a renewed file over the former one, and a process that is started then has
// to get what was good. If no copy can be made, it returns f.
func copyOf(f *os.File) *os.File {
	fd, err := unix.MemfdCreate("pair", unix.MFD_CLOEXEC)
	if err != nil {
		return f
	}
	for left := maxPEM + 1; left > 0; { // one that is too long stays too long
		n, err := unix.Sendfile(fd, int(f.Fd()), nil, left)
		if err != nil && err != unix.EINTR {
			unix.Close(fd)
			return f
		}
		if n <= 0 && err == nil {
			break
		}
		left -= max(n, 0)
	}
	f.Close()
	return os.NewFile(uintptr(fd), "pair")
}

// pairFailed reports unusable files, once for each reason.
func (t *Tunnel) pairFailed(err error) {
	t.mu.Lock()
	known := t.pair.err != nil && t.pair.err.Error() == err.Error()
	t.pair.err = err
	use := t.pair.described
	t.poke()
	t.mu.Unlock()
	if !known {
		t.options.Certificate(Certificate{Pair: use, Err: err})
	}
}

// certificateTaken handles a process's answer to a certificate.
func (t *Tunnel) certificateTaken(p *process, m *message) {
	if m.reason != Closed {
		t.mu.Lock()
		latest := t.pair.latest != nil && t.pair.latest.serial == m.id
		t.mu.Unlock()
		if latest {
			t.pairFailed(fmt.Errorf("%s, %s: %w", t.options.CertFile, t.options.KeyFile, errors.New(plainText(m.text))))
		}
		return
	}
	t.mu.Lock()
	p.certified = true
	latest := t.pair.latest
	news := latest != nil && latest.serial == m.id && (t.pair.good != latest || t.pair.err != nil)
	var said Certificate
	if news {
		if t.pair.good != latest {
			t.pair.good.close()
		}
		t.pair.good, t.pair.err = latest, nil
		t.pair.described = &Pair{Names: strings.Fields(m.text), NotBefore: time.Unix(m.notBefore, 0), NotAfter: time.Unix(m.notAfter, 0)}
		said.Pair = t.pair.described
	}
	t.poke()
	t.mu.Unlock()
	if news {
		t.options.Certificate(said)
	}
}
