package house_test

import (
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strings"
	"testing"
)

const maxLines = 500

// longFiles may be longer than maxLines, each for a reason.
func longFiles() map[string]string { return map[string]string{} }

func TestEveryPackageLoadsAndSaysWhatItIs(t *testing.T) {
	for _, p := range packages(t) {
		if p.Error != nil {
			t.Errorf("%s: %s", p.path(), p.Error.Err)
			continue
		}
		if p.Doc != "" {
			continue
		}
		// A package of tests alone has its comment in a test.
		var docs int
		if len(p.code()) == 0 {
			for _, f := range parse(t, p, p.tests()) {
				if f.file.Doc != nil {
					docs++
				}
			}
		}
		if docs == 0 {
			t.Errorf("%s has no package comment: what it is for, what it promises, what it leaves to others", p.path())
		}
	}
}

func TestNoInit(t *testing.T) {
	for _, p := range packages(t) {
		for _, f := range parse(t, p, append(p.code(), p.tests()...)) {
			if ast.IsGenerated(f.file) {
				continue
			}
			for _, d := range f.file.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
					t.Errorf("%s:%d: func init; parts are listed where they are wired", f.name, f.line(fn))
				}
			}
		}
	}
}

// TestNoPackageLevelState: a package-level variable may be an error, an interface
// check, a compiled pattern or an embedded file. Anything that can be written to
// or registered with belongs to a value that somebody made and handed on.
func TestNoPackageLevelState(t *testing.T) {
	for _, p := range packages(t) {
		for _, f := range parse(t, p, p.code()) {
			if ast.IsGenerated(f.file) {
				continue
			}
			for _, d := range f.file.Decls {
				g, ok := d.(*ast.GenDecl)
				if !ok || g.Tok != token.VAR {
					continue
				}
				for _, spec := range g.Specs {
					if v, ok := spec.(*ast.ValueSpec); ok && !harmless(g, v) {
						t.Errorf("%s:%d: package-level var %s; make it a const, a function, or a field", f.name, f.line(v), v.Names[0].Name)
					}
				}
			}
		}
	}
}

func harmless(g *ast.GenDecl, v *ast.ValueSpec) bool {
	if embedded(g.Doc) || embedded(v.Doc) {
		return true
	}
	for _, name := range v.Names {
		if name.Name != "_" && len(v.Values) != len(v.Names) {
			return false
		}
	}
	for i, value := range v.Values {
		if v.Names[i].Name != "_" && !constant(value) {
			return false
		}
	}
	return true
}

func embedded(doc *ast.CommentGroup) bool {
	return doc != nil && slices.ContainsFunc(doc.List, func(c *ast.Comment) bool {
		return strings.HasPrefix(c.Text, "//go:embed ")
	})
}

// constant reports whether a value is one of the few that a language without
// constants of that kind has to keep in a variable.
func constant(value ast.Expr) bool {
	call, ok := value.(*ast.CallExpr)
	if !ok {
		return false
	}
	fun, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	from, ok := fun.X.(*ast.Ident)
	return ok && slices.Contains([]string{"errors.New", "fmt.Errorf", "regexp.MustCompile"}, from.Name+"."+fun.Sel.Name)
}

// TestNamesAreNouns: a name that fits everything says nothing.
func TestNamesAreNouns(t *testing.T) {
	vague := []string{"util", "utils", "common", "types", "helper", "helpers", "misc", "manager", "pkg", "lib", "shared", "base"}
	for _, name := range files(t) {
		stem := strings.TrimSuffix(strings.TrimSuffix(path.Base(name), ".go"), "_test")
		if strings.HasSuffix(name, ".go") && slices.Contains(vague, stem) {
			t.Errorf("%s: name the file after what is in it", name)
		}
	}
	for _, p := range packages(t) {
		if slices.Contains(vague, path.Base(p.path())) || slices.Contains(vague, p.Name) {
			t.Errorf("%s: name the package after what is in it", p.path())
		}
	}
}

func TestFilesAreShort(t *testing.T) {
	known := longFiles()
	for _, name := range files(t) {
		if !strings.HasSuffix(name, ".go") {
			continue
		}
		text := read(t, name)
		long := strings.Count(text, "\n") > maxLines && !generated(text)
		reason, listed := known[name]
		switch {
		case long && !listed:
			t.Errorf("%s has %d lines; split it, or list it in longFiles with a reason", name, strings.Count(text, "\n"))
		case listed && !long:
			t.Errorf("%s is listed in longFiles (%s) but is not long", name, reason)
		}
		delete(known, name)
	}
	for name := range known {
		t.Errorf("%s is listed in longFiles but does not exist", name)
	}
}
