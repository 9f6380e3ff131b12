package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestHealthcheck(t *testing.T) {
	well := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			t.Errorf("the check asked for %s", r.URL)
		}
	}))
	defer well.Close()
	ill := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "a loop does not work", http.StatusServiceUnavailable)
	}))
	defer ill.Close()
	gone := httptest.NewServer(nil)
	gone.Close()

	for name, tt := range map[string]struct {
		server *httptest.Server
		config string // the configuration; %s is the server's address
		says   string
		fails  string
	}{
		"well":            {well, `"EnableHTTPDebug": true, "HTTPDebugListenAddr": "%s"`, "ok", ""},
		"any address":     {well, `"EnableHTTPDebug": true, "HTTPDebugListenAddr": ":%p"`, "ok", ""},
		"ill":             {ill, `"EnableHTTPDebug": true, "HTTPDebugListenAddr": "%s"`, "", "a loop does not work"},
		"not there":       {gone, `"EnableHTTPDebug": true, "HTTPDebugListenAddr": "%s"`, "", "refused"},
		"nobody to ask":   {gone, `"EnableHTTPDebug": false`, "the state is not known: EnableHTTPDebug is false", ""},
		"file is no good": {gone, `"EnableHTTP": 1`, "the state is not known: ", ""},
	} {
		t.Run(name, func(t *testing.T) {
			addr := tt.server.Listener.Addr().String()
			text := strings.ReplaceAll(tt.config, "%s", addr)
			text = strings.ReplaceAll(text, "%p", addr[strings.LastIndexByte(addr, ':')+1:])
			path := filepath.Join(t.TempDir(), "config.json")
			text = `{"StratumServerMap": {"btc": {"URL": "127.0.0.1:3333"}}, ` + text + `}`
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			err := healthcheck(path, &out)
			if !strings.HasPrefix(out.String(), tt.says) || (tt.says == "") != (out.String() == "") {
				t.Errorf("the check prints %q, want %q", out.String(), tt.says)
			}
			if tt.fails == "" && err != nil || tt.fails != "" && (err == nil || !strings.Contains(err.Error(), tt.fails)) {
				t.Errorf("got error %v, want %q", err, tt.fails)
			}
		})
	}
}
