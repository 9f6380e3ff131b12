package tunnel

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// crypto/x509 reads the system's authorities only once, and a tunnel process may run for
// months. So this file reads them again when their files have changed. The paths are
// those of crypto/x509.

// rootsEvery is how often the files of the system's authorities are checked.
const rootsEvery = 20 * time.Second

// rootFiles are the paths of files with all authorities. Only the first that exists is
// read.
var rootFiles = []string{
	"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
	"/etc/pki/tls/cacert.pem", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem",
}

// rootFolders contain files with single certificates. All of them are read.
var rootFolders = []string{"/etc/ssl/certs", "/etc/pki/tls/certs"}

// rootPlaces returns the files and folders that this process reads.
func rootPlaces() (files, folders []string) {
	files, folders = rootFiles, rootFolders
	if file := os.Getenv("SSL_CERT_FILE"); file != "" {
		files = []string{file}
	}
	if list := os.Getenv("SSL_CERT_DIR"); list != "" {
		folders = filepath.SplitList(list)
	}
	return files, folders
}

// lookAtRoots returns a text that changes when the system's authorities do.
func lookAtRoots() string {
	var seen strings.Builder
	files, folders := rootPlaces()
	for _, path := range append(files[:len(files):len(files)], folders...) {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			fmt.Fprint(&seen, err, " ")
			continue
		}
		fmt.Fprint(&seen, st.Dev, " ", st.Ino, " ", st.Size, " ", st.Mtim.Nano(), " ", st.Ctim.Nano(), " ")
	}
	return seen.String()
}

// systemRoots reads the system's authorities. It returns nil if there are none, which
// leaves the decision to crypto/x509.
func systemRoots() *x509.CertPool {
	pool, some := x509.NewCertPool(), false
	add := func(path string) bool {
		text, err := readFile(path)
		some = err == nil && pool.AppendCertsFromPEM(text) || some
		return err == nil
	}
	files, folders := rootPlaces()
	for _, path := range files {
		if add(path) {
			break
		}
	}
	for _, folder := range folders {
		entries, _ := os.ReadDir(folder)
		for _, e := range entries {
			// A name that is a hash is a link to another file of the folder, which is
			// read under its own name.
			if target, err := os.Readlink(filepath.Join(folder, e.Name())); err != nil || strings.Contains(target, "/") {
				add(filepath.Join(folder, e.Name()))
			}
		}
	}
	if !some {
		return nil
	}
	return pool
}

// followRoots reads the system's authorities again when they have changed. It starts with
// the first connection that needs them and never returns.
func (s *server) followRoots() {
	seen := lookAtRoots()
	for range time.Tick(cmp.Or(s.rootsEvery, rootsEvery)) {
		now := lookAtRoots()
		if now == seen {
			continue
		}
		// Files without a certificate, as in the middle of a renewal, are ignored.
		if pool := systemRoots(); pool != nil {
			seen = now
			s.roots.Store(pool)
		}
	}
}
