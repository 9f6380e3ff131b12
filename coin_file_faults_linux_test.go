//go:build linux && !portable_relay

package main

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/regularfile"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// Whatever takes the place of the file, or of its folder, is told and changes
// nothing, and the next good file is followed.
func TestCoinFileSpoilt(t *testing.T) {
	for i, fault := range testkit.CoinFolderFaults {
		t.Run(fault.Name, func(t *testing.T) {
			t.Parallel()
			f := &testkit.CoinFolder{T: t, Rng: rand.New(rand.NewPCG(uint64(i), 5)), Dir: t.TempDir()}
			f.Swap(f.Folder(map[string]string{"alice": "btc"}))
			source, sink := startCoinFile(t, f.Path("cur", "coins.json"))
			wantLookup(t, source, "alice", "btc")
			fault.Spoil(f)
			if !fault.Root || os.Geteuid() != 0 {
				awaitTrue(t, "told", func() bool {
					problem := make(chan string)
					source.mail.post(func() { problem <- source.problem })
					return <-problem != ""
				})
			}
			wantLookup(t, source, "alice", "btc")
			f.Mend(map[string]string{"alice": "bcc"})
			sink.wantCoin(t, "alice", "bcc")
			wantLookup(t, source, "alice", "bcc")
		})
	}
}

// A pipe that comes between a look at the file and its opening is not waited
// for.
func TestReadRegularFileSwapped(t *testing.T) {
	dir := t.TempDir()
	file, pipe, path := filepath.Join(dir, "file"), filepath.Join(dir, "pipe"), filepath.Join(dir, "coins.json")
	mustDo(t, os.WriteFile(file, []byte("{}"), 0o600))
	mustDo(t, unix.Mkfifo(pipe, 0o600))
	mustDo(t, os.Link(file, path))
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := errors.Join(os.Link([]string{pipe, file}[i%2], path+".new"), os.Rename(path+".new", path)); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	defer func() { <-stopped }()
	defer close(stop)
	read := 0
	for end := time.Now().Add(time.Second / 2); time.Now().Before(end); {
		_, err := regularfile.InTime(regularfile.Wait, func() (int, error) {
			_, _, err := regularfile.Read(path, 100)
			return 0, err
		})
		switch {
		case err == nil:
			read++
		case errors.Is(err, regularfile.ErrTooSlow):
			t.Fatal("it is waited for")
		}
	}
	if read == 0 {
		t.Error("the file was never read")
	}
}
