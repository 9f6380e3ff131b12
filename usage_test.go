package main

import (
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"
)

// -help begins with what the program is, an example and where the manual is. The
// example's configuration works.
func TestUsage(t *testing.T) {
	flags := flag.NewFlagSet(programName, flag.ContinueOnError)
	flags.String("config", "./config.json", "configuration `file`")
	var out strings.Builder
	printUsage(&out, flags)
	text := out.String()
	if !strings.HasPrefix(text, "stratumSwitcher is a proxy for Stratum mining connections.") {
		t.Errorf("the text begins with %q", text[:min(len(text), 80)])
	}
	at := 0
	for _, want := range []string{"\nusage: stratumSwitcher [flags]\n", "-check -pools", `"man stratumSwitcher"`, "docs/", "\nflags:\n", "-config file"} {
		i := strings.Index(text[at:], want)
		if i < 0 {
			t.Fatalf("there is no %q after\n%s", want, text[:at])
		}
		at += i
	}
	for line := range strings.Lines(usageText) {
		if len(line) > 81 {
			t.Errorf("a line has %d columns: %s", len(line), line)
		}
	}
	example := regexp.MustCompile(`(?s)\n  (\{\n.*?\n  \})\n`).FindStringSubmatch(text)
	if example == nil {
		t.Fatal("the text has no configuration")
	}
	if _, err := parseConfig([]byte(example[1])); err != nil {
		t.Errorf("the example does not work: %v", err)
	}
}

var flagDefinition = regexp.MustCompile(`flag\.(?:String|Bool)\("(\w+)"`)

// The manual page and docs/operating.md have every flag of the program.
func TestFlagsAreInTheManual(t *testing.T) {
	source, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("deploy/stratumSwitcher.8")
	if err != nil {
		t.Fatal(err)
	}
	manual, err := os.ReadFile("docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"logtostderr", "alsologtostderr", "log_dir", "v", "logbuflevel"}
	for _, m := range flagDefinition.FindAllSubmatch(source, -1) {
		if name := string(m[1]); name != "runtime" { // it is only used between two processes
			names = append(names, name)
		}
	}
	if len(names) < 9 {
		t.Fatalf("unexpected flags found: %q", names)
	}
	for _, name := range names {
		if !regexp.MustCompile(`(?m)^\.It Fl ` + name + `\b`).Match(page) {
			t.Errorf("deploy/stratumSwitcher.8 does not describe -%s", name)
		}
		if !regexp.MustCompile("(?m)^\\| `[^|]*-" + name + `\b`).Match(manual) {
			t.Errorf("docs/operating.md does not describe -%s", name)
		}
	}
}
