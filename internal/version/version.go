// Package version says which build of wattledger is running.
//
// Nothing is stamped into a variable: the Go toolchain already records the
// module version and the commit in every binary, and this package reads them
// back. A build outside a repository says "devel".
package version

import (
	"runtime/debug"
	"strings"
)

// String is the version of the running binary, for --version, logs and the
// build_info metric: a release tag or a pseudo-version, with "+dirty" where the
// tree had changes, or "devel".
func String() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return of(&debug.BuildInfo{})
	}
	return of(info)
}

// of reads the version out of a build's own record.
func of(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	revision := setting(info, "vcs.revision")
	if revision == "" {
		return "devel"
	}
	v := "devel-" + revision[:min(12, len(revision))]
	if strings.EqualFold(setting(info, "vcs.modified"), "true") {
		v += "+dirty"
	}
	return v
}

func setting(info *debug.BuildInfo, key string) string {
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}
