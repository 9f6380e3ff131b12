package daemontest

import (
	"fmt"
	"os"
	"strings"
)

// WantUser wants the daemon to be the user, in every respect, and to have no
// capability.
func (p *Daemon) WantUser(uid int) {
	p.T.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Cmd.Process.Pid))
	if err != nil {
		p.T.Fatal(err)
	}
	for _, want := range []string{fmt.Sprintf("Uid:\t%d\t%[1]d\t%[1]d\t%[1]d\n", uid), fmt.Sprintf("Gid:\t%d\t%[1]d\t%[1]d\t%[1]d\n", uid),
		"CapPrm:\t0000000000000000\n", "CapEff:\t0000000000000000\n"} {
		if !strings.Contains(string(status), want) {
			p.T.Errorf("not %q in %s", want, status)
		}
	}
}
