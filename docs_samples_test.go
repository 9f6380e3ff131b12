package main

import (
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// logFormats returns the formats in a Go file that could be those of log lines, as
// expressions for the lines.
func logFormats(t *testing.T, path string) []*regexp.Regexp {
	t.Helper()
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	verb := regexp.MustCompile(`%(\\\.\d)?[a-z]`)
	var s scanner.Scanner
	files := token.NewFileSet()
	s.Init(files.AddFile(path, -1, len(source)), source, nil, 0)
	var formats []*regexp.Regexp
	for {
		_, tok, literal := s.Scan()
		if tok == token.EOF {
			return formats
		}
		if tok != token.STRING {
			continue
		}
		format, err := strconv.Unquote(literal)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(format, "%") && regexp.MustCompile(`\w{4}`).MatchString(format) {
			formats = append(formats, regexp.MustCompile("^"+verb.ReplaceAllString(regexp.QuoteMeta(format), ".*")+"$"))
		}
	}
}

// TestSampleLogLines: the program can write the log lines that the pages show. A line
// names its source file, and its text has a format of that file. Line numbers in source
// files are not compared, because they change with each version.
func TestSampleLogLines(t *testing.T) {
	sources := make(map[string][]string)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
			sources[filepath.Base(path)] = append(sources[filepath.Base(path)], path)
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
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range sample.FindAllStringSubmatch(string(text), -1) {
			samples++
			found := false
			for _, path := range sources[m[1]] {
				for _, format := range logFormats(t, path) {
					found = found || format.MatchString(m[2])
				}
			}
			if !found {
				t.Errorf("%s shows a log line that %s does not write: %s", page, m[1], m[2])
			}
		}
	}
	if samples < 20 {
		t.Errorf("only %d log lines were found", samples)
	}
}
