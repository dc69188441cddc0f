package house_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const module = "github.com/wattledger/wattledger"

// pkg is what the rules need of `go list -json`.
type pkg struct {
	Dir, ImportPath, Name, Doc string
	Standard                   bool
	GoFiles, CgoFiles          []string
	TestGoFiles, XTestGoFiles  []string
	Imports, Deps              []string
	Error                      *struct{ Err string }
}

// path is the import path inside the module: "internal/energy"; "" for the root.
func (p pkg) path() string { return inside(p.ImportPath) }

// code are the files that are not tests.
func (p pkg) code() []string { return append(append([]string{}, p.GoFiles...), p.CgoFiles...) }

func (p pkg) tests() []string { return append(append([]string{}, p.TestGoFiles...), p.XTestGoFiles...) }

// inside turns an import path of ours into a path within the module, and
// everything else into "".
func inside(importPath string) string {
	rest, ok := strings.CutPrefix(importPath, module+"/")
	if !ok {
		return ""
	}
	return rest
}

// ours keeps the import paths of this module, as paths within it.
func ours(importPaths []string) []string {
	var out []string
	for _, p := range importPaths {
		if in := inside(p); in != "" {
			out = append(out, in)
		}
	}
	return out
}

// under reports whether a path is root or lies below it.
func under(p, root string) bool { return p == root || strings.HasPrefix(p, root+"/") }

// packages lists every package of the module that there is, those with only
// tests and those behind the e2e tag included.
func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-tags", "e2e", "-json", "./...")
	cmd.Dir = top(t)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("cannot list packages: %v\n%s", err, &stderr)
	}
	var list []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("cannot read the list of packages: %v", err)
		}
		list = append(list, p)
	}
	if len(list) == 0 {
		t.Fatal("no packages found")
	}
	return list
}

// top is the root of the module.
func top(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// parsed is one Go file.
type parsed struct {
	name string // path from the root of the module
	file *ast.File
	set  *token.FileSet
}

func (f parsed) line(n ast.Node) int { return f.set.Position(n.Pos()).Line }

func parse(t *testing.T, p pkg, names []string) []parsed {
	t.Helper()
	var out []parsed
	for _, name := range names {
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, filepath.Join(p.Dir, name), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, parsed{name: path.Join(p.path(), name), file: file, set: set})
	}
	return out
}

// files are the paths of everything in the tree that .gitignore does not leave
// out, with slashes, from the root of the module.
func files(t *testing.T) []string {
	t.Helper()
	root := os.DirFS(top(t))
	ignored := ignore(t, root)
	var out []string
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // another test's temporary file
			return nil
		case err != nil:
			return err
		case name == ".":
			return nil
		case name == ".git" || ignored(name):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case !d.IsDir():
			out = append(out, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// ignore understands as much of .gitignore as ours uses: "/dir/" at the root
// and patterns for base names.
func ignore(t *testing.T, root fs.FS) func(string) bool {
	t.Helper()
	text, err := fs.ReadFile(root, ".gitignore")
	if err != nil {
		t.Fatal(err)
	}
	patterns := strings.Fields(string(text))
	return func(name string) bool {
		for _, p := range patterns {
			if strings.Trim(p, "/") == name {
				return true
			}
			if ok, _ := path.Match(p, path.Base(name)); ok {
				return true
			}
		}
		return false
	}
}

// read returns a file of the tree; "" for a link, a folder or one that has gone.
func read(t *testing.T, name string) string {
	t.Helper()
	full := filepath.Join(top(t), filepath.FromSlash(name))
	if info, err := os.Lstat(full); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	text, err := os.ReadFile(full)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}

// generated reports whether a Go file says that a tool wrote it.
func generated(text string) bool {
	return regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`).MatchString(text)
}
