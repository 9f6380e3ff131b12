package daemontest

import (
	"flag"
	"regexp"
)

var Long = flag.Bool("long", false, "run the load of performance.md in full")

// LinesFrom are the log's lines after the first n that match.
func (p *Daemon) LinesFrom(n int, pattern string) (lines []string) {
	re := regexp.MustCompile(pattern)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, line := range p.lines[n:] {
		if re.MatchString(line) {
			lines = append(lines, line)
		}
	}
	return lines
}
