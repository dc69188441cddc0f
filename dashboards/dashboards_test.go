package dashboards_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"

	"github.com/wattledger/wattledger/dashboards"
)

var update = flag.Bool("update", false, "rewrite json/ from what the code says now")

// generated is what the code says.
func generated(t *testing.T) map[string][]byte {
	t.Helper()
	out, err := dashboards.Generate()
	if err != nil || len(out) != 8 {
		t.Fatalf("%d dashboards: %v", len(out), err)
	}
	return out
}

func TestJSONIsWhatTheCodeSays(t *testing.T) {
	want := generated(t)
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
	for name, text := range generated(t) {
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

// shown is a dashboard, as far as tests look at it.
type shown struct {
	UID, Title, Description string
	Tags                    []string
	Panels                  []panel
	Links                   []link
	Templating              struct {
		List []struct{ Name, Type, Query string }
	}
	Annotations struct {
		List []struct {
			Name   string
			Target target
		}
	}
}

type panel struct {
	ID                       int
	Title, Description, Type string
	Panels                   []panel
	FieldConfig              struct {
		Defaults struct {
			Unit  string
			Links []link
		}
	}
	GridPos    struct{ X, Y, W, H int }
	Targets    []target
	Datasource struct{ UID string }
}

type target struct {
	Expr, RefID, Interval, LegendFormat string
	Instant, Range                      bool
	Datasource                          struct{ UID string }
}

type link struct {
	Title, URL            string
	Tags                  []string
	IncludeVars, KeepTime bool
}

func all(t *testing.T) map[string]shown {
	t.Helper()
	out := map[string]shown{}
	for name, text := range generated(t) {
		var d shown
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatal(err)
		}
		out[strings.TrimSuffix(name, ".json")] = d
	}
	return out
}

func TestEveryPanelSaysWhatItShows(t *testing.T) {
	for name, d := range all(t) {
		ids, titles := map[int]bool{}, map[string]bool{}
		for i, p := range d.Panels {
			if ids[p.ID] || p.ID == 0 || titles[p.Title] || p.Title == "" {
				t.Errorf("%s: panel %q has id %d; ids and titles are one panel's", name, p.Title, p.ID)
			}
			ids[p.ID], titles[p.Title] = true, true
			lies(t, name, p, d.Panels[:i])
			if p.Type == "row" {
				continue
			}
			if len(p.Panels) > 0 || p.Datasource.UID != "${datasource}" {
				t.Errorf("%s: panel %q has panels in it, or not the chosen data source: %+v", name, p.Title, p.Datasource)
			}
			if p.Type == "text" {
				continue
			}
			// What a value means, and what to do when it is bad.
			if strings.Count(p.Description, ". ") < 1 || !strings.HasSuffix(p.Description, ".") || len(p.Description) < 80 {
				t.Errorf("%s: panel %q does not say what a value means and what to do when it is bad: %q", name, p.Title, p.Description)
			}
			if p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 {
				t.Errorf("%s: panel %q lacks a unit or a query", name, p.Title)
			}
		}
		if len(d.Panels) < 10 {
			t.Errorf("%s has %d panels", name, len(d.Panels))
		}
	}
}

// lies checks where a panel lies on the page.
func lies(t *testing.T, name string, p panel, others []panel) {
	t.Helper()
	a := p.GridPos
	if a.X < 0 || a.W < 1 || a.H < 1 || a.X+a.W > 24 {
		t.Errorf("%s: panel %q leaves the page", name, p.Title)
	}
	for _, q := range others {
		b := q.GridPos
		if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
			t.Errorf("%s: panels %q and %q lie over each other", name, p.Title, q.Title)
		}
	}
}

// TestNoHolesOnThePage: each line of panels fills the width.
func TestNoHolesOnThePage(t *testing.T) {
	for name, d := range all(t) {
		lines := map[int]int{}
		for _, p := range d.Panels {
			for y := range p.GridPos.H {
				lines[p.GridPos.Y+y] += p.GridPos.W
			}
		}
		for y, w := range lines {
			if w != 24 {
				t.Errorf("%s: line %d of the page is %d of 24 wide", name, y, w)
			}
		}
	}
}

// TestDashboardsFindEachOther: all have the tag that the links at the top go by,
// and links from data lead to dashboards that there are, with variables that
// they have.
func TestDashboardsFindEachOther(t *testing.T) {
	variables := map[string]map[string]bool{}
	for name, d := range all(t) {
		if d.UID == "" || variables[d.UID] != nil {
			t.Errorf("%s: its uid %q is another's", name, d.UID)
		}
		variables[d.UID] = map[string]bool{}
		for _, v := range d.Templating.List {
			variables[d.UID][v.Name] = true
		}
	}
	reached := map[string]bool{}
	for name, d := range all(t) {
		if len(d.Links) != 1 || len(d.Links[0].Tags) != 1 || d.Tags[0] != d.Links[0].Tags[0] || !d.Links[0].KeepTime || !d.Links[0].IncludeVars {
			t.Errorf("%s: its links are %+v, its tags %v", name, d.Links, d.Tags)
		}
		for _, p := range d.Panels {
			for _, l := range p.FieldConfig.Defaults.Links {
				path, query, _ := strings.Cut(l.URL, "?")
				uid := strings.TrimPrefix(path, "/d/")
				if variables[uid] == nil || !strings.Contains(query, "${__url_time_range}") || !strings.Contains(query, "${datasource:queryparam}") {
					t.Errorf("%s: %q links to %s", name, p.Title, l.URL)
				}
				reached[uid] = true
				for part := range strings.SplitSeq(query, "&") {
					if v, value, ok := strings.Cut(strings.TrimPrefix(part, "var-"), "="); ok {
						if !variables[uid][v] {
							t.Errorf("%s: %q sets variable %s of %s, which has none", name, p.Title, v, uid)
						}
						carried(t, name, p, value)
					}
				}
			}
		}
	}
	for _, uid := range []string{"wattledger-node", "wattledger-projects", "wattledger-jobs", "wattledger-gpus", "wattledger-power"} {
		if !reached[uid] {
			t.Errorf("no data leads to %s", uid)
		}
	}
}

// carried checks that a link takes a row's field in a table, and a line's label
// elsewhere.
func carried(t *testing.T, name string, p panel, value string) {
	t.Helper()
	want := "${__field.labels."
	if p.Type == "table" {
		want = "${__data.fields."
	}
	if !strings.HasPrefix(value, want) {
		t.Errorf("%s: %q, a %s, carries %s", name, p.Title, p.Type, value)
	}
}

func TestWhatIsAroundThePanels(t *testing.T) {
	for name, d := range all(t) {
		if len(d.Description) < 40 || d.Templating.List[0].Name != "datasource" || d.Templating.List[0].Query != "prometheus" || d.Templating.List[1].Name != "cluster" {
			t.Errorf("%s: description %q, variables %+v", name, d.Description, d.Templating.List)
		}
		alerts, events := 0, 0
		for _, a := range d.Annotations.List {
			if strings.HasPrefix(a.Target.Expr, "ALERTS{") {
				alerts++
			}
			if strings.Contains(a.Target.Expr, "wattledger_node_recent_events") {
				events++
			}
		}
		if alerts < 2 || events < 1 {
			t.Errorf("%s: annotations %+v", name, d.Annotations.List)
		}
	}
}
