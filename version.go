package main

import "runtime/debug"

// version is the version that -version prints, that the log and the page show, and that
// an upgrade announces. In "make build" and in the packages, the linker sets it to the
// output of git describe. After a plain "go build" or "go install", init sets it.
var version string

func init() {
	if version == "" {
		info, _ := debug.ReadBuildInfo()
		version = stampedVersion(info)
	}
}

// stampedVersion returns the version that the go command recorded in the binary: the
// module's version, or otherwise the commit. It returns "dev" if there is neither, as in
// a build outside a repository.
func stampedVersion(info *debug.BuildInfo) string {
	if info == nil {
		return "dev"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	var revision, dirty string
	for _, setting := range info.Settings {
		switch {
		case setting.Key == "vcs.revision":
			revision = setting.Value[:min(len(setting.Value), 12)]
		case setting.Key == "vcs.modified" && setting.Value == "true":
			dirty = "-dirty"
		}
	}
	if revision == "" {
		return "dev"
	}
	return revision + dirty
}
