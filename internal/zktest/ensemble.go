package zktest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Ensemble is a group of servers that replicate each other. Each can be killed, paused
// and restarted separately.
type Ensemble struct{ Servers []*Server }

// StartEnsemble runs n servers and waits until all of them serve. Server i stores its data
// below dirs[i], which must exist, or below the directory for temporary files if there is
// no dirs[i].
func StartEnsemble(n int, dirs ...string) (*Ensemble, error) {
	if err := Installed(); err != nil {
		return nil, err
	}
	ports, err := freePorts(3 * n)
	if err != nil {
		return nil, err
	}
	var members strings.Builder
	// The limits are in ticks of 200 ms, so a follower that hangs is dropped after 5 s.
	members.WriteString("initLimit=50\nsyncLimit=25\n")
	for i := range n {
		fmt.Fprintf(&members, "server.%d=127.0.0.1:%d:%d\n", i+1, ports[n+i], ports[2*n+i])
	}
	e := &Ensemble{}
	failed := func(err error) (*Ensemble, error) {
		e.Close()
		return nil, err
	}
	for i := range n {
		parent := ""
		if i < len(dirs) {
			parent = dirs[i]
		}
		s, err := newServer(parent, ports[i], members.String())
		if err != nil {
			return failed(err)
		}
		e.Servers = append(e.Servers, s)
		if err := os.WriteFile(filepath.Join(s.dir, "myid"), []byte(strconv.Itoa(i+1)), 0o600); err != nil {
			return failed(err)
		}
		if err := s.Launch(); err != nil {
			return failed(err)
		}
	}
	if err := e.AwaitServing(); err != nil {
		return failed(err)
	}
	return e, nil
}

// Addrs returns the addresses to which clients connect, in the order of Servers.
func (e *Ensemble) Addrs() []string {
	var addrs []string
	for _, s := range e.Servers {
		addrs = append(addrs, s.Addr())
	}
	return addrs
}

// AwaitServing waits until all running servers serve. They only do so while more
// than half of all servers run.
func (e *Ensemble) AwaitServing() error {
	for _, s := range e.Servers {
		if s.ended == nil {
			continue
		}
		if err := s.awaitServing(); err != nil {
			return err
		}
	}
	return nil
}

// RestartSilent kills the servers that run but do not serve, and starts them again.
// It returns their number.
func (e *Ensemble) RestartSilent() (int, error) {
	var silent []*Server
	for _, s := range e.Servers {
		if s.ended != nil && !s.serves() {
			silent = append(silent, s)
		}
	}
	for _, s := range silent {
		if err := errors.Join(s.Kill(), s.Launch()); err != nil {
			return 0, err
		}
	}
	return len(silent), e.AwaitServing()
}

// Leader waits until a leader is elected and returns it. A former leader that was paused
// may act as a second leader for a moment. Leader waits until only one is left.
func (e *Ensemble) Leader() (*Server, error) {
	for limit := time.Now().Add(startLimit); time.Now().Before(limit); time.Sleep(20 * time.Millisecond) {
		var leaders []*Server
		for _, s := range e.Servers {
			if s.ended == nil || s.paused {
				continue
			}
			if answer, err := s.FourLetters("srvr"); err == nil && strings.Contains(answer, "Mode: leader") {
				leaders = append(leaders, s)
			}
		}
		if len(leaders) == 1 {
			return leaders[0], nil
		}
	}
	return nil, fmt.Errorf("zktest: there is no leader after %v", startLimit)
}

// Followers returns all servers except the leader, whether they run or not.
func (e *Ensemble) Followers() ([]*Server, error) {
	leader, err := e.Leader()
	if err != nil {
		return nil, err
	}
	var others []*Server
	for _, s := range e.Servers {
		if s != leader {
			others = append(others, s)
		}
	}
	return others, nil
}

// Close kills all servers and removes their data.
func (e *Ensemble) Close() error {
	var errs []error
	for _, s := range e.Servers {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}
