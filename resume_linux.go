//go:build linux && !portable_relay

package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang/glog"
	"golang.org/x/sys/unix"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/relay"
)

// This file has the second half of an upgrade, in which the new process takes over what
// the state file of the former process names. The first half is in upgrade_linux.go.

// resume takes over all sessions of st. The loops must not be running. If a session
// cannot be resumed, that is logged and does not affect others. Each loop's sessions are
// taken over on a goroutine of their own, to keep the pause short.
func (m *sessionManager) resume(st *runtimeState) {
	m.ids.setServerID(st.ServerID)
	m.tunnels.resume(st.Tunnel)
	m.rates.resume(st.Rates, st.pause(time.Now(), monotonicClock()))
	m.former = maps.Clone(m.pools)
	if st.Config != nil {
		former, err := newPools(st.Config, m.health)
		if err != nil {
			glog.Errorf("resume: pools of the former configuration: %v", err)
		} else {
			m.former = former
			m.rates.adopt(former)
		}
	}
	var lost atomic.Int64
	var taken sync.WaitGroup
	for first, l := range m.loops {
		taken.Go(func() {
			for i := first; i < len(st.SessionDatas); i += len(m.loops) {
				if err := m.resumeOne(l, st, &st.SessionDatas[i]); err != nil {
					m.limitedLog.Errorf("session not resumed", "resume: %v", err)
					lost.Add(1)
				}
			}
		})
	}
	taken.Wait()
	m.accounts.resumeSwitches(st.Switches, m.pools, st.pause(time.Now(), monotonicClock()))
	m.ids.setNextIndex(st.NextIndex)
	m.resumed = st
	m.lostInUpgrade = st.unreadable + st.dropped + int(lost.Load())
	m.memory.burst = int64(len(st.SessionDatas)) // resumed sessions leave as much garbage as new ones
}

// resumeOne takes over the session that ss describes.
func (m *sessionManager) resumeOne(l *sessionLoop, st *runtimeState, ss *sessionState) error {
	s, err := resumeSession(m, l, ss, st.Version)
	if err != nil {
		return err
	}
	peer, _ := l.peerAddr(s.miner)
	m.admitResumed(s, peer.Addr())
	m.add(s)
	if s.link != nil {
		m.resumeAccount(s, st, ss)
	}
	return nil
}

// startResumed starts the resumed sessions. The loops must be running.
func (m *sessionManager) startResumed() {
	for _, l := range m.loops {
		l.Post(func() {
			for _, s := range l.allSessions() {
				s.begin()
			}
		})
	}
}

// logResumed logs the upgrade in one summary line, with its times, and then the
// coins that are no longer in the configuration.
func (m *sessionManager) logResumed(now time.Time, clock int64) {
	st := m.resumed
	phases := make(map[string]int)
	gone := make(map[string]int)
	for _, ss := range st.SessionDatas {
		phase := ss.Phase
		if phase == "" {
			phase = phaseRelaying.String()
		}
		phases[phase]++
		if ss.MiningCoin != "" && m.pools[ss.MiningCoin] == nil {
			gone[ss.MiningCoin]++
		}
	}
	var b strings.Builder
	for _, name := range phaseNames {
		if n := phases[name]; n > 0 {
			fmt.Fprintf(&b, " %s=%d", name, n)
		}
	}
	lasted, pause := st.pause(now, clock), "unknown"
	if lasted >= 0 {
		pause = fmt.Sprint(lasted.Milliseconds())
	}
	kept := st.unreadable + st.dropped + len(st.SessionDatas) - m.lostInUpgrade
	m.monitor.resumed(st, kept, m.lostInUpgrade, now, lasted, m.accounts.underWay)
	glog.Infof("upgraded version=%s sessions=%d lost=%d%s pause_ms=%s", version, kept, m.lostInUpgrade, b.String(), pause)
	for coin, miners := range gone {
		m.limitedLog.Warningf("coin gone", "coin %q is no longer in StratumServerMap: %s at its pool until another coin is set", coin, minersStay(miners))
	}
	st.SessionDatas = nil // so that its memory can be freed
}

// monotonicClock reads the system's monotonic clock in nanoseconds. It returns
// 0 if that fails.
func monotonicClock() int64 {
	var at unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &at); err != nil {
		return 0
	}
	return at.Nano()
}

// nameProcess restores the process's name as ps shows it, because exec by descriptor has
// set it to a number.
func nameProcess() {
	if err := os.WriteFile("/proc/self/comm", []byte(filepath.Base(os.Args[0])), 0); err != nil {
		glog.Warningf("process name: %v", err)
	}
}

// resume takes the place of the process that wrote the state file, and serves until a
// signal ends it. Keeping the miners connected comes first, so problems with files or
// listeners are only logged.
func (d *daemon) resume(configPath, runtimePath string) error {
	// Garbage can wait until the miners are served.
	percent := debug.SetGCPercent(-1)
	collect := sync.OnceFunc(func() { debug.SetGCPercent(percent) })
	defer collect()
	nameProcess()
	began := monotonicClock()
	st, err := readRuntimeState(runtimePath)
	removeState(runtimePath) // it holds passwords and is not needed again
	if err != nil {
		glog.Errorf("resume: %v; starting anew, miners have to connect again", err)
		if d.config, err = loadConfig(configPath); err == nil {
			closeInherited(d.config.ListenAddr)
		}
		collect()
		return d.start(configPath)
	}
	read := monotonicClock()
	if filepath.IsAbs(st.Binary) {
		d.binary = st.Binary
	}
	if d.config, err = loadConfig(configPath); err != nil {
		if err = d.lastGoodConfig(st, err); err != nil {
			return err
		}
	}
	if st.ChainType != "" && d.config.ChainType != st.ChainType {
		err := fmt.Errorf("ChainType is %q, was %q", d.config.ChainType, st.ChainType)
		if err = d.lastGoodConfig(st, err); err != nil {
			return err
		}
	}
	if st.unreadable > 0 {
		glog.Errorf("resume: runtime file %s is damaged: %d sessions could not be read", runtimePath, st.unreadable)
	}
	d.dropUnsound(st)
	if err = d.prepare(st); err != nil {
		if err = d.lastGoodConfig(st, err); err == nil {
			err = d.prepare(st)
		}
	}
	if err != nil {
		return err
	}
	defer d.coins.Close()
	defer d.manager.openEvents(st.Events)()
	prepared := monotonicClock()
	st.notAfter(time.Now())
	d.manager.resume(st)
	d.manager.start()
	relaying, clock := time.Now(), monotonicClock()
	defer d.manager.close()
	collect()
	d.manager.sizes.start(sizesFile, st.Sizes)
	d.manager.tunnels.begin()
	d.manager.startResumed() // before the coin source starts, so that no coin changes earlier
	d.coins.Start(d.manager)
	ln, err := d.listen(st)
	if err != nil {
		return err
	}
	d.manager.serve(ln)
	d.manager.logResumed(relaying, clock)
	d.recordConfig(st.Config)
	if frozen := st.FrozenClock; frozen != 0 {
		// These times use the same clock as frozen_ms in the line "upgrade
		// exec".
		since := func(at int64) int64 { return (at - frozen) / int64(time.Millisecond) }
		glog.V(1).Infof("upgrade steps began_ms=%d read_ms=%d prepared_ms=%d relaying_ms=%d", since(began), since(read), since(prepared), since(clock))
	}
	if d.status, err = startStatus(d.config, d.manager); err != nil {
		glog.Errorf("resume: %v; going on without it", err)
	}
	defer d.status.close()
	return d.run()
}

// dropUnsound drops the sessions of st whose descriptors may belong to something else. It
// must be called before any descriptor of st is used.
func (d *daemon) dropUnsound(st *runtimeState) {
	const mostLines = 20
	dropped := checkDescriptors(st, d.config.ListenAddr)
	for i, err := range dropped {
		if i == mostLines {
			glog.Errorf("resume: %d more sessions like these", len(dropped)-i)
			break
		}
		glog.Errorf("resume: %v", err)
	}
	st.dropped = len(dropped)
	if st.ListenAddr != "" {
		unix.CloseOnExec(st.ListenFD) // a tunnel process that is started before listen must not inherit it
	}
}

// listen takes over the former process's listener. If the configured address
// has changed, it opens a new listener before it closes that one; if that
// fails, the former one stays in use.
func (d *daemon) listen(st *runtimeState) (*relay.Listener, error) {
	want := d.config.ListenAddr
	if st.ListenAddr == "" {
		return d.listenAgain()
	}
	unix.CloseOnExec(st.ListenFD)
	err := unix.SetNonblock(st.ListenFD, true)
	var former *relay.Listener
	if err == nil {
		former, err = relay.ListenerFromFD(st.ListenFD)
	}
	if err != nil {
		glog.Errorf("resume: listener of the former process: %v; opening another", err)
		unix.Close(st.ListenFD)
		return d.listenAgain()
	}
	if want == st.ListenAddr {
		return former, nil
	}
	ln, err := listen(want)
	if err != nil {
		glog.Errorf("resume: %v; STILL LISTENING AT THE FORMER ADDRESS %s", err, st.ListenAddr)
		d.config.ListenAddr = st.ListenAddr
		return former, nil
	}
	// Connections that wait at the old address are served before it closes.
	for {
		h, addr, err := former.AcceptWaiting()
		if err != nil {
			break
		}
		d.manager.newConnection(h, addr)
	}
	former.Close()
	return ln, nil
}

// listenAgain opens a listener after an upgrade from an older switcher, which has closed
// its own. If the address is in use, it keeps trying, because the end of the process would
// disconnect the miners.
func (d *daemon) listenAgain() (*relay.Listener, error) {
	const retry = 500 * time.Millisecond
	logged := false
	for {
		ln, err := listen(d.config.ListenAddr)
		if err == nil {
			return ln, nil
		}
		if !logged {
			glog.Errorf("resume: %v; NO NEW MINERS until this works, still trying", err)
			logged = true
		}
		select {
		case sig := <-d.stop:
			return nil, fmt.Errorf("stopped by %v: %w", sig, err)
		case <-time.After(retry):
		}
	}
}
