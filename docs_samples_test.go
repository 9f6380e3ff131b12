package main

import (
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// logCalls are the functions that write lines of the log.
var logCalls = []string{"Infof", "Warningf", "Errorf", "formatLogLine", "warn"}

// logFormats returns the formats in the calls of a Go file that write to the log, as
// expressions for the lines.
func logFormats(t *testing.T, path string) []*regexp.Regexp {
	t.Helper()
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	verb, word := regexp.MustCompile(`%(\\\.\d)?[a-z]`), regexp.MustCompile(`\w{4}`)
	var s scanner.Scanner
	files := token.NewFileSet()
	s.Init(files.AddFile(path, -1, len(source)), source, nil, 0)
	var formats []*regexp.Regexp
	var names [3]string // the latest tokens
	depth := 0          // of parentheses since the call began; 0 outside
	for {
		_, tok, literal := s.Scan()
		switch {
		case tok == token.EOF:
			return formats
		case tok == token.LPAREN && (depth > 0 || slices.Contains(logCalls, names[2]) && names[0] != "fmt"):
			depth++
		case tok == token.RPAREN && depth > 0:
			depth--
		case tok == token.STRING && depth > 0:
			format, err := strconv.Unquote(literal)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(format, "%") && word.MatchString(format) {
				formats = append(formats, regexp.MustCompile("^"+verb.ReplaceAllString(regexp.QuoteMeta(format), ".*")+"$"))
			}
		}
		names = [3]string{names[1], names[2], literal}
	}
}

// TestSampleLogLines: the program can write the log lines that the pages show. A line
// names an existing source file, and its text has a format that stands somewhere in the
// source. Where exactly is not compared, because that changes with each version.
func TestSampleLogLines(t *testing.T) {
	sources := make(map[string]bool)
	var formats []*regexp.Regexp
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
			sources[filepath.Base(path)] = true
			if folder, _, _ := strings.Cut(filepath.ToSlash(path), "/"); folder == path || folder == "internal" {
				formats = append(formats, logFormats(t, path)...)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	sample := regexp.MustCompile(`(?m)^[IWE]\d{4} [\d:.]{15} +\d+ (\w+\.go):\d+\] (.*)$`)
	samples := 0
	for _, page := range append(pages, "README.md") {
		for _, m := range sample.FindAllStringSubmatch(testkit.ReadFile(t, page), -1) {
			samples++
			if !sources[m[1]] {
				t.Errorf("%s shows a log line of %s, which does not exist", page, m[1])
			}
			if !slices.ContainsFunc(formats, func(f *regexp.Regexp) bool { return f.MatchString(m[2]) }) {
				t.Errorf("%s shows a log line that the program does not write: %s", page, m[2])
			}
		}
	}
	if samples < 20 {
		t.Errorf("only %d log lines were found", samples)
	}
}
