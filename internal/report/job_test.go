package report_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/report"
	"github.com/wattledger/wattledger/internal/report/reporttest"
	"github.com/wattledger/wattledger/internal/window"
)

// demoJob is what the ledger of the demonstration has under an id.
func demoJob(t *testing.T, id string) report.JobInput {
	t.Helper()
	l := reporttest.Demo()
	runs, err := l.Job(t.Context(), "leonardo", id)
	facts, err2 := l.Facts(t.Context(), "leonardo", id)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	return report.JobInput{Runs: runs, Facts: facts, Nodes: l.Known, NowMS: reporttest.Now().UnixMilli()}
}

func TestJobGolden(t *testing.T) {
	f := func(name string, in report.JobInput) report.Job {
		t.Helper()
		j, ok := report.JobOf(in)
		if !ok {
			t.Fatalf("%s: no such run", name)
		}
		golden(t, name+".json", func(w io.Writer) error { return report.WriteJSON(w, j) })
		golden(t, name+".txt", func(w io.Writer) error { return report.WriteJobText(w, &j) })
		short := golden(t, name+"_short.txt", func(w io.Writer) error { return report.WriteJobShort(w, &j) })
		isShort(t, short)
		return j
	}
	j := f("job", demoJob(t, "71001"))
	if j.Restart != 1 || len(j.Runs) != 1 || j.Runs[0].Restart != 0 {
		t.Errorf("top run is restart %d with %d others; want 1 with 1", j.Restart, len(j.Runs))
	}
	if j.Nodes[0].Node > j.Nodes[1].Node || j.Nodes[0].Energy+j.Nodes[1].Energy != j.Energy {
		t.Errorf("nodes %+v do not add up in order to %s", j.Nodes, j.Energy)
	}
	if s := j.Sum; s == nil || s.Count != 2 || s.Energy != j.Energy+j.Runs[0].Energy {
		t.Errorf("sum %+v; want both runs", s)
	}
	f("job_running", demoJob(t, "71003"))
	if _, ok := report.JobOf(report.JobInput{}); ok {
		t.Error("a job without runs is one")
	}
}

// isShort: three to six lines of at most 80 characters that any terminal and any
// log can hold.
func isShort(t *testing.T, text []byte) {
	t.Helper()
	rows := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(rows) < 3 || len(rows) > 6 {
		t.Errorf("%d lines; want 3 to 6", len(rows))
	}
	for _, row := range rows {
		if len(row) > 80 || strings.ContainsFunc(row, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("line %q (%d characters); want at most 80 of plain ASCII", row, len(row))
		}
	}
}

// TestJobPromisedKeys: those of the first version, which programs were written for.
func TestJobPromisedKeys(t *testing.T) {
	var b bytes.Buffer
	j, _ := report.JobOf(demoJob(t, "71001"))
	if err := report.WriteJSON(&b, j); err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(b.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	kinds := map[string]string{}
	for _, key := range []string{"schema", "job_id", "project", "user", "start", "end", "energy_mj", "kwh", "held_mj", "gpu_hours", "classes", "uses", "grades", "nodes", "restart"} {
		switch doc[key].(type) {
		case string:
			kinds[key] = "text"
		case float64:
			kinds[key] = "number"
		case map[string]any:
			kinds[key] = "object"
		case []any:
			kinds[key] = "list"
		}
	}
	want := map[string]string{
		"schema": "text", "job_id": "text", "project": "text", "user": "text", "start": "text", "end": "text", "energy_mj": "text", "kwh": "text",
		"held_mj": "text", "gpu_hours": "text", "classes": "object", "uses": "object", "grades": "object", "nodes": "list", "restart": "number",
	}
	if d := cmp.Diff(want, kinds); d != "" {
		t.Errorf("keys and kinds (-want +got):\n%s", d)
	}
	for _, key := range []string{"peak_watts", "gco2e", "cost"} {
		if v, there := doc[key]; there {
			t.Errorf("%s is %v; what is not known is left out", key, v)
		}
	}
}

// TestJobOfKnownParts: what comes later has its place, in both forms.
func TestJobOfKnownParts(t *testing.T) {
	j, _ := report.JobOf(demoJob(t, "71001"))
	write := func() string {
		var b bytes.Buffer
		if err := errors.Join(report.WriteJobText(&b, &j), report.WriteJobShort(&b, &j)); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	if text := write(); strings.Contains(text, "peak") || strings.Contains(text, "CO2e") || strings.Contains(text, "cost") {
		t.Errorf("what is not known is shown:\n%s", text)
	}
	j.PeakWatts, j.GCO2e, j.Cost = "7123456.0", "31234", "27.66 EUR"
	text := write()
	for _, want := range []string{", peak 7.12 MW", "CO2e      31234 g", "cost      27.66 EUR", ", 31234 gCO2e, 27.66 EUR"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
}

// runOf is a run of 24 hours on two nodes with 4 GPUs each, always busy.
func runOf(restart uint32, user string, startHour int64) ledger.JobBooks {
	const hour = 3_600_000
	b := ledger.JobBooks{Cluster: "c", Job: window.Job{ID: "7", Restart: restart, Project: "p", User: user, StartMS: startHour * hour, EndMS: (startHour + 24) * hour}}
	for _, name := range []string{"n1", "n2"} {
		var a ledger.Amounts
		a.Post(window.Posting{Class: energy.GPU, Energy: 50 * 3_600_000_000, DeviceMS: 4 * 24 * hour})
		b.Nodes = append(b.Nodes, ledger.NodeAmounts{Node: name, Amounts: a})
		b.Amounts.Add(&a)
	}
	return b
}

func TestSumOfRuns(t *testing.T) {
	f := func(what string, want int, runs ...ledger.JobBooks) {
		t.Helper()
		zero := uint32(0)
		for _, run := range []*uint32{nil, &zero} {
			j, ok := report.JobOf(report.JobInput{Runs: runs, Run: run})
			got := 1
			if j.Sum != nil {
				got = j.Sum.Count
			}
			if !ok || got != want || len(j.Runs) != len(runs)-1 {
				t.Errorf("%s: sum of %d runs, %d others; want %d of %d", what, got, len(j.Runs), want, len(runs))
			}
		}
	}
	f("one run", 1, runOf(0, "u", 100))
	f("requeued twice", 3, runOf(0, "u", 100), runOf(1, "u", 200), runOf(2, "u", 300))
	f("a run nobody told the user of", 2, runOf(0, "", 100), runOf(1, "u", 200))
	f("id used again by another", 1, runOf(0, "v", 200), runOf(0, "u", 100))
	f("id used again by another, who was requeued", 2, runOf(0, "v", 200), runOf(1, "v", 300), runOf(1, "u", 100))
	f("id used again by the same", 1, runOf(0, "u", 100), runOf(0, "u", 200))
}

func TestRunAskedFor(t *testing.T) {
	in := demoJob(t, "71001")
	f := func(run uint32, ok bool) {
		t.Helper()
		in.Run = &run
		j, got := report.JobOf(in)
		if got != ok || ok && (j.Restart != run || j.Runs[0].Restart == run || j.Schema == "") {
			t.Errorf("run %d: %v, restart %d", run, got, j.Restart)
		}
	}
	f(0, true)
	f(1, true)
	f(2, false)
}

// TestBookedToEnd: what is shown of a job whose last windows have not come says so.
func TestBookedToEnd(t *testing.T) {
	yes, no := true, false
	end := runOf(0, "u", 100).Job.EndMS
	f := func(what string, want *bool, soFar bool, endMS int64, last ...int64) {
		t.Helper()
		b := runOf(0, "u", 100)
		b.Job.EndMS = endMS
		in := report.JobInput{Runs: []ledger.JobBooks{b}, NowMS: end + 1000}
		for i, ms := range last {
			in.Nodes = append(in.Nodes, ledger.NodeStatus{Node: ledger.Node{Cluster: "c", Name: []string{"n1", "n2"}[i]}, LastMS: ms})
		}
		j, _ := report.JobOf(in)
		var text, short bytes.Buffer
		if err := errors.Join(report.WriteJobText(&text, &j), report.WriteJobShort(&short, &j)); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, j.BookedToEnd); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
		if strings.Contains(text.String(), " so far") != soFar || strings.Contains(short.String(), " so far") != soFar {
			t.Errorf("%s: so far: want %v in\n%s%s", what, soFar, &text, &short)
		}
	}
	f("not looked at", nil, false, end)
	f("all there", &yes, false, end, end, end+5000)
	f("one is late", &no, true, end, end, end-1)
	f("it runs", nil, true, 0, end, end)
}

// TestFactsOfARun: facts go to the run they are of, never to its neighbour.
func TestFactsOfARun(t *testing.T) {
	const hour, s = 3_600_000, 1000
	fact := func(state string, restart uint32, submit, start, end int64) ledger.JobFacts {
		return ledger.JobFacts{
			Cluster: "c", Job: window.Job{ID: "7", Restart: restart, SubmitMS: submit, StartMS: start, EndMS: end}, State: state, ClaimedJoules: -1,
		}
	}
	any1 := fact("ANY", 0, 0, 100*hour-30*s, 124*hour)
	any1.AnyRestart = true
	other := fact("OTHER", 1, 0, 100*hour, 124*hour)
	other.Cluster = "d"
	later := fact("LATER", 1, 0, 100*hour, 124*hour)
	later.SeenMS = 5
	f := func(want string, submit int64, facts ...ledger.JobFacts) {
		t.Helper()
		b := runOf(1, "u", 100)
		b.Job.SubmitMS = submit
		j, _ := report.JobOf(report.JobInput{Runs: []ledger.JobBooks{b}, Facts: facts})
		if j.State != want {
			t.Errorf("state %s; want %s (of %+v)", j.State, want, facts)
		}
	}
	f("ended", 0)
	f("A", 0, fact("A", 1, 5*s, 100*hour, 124*hour))
	f("A", 5*s+400, fact("A", 1, 5*s, 100*hour, 124*hour), fact("B", 1, 4*s, 100*hour, 124*hour))
	f("ended", 9*s, fact("A", 1, 5*s, 100*hour, 124*hour))
	f("ended", 0, fact("A", 0, 5*s, 100*hour, 124*hour))
	f("ended", 0, fact("earlier job of this id", 1, 5*s, 50*hour, 74*hour), fact("later", 1, 5*s, 150*hour, 0), fact("never started", 1, 5*s, 0, 0))
	f("ANY", 0, any1)
	f("ended", 0, other)
	f("LATER", 0, later, fact("A", 1, 0, 100*hour, 124*hour))
}

func TestJobsGolden(t *testing.T) {
	l := reporttest.Demo()
	list := func(limit int, byEnergy bool) report.Jobs {
		t.Helper()
		jobs, err := report.JobsOf(report.JobsInput{
			Jobs: l.Runs, NowMS: reporttest.Now().UnixMilli(), Limit: limit, ByEnergy: byEnergy,
			Facts: func(b *ledger.JobBooks) ([]ledger.JobFacts, error) { return l.Facts(t.Context(), b.Cluster, b.Job.ID) },
		})
		if err != nil {
			t.Fatal(err)
		}
		return jobs
	}
	jobs := list(3, false)
	if !jobs.Truncated || len(jobs.Jobs) != 3 || jobs.Jobs[0].ID != "71003" {
		t.Errorf("%d jobs, first %s, truncated %v; want the newest 3 of 4", len(jobs.Jobs), jobs.Jobs[0].ID, jobs.Truncated)
	}
	golden(t, "jobs.json", func(w io.Writer) error { return report.WriteJSON(w, jobs) })
	golden(t, "jobs.txt", func(w io.Writer) error { return report.WriteJobsText(w, &jobs) })
	golden(t, "jobs.csv", func(w io.Writer) error { return report.WriteJobsCSV(w, &jobs) })
	if large := list(1, true); large.Jobs[0].ID != "71001" || large.Jobs[0].Restart != 1 || large.Sum.Energy != large.Jobs[0].Energy {
		t.Errorf("the largest is %+v with sum %+v; want the second run of 71001", large.Jobs[0], large.Sum)
	}
	if all := list(0, false); all.Truncated || all.Sum.Count != 4 {
		t.Errorf("without a limit: truncated %v, %d jobs", all.Truncated, all.Sum.Count)
	}
	l.Fails = errors.New("disk gone")
	_, err := report.JobsOf(report.JobsInput{Jobs: l.Runs, Nodes: func(*ledger.JobBooks) ([]ledger.NodeAmounts, error) { return nil, l.Fails }})
	if len(l.Runs[0].Nodes) == 0 || err != nil { // nodes that are known are not asked for
		t.Errorf("nodes were asked for: %v", err)
	}
	l.Runs[0].Nodes = nil
	if _, err := report.JobsOf(report.JobsInput{Jobs: l.Runs, Nodes: func(*ledger.JobBooks) ([]ledger.NodeAmounts, error) { return nil, l.Fails }}); !errors.Is(err, l.Fails) {
		t.Errorf("an error of the ledger became %v", err)
	}
}

func TestUnmeteredGolden(t *testing.T) {
	silent := reporttest.Demo().Silent
	now := reporttest.Now().UnixMilli()
	list := report.UnmeteredOf(append(silent, silent[0]), now-86_400_000, now, 1)
	if !list.Truncated || len(list.Jobs) != 1 || list.Jobs[0].NodeHours != "3.00" {
		t.Errorf("%+v; want one of two, with 3 node hours", list)
	}
	golden(t, "unmetered.json", func(w io.Writer) error { return report.WriteJSON(w, list) })
	golden(t, "unmetered.txt", func(w io.Writer) error { return report.WriteUnmeteredText(w, &list) })
}

// TestEvilJobNames: a name that users chose neither moves a cursor nor runs in a
// spreadsheet, and the short form stays plain.
func TestEvilJobNames(t *testing.T) {
	in := demoJob(t, "71001")
	for i := range in.Runs {
		in.Runs[i].Job.User, in.Runs[i].Job.Project = reporttest.Evil, reporttest.Evil
	}
	for i := range in.Facts {
		in.Facts[i].Name, in.Facts[i].Partition, in.Facts[i].State = reporttest.Evil, reporttest.Evil, "Łódź "+reporttest.Evil
	}
	j, _ := report.JobOf(in)
	list := report.Jobs{Jobs: []report.Job{j}}
	var text, short, table bytes.Buffer
	err := errors.Join(report.WriteJobText(&text, &j), report.WriteJobsText(&text, &list),
		report.WriteJobShort(&short, &j), report.WriteJobsCSV(&table, &list))
	if err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(text.String(), "\x1b\u202e") {
		t.Errorf("a name reached the terminal raw:\n%q", &text)
	}
	isShort(t, short.Bytes())
	rows, err := csv.NewReader(&table).ReadAll()
	if err != nil || len(rows) != 2 || len(rows[0]) != len(rows[1]) {
		t.Fatalf("%v: %v", rows, err)
	}
	if rows[1][4] != "'"+reporttest.Evil || rows[1][5] != "'"+reporttest.Evil {
		t.Errorf("CSV user %q, name %q; want them whole, behind an apostrophe", rows[1][4], rows[1][5])
	}
}
