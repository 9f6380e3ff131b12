package tunnel

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// pairFiles holds copies of the certificate and its key: the last ones seen and the
// last good ones. The kernel makes the copies, so a renewed key is never in the
// daemon's memory. The last good pair passes through exec. Tunnel.mu guards all fields.
type pairFiles struct {
	serial uint64
	latest *openPair // the files as they were last copied
	good   *openPair // the last pair that was found good; it may be latest
	err    error     // why latest is not in use
	seen   string    // what lookAtPair returned when latest was copied; empty if the files could not be read since then
}

type openPair struct {
	serial    uint64
	cert, key *os.File
	described *Pair // what cert says, whether or not the key matches; nil if cert cannot be read
	refused   bool  // a process has reported that it cannot use the pair
	answered  bool  // a process has reported whether it can use the pair
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

// give sends the certificate to a process. A process that is started during a renewal
// needs the last good pair, and gets the later one too, if that may be usable. A pair
// that was refused is not sent again, because the files may have changed since, and
// checkPair sends their present content.
func (f *pairFiles) give(p *process) {
	if f.good != nil {
		f.good.send(p)
	}
	if f.latest != nil && f.latest != f.good && !(f.latest.refused && f.good != nil) {
		f.latest.send(p)
	}
}

// inUse describes the pair that miners get. It is nil if there is none.
func (f *pairFiles) inUse() *Pair {
	if f.good == nil {
		return nil
	}
	return f.good.described
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
	o.answered = false
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
// if they look unchanged, because a renewal may have been half done. It waits for a
// process to answer before it sends the same files again: otherwise a process that is
// too slow would get more and more copies and never answer for the latest.
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
	same := err == nil && seen == t.pair.seen && t.pair.latest != nil &&
		(t.pair.err == nil || !t.pair.latest.answered && slices.ContainsFunc(t.all, (*process).usable))
	t.mu.Unlock()
	if same {
		return
	}
	var o *openPair
	if err == nil {
		o, err = t.openPair()
	}
	if err != nil {
		t.mu.Lock()
		t.pair.seen = ""
		t.mu.Unlock()
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
	o.answered = true // unless it can be sent
	for _, p := range t.all {
		if p.usable() {
			o.send(p)
		}
	}
}

// lookAtPair returns a text that changes when one of the files changes.
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
	return newOpenPair(cert, key), nil
}

// newOpenPair copies and closes the files of a pair.
func newOpenPair(cert, key *os.File) *openPair {
	o := &openPair{cert: copyOf(cert), key: copyOf(key)}
	if certPEM, err := readBounded(o.cert); err == nil {
		o.described, _ = describe(certPEM) // if it is invalid, the process reports why
	}
	return o
}

// Prepare checks the files of TLSCertFile and TLSKeyFile and copies them, so that the
// first process gets them even if they are damaged before it starts. It does nothing if
// there is a good pair already. fresh reports that the pair is new; Options.Certificate
// is not called for it. Prepare must not be called on a loop, because it reads files,
// which may block.
func (t *Tunnel) Prepare() (pair *Pair, fresh bool, err error) {
	t.mu.Lock()
	known := t.pair.inUse()
	t.mu.Unlock()
	if known != nil {
		return known, false, nil
	}
	seen, _ := t.lookAtPair() // before the files are read, so that a later change is noticed
	cert, err := openFile(t.options.CertFile)
	if err != nil {
		return nil, false, certFileError(t.options.CertFile, err)
	}
	key, err := openFile(t.options.KeyFile)
	if err != nil {
		cert.Close()
		return nil, false, keyFileError(t.options.KeyFile, err)
	}
	o := newOpenPair(cert, key)
	err = o.check(t.options.CertFile, t.options.KeyFile)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil || t.closed || t.pair.latest != nil || t.pair.good != nil {
		o.close()
		return o.described, false, err
	}
	t.pair.serial++
	o.serial = t.pair.serial
	t.pair.latest, t.pair.good, t.pair.seen = o, o, seen
	for _, p := range t.all {
		if p.usable() {
			o.send(p)
		}
	}
	return o.described, true, nil
}

// Pair returns the last good pair, or nil if there is none.
func (t *Tunnel) Pair() *Pair {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pair.inUse()
}

// check reports whether a process could use the pair.
func (o *openPair) check(certFile, keyFile string) error {
	certPEM, err := readNamed(o.cert, certFile)
	if err != nil {
		return certFileError(certFile, err)
	}
	keyPEM, err := readNamed(o.key, keyFile)
	if err != nil {
		return keyFileError(keyFile, err)
	}
	o.described, err = checkPair(certFile, keyFile, certPEM, keyPEM)
	return err
}

// state describes the last good pair for the next program. It returns nil if there is no
// good pair, or if it could not be copied.
func (f *pairFiles) state() *PairState {
	if f.good == nil || f.good.cert.Name() != copyName || f.good.key.Name() != copyName {
		return nil
	}
	return &PairState{CertFD: int(f.good.cert.Fd()), KeyFD: int(f.good.key.Fd()), Serial: f.serial}
}

// resumePair takes over the last good pair of the former program, because the files may
// have become unusable since the preflight.
func (t *Tunnel) resumePair(ps *PairState) error {
	for _, fd := range []int{ps.CertFD, ps.KeyFD} {
		if err := InheritedCopy(fd); err != nil {
			return fmt.Errorf("descriptor %d: %w", fd, err)
		}
	}
	if ps.CertFD == ps.KeyFD {
		return errors.New("the key is missing")
	}
	unix.CloseOnExec(ps.CertFD)
	unix.CloseOnExec(ps.KeyFD)
	o := &openPair{serial: ps.Serial, cert: os.NewFile(uintptr(ps.CertFD), copyName), key: os.NewFile(uintptr(ps.KeyFD), copyName)}
	if t.options.CertFile == "" {
		o.close()
		return nil
	}
	certPEM, err := readBounded(o.cert)
	if err == nil {
		o.described, err = describe(certPEM)
	}
	if err != nil {
		o.close()
		return err
	}
	t.pair.serial, t.pair.good = ps.Serial, o
	return nil
}

// InheritedCopy returns nil if a descriptor is a copy of a certificate or key that the
// former program made. Otherwise the error says what it is.
func InheritedCopy(fd int) error {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if err != nil {
		return err
	}
	if flags&unix.FD_CLOEXEC != 0 {
		return errors.New("it is this process's own")
	}
	if name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err != nil || !strings.HasPrefix(name, "/memfd:"+copyName+" ") {
		return errors.New("it is another kind of file")
	}
	return nil
}

// copyOf copies f into memory and closes f. The copy is needed because somebody may
// overwrite the file during a renewal, and a process that is started then must get the
// former content. If f cannot be copied, copyOf returns f itself.
func copyOf(f *os.File) *os.File {
	fd, err := unix.MemfdCreate(copyName, unix.MFD_CLOEXEC)
	if err != nil {
		return f
	}
	for left := maxPEM + 1; left > 0; { // one byte more than allowed, so that the copy of a file that is too long is too long
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
	return os.NewFile(uintptr(fd), copyName)
}

// copyName names the copies, for lists of open files.
const copyName = "pair"

// pairFailed reports unusable files. It does not repeat the same reason.
func (t *Tunnel) pairFailed(err error) {
	t.mu.Lock()
	known := t.pair.err != nil && t.pair.err.Error() == err.Error()
	t.pair.err = err
	use := t.pair.inUse()
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
		if latest {
			t.pair.latest.refused, t.pair.latest.answered = true, true
		}
		latest = latest && t.pair.seen != "" // otherwise a later reason was reported
		t.mu.Unlock()
		if latest {
			t.pairFailed(fmt.Errorf("%s, %s: %w", t.options.CertFile, t.options.KeyFile, errors.New(plainText(m.text))))
		}
		return
	}
	t.mu.Lock()
	p.certified = true
	latest := t.pair.latest
	if latest != nil && latest.serial == m.id {
		latest.answered = true
	}
	news := latest != nil && latest.serial == m.id && t.pair.good != latest
	var said Certificate
	if news {
		t.pair.good.close()
		t.pair.good, t.pair.err = latest, nil
		if latest.described == nil {
			latest.described = &Pair{Names: strings.Fields(m.text), NotBefore: time.Unix(m.notBefore, 0), NotAfter: time.Unix(m.notAfter, 0)}
		}
		said.Pair = latest.described
	}
	t.poke()
	t.mu.Unlock()
	if news {
		t.options.Certificate(said)
	}
}
