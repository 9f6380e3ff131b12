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

// sizesFile keeps the sizes that pool addresses gave over restarts: a pool that
// is out at the start counts with what it gave before. It is in the working
// directory, as an upgrade's state file is, because a configuration's directory
// often may not be written to.
const sizesFile = "extranonce-sizes.json"

// maxSizesFile bounds what is read of it.
const maxSizesFile = 1 << 20

// readSizes reads the sizes by address. Without a good file none are known,
// which is no reason not to start.
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
			glog.Warningf("extranonce2 sizes of before are not known: %s: %v", path, err)
		}
		return nil
	}
	return sizes
}

// keepFile writes the file after each change. That it cannot be written is told
// once: all that is lost is what a restart would know of pools that are out.
func (v *sizeSurvey) keepFile() {
	defer close(v.written)
	told := false
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
		if err := writeSizes(v.path, v.state()); err != nil && !told {
			told = true
			glog.Warningf("extranonce2 sizes are not kept for the next start: %v", err)
		}
	}
}

// writeSizes writes the file whole or not at all.
func writeSizes(path string, sizes map[string]int) (err error) {
	text, err := stratum.JSON.Marshal(sizes)
	if err != nil {
		return err
	}
	// One name, so that a process that ends here leaves one file at most.
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
