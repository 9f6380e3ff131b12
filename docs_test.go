package main

import (
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// goComments calls f with each comment of the repository's Go files, as one line.
func goComments(t *testing.T, f func(path, comment string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var s scanner.Scanner
		files := token.NewFileSet()
		s.Init(files.AddFile(path, -1, len(source)), source, nil, scanner.ScanComments)
		var group strings.Builder
		for {
			_, tok, text := s.Scan()
			if tok == token.COMMENT {
				group.WriteString(strings.TrimPrefix(text, "//") + " ")
				continue
			}
			// A comment of several lines is followed by one other token.
			if group.Len() > 0 {
				f(path, strings.Join(strings.Fields(group.String()), " "))
				group.Reset()
			}
			if tok == token.EOF {
				return nil
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// headings returns the texts of a page's headings.
func headings(t *testing.T, page string) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]bool)
	code := false
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "```") {
			code = !code
		}
		if name := strings.TrimLeft(line, "#"); !code && name != line {
			found[strings.TrimSpace(name)] = true
		}
	}
	return found
}

var citation = regexp.MustCompile(`([\w./-]*\w\.md)(?:, "([^"]+)")?`)

// TestCommentsCitePages: if a comment cites a page, the page is in the repository
// and has the cited section.
func TestCommentsCitePages(t *testing.T) {
	t.Parallel()
	cited, sections := 0, 0
	goComments(t, func(path, comment string) {
		for _, m := range citation.FindAllStringSubmatch(comment, -1) {
			page, section := m[1], m[2]
			cited++
			if _, err := os.Stat(page); err != nil {
				t.Errorf("%s cites %s, which is not in the repository", path, page)
				continue
			}
			if section == "" {
				continue
			}
			sections++
			if !headings(t, page)[section] {
				t.Errorf("%s cites %s, %q, which has no such section", path, page, section)
			}
		}
	})
	if cited < 15 || sections < 5 {
		t.Errorf("only %d citations were found, %d of them with a section", cited, sections)
	}
}

// anchor returns the address of a heading within its page, as GitHub makes it.
func anchor(heading string) string {
	heading = regexp.MustCompile(`[^\p{L}\p{N}\s_-]`).ReplaceAllString(strings.ToLower(heading), "")
	return strings.ReplaceAll(heading, " ", "-")
}

// TestPageLinks: links from page to page lead somewhere.
func TestPageLinks(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	links := 0
	for _, page := range append(pages, more...) {
		for _, m := range link.FindAllStringSubmatch(testkit.ReadFile(t, page), -1) {
			target, section, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			links++
			path := page
			if target != "" {
				path = filepath.Join(filepath.Dir(page), target)
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
				continue
			}
			if section == "" {
				continue
			}
			found := false
			for heading := range headings(t, path) {
				found = found || anchor(heading) == section
			}
			if !found {
				t.Errorf("%s links to %s: there is no such section", page, m[1])
			}
		}
	}
	if links < 40 {
		t.Errorf("only %d links were found", links)
	}
}

// partOfPage returns what stands on a page between two texts.
func partOfPage(t *testing.T, page, from, to string) string {
	t.Helper()
	_, part, found := strings.Cut(testkit.ReadFile(t, page), from)
	if !found {
		t.Fatalf("%s has no %q", page, from)
	}
	part, _, _ = strings.Cut(part, to)
	return part
}

// The README is for a reader who has two minutes.
func TestReadmeIsShort(t *testing.T) {
	if n := strings.Count(testkit.ReadFile(t, "README.md"), "\n"); n > 200 {
		t.Errorf("README.md has %d lines; reference belongs in docs", n)
	}
}

// TestArchitectureMap: docs/architecture.md names each product file and folder, and
// nothing that no longer exists.
func TestArchitectureMap(t *testing.T) {
	text := testkit.ReadFile(t, "docs/architecture.md")
	var patterns []string
	for _, m := range regexp.MustCompile("`([\\w./*-]+(?:\\.go|/))`").FindAllStringSubmatch(text, -1) {
		pattern := strings.TrimSuffix(m[1], "/")
		patterns = append(patterns, pattern)
		if found, err := filepath.Glob(pattern); err != nil || len(found) == 0 && !strings.HasSuffix(pattern, "doc.go") {
			t.Errorf("docs/architecture.md names %s, which does not exist: %v", m[1], err)
		}
	}
	var files []string
	for _, glob := range []string{"*.go", "internal/*"} {
		found, err := filepath.Glob(glob)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) < 50 {
		t.Fatalf("only %d files were found", len(files))
	}
	for _, file := range files {
		named := func(pattern string) bool { ok, _ := filepath.Match(pattern, file); return ok }
		if !strings.HasSuffix(file, "_test.go") && !slices.ContainsFunc(patterns, named) {
			t.Errorf("docs/architecture.md does not name %s", file)
		}
	}
}
