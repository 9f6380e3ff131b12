// Package zktest runs real ZooKeeper servers for tests, on loopback, from the
// jars and scripts of Debian's zookeeper package.
package zktest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testport"
)

const (
	jar       = "/usr/share/java/zookeeper.jar"
	logging   = "/usr/share/java/slf4j-simple.jar"
	cliScript = "/usr/share/zookeeper/bin/zkCli.sh"
	mainClass = "org.apache.zookeeper.server.quorum.QuorumPeerMain"

	startLimit = 30 * time.Second
	stopLimit  = 10 * time.Second
)

// quickJava holds the options that make a JVM small and quick to start.
var quickJava = []string{"-Xms16m", "-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
	"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true"}

// Server is one ZooKeeper server. Addr and CLI may be called concurrently, the other
// methods may not.
type Server struct {
	dir    string
	port   int
	ended  chan struct{} // closed when the process has ended; nil if it is not running
	wait   error
	proc   *os.Process
	paused bool
	output *tail
}

// Start runs a new standalone server and waits until it serves.
func Start() (*Server, error) {
	if err := Installed(); err != nil {
		return nil, err
	}
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	s, err := newServer("", ports[0], "")
	if err != nil {
		return nil, err
	}
	if err := s.Start(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Installed returns an error that names the missing files and how to install them, or nil
// if everything is installed.
func Installed() error {
	var missing []string
	for _, file := range []string{jar, logging, cliScript} {
		if _, err := os.Stat(file); err != nil {
			missing = append(missing, file)
		}
	}
	if _, err := exec.LookPath("java"); err != nil {
		missing = append(missing, "java")
	}
	if len(missing) > 0 {
		return fmt.Errorf("zktest: not installed: %s; run scripts/install-test-tools.sh (apt-get install zookeeper default-jre-headless)",
			strings.Join(missing, ", "))
	}
	return nil
}

// newServer prepares a server with a new directory below parent, or below the directory
// for temporary files if parent is empty.
func newServer(parent string, port int, members string) (*Server, error) {
	dir, err := os.MkdirTemp(parent, "zktest-")
	if err != nil {
		return nil, fmt.Errorf("zktest: %w", err)
	}
	config := fmt.Sprintf(`tickTime=200
dataDir=%s
clientPort=%d
clientPortAddress=127.0.0.1
maxClientCnxns=0
minSessionTimeout=400
maxSessionTimeout=60000
admin.enableServer=false
4lw.commands.whitelist=*
%s`, dir, port, members)
	if err := os.WriteFile(filepath.Join(dir, "zoo.cfg"), []byte(config), 0o600); err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("zktest: %w", err)
	}
	return &Server{dir: dir, port: port, output: &tail{}}, nil
}

// Addr returns the address to which clients connect. A restart does not change it.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Start runs a server that is not running and waits until it serves. A server that was
// stopped or killed still has its data.
func (s *Server) Start() error {
	if err := s.Launch(); err != nil {
		return err
	}
	return s.awaitServing()
}

// Launch is Start without waiting until the server serves, because servers of an
// ensemble may have to wait for each other.
func (s *Server) Launch() error {
	if s.ended != nil {
		return errors.New("zktest: the server is running")
	}
	args := append([]string{}, quickJava...)
	args = append(args, "-Dzookeeper.forceSync=no", "-Dzookeeper.jmx.log4j.disable=true",
		"-cp", jar+":"+logging, mainClass, filepath.Join(s.dir, "zoo.cfg"))
	cmd := exec.Command("java", args...)
	cmd.Dir = s.dir
	cmd.Stdout, cmd.Stderr = s.output, s.output
	started := make(chan error)
	ended := make(chan struct{})
	go s.run(cmd, started, ended)
	if err := <-started; err != nil {
		return fmt.Errorf("zktest: starting java: %w", err)
	}
	s.proc, s.ended, s.paused = cmd.Process, ended, false
	return nil
}

func (s *Server) serves() bool {
	answer, err := s.FourLetters("srvr")
	return err == nil && strings.Contains(answer, "Mode: ")
}

// awaitServing waits until the server serves clients.
func (s *Server) awaitServing() error {
	limit := time.Now().Add(startLimit)
	for time.Now().Before(limit) {
		if s.serves() {
			return nil
		}
		select {
		case <-s.ended:
			return fmt.Errorf("zktest: the server ended: %v\n%s", s.wait, s.output)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return fmt.Errorf("zktest: the server did not serve clients within %v\n%s", startLimit, s.output)
}

// Stop asks the server to end, waits for that, and keeps the server's data.
func (s *Server) Stop() error {
	if s.ended == nil {
		return nil
	}
	if err := terminate(s.proc); err != nil {
		return s.Kill()
	}
	select {
	case <-s.ended:
		s.ended = nil
		return nil
	case <-time.After(stopLimit):
		return s.Kill()
	}
}

// Kill ends the server at once and keeps its data.
func (s *Server) Kill() error {
	if s.ended == nil {
		return nil
	}
	if err := s.proc.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("zktest: %w", err)
	}
	<-s.ended
	s.ended = nil
	return nil
}

// Pause makes the server hang: its connections stay open, but it answers nothing.
func (s *Server) Pause() error {
	s.paused = true
	return pause(s.proc)
}

// Continue undoes Pause.
func (s *Server) Continue() error {
	s.paused = false
	return resume(s.proc)
}

// Dir returns the directory with the server's data.
func (s *Server) Dir() string { return s.dir }

// Close kills the server and removes its data.
func (s *Server) Close() error {
	return errors.Join(s.Kill(), os.RemoveAll(s.dir))
}

// FourLetters sends the server one of ZooKeeper's four-letter commands, such as ruok or
// wchs, and returns the answer.
func (s *Server) FourLetters(word string) (string, error) {
	conn, err := net.DialTimeout("tcp", s.Addr(), time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(conn, word); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	return string(answer), err
}

// CLI runs one command of the real zkCli.sh, as an operator would.
func (s *Server) CLI(args ...string) (string, error) {
	cmd := exec.Command("bash", append([]string{cliScript, "-server", s.Addr()}, args...)...)
	cmd.Env = append(os.Environ(), "JVMFLAGS="+strings.Join(quickJava, " "))
	output, err := cmd.CombinedOutput()
	if err != nil {
		return string(output), fmt.Errorf("zktest: zkCli.sh %s: %w\n%s", strings.Join(args, " "), err, output)
	}
	return string(output), nil
}

// freePorts returns ports on which no program listens.
func freePorts(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		l, err := testport.Listen()
		if err != nil {
			return nil, fmt.Errorf("zktest: %w", err)
		}
		defer l.Close()
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}

// tail keeps the end of what a server printed, for error messages.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if extra := len(t.text) - 8<<10; extra > 0 {
		t.text = t.text[extra:]
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
