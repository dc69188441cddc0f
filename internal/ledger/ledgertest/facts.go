package ledgertest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

// said are facts of a run on node1, times from Start.
func said(id string, restart uint32, submit, start, end int64) ledger.JobFacts {
	f := ledger.JobFacts{
		Cluster: cluster, Name: "relax", Partition: "boost", QOS: "normal", State: "COMPLETED", Requested: "cpu=1", Allocated: "cpu=1,gres/gpu=1",
		CPUs: 1, GPUs: 1, Nodes: []string{"node1"}, ClaimedJoules: -1, SeenMS: Start + dayMS,
		Job: window.Job{ID: id, Restart: restart, SubmitMS: Start + submit, StartMS: Start + start, EndMS: Start + end, Project: "A", User: "u"},
	}
	if end == 0 {
		f.Job.EndMS, f.State = 0, "RUNNING"
	}
	return f
}

func describe(t *testing.T, l ledger.Ledger, facts ...ledger.JobFacts) {
	t.Helper()
	if err := l.Describe(bg(), facts); err != nil {
		t.Fatal(err)
	}
}

func runsOf(t *testing.T, l ledger.Ledger, in, id string, want int) []ledger.JobBooks {
	t.Helper()
	js, err := l.Job(bg(), in, id)
	if err != nil || len(js) != want {
		t.Fatalf("job %s of %s = %+v, %v; want %d runs", id, in, js, err, want)
	}
	return js
}

func factsOf(t *testing.T, l ledger.Ledger, id string) []ledger.JobFacts {
	t.Helper()
	fs, err := l.Facts(bg(), cluster, id)
	if err != nil {
		t.Fatal(err)
	}
	return fs
}

// testFacts: what a node told and what the scheduler says becomes one run,
// whichever comes first, and stays one over a restart; no sum changes but the
// project's name.
func testFacts(t *testing.T, open Opener) {
	for _, first := range []string{"node", "scheduler"} {
		t.Run(first, func(t *testing.T) {
			dir := t.TempDir()
			l, a := open(t, dir), NewAgent(cluster, "node1", 7)
			a.Open(t, l)
			running, ended := said("5", 0, -90_000, -2000, 0), said("5", 0, -90_000, -2000, 30_000)
			ended.SuspendedMS, ended.ClaimedJoules, ended.ArrayJob, ended.ArrayTask, ended.HetJob = 4000, 13_500, "3", "2", "4"
			for i := range 3000 {
				ended.Nodes = append(ended.Nodes, fmt.Sprintf("lrdn%04d", i))
			}
			if first == "scheduler" {
				describe(t, l, running, running)
			}
			a.Jobs = []window.Job{{ID: "5", Project: "from-the-node", StartMS: Start}}
			w1 := a.Next(step)
			Want(t, l, ledger.Booked, a.Submit(w1))
			describe(t, l, running)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l = open(t, dir)
			defer l.Close()
			w2 := a.Next(step)
			Want(t, l, ledger.Booked, a.Submit(w2))
			describe(t, l, ended, ended)
			later := ended
			later.SeenMS++
			describe(t, l, later) // nothing new
			js := runsOf(t, l, cluster, "5", 1)
			want := window.Job{ID: "5", SubmitMS: Start - 90_000, Project: "A", User: "u", StartMS: Start - 2000, EndMS: Start + 30_000}
			if d := cmp.Diff(want, js[0].Job); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff([]ledger.JobFacts{ended}, factsOf(t, l, "5")); d != "" {
				t.Error(d)
			}
			b := month(t, l)
			if len(b.Projects) != 1 || b.Projects[0].Name != "A" || b.Projects[0].Jobs != 1 || b.Projects[0].Amounts != js[0].Amounts {
				t.Errorf("projects = %+v; want A with %+v", b.Projects, js[0].Amounts)
			}
			if got := js[0].Amounts.Total(); got != jobPart(w1)+jobPart(w2) {
				t.Errorf("job 5 has %s; want %s", got, jobPart(w1)+jobPart(w2))
			}
			closes(t, l, w1.Metered()+w2.Metered())
		})
	}
}

// jobPart is what a window posts to its first job.
func jobPart(w *window.Window) energy.Millijoules {
	var sum energy.Millijoules
	for _, p := range w.Postings {
		if p.Job == 0 {
			sum += p.Energy
		}
	}
	return sum
}

// testFactsRequeue: the runs of a requeued job keep their own energy, whatever
// the source knows of restarts, and in whatever order it is said.
func testFactsRequeue(t *testing.T, open Opener) {
	runs := []ledger.JobFacts{said("9", 0, 0, 0, 9000), said("9", 1, 9500, 10_000, 19_000), said("9", 2, 19_500, 21_000, 0)}
	runs[0].State = "REQUEUED"
	unsure := func(fs ...ledger.JobFacts) []ledger.JobFacts {
		fs = append([]ledger.JobFacts(nil), fs...)
		for i := range fs {
			fs[i].AnyRestart, fs[i].Job.Restart = true, 0
		}
		return fs
	}
	f := func(name string, before, after []ledger.JobFacts) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			l, a := open.start(t)
			describe(t, l, before...)
			var want []energy.Millijoules
			for i := range uint32(3) {
				a.Jobs = []window.Job{{ID: "9", Restart: i, StartMS: a.At + 500}}
				w := a.Next(step)
				want = append(want, jobPart(w))
				Want(t, l, ledger.Booked, a.Submit(w))
			}
			for _, f := range after {
				describe(t, l, f)
			}
			got := map[int64]energy.Millijoules{}
			for _, j := range runsOf(t, l, cluster, "9", 3) {
				got[j.Job.SubmitMS-Start] = j.Amounts.Total()
			}
			if d := cmp.Diff(map[int64]energy.Millijoules{0: want[0], 9500: want[1], 19_500: want[2]}, got); d != "" {
				t.Error(d)
			}
			if fs := factsOf(t, l, "9"); len(fs) != 3 || fs[0].State != "REQUEUED" || fs[2].State != "RUNNING" {
				t.Errorf("facts = %+v; want three", fs)
			}
			audited(t, l)
		})
	}
	f("after", nil, runs)
	f("before", runs, nil)
	f("the last first", nil, []ledger.JobFacts{runs[2], runs[1], runs[0]})
	f("the last first, restarts not known", nil, unsure(runs[2], runs[1], runs[0]))
	f("restarts not known", nil, unsure(runs...))
	f("restarts not known before", unsure(runs...), nil)
	f("restarts known of the last", nil, append(unsure(runs[:2]...), runs[2]))
	f("one by one", runs[:1], runs[1:])

	// A source that tells the last run alone: those before it have ended.
	l, _ := open.start(t)
	first := said("9", 0, 0, 0, 0)
	describe(t, l, first)
	describe(t, l, runs[1], first)
	fs := factsOf(t, l, "9")
	if len(fs) != 2 || fs[0].Job.EndMS != Start+9500 || fs[0].State != "REQUEUED" || fs[1].State != "COMPLETED" {
		t.Errorf("facts = %+v; want the first ended when the second was submitted", fs)
	}
}

// testReuse: ids go round. A node tells no submit time, so time tells the runs
// apart: more than 24 hours after its end it is another one.
func testReuse(t *testing.T, open Opener) {
	f := func(name string, gap int64, ended bool, submit int64, want int) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l, a := open(t, dir), NewAgent(cluster, "node1", 7)
			a.Open(t, l)
			a.Jobs = []window.Job{{ID: "1", StartMS: Start, SubmitMS: submit, Project: "P"}}
			if ended {
				a.Jobs[0].EndMS = Start + step
			}
			w1 := a.Next(step)
			Want(t, l, ledger.Booked, a.Submit(w1))
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l = open(t, dir)
			defer l.Close()
			a.At += gap
			a.Jobs[0].StartMS, a.Jobs[0].EndMS, a.Jobs[0].Project = a.At, 0, "Q"
			w2, w3 := a.Next(step), a.Next(step)
			Want(t, l, ledger.Booked, a.Submit(w2), a.Submit(w3))
			js := runsOf(t, l, cluster, "1", want)
			if want == 1 {
				return
			}
			if js[0].Job.Project != "P" || js[0].Amounts.Total() != jobPart(w1) || js[1].Job.Project != "Q" || js[1].Amounts.Total() != jobPart(w2)+jobPart(w3) {
				t.Errorf("runs = %+v", js)
			}
			closes(t, l, w1.Metered()+w2.Metered()+w3.Metered())
			// What the scheduler says finds the run of its time.
			then := said("1", 0, step+gap-1000, step+gap, 0)
			describe(t, l, then, said("1", 0, -1000, 0, step))
			js = runsOf(t, l, cluster, "1", 2)
			if js[0].Job.SubmitMS != Start-1000 || js[1].Job.SubmitMS != then.Job.SubmitMS || js[1].Amounts.Total() != jobPart(w2)+jobPart(w3) {
				t.Errorf("described runs = %+v", js)
			}
			closes(t, l, w1.Metered()+w2.Metered()+w3.Metered())
		})
	}
	f("a day later", dayMS, true, 0, 1)
	f("more than a day later", dayMS+window.SlotMS, true, 0, 2)
	f("never ended, two days later", 2*dayMS, false, 0, 1)
	f("never ended, a year later", 30*dayMS+window.SlotMS, false, 0, 2)
	f("the node knows the submit time", 2*dayMS, true, 5, 1)
	// Windows of the earlier run that come late find it.
	l, a := open.start(t)
	b := NewAgent(cluster, "node2", 8)
	b.Open(t, l)
	a.Jobs = []window.Job{{ID: "1", StartMS: Start, EndMS: Start + step, Project: "P"}}
	w1 := a.Next(step)
	Want(t, l, ledger.Booked, a.Submit(w1))
	a.At += 3 * dayMS
	a.Jobs = []window.Job{{ID: "1", StartMS: a.At, Project: "Q"}}
	w2 := a.Next(step)
	Want(t, l, ledger.Booked, a.Submit(w2))
	b.Jobs = []window.Job{{ID: "1", StartMS: Start, Project: "P"}}
	w3 := b.Next(step)
	Want(t, l, ledger.Booked, b.Submit(w3))
	js := runsOf(t, l, cluster, "1", 2)
	if js[0].Amounts.Total() != jobPart(w1)+jobPart(w3) || js[1].Amounts.Total() != jobPart(w2) {
		t.Errorf("runs = %+v; want the late window with the first", js)
	}
	// So do those of a run that nobody told of before.
	b.At -= 5 * dayMS
	b.Jobs[0].StartMS = b.At
	w4 := b.Next(step)
	Want(t, l, ledger.Booked, b.Submit(w4))
	if js = runsOf(t, l, cluster, "1", 3); js[2].Amounts.Total() != jobPart(w4) {
		t.Errorf("runs = %+v; want a third with the oldest window", js)
	}
}

// testFactsApart: what a person assigned stays, clusters with equal ids stay
// apart, a name that is too long assigns nothing, and what names no job is
// refused.
func testFactsApart(t *testing.T, open Opener) {
	l, a := open.start(t)
	b := NewAgent("lumi", "node1", 3)
	b.Open(t, l)
	a.Jobs = []window.Job{{ID: "1", StartMS: Start}, {ID: "2", StartMS: Start, Project: "P"}}
	b.Jobs = []window.Job{{ID: "1", StartMS: Start, Project: "lumi-project"}}
	Want(t, l, ledger.Booked, a.Submit(a.Next(step)), b.Submit(b.Next(step)))
	f := said("1", 0, -5000, 0, 0)
	describe(t, l, f)
	if err := l.Assign(bg(), cluster, window.Job{ID: "1", SubmitMS: Start - 5000}, "by-hand"); err != nil {
		t.Fatal(err)
	}
	f.Job.EndMS, f.State = Start+step, "COMPLETED"
	long := said("2", 0, -5000, 0, 0)
	long.Job.Project, long.Name = strings.Repeat("x", 300), strings.Repeat("y", 300)
	describe(t, l, f, long)
	Want(t, l, ledger.Booked, a.Submit(a.Next(step)))
	if j := runsOf(t, l, cluster, "1", 1)[0].Job; j.Project != "by-hand" || j.EndMS != Start+step {
		t.Errorf("job = %+v; want it where it was put by hand", j)
	}
	if j := runsOf(t, l, cluster, "2", 1)[0].Job; j.Project != "P" || j.SubmitMS != Start-5000 {
		t.Errorf("job = %+v; want the node's project", j)
	}
	if got := factsOf(t, l, "2")[0].Name; len(got) != 256 {
		t.Errorf("a name of %d bytes was kept", len(got))
	}
	if j := runsOf(t, l, "lumi", "1", 1)[0].Job; j.Project != "lumi-project" || j.SubmitMS != 0 {
		t.Errorf("job of the other cluster = %+v", j)
	}
	audited(t, l)
	for _, bad := range []ledger.JobFacts{{Cluster: cluster}, {Job: window.Job{ID: "1"}}, {Cluster: cluster, Job: window.Job{ID: strings.Repeat("1", 300)}}} {
		if err := l.Describe(bg(), []ledger.JobFacts{bad}); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

// testUnmetered: jobs whose nodes sent nothing are found, with those nodes.
func testUnmetered(t *testing.T, open Opener) {
	l, a := open.start(t)
	a.Jobs = []window.Job{{ID: "1", StartMS: Start}, {ID: "2", StartMS: Start}}
	Want(t, l, ledger.Booked, a.Submit(a.Next(step)))
	whole, half, none := said("1", 0, 0, 0, 60_000), said("2", 0, 0, 0, 60_000), said("3", 0, 0, 10_000, 0)
	half.Nodes = []string{"node1", "node2", "node3"}
	none.Nodes = []string{"node4", "node5"}
	pending, never := said("4", 0, 0, -Start, 0), said("5", 0, 0, -Start, 5000)
	pending.Nodes, never.Nodes = nil, nil
	describe(t, l, whole, half, none, pending, never)
	f := func(in string, from, to int64, want map[string]int64) {
		t.Helper()
		fs, err := l.Unmetered(bg(), in, Start+from, Start+to)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]int64{}
		for _, x := range fs {
			got[x.Job.ID+" "+strings.Join(x.Nodes, " ")] = x.NodeMS(Start+from, Start+to)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
	f(cluster, 0, 100_000, map[string]int64{"2 node2 node3": 120_000, "3 node4 node5": 180_000})
	f(cluster, 0, 10_000, map[string]int64{"2 node2 node3": 20_000})
	f(cluster, 60_000, 70_000, map[string]int64{"3 node4 node5": 20_000})
	f("lumi", 0, 100_000, map[string]int64{})
	// Their windows come after all.
	b := NewAgent(cluster, "node2", 3)
	b.Open(t, l)
	b.Jobs = []window.Job{{ID: "2", StartMS: Start + 1000}}
	Want(t, l, ledger.Booked, b.Submit(b.Next(step)))
	f(cluster, 0, 10_000, map[string]int64{"2 node3": 10_000})
	audited(t, l)
}

// testProjectFacts: what is empty leaves what was known.
func testProjectFacts(t *testing.T, open Opener) {
	dir := t.TempDir()
	l := open(t, dir)
	put := func(fs ...ledger.ProjectFacts) {
		t.Helper()
		if err := l.PutProjects(bg(), fs); err != nil {
			t.Fatal(err)
		}
	}
	put(ledger.ProjectFacts{Cluster: cluster, Name: "B", Parent: "root", Organization: "lab", SeenMS: 1},
		ledger.ProjectFacts{Cluster: cluster, Name: "A b \"c\"", Title: "Ünïcode, and a comma", SeenMS: 1}, ledger.ProjectFacts{Cluster: "lumi", Name: "B", SeenMS: 1})
	put(ledger.ProjectFacts{Cluster: cluster, Name: "B", Title: "Proteins", Investigator: "M. Curie", StartMS: 3, EndMS: 4, SeenMS: 2})
	put(ledger.ProjectFacts{Cluster: cluster, Name: "B", Parent: "physics", SeenMS: 3})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir)
	defer l.Close()
	got, err := l.ProjectFacts(bg(), cluster)
	want := []ledger.ProjectFacts{
		{Cluster: cluster, Name: "A b \"c\"", Title: "Ünïcode, and a comma", SeenMS: 1},
		{Cluster: cluster, Name: "B", Parent: "physics", Title: "Proteins", Investigator: "M. Curie", Organization: "lab", StartMS: 3, EndMS: 4, SeenMS: 3},
	}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Error(d, err)
	}
	if err := l.PutProjects(bg(), []ledger.ProjectFacts{{Cluster: cluster}}); err == nil {
		t.Error("a project without a name was taken")
	}
}

// testMarks: how far a reader came is kept with the books.
func testMarks(t *testing.T, open Opener) {
	dir := t.TempDir()
	l := open(t, dir)
	for _, at := range []int64{7, 5} {
		if err := l.Mark(bg(), "a", at); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir)
	defer l.Close()
	for name, want := range map[string]int64{"a": 5, "b": 0} {
		if got, err := l.LastMark(bg(), name); got != want || err != nil {
			t.Errorf("mark %s = %d, %v; want %d", name, got, err, want)
		}
	}
}
