package testkit

import (
	"errors"
	"os"
	"sync"
	"testing"
)

// cleanups holds the functions that remove what the tests of a process share.
var cleanups struct {
	mu  sync.Mutex
	all []func()
}

// AtEnd registers f for Cleanup, which calls the function that was registered last first.
func AtEnd(f func()) {
	cleanups.mu.Lock()
	defer cleanups.mu.Unlock()
	cleanups.all = append(cleanups.all, f)
}

// Cleanup calls the functions that were registered with AtEnd. TestMain calls it after all
// tests.
func Cleanup() {
	cleanups.mu.Lock()
	all := cleanups.all
	cleanups.all = nil
	cleanups.mu.Unlock()
	for i := len(all) - 1; i >= 0; i-- {
		all[i]()
	}
}

// sharedFile is a file that several tests use, such as a binary.
type sharedFile struct {
	once sync.Once
	path string
	err  error
}

var sharedFiles sync.Map // maps each name to its *sharedFile

// SharedFile returns the path of the file with this name. For the first test that asks,
// make creates the file in a directory that Cleanup removes. Tests that ask for different
// files do not wait for each other.
func SharedFile(t testing.TB, name string, make func(dir string) (path string, err error)) string {
	t.Helper()
	found, _ := sharedFiles.LoadOrStore(name, &sharedFile{})
	f := found.(*sharedFile)
	f.once.Do(func() {
		dir, err := os.MkdirTemp("", "stratumSwitcher-test")
		if err != nil {
			f.err = err
			return
		}
		AtEnd(func() { os.RemoveAll(dir) })
		f.err = errors.New("the test that should have made it has ended") // for the other tests, if make does not return
		f.path, f.err = make(dir)
	})
	if f.err != nil {
		t.Fatalf("%s: %v", name, f.err)
	}
	return f.path
}
