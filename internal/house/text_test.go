package house_test

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// foreign finds what belongs to the machine that a text was written on, not to
// the product. The parts are joined here so that this file does not find itself.
func foreign() map[string]*regexp.Regexp {
	join := func(parts ...string) *regexp.Regexp { return regexp.MustCompile(strings.Join(parts, "")) }
	return map[string]*regexp.Regexp{
		"a path of somebody's machine":   join(`(?:^|[^\w.\-}])/(?:wo`, `rk|ro`, `ot|ho`, `me/\w+)/`),
		"a tool outside this repository": join(`\.\./\.lib`, `rary`),
		"a package registry's host":      join(`proxy\.gol`, `ang\.org|deb\.deb`, `ian\.org|registry\.npm`, `js\.org|pypi\.o`, `rg`),
	}
}

func TestTextSpeaksOfTheProductAlone(t *testing.T) {
	for _, name := range files(t) {
		text := read(t, name)
		if strings.ContainsRune(text, 0) || path.Base(name) == "go.sum" {
			continue
		}
		for what, re := range foreign() {
			for n, line := range strings.Split(text, "\n") {
				if found := re.FindString(line); found != "" {
					t.Errorf("%s:%d: %q: %s", name, n+1, found, what)
				}
			}
		}
	}
}

func TestForeignTextIsFound(t *testing.T) {
	f := func(line string, want bool) {
		t.Helper()
		found := false
		for _, re := range foreign() {
			found = found || re.MatchString(line)
		}
		if found != want {
			t.Errorf("%q: found = %v; want %v", line, found, want)
		}
	}
	f("cd /wo"+"rk/main", true)
	f("(see /ro"+"ot/notes.txt)", true)
	f("GOPROXY=https://proxy."+"golang.org", true)
	f("network/traffic", false)
	f("cp x $D/root/etc", false)
	f("testdata/work/x", false)
}

// TestPathsFitAModule: a path with a colon makes the whole module impossible to
// download with `go install`.
func TestPathsFitAModule(t *testing.T) {
	for _, name := range files(t) {
		if strings.ContainsAny(name, `:<>"|?*\`) {
			t.Errorf("%s: go install refuses a module with such a path", name)
		}
	}
}

// TestFixturesAreArchives: a recorded machine is a text archive (txtar), which
// shows in a review and survives links, modes and names with colons.
func TestFixturesAreArchives(t *testing.T) {
	trees := []string{"sys", "proc", "dev", "etc", "run", "var"}
	for _, name := range files(t) {
		_, below, ok := strings.Cut("/"+name, "/testdata/")
		if !ok {
			continue
		}
		folders := strings.Split(path.Dir(below), "/")
		if slices.ContainsFunc(folders, func(d string) bool { return slices.Contains(trees, d) }) {
			t.Errorf("%s: a recorded tree; make it a .txtar", name)
		}
	}
}
