package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"
)

// screen shows events, oldest first, and below them one table. On a terminal, the table
// stays at the bottom and is redrawn in place. Elsewhere it is written again before
// some events.
type screen struct {
	out      io.Writer
	terminal bool
	began    time.Time
	events   []string // events that the next refresh shows; only on a terminal
	height   int      // lines of the table on the terminal
	err      error    // of the first write that failed
}

func newScreen(out *os.File) *screen {
	stat, err := out.Stat()
	terminal := err == nil && stat.Mode()&os.ModeCharDevice != 0 &&
		runtime.GOOS != "windows" && os.Getenv("TERM") != "dumb" && os.Getenv("TERM") != ""
	return &screen{out: out, terminal: terminal, began: time.Now()}
}

// event shows a line with the time.
func (s *screen) event(format string, args ...any) {
	line := fmt.Sprintf("%6.1fs  ", time.Since(s.began).Seconds()) + fmt.Sprintf(format, args...) + "\n"
	if s.terminal && s.height > 0 {
		s.events = append(s.events, line)
		return
	}
	s.write(line)
}

// refresh redraws the table on a terminal. It returns the first error of all writes.
func (s *screen) refresh(table []string) error {
	if !s.terminal {
		return s.err
	}
	const (
		noWrap = "\x1b[?7l"
		wrap   = "\x1b[?7h"
		clear  = "\x1b[J"
	)
	var b strings.Builder
	if s.height > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\r%s", s.height, clear)
	}
	for _, line := range s.events {
		b.WriteString(line)
	}
	s.events = nil
	b.WriteString(noWrap)
	for _, line := range table {
		b.WriteString(line + "\n")
	}
	b.WriteString(wrap)
	s.height = len(table)
	s.write(b.String())
	return s.err
}

// showTable writes the table, unless it is on a terminal and thus always visible.
func (s *screen) showTable(table []string) {
	if !s.terminal {
		s.write(strings.Join(table, "\n") + "\n\n")
	}
}

// finish shows the table for the last time.
func (s *screen) finish(table []string) {
	s.refresh(table)
	s.showTable(table)
}

func (s *screen) write(text string) {
	if _, err := io.WriteString(s.out, text); err != nil && s.err == nil {
		s.err = err
	}
}

// table returns the present state: a line for each sub-account and each pool.
func (d *demo) table() []string {
	lines := []string{
		"",
		"                  miners at   miners at  miners    shares  connections  last switch",
		"sub-account  coin       btc  its backup  at bcc  accepted         lost         took",
	}
	miners := make(map[string]int)
	for _, a := range d.accounts {
		if a.fleet == nil {
			continue
		}
		s := a.fleet.Stats()
		for pool, n := range s.ByPool {
			miners[pool] += n
		}
		lines = append(lines, fmt.Sprintf("%-11s  %-4s %9d  %10d  %6d  %8d  %11d  %11s",
			a.name, a.coin, s.ByPool[d.btc.Name()], s.ByPool[d.backup.Name()], s.ByPool[d.bcc.Name()],
			s.Accepted, s.Disconnected, a.lastSwitch()))
	}
	now := time.Now()
	for _, s := range []*site{d.btc, d.backup, d.bcc} {
		state := "up"
		if s.down {
			state = "DOWN"
		}
		lines = append(lines, fmt.Sprintf("pool %-10s  %-4s  %2d miners  %9s", s.Name(), state, miners[s.Name()], hashrateText(s.hashrate(now))))
	}
	return lines
}

func (a *account) lastSwitch() string {
	switch {
	case a.switching:
		return "under way"
	case a.took == 0:
		return "-"
	}
	return fmt.Sprintf("%d ms", a.took.Milliseconds())
}
