package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testport"
)

// target is what miners connect to: a proxy in its own process or, if process is nil,
// the pool.
type target struct {
	*process
	addr  string
	coins string // the switcher's coin file; empty if the bench does not switch coins

	behind *process    // the switcher behind a HAProxy with TLS
	tls    *tls.Config // for miners; nil without TLS
}

// stop ends all processes of the target.
func (t *target) stop() {
	t.process.stop()
	if t.behind != nil {
		t.behind.stop()
	}
}

// family returns the IDs of all processes of the target.
func (t *target) family() []int {
	pids := t.process.family()
	if t.behind != nil {
		pids = append(pids, t.behind.family()...)
	}
	return pids
}

// binaries are the paths of the programs that the targets need.
type binaries struct {
	switcher, haproxy, nginx, nginxModule string
}

// findBinaries looks for the programs that the chosen targets need.
func findBinaries(o options) (b binaries, err error) {
	var missing []error
	find := func(name string, into *string) {
		path, err := exec.LookPath(name)
		if err != nil {
			path, err = exec.LookPath("/usr/sbin/" + name)
		}
		if err != nil {
			missing = append(missing, fmt.Errorf("%s is missing: run scripts/install-bench-tools.sh, or choose other targets with -targets", name))
		}
		*into = path
	}
	for _, name := range o.Targets {
		switch name {
		case targetSwitcher, targetSwitcherTLS, targetHAProxyTLS:
			if name == targetHAProxyTLS {
				find("haproxy", &b.haproxy)
			}
			if b.switcher, err = filepath.Abs(o.binary); err == nil {
				_, err = exec.LookPath(b.switcher)
			}
			if err != nil {
				missing = append(missing, fmt.Errorf("the daemon: %w; run make build", err))
			}
		case targetHAProxy:
			find("haproxy", &b.haproxy)
		case targetNginx:
			find("nginx", &b.nginx)
			if modules, _ := filepath.Glob("/usr/lib*/nginx/modules/ngx_stream_module.so"); len(modules) > 0 {
				b.nginxModule = modules[0]
			}
		}
	}
	return b, errors.Join(missing...)
}

// startTarget starts a proxy for n miners in front of the pools. Its files are in dir.
func startTarget(ctx context.Context, name, dir string, b binaries, o options, n int, pools map[string]string) (*target, error) {
	if name == targetDirect {
		return &target{addr: pools[coins[0]]}, nil
	}
	addr, err := testport.Addr()
	if err != nil {
		return nil, err
	}
	t := &target{addr: addr}
	var cmd *exec.Cmd
	switch name {
	case targetSwitcherTLS, targetHAProxyTLS:
		cmd, err = t.tlsCommand(ctx, name, dir, b, n, o.Threads, pools)
	case targetSwitcher:
		t.coins = filepath.Join(dir, "coins.json")
		cmd, err = switcherCommand(b.switcher, dir, addr, pools, nil)
	case targetHAProxy:
		cmd, err = haproxyCommand(b.haproxy, dir, addr, pools[coins[0]], n, o.Threads, "")
	case targetNginx:
		cmd, err = nginxCommand(b, dir, addr, pools[coins[0]], n, o.Threads)
	case targetFloor:
		cmd, err = relayCommand(addr, pools[coins[0]], o.Threads)
	}
	if err != nil {
		return nil, err
	}
	if t.process, err = startProcess(name, cmd); err != nil {
		if t.behind != nil {
			t.behind.stop()
		}
		return nil, err
	}
	if err := t.waitListening(ctx); err != nil {
		t.stop()
		return nil, err
	}
	return t, nil
}

var listening = regexp.MustCompile(`listening addr=`)

func (t *target) waitListening(ctx context.Context) error {
	if t.coins != "" {
		_, err := t.waitLog(ctx, 0, listening)
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		nc, err := net.Dial("tcp", t.addr)
		if err == nil {
			return nc.Close()
		}
		select {
		case <-t.Ended:
			return t.failed(errors.New("it has ended"))
		default:
		}
		if sleep(ctx, pollEvery) != nil {
			return t.failed(err)
		}
	}
}

// switcherCommand returns the command for a switcher whose configuration has the keys
// more besides those that it needs. All other keys have their defaults.
func switcherCommand(binary, dir, addr string, pools, more map[string]string) (*exec.Cmd, error) {
	servers := map[string]any{}
	for coin, pool := range pools {
		servers[coin] = map[string]string{"URL": pool}
	}
	keys := map[string]any{
		"ServerID": 1, "ListenAddr": addr, "ZKBroker": []string{}, "CoinFile": "coins.json", "StratumServerMap": servers,
	}
	for key, value := range more {
		keys[key] = value
	}
	config, err := json.MarshalIndent(keys, "", "    ")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), config, 0o644); err != nil {
		return nil, err
	}
	if err := writeCoin(filepath.Join(dir, "coins.json"), coins[0]); err != nil {
		return nil, err
	}
	// The daemon runs from a copy, because an upgrade starts the file again and
	// something else may have been built meanwhile.
	copied := filepath.Join(dir, "stratumSwitcher")
	if err := copyFile(binary, copied); err != nil {
		return nil, err
	}
	cmd := exec.Command(copied, "-logtostderr")
	cmd.Dir = dir
	return cmd, nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// writeCoin gives all sub-accounts a coin, as an operator would.
func writeCoin(path, coin string) error {
	if err := os.WriteFile(path+".new", fmt.Appendf(nil, "{%q: %q}\n", "*", coin), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// haproxyConfig does not mention TCP_NODELAY, which HAProxy sets by default.
const haproxyConfig = `global
    nbthread %[1]d
    maxconn %[2]d

defaults
    mode tcp
    timeout connect 10s
    timeout client 1h
    timeout server 1h

frontend miners
    bind %[3]s backlog 4096%[5]s
    maxconn %[2]d
    default_backend pool

backend pool
    server pool %[4]s
`

// haproxyCommand returns the command for HAProxy. bind is appended to the bind line of
// its listener.
func haproxyCommand(binary, dir, addr, pool string, n, threads int, bind string) (*exec.Cmd, error) {
	path := filepath.Join(dir, "haproxy.cfg")
	config := fmt.Sprintf(haproxyConfig, threads, n+200, addr, pool, bind)
	if err := os.WriteFile(path, []byte(config), 0o644); err != nil {
		return nil, err
	}
	return exec.Command(binary, "-db", "-f", path), nil
}

const nginxConfig = `%[1]sdaemon off;
worker_processes %[2]d;
worker_rlimit_nofile %[3]d;
pid %[4]s/nginx.pid;
error_log %[4]s/error.log crit;

events {
    worker_connections %[5]d;
}

stream {
    server {
        listen %[6]s reuseport backlog=4096;
        proxy_pass %[7]s;
        proxy_connect_timeout 10s;
        proxy_timeout 1h;
        tcp_nodelay on;
    }
}
`

func nginxCommand(b binaries, dir, addr, pool string, n, workers int) (*exec.Cmd, error) {
	module := "" // the stream module is built in
	if b.nginxModule != "" {
		module = "load_module " + b.nginxModule + ";\n"
	}
	limit, err := descriptorLimit()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "nginx.conf")
	config := fmt.Sprintf(nginxConfig, module, workers, limit, dir, min(limit-100, 2*n+200), addr, pool)
	if err := os.WriteFile(path, []byte(config), 0o644); err != nil {
		return nil, err
	}
	return exec.Command(b.nginx, "-p", dir, "-c", path, "-e", filepath.Join(dir, "error.log")), nil
}

func relayCommand(addr, pool string, threads int) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, childArgument, "relay", addr, pool, fmt.Sprint(threads))
	// The relay's threads never return to Go's scheduler, so it must not preempt them.
	cmd.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1")
	// The relay ends when its standard input ends, which is when the bench ends.
	// Nothing is written to the pipe.
	if _, err := cmd.StdinPipe(); err != nil {
		return nil, err
	}
	return cmd, nil
}
