package main

import (
	"runtime/debug"
	"testing"
)

func TestStampedVersion(t *testing.T) {
	stamp := func(module, revision, modified string) *debug.BuildInfo {
		info := &debug.BuildInfo{Main: debug.Module{Version: module}}
		if revision != "" {
			info.Settings = []debug.BuildSetting{{Key: "vcs.revision", Value: revision}, {Key: "vcs.modified", Value: modified}}
		}
		return info
	}
	for name, c := range map[string]struct {
		info *debug.BuildInfo
		want string
	}{
		"no stamp":        {nil, "dev"},
		"no repository":   {stamp("(devel)", "", ""), "dev"},
		"a release":       {stamp("v1.0.0", "0123456789abcdef", "false"), "v1.0.0"},
		"a commit":        {stamp("(devel)", "0123456789abcdef", "false"), "0123456789ab"},
		"changed files":   {stamp("", "0123456789abcdef", "true"), "0123456789ab-dirty"},
		"a short commit":  {stamp("", "0123", "false"), "0123"},
		"a pseudoversion": {stamp("v0.0.0-20261128170610-0123456789ab+dirty", "", ""), "v0.0.0-20261128170610-0123456789ab+dirty"},
	} {
		if got := stampedVersion(c.info); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}
