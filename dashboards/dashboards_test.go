package dashboards_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"

	"github.com/wattledger/wattledger/dashboards"
)

var update = flag.Bool("update", false, "rewrite json/ from what the code says now")

func files(t *testing.T) map[string][]byte {
	t.Helper()
	out, err := dashboards.Files()
	if err != nil || len(out) == 0 {
		t.Fatalf("%d dashboards: %v", len(out), err)
	}
	return out
}

func TestJSONIsWhatTheCodeSays(t *testing.T) {
	want := files(t)
	for name, text := range want {
		path := filepath.Join("json", name)
		if *update {
			if err := os.WriteFile(path, text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s is not what the code says (-update rewrites it): %v", path, err)
		}
	}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".json" && (filepath.Dir(path) != "json" || want[d.Name()] == nil) {
			t.Errorf("%s: no code makes it", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestRoundTrip: Grafana's own types take every field, and give the same back.
func TestRoundTrip(t *testing.T) {
	plugins.RegisterDefaultPlugins()
	for name, text := range files(t) {
		var d dashboard.Dashboard
		if err := d.UnmarshalJSONStrict(text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		again, err := json.MarshalIndent(d, "", "  ")
		again = bytes.ReplaceAll(again, []byte(`"panels": null`), []byte(`"panels": []`)) // rows that are not collapsed
		if err != nil || !bytes.Equal(append(again, '\n'), text) {
			t.Errorf("%s changes when it is read and written: %v", name, err)
		}
	}
}

type shown struct {
	Title, Description, Type string
	Panels                   []shown
	FieldConfig              struct{ Defaults struct{ Unit string } }
	GridPos                  struct{ X, Y, W, H int }
	Targets                  []struct{ Expr, RefID string }
	Datasource               struct{ UID string }
}

func panels(t *testing.T, text []byte) []shown {
	t.Helper()
	var d struct{ Panels []shown }
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	var out []shown
	for _, p := range d.Panels {
		if p.Type != "row" {
			out = append(out, p)
		}
		out = append(out, p.Panels...)
	}
	return out
}

func TestEveryPanelSaysWhatItShows(t *testing.T) {
	for name, text := range files(t) {
		all := panels(t, text)
		if len(all) < 10 {
			t.Errorf("%s has %d panels", name, len(all))
		}
		for i, p := range all {
			if len(p.Description) < 40 || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 || p.Datasource.UID != "${datasource}" {
				t.Errorf("%s: panel %q lacks a description, a unit, a query or the chosen data source: %+v", name, p.Title, p)
			}
			for _, q := range all[:i] {
				a, b := p.GridPos, q.GridPos
				if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
					t.Errorf("%s: panels %q and %q lie over each other", name, p.Title, q.Title)
				}
			}
			if p.GridPos.X+p.GridPos.W > 24 {
				t.Errorf("%s: panel %q leaves the page", name, p.Title)
			}
		}
	}
}

// TestEveryMetricIsExported: what a query asks for, some package of ours names.
func TestEveryMetricIsExported(t *testing.T) {
	known := literals(t, "../internal", "../cmd")
	metric := regexp.MustCompile(`wattledger_[a-z0-9_]+`)
	for name, text := range files(t) {
		for _, m := range metric.FindAllString(string(text), -1) {
			base := strings.TrimSuffix(m, "_bucket")
			if !slices.Contains(known, base) {
				t.Errorf("%s asks for %s, which nobody exports", name, m)
			}
		}
	}
}

// literals are the string constants in our code that name a metric.
func literals(t *testing.T, roots ...string) []string {
	t.Helper()
	var out []string
	for _, root := range roots {
		err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					if s, err := strconv.Unquote(lit.Value); err == nil && strings.HasPrefix(s, "wattledger_") {
						out = append(out, s)
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}
