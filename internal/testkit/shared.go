package testkit

import (
	"errors"
	"os"
	"sync"
	"testing"
)

// cleanups end what the tests of a process share.
var cleanups struct {
	mu  sync.Mutex
	all []func()
}

// AtEnd makes Cleanup call f. The function that was registered last is called first.
func AtEnd(f func()) {
	cleanups.mu.Lock()
	defer cleanups.mu.Unlock()
	cleanups.all = append(cleanups.all, f)
}

// Cleanup ends what the tests of the process share. TestMain calls it.
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

var sharedFiles sync.Map // of *sharedFile, by name

// SharedFile returns the path of the file with this name. The first test that asks
// for it makes it, in a directory that is removed at the end. Tests that ask for
// different files do not wait for each other.
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
		f.err = errors.New("the test that was to make it has ended") // for the other tests, if make does not return
		f.path, f.err = make(dir)
	})
	if f.err != nil {
		t.Fatalf("%s: %v", name, f.err)
	}
	return f.path
}
