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

// crypto/x509 reads the system's authorities once in the life of a process, and a
// tunnel process lives for months. So they are read again here, from the places
// where crypto/x509 looks, when their files have changed.

// rootsEvery is how often the files of the system's authorities are checked.
const rootsEvery = 20 * time.Second

// rootFiles are the places of the collection; the first that exists counts.
var rootFiles = []string{
	"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
	"/etc/pki/tls/cacert.pem", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem",
}

// rootFolders are those of single certificates, which all count.
var rootFolders = []string{"/etc/ssl/certs", "/etc/pki/tls/certs"}

// rootPlaces are the files and folders that this process looks at.
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
			// Names by hash are links to other files of the folder.
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

// followRoots reads the system's authorities again when they have changed. It runs as
// long as the process, from the first connection that needs them.
func (s *server) followRoots() {
	seen := lookAtRoots()
	for range time.Tick(cmp.Or(s.rootsEvery, rootsEvery)) {
		now := lookAtRoots()
		if now == seen {
			continue
		}
		// Files that hold nothing, as in the middle of a renewal, change nothing.
		if pool := systemRoots(); pool != nil {
			seen = now
			s.roots.Store(pool)
		}
	}
}
