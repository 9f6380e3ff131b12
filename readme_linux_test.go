//go:build e2e && linux && !portable_relay

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// shellBlocks are the commands of a page, one text for each block.
func shellBlocks(t *testing.T, page string) []string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, m := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		blocks = append(blocks, m[1])
	}
	return blocks
}

// quickStart is a script of README's blocks as they stand there, in a network
// of its own. Ctrl-C of the page is the end of its pid namespace.
const quickStart = `ip link set lo up
%setup
(%practice) >practice.log 2>&1 &
(%run) >switcher.log 2>&1 &
wait_for() {
	for i in $(seq 600); do
		if grep -q "$1" practice.log; then return; fi
		sleep 0.1
	done
	echo "not seen: $1"
	cat practice.log switcher.log
	exit 1
}
wait_for "3 miners connected, 3 mine btc, 0 mine bcc"
%switch
wait_for "3 miners connected, 0 mine btc, 3 mine bcc"
for i in $(seq 100); do
	if grep -q 'to="bcc" miners=3 .*: done' switcher.log; then exit; fi
	sleep 0.1
done
cat switcher.log
exit 1
`

// TestReadmeQuickStart runs the quick start of README as it is written, in a
// copy of the source.
func TestReadmeQuickStart(t *testing.T) {
	blocks := shellBlocks(t, "README.md")
	script := quickStart
	for part, first := range map[string]string{
		"%setup": "make build\n", "%practice": "make practice\n", "%run": "./stratumSwitcher -logtostderr", "%switch": "echo '{\"alice\": \"bcc\"}'",
	} {
		found := ""
		for _, block := range blocks {
			if strings.HasPrefix(block, first) {
				found = strings.TrimSpace(block)
			}
		}
		if found == "" {
			t.Fatalf("README.md has no block that begins with %q", first)
		}
		script = strings.ReplaceAll(script, part, found)
	}
	dir := filepath.Join(t.TempDir(), "source")
	if out, err := exec.Command("cp", "-r", ".", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range []string{"config.json", "coins.json", "stratumSwitcher"} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"unshare", "--net", "--pid", "--fork", "--kill-child", "sh", "-ec", script}
	if os.Geteuid() != 0 {
		args = append([]string{"sudo", "-n", "--preserve-env=PATH,HOME,GOCACHE,GOMODCACHE"}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = dir
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "./config.json is fine") {
		t.Fatalf("%v\n%s", err, out)
	}
}
