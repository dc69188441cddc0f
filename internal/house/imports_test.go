package house_test

import (
	"go/ast"
	"path"
	"slices"
	"strings"
	"testing"
)

// confined packages may import of ours what is listed, and what lies below
// themselves. A rule of a folder holds for everything below it. internal/window
// and collector itself hold the words that others share; they stand on energy
// alone, so that whoever uses the words is tied to nothing else.
func confined() map[string][]string {
	return map[string][]string{
		"internal/energy":      {},
		"internal/version":     {},
		"internal/window":      {"internal/energy"},
		"internal/meter":       {"collector", "internal/energy"},
		"internal/attribution": {"collector", "internal/energy", "internal/job", "internal/meter", "internal/window"},
		"internal/spool":       {"internal/failpoint", "internal/obs"},
		"internal/report":      {"internal/energy", "internal/ledger", "internal/window"},
		"internal/sysfs":       {"collector"},
		"internal/poll":        {"collector"},
		"collector":            {"collector", "internal/energy", "internal/poll", "internal/sysfs", "internal/sysfs/journal"},
	}
}

// never lists what a package must not reach, even through others.
func never() map[string][]string {
	apart := []string{"internal/wire", "internal/intake", "internal/agent", "internal/sender", "internal/spool"}
	return map[string][]string{
		"internal/ledger":      apart,
		"internal/accounting":  append([]string{"internal/ledger/sqlite"}, apart...),
		"internal/report":      append([]string{"internal/series", "internal/web"}, apart...),
		"internal/attribution": {"internal/agent", "internal/sample", "internal/spool", "internal/wire"},
		"internal/sample":      {"internal/agent", "internal/attribution", "internal/wire", "internal/ledger"},
		"internal/wire":        {"internal/ledger/sqlite", "internal/intake", "internal/agent", "internal/sender"},
		"internal/agent":       {"internal/ledger/sqlite", "internal/intake", "internal/report", "internal/web"},
		"internal/sender":      {"internal/ledger/sqlite", "internal/intake", "internal/agent"},
		"internal/intake":      {"internal/agent", "internal/sender", "internal/sample", "collector"},
		"exporters":            {"internal/ledger", "internal/intake", "internal/spool"},
	}
}

// apart are folders whose sub-packages are siblings: alternatives to each
// other, chosen where they are wired, and blind to each other.
func apart() []string {
	return []string{"collector", "exporters", "internal/job", "internal/ledger", "internal/accounting"}
}

// wirers may import alternatives: the commands, and the fleet, which drives the
// agent's own pipeline.
func wirers() []string { return []string{"cmd", "internal/fleet", "test"} }

func TestConfinedPackagesImportOnlyTheirOwn(t *testing.T) {
	for _, p := range packages(t) {
		for root, allowed := range confined() {
			if !under(p.path(), root) {
				continue
			}
			for _, imp := range ours(p.Imports) {
				if !slices.Contains(allowed, imp) && !under(imp, root) {
					t.Errorf("%s imports %s; %s may import of ours only %v", p.path(), imp, root, allowed)
				}
			}
		}
	}
}

func TestForbiddenReach(t *testing.T) {
	for _, p := range packages(t) {
		for root, forbidden := range never() {
			if !under(p.path(), root) {
				continue
			}
			for _, dep := range ours(p.Deps) {
				for _, bad := range forbidden {
					if under(dep, bad) {
						t.Errorf("%s reaches %s; %s must never, not even through others", p.path(), dep, root)
					}
				}
			}
		}
	}
}

func TestEnergyStandsOnTheStandardLibrary(t *testing.T) {
	for _, p := range packages(t) {
		if !under(p.path(), "internal/energy") {
			continue
		}
		for _, dep := range p.Deps {
			first, _, _ := strings.Cut(dep, "/")
			if strings.Contains(first, ".") && !under(inside(dep), "internal/energy") {
				t.Errorf("%s reaches %s; it stands on the standard library alone", p.path(), dep)
			}
		}
	}
}

// TestAttributionIsPure: no machine, no network and no clock, in it or in any
// package of ours that it stands on.
func TestAttributionIsPure(t *testing.T) {
	list := packages(t)
	pure := map[string]bool{}
	for _, p := range list {
		if under(p.path(), "internal/attribution") {
			pure[p.path()] = true
			for _, dep := range ours(p.Deps) {
				pure[dep] = true
			}
		}
	}
	for _, p := range list {
		if !pure[p.path()] {
			continue
		}
		for _, imp := range p.Imports {
			for _, bad := range []string{"os", "net", "syscall", "io/ioutil", "math/rand", "math/rand/v2", "log", "database/sql"} {
				if under(imp, bad) {
					t.Errorf("%s imports %s; attribution and what it stands on are pure", p.path(), imp)
				}
			}
		}
		for _, f := range parse(t, p, p.code()) {
			for _, call := range clock(f.file) {
				t.Errorf("%s:%d: %s.%s; attribution and what it stands on have no clock", f.name, f.line(call), "time", call.Sel.Name)
			}
		}
	}
}

// clock finds uses of package time that read the clock or wait for it.
func clock(file *ast.File) []*ast.SelectorExpr {
	reads := []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTicker", "NewTimer"}
	var out []*ast.SelectorExpr
	ast.Inspect(file, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(reads, s.Sel.Name) {
				out = append(out, s)
			}
		}
		return true
	})
	return out
}

// TestAlternativesAreWiredInCommands: siblings do not know each other, and only
// those who wire know any of them.
func TestAlternativesAreWiredInCommands(t *testing.T) {
	for _, p := range packages(t) {
		for _, imp := range ours(p.Imports) {
			for _, root := range apart() {
				if imp == root || !under(imp, root) {
					continue
				}
				branch := firstBelow(imp, root)
				if under(p.path(), branch) || isWirer(p.path()) {
					continue
				}
				t.Errorf("%s imports %s; alternatives under %s are chosen where parts are wired: %v", p.path(), imp, root, wirers())
			}
		}
	}
}

func isWirer(p string) bool {
	return slices.ContainsFunc(wirers(), func(root string) bool { return under(p, root) })
}

// firstBelow is the folder directly below root on the way to p.
func firstBelow(p, root string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(p, root+"/"), "/")
	return path.Join(root, name)
}

func TestNothingImportsACommand(t *testing.T) {
	for _, p := range packages(t) {
		for _, imp := range ours(p.Imports) {
			if under(imp, "cmd") && !under(p.path(), firstBelow(imp, "cmd")) {
				t.Errorf("%s imports %s; commands wire, nothing stands on them", p.path(), imp)
			}
			if under(imp, "test") && !under(p.path(), "test") {
				t.Errorf("%s imports %s; test is for tests", p.path(), imp)
			}
		}
	}
}

// TestNoBlankOrDotImportsOfOurs: what is imported is named where it is used.
func TestNoBlankOrDotImportsOfOurs(t *testing.T) {
	for _, p := range packages(t) {
		for _, f := range parse(t, p, append(p.code(), p.tests()...)) {
			for _, imp := range f.file.Imports {
				name := imp.Name
				if name == nil {
					continue
				}
				own := strings.Contains(imp.Path.Value, module+"/")
				if name.Name == "." || name.Name == "_" && own {
					t.Errorf("%s:%d: import %s %s", f.name, f.line(imp), name.Name, imp.Path.Value)
				}
			}
		}
	}
}
