package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"
)

// screen shows events, oldest first, and below them one table. On a terminal
// the table stays at the bottom and is drawn again in place; elsewhere it is
// written again now and then.
type screen struct {
	out      io.Writer
	terminal bool
	began    time.Time
	events   []string // not shown yet; terminal only
	height   int      // lines of the table that stands on the terminal
	err      error    // of the first write that failed
}

func newScreen(out *os.File) *screen {
	stat, err := out.Stat()
	terminal := err == nil && stat.Mode()&os.ModeCharDevice != 0 &&
		runtime.GOOS != "windows" && os.Getenv("TERM") != "dumb" && os.Getenv("TERM") != ""
	return &screen{out: out, terminal: terminal, began: time.Now()}
}

// event adds a line to the story.
func (s *screen) event(format string, args ...any) {
	line := fmt.Sprintf("%6.1fs  ", time.Since(s.began).Seconds()) + fmt.Sprintf(format, args...) + "\n"
	if s.terminal && s.height > 0 {
		s.events = append(s.events, line) // comes with the next refresh
		return
	}
	s.write(line)
}

// refresh draws the table anew. Its error is the first of all writes.
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

// showTable writes the table where it is not to be seen all the time.
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

// table is the state of things, one line per sub-account.
func (d *demo) table() []string {
	lines := []string{
		"",
		"                  miners  miners    shares   shares  connections  last switch",
		"sub-account  coin on btc  on bcc  accepted  refused         lost         took",
	}
	for _, a := range d.accounts {
		if a.fleet == nil {
			continue
		}
		s := a.fleet.Stats()
		lines = append(lines, fmt.Sprintf("%-11s  %-4s %6d  %6d  %8d  %7d  %11d  %11s",
			a.name, a.coin, s.ByPool["btc"], s.ByPool["bcc"], s.Accepted, s.Rejected, s.Disconnected, a.lastSwitch()))
	}
	bcc := "up"
	if d.bccDown {
		bcc = "DOWN"
	}
	return append(lines, "pools: btc up, bcc "+bcc)
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
