package main

import "runtime/debug"

// version is what -version prints, the log and the page show, and an upgrade
// announces. "make build" and the packages have the linker set it to what git
// describes; a plain "go build" or "go install" takes it from the build's own stamp.
var version string

func init() {
	if version == "" {
		info, _ := debug.ReadBuildInfo()
		version = stampedVersion(info)
	}
}

// stampedVersion is the version that the go command recorded in the binary: the
// module's version, or else the commit. It is "dev" if there is neither, as in a
// build outside a repository.
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
