package testkit

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// CoinFolder is a folder with a coin file. Tests replace and damage both.
type CoinFolder struct {
	T       *testing.T
	Rng     *rand.Rand
	Dir     string // the daemon's working directory
	Version int
}

func (f *CoinFolder) Path(names ...string) string {
	return filepath.Join(append([]string{f.Dir}, names...)...)
}

// Folder creates another folder with a coin file in it, and returns the folder's name.
func (f *CoinFolder) Folder(coins map[string]string) string {
	f.Version++
	name := fmt.Sprintf("release%d", f.Version)
	Must(f.T, os.Mkdir(f.Path(name), 0o755))
	f.Write(f.Path(name, "coins.json"), coins)
	return name
}

func (f *CoinFolder) Write(path string, coins map[string]string) {
	content, err := json.Marshal(coins)
	Must(f.T, err)
	Must(f.T, os.WriteFile(path, content, 0o644))
}

// ReplaceFile lets make create something at a temporary path, and renames that to the
// path of the coin file.
func (f *CoinFolder) ReplaceFile(make func(path string) error) {
	// A rename does not replace a folder, and a folder may be at this path.
	Must(f.T, os.RemoveAll(f.Path("cur", "coins.json")))
	Must(f.T, make(f.Path("cur", "coins.json.tmp")))
	Must(f.T, os.Rename(f.Path("cur", "coins.json.tmp"), f.Path("cur", "coins.json")))
}

// Swap replaces the current folder with a link to the named one.
func (f *CoinFolder) Swap(name string) {
	if info, err := os.Lstat(f.Path("cur")); err == nil && info.IsDir() {
		Must(f.T, os.Rename(f.Path("cur"), f.Path("former"+name)))
	}
	Must(f.T, os.Symlink(name, f.Path("cur.tmp")))
	Must(f.T, os.Rename(f.Path("cur.tmp"), f.Path("cur")))
}

// Mend installs a good coin file in one of two ways, and returns which.
func (f *CoinFolder) Mend(coins map[string]string) (way string) {
	if info, err := os.Lstat(f.Path("cur")); err == nil && info.Mode().IsRegular() {
		Must(f.T, os.Remove(f.Path("cur")))
	}
	if info, err := os.Stat(f.Path("cur")); err == nil && info.Mode().Perm() != 0 && f.Rng.IntN(2) == 0 {
		f.ReplaceFile(func(path string) error { f.Write(path, coins); return nil })
		return "file replaced"
	}
	f.Swap(f.Folder(coins))
	return "folder swapped"
}

// CoinFolderFaults lists ways to make the coin file unusable.
var CoinFolderFaults = []struct {
	Name  string
	Spoil func(f *CoinFolder)
	Root  bool // whether root can still use the file
}{
	{"pipe", func(f *CoinFolder) { f.ReplaceFile(func(path string) error { return unix.Mkfifo(path, 0o644) }) }, false},
	{"directory", func(f *CoinFolder) { f.ReplaceFile(func(path string) error { return os.Mkdir(path, 0o755) }) }, false},
	{"device", func(f *CoinFolder) { f.ReplaceFile(func(path string) error { return os.Symlink("/dev/zero", path) }) }, false},
	{"link to itself", func(f *CoinFolder) { f.ReplaceFile(func(path string) error { return os.Symlink("coins.json", path) }) }, false},
	{"huge", func(f *CoinFolder) {
		f.ReplaceFile(func(path string) error { return os.WriteFile(path, nil, 0o644) })
		Must(f.T, os.Truncate(f.Path("cur", "coins.json"), 1<<40))
	}, false},
	{"torn", func(f *CoinFolder) {
		f.ReplaceFile(func(path string) error { return os.WriteFile(path, []byte(`{"acc0": "b`), 0o644) })
	}, false},
	{"file away", func(f *CoinFolder) { Must(f.T, os.RemoveAll(f.Path("cur", "coins.json"))) }, false},
	{"folder away", func(f *CoinFolder) { Must(f.T, os.Rename(f.Path("cur"), f.Path(fmt.Sprintf("away%d", f.Rng.Int())))) }, false},
	{"folder is a file", func(f *CoinFolder) {
		Must(f.T, os.Rename(f.Path("cur"), f.Path(fmt.Sprintf("away%d", f.Rng.Int()))))
		Must(f.T, os.WriteFile(f.Path("cur"), nil, 0o644))
	}, false},
	{"unreadable", func(f *CoinFolder) {
		f.ReplaceFile(func(path string) error { return os.WriteFile(path, []byte(`{"*":"btc"}`), 0) })
	}, true},
	{"folder unreadable", func(f *CoinFolder) {
		if target, err := filepath.EvalSymlinks(f.Path("cur")); err == nil {
			Must(f.T, os.Chmod(target, 0))
			f.T.Cleanup(func() { os.Chmod(target, 0o755) }) // otherwise the folder could not be removed
		}
	}, true},
}
