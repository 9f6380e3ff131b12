package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang/glog"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/journal"
)

// Limits of the HTTP listener, so that it takes nothing that miners need.
const (
	httpConnections = 24 // they use descriptors from fdReserve
	httpTimeout     = 10 * time.Second
	httpIdleTimeout = 15 * time.Second
	maxHTTPHeader   = 16 << 10 // bytes

	// maxProfileSeconds bounds the duration of profiles from /debug/pprof/.
	maxProfileSeconds = 120
)

// statusServer is the HTTP listener for operators. It is read-only.
type statusServer struct {
	manager  *sessionManager
	host     string // the machine's name; empty if it is not known
	surveyor surveyor
	recorder *statusRecorder
	accounts accountTable
	miners   minerLists
	searches searcher
	watch    *loopWatch
	loopback bool // the address is reached only from this machine
	addr     net.Addr

	http    *http.Server
	served  chan struct{} // closed when serve has returned
	stop    chan struct{}
	stopped chan struct{} // closed when record has returned
}

// startStatus starts the listener if the configuration has one. Otherwise it
// returns nil.
func startStatus(c *Config, m *sessionManager) (*statusServer, error) {
	if !c.EnableHTTPDebug {
		return nil, nil
	}
	ln, err := listenHTTP(c)
	if err != nil {
		return nil, err
	}
	s := newStatusServer(m)
	s.addr = ln.Addr()
	if a, ok := ln.Addr().(*net.TCPAddr); ok {
		s.loopback = a.IP.IsLoopback()
	}
	s.http = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: httpTimeout,
		IdleTimeout:       httpIdleTimeout,
		MaxHeaderBytes:    maxHTTPHeader,
		ErrorLog:          log.New(httpLog{&m.limitedLog}, "", 0),
	}
	go s.serve(&limitedListener{Listener: ln, open: make(chan struct{}, httpConnections), closed: make(chan struct{})})
	go s.record()
	go s.watch.run(s.stop)
	glog.Infof("http addr=%s", ln.Addr())
	return s, nil
}

func listenHTTP(c *Config) (net.Listener, error) {
	ln, err := net.Listen(listenNetwork(c.HTTPDebugListenAddr), c.HTTPDebugListenAddr)
	if err != nil {
		return nil, fmt.Errorf("HTTPDebugListenAddr: %w", err)
	}
	return ln, nil
}

func newStatusServer(m *sessionManager) *statusServer {
	stop := make(chan struct{})
	host, _ := os.Hostname() // without a name, the page shows none
	return &statusServer{
		manager:  m,
		host:     host,
		searches: searcher{turns: newTokenBucket(1, searchBurst)},
		surveyor: surveyor{manager: m, stop: stop, last: &survey{}},
		recorder: newStatusRecorder(m),
		watch:    newLoopWatch(m),
		served:   make(chan struct{}),
		stop:     stop,
		stopped:  make(chan struct{}),
	}
}

func (s *statusServer) serve(ln net.Listener) {
	defer close(s.served)
	if err := s.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		glog.Errorf("http: %v", err)
	}
}

// close stops the server. It is a no-op on nil.
func (s *statusServer) close() {
	if s == nil {
		return
	}
	close(s.stop)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
	<-s.served
	<-s.stopped
}

// handler serves all paths. All of them are read-only.
func (s *statusServer) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", servePage)
	mux.Handle("GET /metrics", s.metricsHandler())
	mux.HandleFunc("GET /healthz", s.serveHealth)
	mux.HandleFunc("GET /readyz", s.serveReady)
	mux.HandleFunc("GET /api/status", s.serveStatus)
	mux.HandleFunc("GET /api/accounts", s.serveAccounts)
	mux.HandleFunc("GET /api/miners", s.serveMiners)
	mux.HandleFunc("GET /api/search", s.serveSearch)
	mux.HandleFunc("GET /api/events", s.serveEvents)
	mux.HandleFunc("GET /api/history", s.serveHistory)
	mux.HandleFunc("GET /debug/pprof/", boundedProfile(pprof.Index))
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", boundedProfile(pprof.Profile))
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", boundedProfile(pprof.Trace))
	return s.guard(mux)
}

// guard sets the headers and deadlines of all answers, and refuses requests
// that a browser was tricked into making.
func (s *statusServer) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		// Any web site can have a name that leads to the loopback address.
		if s.loopback && !isLoopbackHost(r.Host) {
			http.Error(w, "this listener is for loopback addresses: ask for localhost", http.StatusForbidden)
			return
		}
		wait := httpTimeout
		if strings.HasPrefix(r.URL.Path, "/debug/pprof/") {
			wait += maxProfileSeconds * time.Second
		}
		// The deadlines hold for this request only; errors concern
		// connections that have none.
		control := http.NewResponseController(w)
		_ = control.SetReadDeadline(time.Now().Add(wait))
		_ = control.SetWriteDeadline(time.Now().Add(wait))
		next.ServeHTTP(w, r)
	})
}

func isLoopbackHost(hostPort string) bool {
	host := hostPort
	if h, _, err := net.SplitHostPort(hostPort); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.IsLoopback()
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

func boundedProfile(profile http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if text := r.URL.Query().Get("seconds"); text != "" {
			var seconds float64
			if _, err := fmt.Sscan(text, &seconds); err != nil || !(seconds >= 0 && seconds <= maxProfileSeconds) {
				http.Error(w, fmt.Sprintf("seconds: from 0 to %d", maxProfileSeconds), http.StatusBadRequest)
				return
			}
		}
		profile(w, r)
	}
}

// httpLog writes the HTTP server's errors to the log, with a limit, because clients
// can cause them.
type httpLog struct{ limits *journal.LogLimits }

func (l httpLog) Write(line []byte) (int, error) {
	l.limits.Warningf("http", "%s", bytes.TrimSpace(line))
	return len(line), nil
}

// serveHealth answers whether the process works. If it answers no, a loop is
// stuck, and only a restart helps.
func (s *statusServer) serveHealth(w http.ResponseWriter, _ *http.Request) {
	if reason := s.watch.stalled(); reason != "" {
		http.Error(w, reason, http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// serveReady answers whether new miners can be served.
func (s *statusServer) serveReady(w http.ResponseWriter, _ *http.Request) {
	if reason := s.notReady(); reason != "" {
		http.Error(w, reason, http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
	for _, coin := range s.manager.coinNames() {
		if !s.manager.pools[coin].tried() {
			fmt.Fprintf(w, "coin %s: its pool was not tried yet\n", coin)
		}
	}
}

// tried reports whether a link to any of the pool's addresses was attempted or
// taken over.
func (p *pool) tried() bool {
	for i := range p.links {
		if p.links[i].tried() {
			return true
		}
	}
	return false
}

// notReady returns why new miners cannot be served, or the empty string if they
// can.
func (s *statusServer) notReady() string {
	if reason := s.watch.stalled(); reason != "" {
		return reason
	}
	m := s.manager
	switch source := m.coinSourceStatus(); {
	case !m.monitor.listening.Load():
		return "not listening"
	case !source.Connected:
		return "no connection to ZooKeeper: only known sub-accounts are served"
	case m.ids.server() == 0:
		return "no server ID yet"
	}
	return ""
}

// limitedListener has at most cap(open) connections open. Further ones wait in the
// kernel.
type limitedListener struct {
	net.Listener
	open   chan struct{} // one value for each open connection
	closed chan struct{}
	once   sync.Once
}

func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.open <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.open
		return nil, err
	}
	return &limitedConn{Conn: conn, open: l.open}, nil
}

func (l *limitedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// limitedConn makes room for another connection when it is closed for the first
// time.
type limitedConn struct {
	net.Conn
	open   chan struct{}
	closed atomic.Bool
}

func (c *limitedConn) Close() error {
	if c.closed.CompareAndSwap(false, true) {
		<-c.open
	}
	return c.Conn.Close()
}
