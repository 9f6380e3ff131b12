package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/golang/glog"
)

// statusServer is the HTTP listener for operators. It changes nothing.
type statusServer struct {
	http *http.Server
	done chan struct{}
}

// startStatus listens if the configuration says so; the result may be nil.
func startStatus(c *Config) (*statusServer, error) {
	if !c.EnableHTTPDebug {
		return nil, nil
	}
	ln, err := net.Listen("tcp", c.HTTPDebugListenAddr)
	if err != nil {
		return nil, fmt.Errorf("HTTPDebugListenAddr: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	s := &statusServer{
		http: &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute},
		done: make(chan struct{}),
	}
	go s.serve(ln)
	glog.Infof("http addr=%s", ln.Addr())
	return s, nil
}

func (s *statusServer) serve(ln net.Listener) {
	defer close(s.done)
	if err := s.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		glog.Errorf("http: %v", err)
	}
}

// close takes nil.
func (s *statusServer) close() {
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
	<-s.done
}
