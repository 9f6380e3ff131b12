package daemontest

// Script puts a shell script in the binary's place.
func (p *Daemon) Script(text string) {
	p.T.Helper()
	p.Replace(p.Binary, []byte("#!/bin/sh\n"+text+"\n"), 0o755)
}
