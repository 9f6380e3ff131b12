//go:build linux && e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The commands on the pages are run as they are written, by the scenes in
// doc_scenes_linux_test.go. Commands that no scene runs are listed here, with the
// reason.

// unrun lists blocks of commands that are not run. Each is given by its beginning.
var unrun = []struct{ page, block, reason string }{
	{"docs/install.md", "docker build --build-arg", "needs a container engine and its registry; TestContainer runs what the image has"},
	{"docs/install.md", "docker kill -s USR2 switcher", "needs a container engine; TestContainer sends the signal"},
	{"docs/install.md", "docker create --name new", "needs a container engine"},
	{"docs/install.md", "docker-compose -f deploy/compose.yml up", "needs a container engine and its registry; TestCompose runs the services without"},
	{"docs/install.md", "docker-compose -f deploy/compose.yml exec", "needs a container engine; TestCompose makes this switch"},
	{"docs/install.md", "docker-compose -f deploy/compose.yml stop", "needs a container engine"},
	{"docs/performance.md", "make bench ", "takes minutes, and installs packages"},
	{"docs/reliability.md", "make torture", "takes half an hour"},
	{"docs/reliability.md", "go test -tags e2e -run TestShortSessionsLeaveNothing", "make test runs it; a million sessions take half an hour"},
	{"docs/reliability.md", "make cover ", "runs this test"},
	{"docs/pools.md", "make build\nswitcher=$PWD", "needs two real pools, an account there, and minerd"},
}

// unrunLines are lines of blocks whose other lines are run.
var unrunLines = []struct{ page, line, reason string }{
	{"README.md", "make test ", "runs this test"},
	{"CONTRIBUTING.md", "make test ", "runs this test"},
	{"CONTRIBUTING.md", "make e2e ", "runs this test"},
	{"CONTRIBUTING.md", "make unit ", "make test runs it"},
	{"CONTRIBUTING.md", "make lint ", "the CI runs it; it takes minutes"},
	{"CONTRIBUTING.md", "make demo ", "README.md has it too, and is run"},
	{"CONTRIBUTING.md", "make practice ", "runs for ever; README.md has it too, and is run"},
	{"CONTRIBUTING.md", "make torture ", "takes half an hour"},
	{"CONTRIBUTING.md", "make cover ", "runs this test"},
	{"CONTRIBUTING.md", "make bench ", "takes minutes, and installs packages"},
}

// unrunInline lists commands in sentences and tables that are in no block. Commands
// of make with a target of the Makefile, and of go test with tests that exist, need
// not be listed.
var unrunInline = []struct{ page, command, reason string }{
	{"CONTRIBUTING.md", "go vet ./internal/coins && go tool staticcheck ./internal/coins", "make lint, which the CI runs, does it for all packages"},
	{"README.md", "apt-get install golang-go", "installs packages"},
	{"README.md", "docker build -t stratumswitcher .", "needs a container engine and its registry"},
	{"README.md", "./stratumSwitcher -check -pools", "asks the reader's pools; docs/operating.md has the same command, which is run"},
	{"CONTRIBUTING.md", "go test ./...", "make test runs them"},
	{"SECURITY.md", "stratumSwitcher -version", "TestPackageUnderSystemd runs it"},
	{"docs/install.md", "apt-get install --allow-downgrades", "needs an older package"},
	{"docs/install.md", "docker ps", "needs a container engine"},
	{"docs/install.md", "docker compose", "is a name and not a command"},
	{"docs/performance.md", "go test -bench . crypto/ecdh crypto/ecdsa", "measures Go's own library"},
	{"docs/performance.md", "go run ./bench", "takes minutes, and needs packages that make bench installs"},
	{"docs/reliability.md", "go test -race -parallel 4 ./...", "make test runs them"},
}

// docBlock is a block of commands of a page.
type docBlock struct {
	page string
	text string // the lines to type
}

func (b docBlock) String() string {
	first, _, _ := strings.Cut(b.text, "\n")
	return b.page + ": " + first
}

var (
	fenced     = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$")
	indented   = regexp.MustCompile(`(?m)^(?: {4}|\t)(.*)$`)
	prompt     = regexp.MustCompile(`(?m)^\$ (.*)$`)
	inline     = regexp.MustCompile("`([^`\n]+)`")
	isCommand  = regexp.MustCompile(`^(make|docker|docker-compose|apt-get|go|git|systemctl|supervisorctl|\./stratumSwitcher|stratumSwitcher|zkCli\.sh|curl|sysctl|\./scripts/\S+) \S`)
	makeTarget = regexp.MustCompile(`^make ([a-z-]+)( |$)`)
	goTest     = regexp.MustCompile(`^go test .*-(?:run|bench) '?(\w+)`)
)

// docPages lists the pages, relative to the root of the repository.
func docPages(t testing.TB) []string {
	t.Helper()
	pages, err := filepath.Glob("docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	return append(pages, "README.md", "CONTRIBUTING.md", "SECURITY.md")
}

// docBlocks returns all blocks of commands: those marked as shell, and the lines
// after a prompt in blocks that show output too.
func docBlocks(t testing.TB) []docBlock {
	t.Helper()
	var blocks []docBlock
	for _, page := range docPages(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range indented.FindAllStringSubmatch(string(text), -1) {
			if isCommand.MatchString(m[1]) {
				t.Errorf("%s has a command that is not in a block marked sh: %q", page, m[1])
			}
		}
		for _, m := range fenced.FindAllStringSubmatch(string(text), -1) {
			switch {
			case m[1] == "sh":
				blocks = append(blocks, docBlock{page, m[2]})
			case m[1] == "" && prompt.MatchString(m[2]):
				var lines strings.Builder
				for _, line := range prompt.FindAllStringSubmatch(m[2], -1) {
					lines.WriteString(line[1] + "\n")
				}
				blocks = append(blocks, docBlock{page, lines.String()})
			case m[1] == "" && isCommand.MatchString(m[2]):
				t.Errorf("%s has commands in a block that is not marked sh: %q", page, m[2])
			case m[1] != "" && !slices.Contains([]string{"json", "yaml", "ini"}, m[1]):
				t.Errorf("%s has a block marked %q: is it of commands?", page, m[1])
			}
		}
	}
	return blocks
}

// findBlock returns the page's block with this beginning.
func findBlock(t testing.TB, blocks []docBlock, page, beginning string) int {
	t.Helper()
	at := slices.IndexFunc(blocks, func(b docBlock) bool { return b.page == page && strings.HasPrefix(b.text, beginning) })
	if at < 0 {
		t.Fatalf("%s has no block of commands that begins with %q", page, beginning)
	}
	return at
}

// toRun returns the text of a block without the lines that are listed as not run.
func (b docBlock) toRun() string {
	var text strings.Builder
	for line := range strings.Lines(b.text) {
		if !slices.ContainsFunc(unrunLines, func(u struct{ page, line, reason string }) bool {
			return u.page == b.page && strings.HasPrefix(line, u.line)
		}) {
			text.WriteString(line)
		}
	}
	return text.String()
}

// TestDocCommandsAreRun checks that each block of commands is run by a scene or
// listed, and that the lists contain nothing that no longer exists.
func TestDocCommandsAreRun(t *testing.T) {
	blocks := docBlocks(t)
	why := make([]string, len(blocks))
	for _, s := range docScenes {
		for _, step := range s.steps {
			if step.page != "" {
				why[findBlock(t, blocks, step.page, step.block)] = s.name
			}
		}
	}
	for _, u := range unrun {
		at := findBlock(t, blocks, u.page, u.block)
		if why[at] != "" {
			t.Errorf("%v is listed as not run, but %s runs it", blocks[at], why[at])
		}
		why[at] = u.reason
	}
	for i, b := range blocks {
		if why[i] == "" {
			t.Errorf("%v: no scene runs this block, and it is not listed in unrun", b)
		}
	}
	for _, u := range unrunLines {
		if !slices.ContainsFunc(blocks, func(b docBlock) bool { return b.page == u.page && strings.Contains("\n"+b.text, "\n"+u.line) }) {
			t.Errorf("unrunLines has %q, which is not in %s", u.line, u.page)
		}
	}
}

// TestDocInlineCommands checks the same for commands in sentences and tables.
func TestDocInlineCommands(t *testing.T) {
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	tests := testNames(t)
	var lines []string
	for _, b := range docBlocks(t) {
		lines = append(lines, strings.Split(b.text, "\n")...)
	}
	listed := make([]bool, len(unrunInline))
	for _, page := range docPages(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		prose := fenced.ReplaceAllString(string(text), "")
		for _, m := range inline.FindAllStringSubmatch(prose, -1) {
			command := m[1]
			if !isCommand.MatchString(command) || slices.ContainsFunc(lines, func(line string) bool { return strings.HasPrefix(line, command) }) {
				continue
			}
			if target := makeTarget.FindStringSubmatch(command); target != nil {
				if !regexp.MustCompile(`(?m)^` + target[1] + `:`).Match(makefile) {
					t.Errorf("%s: the Makefile has no target %s", page, target[1])
				}
				continue
			}
			if name := goTest.FindStringSubmatch(command); name != nil {
				if name[1] != "NAME" && !slices.ContainsFunc(tests, func(s string) bool { return strings.Contains(s, name[1]) }) {
					t.Errorf("%s: no test is named %s", page, name[1])
				}
				continue
			}
			at := slices.IndexFunc(unrunInline, func(u struct{ page, command, reason string }) bool {
				return u.page == page && strings.HasPrefix(command, u.command)
			})
			if at < 0 {
				t.Errorf("%s: `%s` is in no block that is run, and not listed in unrunInline", page, command)
				continue
			}
			listed[at] = true
		}
	}
	for i, found := range listed {
		if !found {
			t.Errorf("unrunInline has %q, which is not in %s", unrunInline[i].command, unrunInline[i].page)
		}
	}
}

// testNames returns the names of all tests and benchmarks.
func testNames(t testing.TB) []string {
	t.Helper()
	function := regexp.MustCompile(`(?m)^func ((?:Test|Benchmark|Fuzz)\w+)`)
	var names []string
	for _, pattern := range []string{"*_test.go", "*/*_test.go", "internal/*/*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range function.FindAllStringSubmatch(string(text), -1) {
				names = append(names, m[1])
			}
		}
	}
	if len(names) == 0 {
		t.Fatal(fmt.Errorf("no tests found"))
	}
	return names
}
