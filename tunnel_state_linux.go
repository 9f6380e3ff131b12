//go:build linux && !portable_relay

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/golang/glog"
	"golang.org/x/sys/unix"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/regularfile"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/relay"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/tunnel"
)

// Connections with TLS survive an upgrade because the tunnel processes live on. The
// next program inherits the sessions' ends of the pairs and the control sockets.

// state describes the frozen tunnel. It is nil if there is nothing to hand over.
func (t *tunnels) state() *tunnel.State { return t.use().State() }

// resume takes over the tunnel processes of the former program. The caller calls
// begin after all sessions have taken their ends.
func (t *tunnels) resume(st *tunnel.State) {
	if st == nil {
		return
	}
	resumed, errs := tunnel.Resume(t.options(), st)
	for _, err := range errs {
		glog.Errorf("resume: %v", err)
	}
	if resumed == nil {
		return
	}
	t.mu.Lock()
	t.tunnel = resumed
	if pair := resumed.Pair(); pair != nil {
		t.reportedCert = &tunnel.Certificate{Pair: pair} // so that a report of the same one is no news
	}
	t.mu.Unlock()
}

// begin lets the tunnel go on, after the sessions have taken their ends.
func (t *tunnels) begin() {
	t.use().Begin()
	go t.prepareInBackground() // the former program may have had no certificate
}

// prepareInBackground reads the certificate's files while miners are already served.
func (t *tunnels) prepareInBackground() {
	if t.manager.config.TLSCertFile == "" {
		return
	}
	if _, err := t.prepare(); err != nil {
		glog.Errorf("tunnel: %v", err)
	}
}

// endAll ends all tunnel processes, because the next program cannot take them over. If
// the upgrade fails after that, replace lets this program start new ones.
func (t *tunnels) endAll() { t.use().Close() }

func (t *tunnels) replace() {
	fresh, err := tunnel.New(t.options())
	if err != nil {
		glog.Errorf("tunnel: %v", err)
		return
	}
	t.mu.Lock()
	t.tunnel = fresh
	t.mu.Unlock()
	go t.prepareInBackground()
}

// endState describes the tunnel end of a socket. It is nil for a TCP connection. The
// tunnel and the loops must be frozen.
func (l *sessionLoop) endState(sock *relay.Socket) *tunnelState {
	if !sock.Carried() {
		return nil
	}
	e := l.ends[sock]
	if e == nil || e.ending != nil || e.conn == nil {
		return &tunnelState{} // the connection has ended, and its session is told of that soon
	}
	ref := e.conn.Ref()
	st := &tunnelState{Process: ref.Process, ID: ref.ID, Version: e.version}
	if e.peer.IsValid() {
		st.Peer = e.peer.String()
	}
	return st
}

// takeEnd makes a restored socket the end that st describes. If the tunnel does not
// know the connection, the socket soon reports that it has ended.
func (s *Session) takeEnd(sock *relay.Socket, st *tunnelState, pool bool) {
	if st == nil {
		return
	}
	sock.SetCarried()
	e := &tunnelEnd{tunnels: s.manager.tunnels, session: s, socket: sock, pool: pool, version: st.Version}
	e.peer, _ = netip.ParseAddrPort(st.Peer)
	if e.conn = e.tunnels.use().Adopt(tunnel.Ref{Process: st.Process, ID: st.ID}, e); e.conn != nil {
		s.loop.keepEnd(e)
	}
}

// isPair reports whether a descriptor of the session is an end of a socket pair.
func (ss *sessionState) isPair(fd int) bool {
	return fd == ss.ClientConnFD && ss.MinerTunnel != nil || fd == ss.ServerConnFD && ss.PoolTunnel != nil ||
		slices.ContainsFunc(ss.Drains, func(d linkState) bool { return d.FD == fd && d.Tunnel != nil })
}

// withoutTLS removes the connections with TLS from a state, for a program that cannot
// take them over. Miners that use no TLS themselves but lose their link get a new one.
func (st *runtimeState) withoutTLS() {
	st.Tunnel = nil
	st.SessionDatas = slices.DeleteFunc(st.SessionDatas, func(ss sessionState) bool { return ss.MinerTunnel != nil })
	st.Descriptors = nil
	for i := range st.SessionDatas {
		ss := &st.SessionDatas[i]
		if ss.PoolTunnel != nil {
			ss.ServerConnFD, ss.PoolTunnel, ss.PoolPartial, ss.PoolUnsent = -1, nil, nil, nil
		}
		for j := range ss.Drains {
			if d := &ss.Drains[j]; d.Tunnel != nil {
				d.FD, d.Tunnel, d.Partial, d.Unsent = -1, nil, nil, nil
			}
		}
		st.Descriptors = append(st.Descriptors, ss.descriptors()...)
	}
}

// securedConnections counts the connections with TLS of all sessions.
func (m *sessionManager) securedConnections() (miners, pools int) {
	for _, l := range m.loops {
		l.Call(func() {
			for _, e := range l.ends {
				switch {
				case e.version == 0 || e.socket.Closed():
				case e.pool:
					pools++
				default:
					miners++
				}
			}
		})
	}
	return miners, pools
}

// dropTLSFile is appended to the path of the state file. The file of that name allows
// one upgrade that loses the connections with TLS.
const dropTLSFile = ".drop-tls"

// mayLoseTLS refuses a program that cannot take over tunnel processes while there
// are connections with TLS, unless the operator has allowed it.
func (u *upgrader) mayLoseTLS(program *newProgram) error {
	if program.takesTunnels {
		return nil
	}
	miners, pools := u.manager.securedConnections()
	if miners+pools == 0 {
		return nil
	}
	allowed := u.state + dropTLSFile
	remove := func() (struct{}, error) { return struct{}{}, os.Remove(allowed) }
	if _, err := inStep(u, allowed, regularfile.Wait, remove, nil); err == nil {
		glog.Warningf("upgrade to a build that cannot take over TLS: %d miners with TLS have to connect again, and %d pool links are replaced", miners, pools)
		return nil
	}
	return fmt.Errorf("%s cannot take over connections with TLS, and there are %d of miners and %d of pools; to lose them, create the file %s and try again",
		u.binary, miners, pools, allowed)
}

// isOwnPair reports whether a descriptor is a Unix socket that the former program
// created, such as an end of a pair or a control socket. The process ID has stayed the
// same, and sockets that a supervisor left open carry another one.
func isOwnPair(fd int) bool {
	if tunnel.InheritedPair(fd) != nil && tunnel.InheritedControl(fd) != nil {
		return false
	}
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	return err == nil && int(peer.Pid) == os.Getpid()
}

// reapFormer waits at most a second until the former program's tunnel processes, whose
// control sockets were closed, have ended. This program has no other child yet.
func reapFormer() {
	for limit := time.Now().Add(time.Second); time.Now().Before(limit); {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if errors.Is(err, unix.ECHILD) {
			return
		}
		if pid == 0 {
			time.Sleep(time.Millisecond)
		}
	}
}
