//go:build linux && !portable_relay

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"github.com/golang/glog"
	"golang.org/x/sys/unix"
)

// Hot upgrade: on SIGUSR2 the process replaces itself by its binary as it is
// on disk now, in the same pid and with every connection. Until exec succeeds
// everything can be undone, and is: a bad binary or configuration changes
// nothing.
//
//	preflight → stop accepting → freeze the loops → write the state → exec
//
// The listener stays open meanwhile, so that new connections wait in the
// kernel. resume_linux.go is what the new process does.

const (
	preflightTimeout = 10 * time.Second

	// maxPreflightOutput bounds what of a failed preflight's output is kept.
	maxPreflightOutput = 4096

	// upgradeFDs is how many descriptors an upgrade may need for a moment.
	upgradeFDs = 16
)

// upgradeSystem is what an upgrade needs of the world, so that tests can have
// it fail at each step.
type upgradeSystem struct {
	exec  func(path string, args, env []string) error
	write func(path string, st *runtimeState) error
	now   func() time.Time
}

// upgrader performs upgrades, one at a time. The goroutine that waits for
// signals owns it.
type upgrader struct {
	manager       *sessionManager
	config        *Config
	binary        string   // as started: a deploy by rename puts the new file there
	args          []string // of this process, without the program's name
	state         string   // path of runtime.json
	system        upgradeSystem
	stop          chan os.Signal // where the signals that end the process come
	again         chan os.Signal // where SIGUSR2 comes
	serverIDOwner func() int64
}

// newUpgrader notes where the binary is. It must be called at start, before
// a deploy can change that.
func newUpgrader(d *daemon) (*upgrader, error) {
	binary, err := os.Args[0], error(nil)
	if !strings.Contains(binary, "/") {
		binary, err = exec.LookPath(binary)
	}
	// A path is taken as it is: in the middle of a deploy there may be no file.
	if err == nil {
		binary, err = filepath.Abs(binary)
	}
	if err != nil {
		return nil, fmt.Errorf("own binary: %w", err)
	}
	state, err := filepath.Abs(runtimeFile)
	if err != nil {
		return nil, err
	}
	owner := func() int64 { return 0 }
	if zk, ok := d.coins.(*zkCoinSource); ok {
		owner = func() int64 {
			_, id := zk.ServerIDNode()
			return id
		}
	}
	return &upgrader{
		manager: d.manager, config: d.config, binary: binary, args: d.args, state: state, stop: d.stop, again: d.again,
		system:        upgradeSystem{exec: syscall.Exec, write: writeRuntimeState, now: time.Now},
		serverIDOwner: owner,
	}, nil
}

func notifyUpgrade(c chan os.Signal) { signal.Notify(c, syscall.SIGUSR2) }

// upgrade returns only if it was refused or undone, with the reason.
func (u *upgrader) upgrade() error {
	began := u.system.now()
	glog.Infof("upgrade begins binary=%s version=%s", u.binary, version)
	raiseDescriptorLimit() // somebody may have lowered it
	file, err := os.Open(u.binary)
	if err != nil {
		return fmt.Errorf("refused: %w", err)
	}
	defer file.Close()
	// The same descriptor is run twice: what passed the preflight is what is
	// started, whatever happens to the path.
	path := fmt.Sprintf("/proc/self/fd/%d", file.Fd())
	if err := u.preflight(file); err != nil {
		return fmt.Errorf("refused: %w", err)
	}
	glog.V(1).Infof("upgrade preflight done ms=%d", u.system.now().Sub(began).Milliseconds())

	// To collect the garbage of an upgrade would only make the pause longer.
	percent := debug.SetGCPercent(-1)
	u.manager.freeze()
	err = u.replace(path)
	u.manager.thaw()
	debug.SetGCPercent(percent)
	return fmt.Errorf("undone: %w", err)
}

// replace writes the state and becomes the new program. It returns only if
// that fails, with everything as it was.
func (u *upgrader) replace(path string) error {
	st, fds := u.capture()
	captured := u.system.now()
	if err := u.system.write(u.state, st); err != nil {
		return err
	}
	written := u.system.now()
	defer os.Remove(u.state)
	defer func() {
		for _, fd := range fds {
			unix.CloseOnExec(fd)
		}
	}()
	for _, fd := range fds {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("descriptor %d: %w", fd, err)
		}
	}
	glog.V(1).Infof("upgrade exec sessions=%d captured_ms=%d written_ms=%d frozen_ms=%d", len(st.SessionDatas),
		captured.Sub(st.FrozenAt).Milliseconds(), written.Sub(st.FrozenAt).Milliseconds(), u.system.now().Sub(st.FrozenAt).Milliseconds())
	glog.Flush()

	// A second SIGUSR2 before the new program is ready for it would end it.
	// One that asks to stop has its plain effect from here on.
	signal.Ignore(syscall.SIGUSR2)
	defer defaultActions(syscall.SIGTERM, syscall.SIGINT)()
	time.Sleep(handlerGrace)
	signal.Stop(u.stop) // unlike Reset, this loses no signal that has come
	defer signal.Notify(u.stop, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Notify(u.again, syscall.SIGUSR2)
	select {
	case sig := <-u.stop:
		u.stop <- sig // for its receiver
		return fmt.Errorf("stopped by %v", sig)
	default:
		return u.system.exec(path, u.nextArgs(), os.Environ())
	}
}

// handlerGrace is for a thread that was in the runtime's signal handler when
// the handler was taken away, to tell the signal's receiver.
const handlerGrace = time.Millisecond

// defaultActions has the kernel itself end the process on these signals, and
// returns what undoes that. Without a receiver the runtime's handler would end
// the process too, but it takes a moment to; exec in another thread meanwhile
// ends the handler's thread, and the signal would be lost.
func defaultActions(signals ...syscall.Signal) (undo func()) {
	// The kernel's struct sigaction, whatever its layout: zeros are the default
	// action, and what was there is only put back.
	type action [64]byte
	const setSize = 8 // of a signal set in it
	former := make(map[syscall.Signal]*action)
	for _, sig := range signals {
		var plain, was action
		if _, _, err := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&plain)), uintptr(unsafe.Pointer(&was)), setSize, 0, 0); err == 0 {
			former[sig] = &was
		}
	}
	return func() {
		for sig, was := range former {
			unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(was)), 0, setSize, 0, 0)
		}
	}
}

// nextArgs are the new process's arguments: this one's, and the state file.
func (u *upgrader) nextArgs() []string {
	args := append([]string{os.Args[0]}, withoutFlag(u.args, "runtime")...)
	return append(args, "-runtime="+u.state)
}

// withoutFlag drops a flag that takes a value.
func withoutFlag(args []string, name string) []string {
	var kept []string
	for i := 0; i < len(args); i++ {
		flag := strings.TrimPrefix(strings.TrimPrefix(args[i], "-"), "-")
		switch {
		case flag == args[i]:
			kept = append(kept, args[i])
		case flag == name:
			i++ // its value
		case strings.HasPrefix(flag, name+"="):
		default:
			kept = append(kept, args[i])
		}
	}
	return kept
}

// preflight runs the new binary with -check, and sees that the new process
// will be able to open what it needs.
func (u *upgrader) preflight(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
		return fmt.Errorf("%s is not an executable file", u.binary)
	}
	// A script would run here and not there: its interpreter finds the
	// descriptor closed.
	magic := make([]byte, 4)
	if _, err := file.ReadAt(magic, 0); err != nil || string(magic) != "\x7fELF" {
		return fmt.Errorf("preflight of %s: not an ELF program: exec format error", u.binary)
	}
	if err := checkDescriptorRoom(); err != nil {
		return err
	}
	if err := u.checkStateDirectory(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), preflightTimeout)
	defer cancel()
	defer u.cancelOnStop(ctx, cancel)()
	from := upgradeContext{StateVersion: runtimeVersion, ListenAddr: u.config.ListenAddr, ChainType: u.config.ChainType}
	if u.config.EnableHTTPDebug {
		from.HTTPAddr = u.config.HTTPDebugListenAddr
	}
	env, err := json.Marshal(from)
	if err != nil {
		return err
	}
	var output limitedBuffer
	// In the child the descriptor gets a number of its own: its number here may
	// be one that the child uses for a pipe on its way to exec.
	cmd := exec.CommandContext(ctx, "/proc/self/fd/3", append(withoutFlag(u.args, "runtime"), "-check")...)
	cmd.ExtraFiles = []*os.File{file}
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), upgradeContextVariable+"="+string(env))
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.WaitDelay = time.Second
	// A new process group: a signal from the terminal is not for it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := runPreflight(ctx, cmd); err != nil {
		if errors.Is(err, errPreflightStuck) {
			return fmt.Errorf("preflight of %s: %w", u.binary, err)
		}
		switch ctx.Err() {
		case context.DeadlineExceeded:
			err = fmt.Errorf("not done within %v", preflightTimeout)
		case context.Canceled:
			err = errors.New("a signal ended it")
		}
		return fmt.Errorf("preflight of %s: %w: %s", u.binary, err, bytes.TrimSpace(output.b))
	}
	return nil
}

// cancelOnStop calls cancel when a signal to stop comes, and leaves the signal
// for its receiver. The function returned ends that.
func (u *upgrader) cancelOnStop(ctx context.Context, cancel func()) func() {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case sig := <-u.stop:
			cancel()
			select {
			case u.stop <- sig:
			default: // full of others like it
			}
		case <-done:
		}
	}()
	return func() { close(done); <-ended }
}

// limitedBuffer keeps the beginning of what is written to it.
type limitedBuffer struct{ b []byte }

func (l *limitedBuffer) Write(p []byte) (int, error) {
	l.b = append(l.b, p[:min(len(p), maxPreflightOutput-len(l.b))]...)
	return len(p), nil
}

// checkStateDirectory finds out before anything is stopped whether the state
// can be written, not how much of it.
func (u *upgrader) checkStateDirectory() error {
	f, err := os.CreateTemp(filepath.Dir(u.state), filepath.Base(u.state)+".*")
	if err != nil {
		return fmt.Errorf("the state file can not be written: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(make([]byte, 4096))
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("the state file can not be written: %w", err)
	}
	return nil
}

// checkDescriptorRoom: with the limit lowered below what is open, the new
// process could keep its connections but open nothing else.
func checkDescriptorRoom() error {
	highest := 0
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range entries {
		var fd int
		if _, err := fmt.Sscan(e.Name(), &fd); err == nil {
			highest = max(highest, fd)
		}
	}
	if limit := descriptorLimit(); limit < len(entries)+upgradeFDs || limit <= highest+1 {
		return fmt.Errorf("limit of %d file descriptors is too low for the %d open ones (highest %d)", limit, len(entries), highest)
	}
	return nil
}

// freeze stops accepting and the loops. All state stays as it is.
func (m *sessionManager) freeze() {
	m.frozenAt, m.frozenClock = time.Now(), monotonicClock()
	m.listener.stop()
	m.accepted.Wait()
	for _, l := range m.loops {
		l.post(func() { l.stop = true })
	}
	for _, l := range m.loops {
		<-l.stopped
	}
}

// thaw goes on as if freeze had not been.
func (m *sessionManager) thaw() {
	for _, l := range m.loops {
		l.start()
	}
	m.listener.unstop()
	m.accepted.Go(m.acceptMiners)
}

// capture describes everything for the next process, and names the
// descriptors that it inherits.
func (u *upgrader) capture() (*runtimeState, []int) {
	m := u.manager
	fds := []int{m.listener.fd}
	st := &runtimeState{
		Action:        runtimeAction,
		Version:       runtimeVersion,
		FrozenAt:      m.frozenAt,
		FrozenClock:   m.frozenClock,
		ServerID:      m.ids.server(),
		ChainType:     u.config.ChainType,
		Config:        u.config,
		ListenFD:      m.listener.fd,
		ListenAddr:    u.config.ListenAddr,
		ServerIDOwner: u.serverIDOwner(),
		NextIndex:     m.ids.nextIndex(),
		Wanted:        make(map[string]string),
		Switched:      make(map[string]int64),
		Monitor:       m.monitor.state(),
		Sizes:         m.sizes.state(),
	}
	if m.resumed != nil {
		st.Upgrades = m.resumed.Upgrades
		if st.ServerIDOwner == 0 {
			// Not taken over yet: the node is still the former process's.
			st.ServerIDOwner = m.resumed.ServerIDOwner
		}
	}
	st.Upgrades++
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, a := range m.accounts {
		st.Wanted[name] = a.wanted
		if !a.lastSwitch.IsZero() {
			st.Switched[name] = a.lastSwitch.Unix()
		}
	}
	st.SessionDatas = make([]sessionState, len(m.sessions))
	parts := make([][]int, processors(len(m.sessions)))
	inParallel(len(parts), len(m.sessions), func(part, from, to int) {
		for i := from; i < to; i++ {
			st.SessionDatas[i] = m.sessions[i].state(&parts[part])
		}
	})
	return st, append(fds, slices.Concat(parts...)...)
}
