package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/golang/glog"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/regularfile"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// sizesFile keeps the extranonce2 sizes that pool addresses gave, so that the size of a
// pool that does not answer at a restart is known. Like the state file of an upgrade, it
// is in the working directory, because the configuration's directory is often read-only.
const sizesFile = "extranonce-sizes.json"

// maxSizesFile bounds the size of the file, in bytes.
const maxSizesFile = 1 << 20

// readSizes reads the sizes by address. If there is no valid file, it returns nil, and
// the program starts without knowing any size.
func readSizes(path string) map[string]int {
	sizes, err := regularfile.InTime(regularfile.Wait, func() (map[string]int, error) {
		text, info, err := regularfile.Read(path, maxSizesFile)
		if err != nil {
			return nil, err
		}
		if err := checkOwnFile(info); err != nil {
			return nil, err
		}
		var sizes map[string]int
		return sizes, stratum.JSON.Unmarshal(text, &sizes)
	})
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			glog.Warningf("extranonce2 sizes of the last run are not known: %s: %v", path, err)
		}
		return nil
	}
	return sizes
}

// keepFile writes the file after each change. It logs only the first failure, because
// nothing is lost but the sizes of pools that do not answer at a restart.
func (v *sizeSurvey) keepFile() {
	defer close(v.written)
	logged := false
	for ending := false; !ending; {
		select {
		case <-v.changed:
		case <-v.ctx.Done():
			ending = true
			select {
			case <-v.changed:
			default:
				return
			}
		}
		if err := writeSizes(v.path, v.state()); err != nil && !logged {
			logged = true
			glog.Warningf("extranonce2 sizes are not kept for the next start: %v", err)
		}
	}
}

// writeSizes writes the whole file or leaves it unchanged.
func writeSizes(path string, sizes map[string]int) (err error) {
	text, err := stratum.JSON.Marshal(sizes)
	if err != nil {
		return err
	}
	// The name is always the same, so that processes that end here leave at most one
	// such file behind.
	next := path + ".new"
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|openNoFollow, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s\n", text)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		os.Remove(next)
	}
	return err
}
