package ledgertest

import (
	"context"
	"testing"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

// Opener opens the ledger of a directory; it is called again after Close.
type Opener func(t *testing.T, dir string) ledger.Ledger

// Run is the whole suite.
func Run(t *testing.T, open func(t *testing.T, dir string) ledger.Ledger) {
	cases := []struct {
		name string
		f    func(t *testing.T, open Opener)
	}{
		{"Booked", testBooked},
		{"Duplicate", testDuplicate},
		{"Apart", testApart},
		{"Conflict", testConflict},
		{"QuarantineJoins", testQuarantineJoins},
		{"QuarantineRepost", testQuarantineRepost},
		{"QuarantineBadNumbers", testQuarantineBadNumbers},
		{"QuarantineClock", testQuarantineClock},
		{"QuarantineCatalogue", testQuarantineCatalogue},
		{"Refused", testRefused},
		{"NodesApart", testNodesApart},
		{"OpenIncarnations", testOpenIncarnations},
		{"OpenSessions", testOpenSessions},
		{"OpenState", testOpenState},
		{"Reopen", testReopen},
		{"Restored", testRestored},
		{"NothingMoves", testNothingMoves},
		{"Reuse", testEpochs},
		{"TwoClusters", testTwoClusters},
		{"Requeue", testRequeue},
		{"LateProject", testLateProject},
		{"Assign", testAssign},
		{"JobTimes", testJobTimes},
		{"JobCount", testJobCount},
		{"Missing", testMissing},
		{"Final", testFinal},
		{"Devices", testDevices},
		{"LateWindow", testLateWindow},
		{"Edges", testEdges},
		{"Partition", testPartition},
		{"Events", testEvents},
		{"Catalogue", testCatalogue},
		{"Facts", testFacts},
		{"FactsRequeue", testFactsRequeue},
		{"FactsApart", testFactsApart},
		{"JobIDReuse", testReuse},
		{"Unmetered", testUnmetered},
		{"ProjectFacts", testProjectFacts},
		{"Marks", testMarks},
		{"Closed", testClosed},
		{"Model", testModel},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.f(t, Opener(open)) })
	}
}

func bg() context.Context { return context.Background() }

const (
	step    = int64(10_000)
	dayMS   = int64(24 * 60 * 60 * 1000)
	cluster = "leonardo"
)

// fresh opens an empty ledger that is closed with the test.
func (open Opener) fresh(t *testing.T) ledger.Ledger {
	l := open(t, t.TempDir())
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// start opens an empty ledger with one node in it.
func (open Opener) start(t *testing.T) (ledger.Ledger, *Agent) {
	l, a := open.fresh(t), NewAgent(cluster, "node1", 7)
	a.Open(t, l)
	return l, a
}

func books(t *testing.T, l ledger.Ledger, from, to int64) ledger.Books {
	t.Helper()
	b, err := l.Books(bg(), cluster, from, to, to)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// month is the books of the month that the tests lie in.
func month(t *testing.T, l ledger.Ledger) ledger.Books {
	t.Helper()
	return books(t, l, Start, Start+31*dayMS)
}

func booked(b ledger.Books) energy.Millijoules {
	sum := b.Nobody.Total()
	for _, p := range b.Projects {
		sum += p.Amounts.Total()
	}
	return sum
}

// closes checks that the books balance, and that the audit finds what is wanted
// and nothing else, by kind.
func closes(t *testing.T, l ledger.Ledger, metered energy.Millijoules, want ...string) {
	t.Helper()
	b := month(t, l)
	if b.Metered != metered || booked(b)+b.Unbooked != metered {
		t.Errorf("metered %s, booked %s, unbooked %s; want %s in all", b.Metered, booked(b), b.Unbooked, metered)
	}
	audited(t, l, want...)
}

func audited(t *testing.T, l ledger.Ledger, want ...string) ledger.AuditResult {
	t.Helper()
	r, err := l.Audit(bg(), cluster, Start-dayMS, Start+40*dayMS)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]bool{}
	for _, k := range want {
		kinds[k] = true
	}
	got := map[string]bool{}
	for _, f := range r.Findings {
		if got[f.Kind] = true; !kinds[f.Kind] {
			t.Errorf("audit found %+v", f)
		}
	}
	if len(got) != len(kinds) {
		t.Errorf("audit found %v; want %v", got, want)
	}
	return r
}

func project(b ledger.Books, name string) ledger.Project {
	for _, p := range b.Projects {
		if p.Name == name {
			return p
		}
	}
	return ledger.Project{}
}

func testBooked(t *testing.T, open Opener) {
	l, a := open.start(t)
	a.Jobs = []window.Job{{ID: "71001", Project: "EUHPC_A01", User: "u1", StartMS: Start}}
	var metered energy.Millijoules
	var want ledger.Amounts
	for range 20 {
		w := a.Next(step)
		Want(t, l, ledger.Booked, a.Submit(w))
		metered += w.Metered()
		for _, p := range w.Postings {
			if p.Job == 0 {
				want.Post(p)
			}
		}
	}
	closes(t, l, metered)
	b := month(t, l)
	if len(b.Projects) != 1 || b.Projects[0].Name != "EUHPC_A01" || b.Projects[0].Amounts != want || b.Projects[0].Jobs != 1 {
		t.Errorf("projects = %+v; want EUHPC_A01 with %+v", b.Projects, want)
	}
	if len(b.Policies) != 1 || b.Policies[0] != "allocation/v1" {
		t.Errorf("policies = %v", b.Policies)
	}
	js, err := l.Job(bg(), cluster, "71001")
	if err != nil || len(js) != 1 || js[0].Amounts != want || len(js[0].Nodes) != 1 || js[0].Nodes[0].Amounts != want || js[0].Nodes[0].Node != "node1" {
		t.Errorf("Job = %+v, %v", js, err)
	}
	ts, err := l.Totals(bg())
	if err != nil || len(ts) != 2 || ts[0].Project != "" || ts[1].Amounts != want || ts[0].Amounts.Total()+want.Total() != metered {
		t.Errorf("Totals = %+v, %v", ts, err)
	}
	cs, err := l.Clusters(bg())
	if err != nil || len(cs) != 1 || cs[0] != cluster {
		t.Errorf("Clusters = %v, %v", cs, err)
	}
}

func testDuplicate(t *testing.T, open Opener) {
	dir := t.TempDir()
	l, a := open(t, dir), NewAgent(cluster, "node1", 7)
	a.Open(t, l)
	s1, s2, s3 := a.Submit(a.Next(step)), a.Submit(a.Next(step)), a.Submit(a.Next(step))
	metered := s1.Window.Metered() + s2.Window.Metered() + s3.Window.Metered()
	rs := Book(t, l, s1, s1, s2)
	if rs[0].Status != ledger.Booked || rs[1].Status != ledger.Duplicate || rs[2].Status != ledger.Booked {
		t.Fatalf("first, again, next = %v", rs)
	}
	Want(t, l, ledger.Duplicate, s2, s1)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir)
	defer l.Close()
	Want(t, l, ledger.Duplicate, s1, s2)
	Want(t, l, ledger.Booked, s3)
	Want(t, l, ledger.Duplicate, s1, s3, s2)
	closes(t, l, metered)
}

func testApart(t *testing.T, open Opener) {
	l, a := open.start(t)
	s1, s2, s3 := a.Submit(a.Next(step)), a.Submit(a.Next(step)), a.Submit(a.Next(step))
	Want(t, l, ledger.Booked, s1)
	rs := Want(t, l, ledger.Apart, s3, s2) // what follows a refusal is refused alike
	for i, e := range rs[0].Ends {
		r := s1.Window.Ranges[i]
		m := a.Catalogue.Meters[i]
		want := ledger.End{
			Meter: m.Name, Epoch: m.Epoch, UJ: r.To, Raw: r.Raw, AtMS: r.ToMS, Modulus: m.Modulus, Root: m.Root,
		}
		if e != want {
			t.Errorf("end %d = %+v; want %+v", i, e, want)
		}
	}
	if len(rs[0].Ends) != len(a.UJ) {
		t.Errorf("%d ends; want %d", len(rs[0].Ends), len(a.UJ))
	}
	Want(t, l, ledger.Booked, s2, s3)
	// A merged window that begins inside what is booked is apart too.
	w := Copy(s3.Window)
	next := a.Next(step)
	for i := range w.Ranges {
		w.Ranges[i].To = next.Ranges[i].To
	}
	Want(t, l, ledger.Apart, a.Submit(w))
	closes(t, l, s1.Window.Metered()+s2.Window.Metered()+s3.Window.Metered())
}

func testConflict(t *testing.T, open Opener) {
	l, a := open.start(t)
	s1, s2 := a.Submit(a.Next(step)), a.Submit(a.Next(step))
	Want(t, l, ledger.Booked, s1, s2)
	w := Copy(s1.Window)
	w.Jobs = []window.Job{{ID: "1"}}
	Want(t, l, ledger.Conflict, a.Submit(w))
	// The same times, a part of the range.
	w = Copy(s2.Window)
	for i := range w.Ranges {
		w.Ranges[i].To--
	}
	Want(t, l, ledger.Conflict, a.Submit(w))
	// A slot in which nothing was ever booked cannot have been pruned.
	w = Copy(s1.Window)
	w.StartMS, w.EndMS = w.StartMS+dayMS, w.EndMS+dayMS
	Want(t, l, ledger.Conflict, a.Submit(w))
	ns, err := l.Nodes(bg())
	if err != nil || len(ns) != 1 || ns[0].Conflicts != 3 || ns[0].LastMS != s2.Window.EndMS {
		t.Errorf("Nodes = %+v, %v", ns, err)
	}
	es, err := l.Events(bg(), ledger.EventFilter{Cluster: cluster})
	if err != nil || len(es) != 3 || es[0].Event.Kind != "conflict" {
		t.Errorf("Events = %+v, %v", es, err)
	}
	Want(t, l, ledger.Booked, a.Submit(a.Next(step)))
	audited(t, l)
}

func testNodesApart(t *testing.T, open Opener) {
	l, a := open.start(t)
	b := NewAgent(cluster, "node2", 8)
	b.Open(t, l)
	Want(t, l, ledger.Booked, a.Submit(a.Next(step)), b.Submit(b.Next(step)))
	a1, a2 := a.Submit(a.Next(step)), a.Submit(a.Next(step))
	b1, b2 := b.Submit(b.Next(step)), b.Submit(b.Next(step))
	rs := Book(t, l, a2, b1, a1, b2)
	for i, want := range []ledger.Status{ledger.Apart, ledger.Booked, ledger.Apart, ledger.Booked} {
		if rs[i].Status != want {
			t.Errorf("result %d = %s; want %s", i, rs[i].Status, want)
		}
	}
	Want(t, l, ledger.Booked, a1, a2)
	audited(t, l)
}

func testTwoClusters(t *testing.T, open Opener) {
	l, a := open.start(t)
	b := NewAgent("lumi", "node1", 9)
	b.Open(t, l)
	job := []window.Job{{ID: "5", Project: "P", StartMS: Start}}
	a.Jobs, b.Jobs = job, job
	wa, wb := a.Next(step), b.Next(2*step)
	Want(t, l, ledger.Booked, a.Submit(wa), b.Submit(wb))
	closes(t, l, wa.Metered())
	other, err := l.Books(bg(), "lumi", Start, Start+dayMS, Start+dayMS)
	if err != nil || other.Metered != wb.Metered() || booked(other) != wb.Booked() || len(other.Projects) != 1 {
		t.Errorf("books of the other cluster = %+v, %v", other, err)
	}
	for _, name := range []string{cluster, "lumi"} {
		js, err := l.Job(bg(), name, "5")
		if err != nil || len(js) != 1 || len(js[0].Nodes) != 1 {
			t.Errorf("job of %s = %+v, %v", name, js, err)
		}
	}
	js, err := l.Jobs(bg(), ledger.JobFilter{ID: "5"})
	if err != nil || len(js) != 2 {
		t.Errorf("Jobs in all clusters = %+v, %v", js, err)
	}
}
