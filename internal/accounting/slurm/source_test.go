package slurm

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/wattledger/wattledger/internal/accounting"
	"github.com/wattledger/wattledger/internal/ledger"
)

var update = flag.Bool("update", false, "rewrite testdata from what the code says now")

var (
	from = time.Unix(1795332250, 0)
	to   = time.Unix(1795332400, 0)
)

// text writes facts one a line, to be read by eye.
func text(facts []ledger.JobFacts) string {
	facts = slices.Clone(facts)
	slices.SortStableFunc(facts, func(a, b ledger.JobFacts) int {
		return cmp.Or(cmp.Compare(a.Job.ID, b.Job.ID), cmp.Compare(a.Job.SubmitMS, b.Job.SubmitMS))
	})
	var b strings.Builder
	for _, f := range facts {
		restart := fmt.Sprint(f.Job.Restart)
		if f.AnyRestart {
			restart = "?"
		}
		rel := func(ms int64) string {
			if ms == 0 {
				return "-"
			}
			return fmt.Sprint(ms/1000 - from.Unix())
		}
		fmt.Fprintf(&b, "%s/%s %s %q %s@%s %s/%s [%s %s %s) susp=%d array=%s_%s het=%s cpus=%d gpus=%d J=%d nodes=%s alloc=%s req=%s\n",
			f.Job.ID, restart, f.State, f.Name, f.Job.User, f.Job.Project, f.Partition, f.QOS, rel(f.Job.SubmitMS), rel(f.Job.StartMS), rel(f.Job.EndMS),
			f.SuspendedMS, f.ArrayJob, f.ArrayTask, f.HetJob, f.CPUs, f.GPUs, f.ClaimedJoules, strings.Join(f.Nodes, "+"), f.Allocated, f.Requested)
	}
	return b.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := gocmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-update rewrites):\n%s", path, d)
	}
}

// TestParsers: each form of the answers gives the same kind of facts.
func TestParsers(t *testing.T) {
	f := func(name, path string, params map[string]string, notes ...string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			fk := &fake{files: fixture(t, name)}
			s := &Source{Cluster: "lab", Rest: fk.start(t, NewAuth("w", file(t, "SLURM_JWT=secret\n"), nil, clock))}
			a, err := s.Jobs(t.Context(), from, to)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name+".facts", text(a.Jobs))
			if d := gocmp.Diff(notes, a.Notes); d != "" {
				t.Error(d)
			}
			r := fk.last(t, "/slurmdb/jobs")
			got := map[string]string{}
			for k, v := range r.URL.Query() {
				got[k] = v[0]
			}
			if d := gocmp.Diff(params, got); d != "" || r.URL.Path != path {
				t.Errorf("asked %s; want %s\n%s", r.URL.Path, path, d)
			}
			if r.Header.Get("X-SLURM-USER-NAME") != "w" || r.Header.Get("X-SLURM-USER-TOKEN") != "secret" {
				t.Errorf("headers = %v", r.Header)
			}
		})
	}
	f("slurm-22.05", "/slurmdb/v0.0.38/jobs",
		map[string]string{"start_time": "uts1795332250", "end_time": "uts1795332400", "cluster": "lab", "skip_steps": "true"})
	f("slurm-24.05", "/slurmdb/v0.0.41/jobs/", map[string]string{
		"start_time": "uts1795332250", "end_time": "uts1795332400", "cluster": "lab", "skip_steps": "true", "show_duplicates": "true",
		"disable_truncate_usage_time": "true",
	}, "1 entries of /slurmdb/v0.0.41/jobs/ could not be read (the first: json: cannot unmarshal number into Go struct field job.state of type slurm.state)",
		`1 jobs could not be understood (the first: job 47: cannot read the host list "lrdn[0001-": "lrdn[0001-" has a bracket that nothing closes)`)
}

// TestProjects: the account tree, by both ways.
func TestProjects(t *testing.T) {
	files := fixture(t, "slurm-22.05")
	want := []ledger.ProjectFacts{
		{Name: "chem", Parent: "root", Organization: "lab"},
		{Name: "physics", Parent: "root", Organization: "lab"},
		{Name: "root", Title: "default root account"},
	}
	mgr := script(t, `case "$*" in *account,descr*) cat <<'X'`, files["account.txt"]+"X", `;; *assoc*) cat <<'X'`, files["assoc.txt"]+"X", ";; esac")
	for name, s := range map[string]*Source{
		"rest":     {Cluster: "lab", Rest: (&fake{files: files}).start(t, Auth{})},
		"sacctmgr": {Cluster: "lab", Commands: &Commands{Sacct: "/nonexistent", Sacctmgr: mgr}},
		"both":     {Rest: (&fake{}).start(t, Auth{}), Commands: &Commands{Sacctmgr: mgr}},
	} {
		got, err := s.Projects(t.Context())
		if d := gocmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("%s: %v\n%s", name, err, d)
		}
		s.Cluster = "elsewhere"
		if _, err := s.Projects(t.Context()); err == nil || !strings.Contains(err.Error(), `slurm knows no cluster "elsewhere", but lab`) {
			t.Errorf("%s of another cluster: %v", name, err)
		}
	}
	s := &Source{Cluster: "lab", Rest: (&fake{files: fixture(t, "slurm-24.05")}).start(t, Auth{})}
	got, err := s.Projects(t.Context())
	want = []ledger.ProjectFacts{{Name: "physics", Parent: "root", Title: "Physics of condensed matter", Organization: "institute"}, {Name: "root", Title: "default root account"}}
	if d := gocmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("%v\n%s", err, d)
	}
}

// TestCommands: sacct with and without JSON tells what slurmrestd tells.
func TestCommands(t *testing.T) {
	files := fixture(t, "slurm-22.05")
	columns := "tr '^' '\\037' <<'X'\n" + files["sacct.txt"] + "X"
	args := filepath.Join(t.TempDir(), "args")
	both := script(t, `echo "$SLURM_TIME_FORMAT $*" >> `+args, `case "$1" in --json) cat <<'X'`, files["sacct.json"]+"X", ";; *)", columns, ";; esac")
	t.Setenv("SLURM_TIME_FORMAT", "relative")
	s := &Source{Cluster: "lab", Commands: &Commands{Sacct: both}}
	a, err := s.Jobs(t.Context(), from, to)
	if err != nil || len(a.Notes) > 0 {
		t.Fatal(err, a.Notes)
	}
	golden(t, "sacct-json.facts", text(a.Jobs))
	asked, err := os.ReadFile(args)
	if err != nil || string(asked) != " --json -D -a -X -S uts1795332250 -E uts1795332400 -M lab\n" {
		t.Errorf("asked %q, %v", asked, err)
	}

	old := script(t, `echo "$SLURM_TIME_FORMAT $*" >> `+args, `case "$1" in --json) echo "sacct: unrecognized option '--json'" >&2; exit 1; esac`, columns)
	c := &Commands{Sacct: old}
	s = &Source{Cluster: "lab", Commands: c}
	for i := range 2 {
		a, err = s.Jobs(t.Context(), from, to)
		if err != nil || (i == 0) != (len(a.Notes) == 1) {
			t.Fatal(err, a.Notes)
		}
	}
	golden(t, "sacct-columns.facts", text(a.Jobs))
	asked, err = os.ReadFile(args)
	if n := strings.Count(string(asked), "--json"); err != nil || n != 2 || !strings.Contains(string(asked), "%s -P -n --delimiter=\x1f") {
		t.Errorf("asked %q, %v; want --json asked for once of each", asked, err)
	}

	// What both tell is the same.
	rest := &Source{Cluster: "lab", Rest: (&fake{files: files}).start(t, Auth{})}
	b, err := rest.Jobs(t.Context(), from, to)
	if err != nil {
		t.Fatal(err)
	}
	plain := func(facts []ledger.JobFacts) string {
		out := slices.DeleteFunc(slices.Clone(facts), func(f ledger.JobFacts) bool { return f.Job.ID == "99" })
		for i := range out {
			out[i].Allocated, out[i].Requested, out[i].AnyRestart = "", "", true // order, and what sacct lacks
		}
		return text(out)
	}
	if d := gocmp.Diff(plain(b.Jobs), plain(a.Jobs)); d != "" {
		t.Error(d)
	}
}

// TestFallback: sacct is read where slurmrestd fails; both failing is an error
// that names both.
func TestFallback(t *testing.T) {
	files := fixture(t, "slurm-22.05")
	down := &fake{files: files, instead: func(w http.ResponseWriter, _ *http.Request) bool {
		http.Error(w, "Authentication failure", http.StatusUnauthorized)
		return true
	}}
	good := script(t, "cat <<'X'", files["sacct.json"]+"X")
	s := &Source{Rest: down.start(t, Auth{}), Commands: &Commands{Sacct: good}}
	a, err := s.Jobs(t.Context(), from, to)
	if err != nil || len(a.Jobs) != 4 || len(a.Notes) != 1 || !strings.HasPrefix(a.Notes[0], "sacct is read instead: cannot read") {
		t.Errorf("%d jobs, notes %q, %v", len(a.Jobs), a.Notes, err)
	}
	s.Commands = &Commands{Sacct: script(t, `echo "sacct: error: Problem talking to the database: Connection refused" >&2; exit 1`)}
	_, err = s.Jobs(t.Context(), from, to)
	if !errors.Is(err, accounting.ErrRefused) || !errors.Is(err, accounting.ErrUnreachable) || !strings.Contains(err.Error(), "Problem talking") {
		t.Errorf("both failing: %v", err)
	}
	s.Commands.Sacct = "/nonexistent/sacct"
	if _, err = s.Jobs(t.Context(), from, to); err == nil || !strings.Contains(err.Error(), "/nonexistent/sacct") {
		t.Errorf("no sacct: %v", err)
	}
	// Restart counts that cannot be had are a note.
	noLive := &fake{files: fixture(t, "slurm-22.05")}
	delete(noLive.files, "live.json")
	s = &Source{Rest: noLive.start(t, Auth{})}
	if a, err = s.Jobs(t.Context(), from, to); err != nil || len(a.Notes) != 1 || !strings.Contains(a.Notes[0], "restart counts are not known") {
		t.Errorf("notes %q, %v", a.Notes, err)
	}
}
