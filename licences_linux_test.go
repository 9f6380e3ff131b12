package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
)

// TestLicences collects the licences as the Debian package and the image do. Every
// module that go.mod requires has one, except those that only the tools of "make
// lint" need.
func TestLicences(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if out, err := exec.Command("./scripts/licences.sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	required := regexp.MustCompile(`(?m)^\t(\S+) v`).FindAllSubmatch(mod, -1)
	if len(required) < 10 {
		t.Fatalf("there are only %d modules in go.mod", len(required))
	}
	tools, err := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", "tool").Output()
	if err != nil {
		t.Fatal(err)
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		t.Fatal("the test binary has no build information")
	}
	linked := make(map[string]bool)
	for _, module := range info.Deps {
		linked[module.Path] = true
	}
	modules := []string{"stratumSwitcher", "go"}
	for _, m := range required {
		module := string(m[1])
		if linked[module] || !slices.Contains(strings.Fields(string(tools)), module) {
			modules = append(modules, module)
		}
	}
	t.Logf("%d of %d modules", len(modules)-2, len(required))
	for _, module := range modules {
		texts, err := filepath.Glob(filepath.Join(dir, module, "*"))
		if err != nil {
			t.Fatal(err)
		}
		size := int64(0)
		for _, text := range texts {
			if stat, err := os.Stat(text); err == nil && !strings.HasPrefix(filepath.Base(text), "NOTICE") && stat.Mode().IsRegular() {
				size += stat.Size()
			}
		}
		if size < 500 {
			t.Errorf("module %s has no licence text", module)
		}
	}
	for path, want := range map[string]string{
		"CMakeLists.txt": "scripts/licences.sh",
		"Dockerfile":     "\nRUN ./scripts/licences.sh /out/usr/share/doc/stratumswitcher/licences\n",
	} {
		if content, err := os.ReadFile(path); err != nil || !strings.Contains(string(content), want) {
			t.Errorf("%s does not run the script: %v", path, err)
		}
	}
}
