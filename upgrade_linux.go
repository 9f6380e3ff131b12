//go:build linux && !portable_relay

package main

import (
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

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/coins"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/journal"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/regularfile"
)

// Hot upgrade: on SIGUSR2 the process replaces itself with the binary that is now on
// disk. It keeps its pid and all connections. Until exec succeeds, every step can be
// undone, and is undone on failure, so a bad binary or configuration changes nothing.
//
//	preflight → stop accepting → freeze the loops → write the state → exec
//
// The listener stays open meanwhile, so that new connections wait in the
// kernel. The preflight is in preflight_linux.go; resume_linux.go has what the
// new process does.

// upgradeSystem holds the system calls of an upgrade, so that tests can make
// each step fail.
type upgradeSystem struct {
	exec  func(path string, args, env []string) error
	write func(path string, state [][]byte) error
	now   func() time.Time
}

// upgrader performs upgrades, one at a time. The goroutine that waits for
// signals owns it.
type upgrader struct {
	manager         *sessionManager
	config          *Config
	log             *processLog
	binary          string   // the path that this program was started by; a deploy puts the new file there
	args            []string // this process's arguments, without the program's name
	state           string   // path of runtime.json
	system          upgradeSystem
	stop            chan os.Signal // receives SIGTERM and SIGINT
	upgradeRequests chan os.Signal // receives SIGUSR2
	hangups         chan os.Signal // receives SIGHUP; may be nil
	coins           coins.Source
	limitedLogs     []*journal.LogLimits
	files           fileSteps
}

// maxServerIDClaims bounds the claims of former processes that are passed on. The
// sessions of older ones have expired.
const maxServerIDClaims = 16

// newUpgrader makes the upgrader and remembers the path of the binary. It must be called
// at start, before a deploy can change what that path would resolve to.
func newUpgrader(d *daemon) (*upgrader, error) {
	binary, err := os.Args[0], error(nil)
	if d.binary != "" {
		binary = d.binary // os.Args[0] is the program that the script there has run
	}
	if !strings.Contains(binary, "/") {
		binary, err = exec.LookPath(binary)
	}
	// The path is not checked: in the middle of a deploy there may be no file.
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
	limitedLogs := []*journal.LogLimits{&d.manager.limitedLog}
	if zk, ok := d.coins.(*coins.ZooKeeper); ok {
		limitedLogs = append(limitedLogs, zk.LogLimits())
	}
	return &upgrader{
		manager: d.manager, config: d.config, log: d.log, binary: binary, args: d.args, state: state,
		stop: d.stop, upgradeRequests: d.upgradeRequests, hangups: d.hangups,
		system: upgradeSystem{exec: syscall.Exec, write: writeStateFile, now: time.Now},
		coins:  d.coins, limitedLogs: limitedLogs,
	}, nil
}

func notifyUpgrade(c chan os.Signal) { signal.Notify(c, syscall.SIGUSR2) }

// upgrade returns only if the upgrade was refused or undone, with the reason.
func (u *upgrader) upgrade() error {
	began := u.system.now()
	glog.Infof("upgrade begins binary=%s version=%s", u.binary, version)
	raiseDescriptorLimit() // it may have been lowered since the start
	if u.files.stuck.Load() > 0 {
		return errors.New("refused: a file system that did not answer the upgrade before still does not")
	}
	program, err := inStep(u, u.binary, regularfile.Wait, func() (*newProgram, error) { return openProgram(u.binary) }, (*newProgram).close)
	if err != nil {
		return fmt.Errorf("refused: %w", err)
	}
	defer program.close()
	if err := u.preflight(program); err != nil {
		return fmt.Errorf("refused: %w", err)
	}
	if err := u.mayLoseTLS(program); err != nil {
		return fmt.Errorf("refused: %w", err)
	}
	glog.V(1).Infof("upgrade preflight done ms=%d", u.system.now().Sub(began).Milliseconds())

	for _, l := range u.limitedLogs {
		l.Flush()
	}
	u.manager.tunnels.failures.Flush()
	// What is written now does not have to be written while nothing is relayed.
	u.log.drain(logDrainTime - logFrozenTime)
	u.manager.monitor.file.Drain(eventsDrainTime)
	if err := u.log.mayReplace(); err != nil {
		return fmt.Errorf("refused: %w", err)
	}

	// Collecting the garbage of an upgrade would only make the pause longer.
	percent := debug.SetGCPercent(-1)
	u.manager.freeze()
	err = u.replace(program)
	u.manager.thaw()
	if zk, ok := u.coins.(*coins.ZooKeeper); ok {
		zk.KeepServerID()
	}
	debug.SetGCPercent(percent)
	return fmt.Errorf("undone: %w", err)
}

// replace writes the state and becomes the new program. It returns only if that fails,
// and has then restored everything but the freeze.
func (u *upgrader) replace(program *newProgram) error {
	st, fds := u.capture(program)
	captured := u.system.now()
	state, err := encodeState(st) // it reads sessions, which change as soon as this returns
	if err != nil {
		return fmt.Errorf("encode state: %w", err)
	}
	write := func() (string, error) { return u.state, u.system.write(u.state, state) }
	if _, err := inStep(u, u.state, stateFileWait, write, removeState); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	written := u.system.now()
	defer func() {
		remove := func() (struct{}, error) { return struct{}{}, os.Remove(u.state) }
		_, _ = inStep(u, u.state, stateFileWait, remove, nil)
	}()
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

	// From here on SIGUSR1, SIGUSR2 and SIGHUP are ignored. Otherwise they would end
	// the new program before it can handle them, or the shell of a script that runs it.
	// SIGTERM and SIGINT get their default effect.
	signal.Ignore(syscall.SIGUSR2, syscall.SIGHUP, syscall.SIGUSR1)
	defer func() {
		signal.Reset(syscall.SIGUSR1)
		signal.Notify(u.upgradeRequests, syscall.SIGUSR2)
		if u.hangups != nil {
			signal.Notify(u.hangups, syscall.SIGHUP)
		}
	}()
	defer defaultActions(syscall.SIGTERM, syscall.SIGINT)()
	time.Sleep(handlerGrace)
	signal.Stop(u.stop) // unlike Reset, Stop loses no signal that has already come
	defer signal.Notify(u.stop, syscall.SIGTERM, syscall.SIGINT)
	select {
	case sig := <-u.stop:
		u.stop <- sig // for its receiver
		return fmt.Errorf("stopped by %v", sig)
	default:
	}
	unchanged := func() (struct{}, error) { return struct{}{}, program.unchanged() }
	if _, err := inStep(u, u.binary, regularfile.Wait, unchanged, nil); err != nil {
		return err
	}
	if !program.takesTunnels {
		u.manager.tunnels.endAll()
		defer u.manager.tunnels.replace()
	}
	return u.system.exec(program.path, u.nextArgs(), append(os.Environ(), u.log.handover()...))
}

// handlerGrace is how long a thread that was in the runtime's signal handler
// when the handler was removed gets to deliver its signal.
const handlerGrace = time.Millisecond

// defaultActions makes the kernel itself end the process on these signals, and
// returns a function that undoes that. The runtime's handler would end the
// process too if there is no receiver, but not at once: an exec in another
// thread would end the handler's thread first, and the signal would be lost.
func defaultActions(signals ...syscall.Signal) (undo func()) {
	// The kernel's struct sigaction. Its layout does not matter: all zeros is
	// the default action, and the old value is only restored.
	type action [64]byte
	const setSize = 8 // of its signal set
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

// nextArgs returns the new process's arguments: those of this process, and the
// state file.
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

// freeze stops accepting and the loops. All state stays as it is.
func (m *sessionManager) freeze() {
	m.tunnels.use().Freeze() // first, so that the loops still handle what it has reported
	m.frozenAt, m.frozenClock = time.Now(), monotonicClock()
	m.listener.Pause()
	m.accepted.Wait()
	m.stopLoops()
	m.frozen.Store(true)
}

// thaw undoes freeze.
func (m *sessionManager) thaw() {
	m.frozen.Store(false)
	m.accounts.resumeCosts()
	for _, l := range m.loops {
		l.Start()
	}
	m.tunnels.use().Thaw()
	m.listener.Resume()
	m.accepted.Go(m.acceptMiners)
}

// capture returns the whole state for the next process, and the descriptors that it
// inherits. The loops must be stopped.
func (u *upgrader) capture(program *newProgram) (*runtimeState, []int) {
	m := u.manager
	fds := []int{m.listener.FD()}
	switches := m.accounts.switches() // before the events are drained, because these report finished switches
	m.monitor.file.Drain(logFrozenTime)
	st := &runtimeState{
		Action:      runtimeAction,
		Version:     runtimeVersion,
		FrozenAt:    m.frozenAt,
		FrozenClock: m.frozenClock,
		ServerID:    m.ids.server(),
		ChainType:   u.config.ChainType,
		Config:      u.config,
		ListenFD:    m.listener.FD(),
		ListenAddr:  u.config.ListenAddr,
		NextIndex:   m.ids.nextIndex(),
		Binary:      u.binary,
		Monitor:     m.monitor.state(),
		Rates:       m.rates.state(),
		Sizes:       m.sizes.state(),
		Switches:    switches,
		Events:      m.monitor.file.State(),
		Tunnel:      m.tunnels.state(),
	}
	if zk, ok := u.coins.(*coins.ZooKeeper); ok {
		st.ServerIDOwner, st.ServerIDClaims = zk.PassServerIDOn()
	}
	if m.resumed != nil {
		st.Upgrades = m.resumed.Upgrades
		if st.ServerIDOwner == 0 {
			// The node is not known to be taken over yet, so it may still belong to a
			// former process.
			st.ServerIDOwner = m.resumed.ServerIDOwner
			claims := append(slices.Clone(m.resumed.ServerIDClaims), st.ServerIDClaims...)
			st.ServerIDClaims = claims[max(0, len(claims)-maxServerIDClaims):]
		}
	}
	st.Upgrades++
	st.Wanted, st.Switched = m.accounts.state()
	m.mu.Lock()
	defer m.mu.Unlock()
	st.SessionDatas = make([]sessionState, len(m.sessions))
	parts := make([][]int, processors(len(m.sessions)))
	inParallel(len(parts), len(m.sessions), func(part, from, to int) {
		for i := from; i < to; i++ {
			st.SessionDatas[i] = m.sessions[i].state(&parts[part])
		}
	})
	st.Descriptors = slices.Concat(parts...)
	if !program.takesTunnels {
		st.withoutTLS()
	}
	if st.Tunnel != nil {
		fds = append(fds, st.Tunnel.Descriptors()...)
	}
	return st, append(fds, st.Descriptors...)
}
