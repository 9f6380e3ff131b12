//go:build linux && e2e

package tunnel

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Renewed authorities of the system are taken while the process runs, from the
// collection and from a folder, and a file that holds nothing changes nothing.
func TestSystemRootsRenewed(t *testing.T) {
	file, folder := filepath.Join(t.TempDir(), "ca.crt"), t.TempDir()
	t.Setenv("SSL_CERT_FILE", file)
	t.Setenv("SSL_CERT_DIR", folder)
	put := func(a *authority, path string) {
		t.Helper()
		text, err := os.ReadFile(a.file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	first, second, third := newAuthority(t), newAuthority(t), newAuthority(t)
	put(first, file)
	if !systemRoots().Equal(first.pool()) {
		t.Fatal("the system's authorities are not those of the file")
	}
	s := &server{rootsEvery: 10 * time.Millisecond}
	go s.followRoots()
	wants := func(what string, all ...*authority) {
		t.Helper()
		want := all[0].pool()
		for _, a := range all[1:] {
			want.AddCert(a.cert)
		}
		eventually(t, what, func() bool { return s.roots.Load() != nil && s.roots.Load().Equal(want) })
	}
	eventually(t, "a renewed file", func() bool { // the first look may come after the first renewal
		put(second, file)
		return s.roots.Load() != nil && s.roots.Load().Equal(second.pool())
	})
	put(third, filepath.Join(folder, "third.pem"))
	wants("a file in the folder", second, third)
	if err := os.Remove(filepath.Join(folder, "third.pem")); err != nil {
		t.Fatal(err)
	}
	wants("a file less", second)
	before := s.roots.Load()
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	if s.roots.Load() != before {
		t.Error("an empty file is taken")
	}
	config, err := (&server{follows: true, configs: map[string]*tls.Config{}}).configFor(&message{serverName: "x"})
	if err != nil || config.RootCAs != nil {
		t.Errorf("%v, %v", config, err)
	}
	s.follows, s.configs = true, map[string]*tls.Config{}
	if config, err := s.configFor(&message{serverName: "x"}); err != nil || config.RootCAs != before {
		t.Errorf("%v, %v", config, err)
	}
}
