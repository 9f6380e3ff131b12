package regularfile

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// If a pipe takes the file's place between the check and the opening, the opening
// does not wait for it.
func TestReadRegularFileSwapped(t *testing.T) {
	dir := t.TempDir()
	file, pipe, path := filepath.Join(dir, "file"), filepath.Join(dir, "pipe"), filepath.Join(dir, "coins.json")
	testkit.Must(t, os.WriteFile(file, []byte("{}"), 0o600))
	testkit.Must(t, unix.Mkfifo(pipe, 0o600))
	testkit.Must(t, os.Link(file, path))
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
		_, err := InTime(Wait, func() (int, error) {
			_, _, err := Read(path, 100)
			return 0, err
		})
		switch {
		case err == nil:
			read++
		case errors.Is(err, ErrTooSlow):
			t.Fatal("the reader waits for the pipe")
		}
	}
	if read == 0 {
		t.Error("the file was never read")
	}
}
