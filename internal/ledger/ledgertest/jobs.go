package ledgertest

import (
	"testing"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

func testRequeue(t *testing.T, open Opener) {
	l, a := open.start(t)
	var want []energy.Millijoules
	runs := []window.Job{
		{ID: "9", Restart: 0, SubmitMS: 1, Project: "P", StartMS: Start},
		{ID: "9", Restart: 1, SubmitMS: 1, Project: "P", StartMS: Start + step},
		{ID: "9", Restart: 0, SubmitMS: 2, Project: "P", StartMS: Start + 2*step}, // ids began anew
	}
	for _, j := range runs {
		a.Jobs = []window.Job{j}
		w := a.Next(step)
		var sum energy.Millijoules
		for _, p := range w.Postings {
			if p.Job == 0 {
				sum += p.Energy
			}
		}
		want = append(want, sum)
		Want(t, l, ledger.Booked, a.Submit(w))
	}
	js, err := l.Job(bg(), cluster, "9")
	if err != nil || len(js) != len(want) {
		t.Fatalf("Job = %+v, %v; want %d runs", js, err, len(want))
	}
	for i, j := range js {
		if j.Amounts.Total() != want[i] || j.Job.Restart != runs[i].Restart || j.Job.SubmitMS != runs[i].SubmitMS {
			t.Errorf("run %d = %+v; want %s", i, j, want[i])
		}
	}
	if p := project(month(t, l), "P"); p.Jobs != 3 {
		t.Errorf("jobs of P = %d; want 3", p.Jobs)
	}
}

func testLateProject(t *testing.T, open Opener) {
	l, a := open.start(t)
	a.At = Start + dayMS - step // the job runs over midnight
	a.Jobs = []window.Job{{ID: "1", StartMS: a.At}, {ID: "2", StartMS: a.At}}
	w1, w2 := a.Next(step), a.Next(step)
	Want(t, l, ledger.Booked, a.Submit(w1), a.Submit(w2))
	if p := project(month(t, l), ledger.Unassigned); p.Jobs != 2 {
		t.Errorf("unassigned = %+v; want 2 jobs", p)
	}
	a.Jobs[0].Project = "P"
	w3 := a.Next(step)
	s3 := a.Submit(w3)
	Want(t, l, ledger.Booked, s3)
	a.Jobs[0].Project = "Q" // the first name that is not empty stays
	w4 := a.Next(step)
	Want(t, l, ledger.Booked, a.Submit(w4))
	var want [2]ledger.Amounts
	for _, w := range []*window.Window{w1, w2, w3, w4} {
		for _, p := range w.Postings {
			if p.Job >= 0 {
				want[p.Job].Post(p)
			}
		}
	}
	b := month(t, l)
	if p := project(b, "P"); p.Amounts != want[0] || p.Jobs != 1 {
		t.Errorf("P = %+v; want %+v", p, want[0])
	}
	if p := project(b, ledger.Unassigned); p.Amounts != want[1] || p.Jobs != 1 {
		t.Errorf("unassigned = %+v; want %+v", p, want[1])
	}
	if len(b.Projects) != 2 {
		t.Errorf("projects = %+v", b.Projects)
	}
	closes(t, l, w1.Metered()+w2.Metered()+w3.Metered()+w4.Metered())
	first := books(t, l, Start, Start+dayMS)
	if p := project(first, "P"); p.Jobs != 1 || len(first.Projects) != 2 {
		t.Errorf("the first day = %+v", first.Projects)
	}
}

func testAssign(t *testing.T, open Opener) {
	l, a := open.start(t)
	b := NewAgent(cluster, "node2", 3)
	b.Open(t, l)
	job := window.Job{ID: "1", Project: "P", StartMS: Start}
	a.Jobs, b.Jobs = []window.Job{job}, []window.Job{job}
	w1, w2 := a.Next(step), b.Next(step)
	Want(t, l, ledger.Booked, a.Submit(w1), b.Submit(w2))
	old := project(month(t, l), "P").Amounts
	for _, to := range []string{"R", "R", "", "S"} {
		if err := l.Assign(bg(), cluster, job, to); err != nil {
			t.Fatal(err)
		}
	}
	got := month(t, l)
	if p := project(got, "S"); p.Amounts != old || p.Jobs != 1 || len(got.Projects) != 1 {
		t.Errorf("projects = %+v; want S with %+v", got.Projects, old)
	}
	Want(t, l, ledger.Booked, a.Submit(a.Next(step))) // says P, and S stays
	if got := month(t, l); len(got.Projects) != 1 || got.Projects[0].Name != "S" {
		t.Errorf("projects = %+v; want S alone", got.Projects)
	}
	// A job nobody has seen yet is noted.
	early := window.Job{ID: "77", SubmitMS: 5}
	if err := l.Assign(bg(), cluster, early, "T"); err != nil {
		t.Fatal(err)
	}
	a.Jobs = []window.Job{early}
	Want(t, l, ledger.Booked, a.Submit(a.Next(step)))
	if p := project(month(t, l), "T"); p.Jobs != 1 {
		t.Errorf("T = %+v; want one job", p)
	}
	if err := l.Assign(bg(), "nowhere", job, "S"); err == nil {
		t.Error("a job of an unknown cluster was assigned")
	}
	audited(t, l)
	js, err := l.Jobs(bg(), ledger.JobFilter{Cluster: cluster, Project: "S"})
	if err != nil || len(js) != 1 || js[0].Job.ID != "1" || js[0].Job.Project != "S" {
		t.Errorf("Jobs of S = %+v, %v", js, err)
	}
}

func testJobTimes(t *testing.T, open Opener) {
	l, a := open.start(t)
	b := NewAgent(cluster, "node2", 3)
	b.Open(t, l)
	a.Jobs = []window.Job{{ID: "1", StartMS: Start + 5, User: "u"}}
	b.Jobs = []window.Job{{ID: "1", StartMS: Start + 2}}
	check := func(what string, start, end int64) {
		t.Helper()
		js, err := l.Job(bg(), cluster, "1")
		if err != nil || len(js) != 1 || js[0].Job.StartMS != start || js[0].Job.EndMS != end || js[0].Job.User != "u" {
			t.Fatalf("%s: %+v, %v; want [%d, %d)", what, js, err, start, end)
		}
	}
	Want(t, l, ledger.Booked, a.Submit(a.Next(step)))
	check("one node", Start+5, 0)
	Want(t, l, ledger.Booked, b.Submit(b.Next(step)))
	check("two nodes", Start+2, 0)
	b.Jobs[0].EndMS = Start + 15_000
	Want(t, l, ledger.Booked, b.Submit(b.Next(step)))
	check("ended on one", Start+2, 0)
	a.Jobs[0].EndMS = Start + 14_000
	Want(t, l, ledger.Booked, a.Submit(a.Next(step)))
	check("ended on both", Start+2, Start+15_000)
	js, err := l.Jobs(bg(), ledger.JobFilter{User: "u", FromMS: Start, ToMS: Start + 1, Limit: 5})
	if err != nil || len(js) != 1 || len(js[0].Nodes) != 0 || js[0].Amounts.Total() == 0 {
		t.Errorf("Jobs = %+v, %v", js, err)
	}
	js, err = l.Jobs(bg(), ledger.JobFilter{FromMS: Start + dayMS})
	if err != nil || len(js) != 0 {
		t.Errorf("Jobs of the day after = %+v, %v", js, err)
	}
}

// testJobCount: jobs of a period are those posted to in it, each once.
func testJobCount(t *testing.T, open Opener) {
	l, a := open.start(t)
	for i, at := range []int64{
		Start - 2*window.SlotMS, Start - window.SlotMS, Start, Start + dayMS, Start + 3*dayMS - window.SlotMS, Start + 3*dayMS,
	} {
		a.At = at
		a.Jobs = []window.Job{{ID: "long", Project: "P", StartMS: 1}}
		if i%2 == 1 {
			a.Jobs = append(a.Jobs, window.Job{ID: "short" + string(rune('0'+i)), Project: "P", StartMS: 1})
		}
		Want(t, l, ledger.Booked, a.Submit(a.Next(step)))
	}
	f := func(from, to int64, want int) {
		t.Helper()
		if got := project(books(t, l, from, to), "P").Jobs; got != want {
			t.Errorf("jobs in [%+d, %+d) slots = %d; want %d", (from-Start)/window.SlotMS, (to-Start)/window.SlotMS, got, want)
		}
	}
	f(Start, Start+dayMS, 1)
	f(Start, Start+2*dayMS, 2)
	f(Start-window.SlotMS, Start+dayMS, 2)
	f(Start-2*window.SlotMS, Start-window.SlotMS, 1)
	f(Start-dayMS, Start+4*dayMS, 4)
	f(Start-window.SlotMS, Start+3*dayMS, 3)
	f(Start+dayMS, Start+3*dayMS+window.SlotMS, 3)
	f(Start+2*dayMS, Start+3*dayMS, 1)
	// Out of order: the day between gets its posting last.
	a.At = Start + 2*dayMS
	a.Jobs = []window.Job{{ID: "long", Project: "P", StartMS: 1}}
	Want(t, l, ledger.Booked, a.Submit(a.Next(step)))
	f(Start+2*dayMS, Start+3*dayMS, 1)
	f(Start+2*dayMS, Start+4*dayMS, 2)
	f(Start-dayMS, Start+4*dayMS, 4)
}

func testEvents(t *testing.T, open Opener) {
	l, a := open.start(t)
	for i := range int64(30) {
		w := a.Next(step)
		for j := range int64(50) {
			w.Events = append(w.Events, window.Event{AtMS: w.StartMS + j, Kind: "gap", Meter: "gpu0", Detail: string(rune('a' + i))})
		}
		Want(t, l, ledger.Booked, a.Submit(w))
	}
	es, err := l.Events(bg(), ledger.EventFilter{Cluster: cluster, Limit: 1_000_000})
	if err != nil || len(es) < 1000 || len(es) > 1100 {
		t.Fatalf("%d events are kept, %v; want some 1000 of 1500", len(es), err)
	}
	if es[0].Event.AtMS != Start+29*step+49 || es[0].Node != a.Node || es[0].Event.Meter != "gpu0" {
		t.Errorf("newest = %+v", es[0])
	}
	es, err = l.Events(bg(), ledger.EventFilter{Cluster: cluster, FromMS: Start + 29*step, ToMS: Start + 29*step + 10, Limit: 3})
	if err != nil || len(es) != 3 || es[0].Event.AtMS != Start+29*step+9 {
		t.Errorf("three of a span = %+v, %v", es, err)
	}
	last := a.Next(step)
	last.Events = []window.Event{{AtMS: Start, Kind: "xid", Meter: "gpu1"}} // told late
	Want(t, l, ledger.Booked, a.Submit(last))
	es, err = l.Events(bg(), ledger.EventFilter{Kind: "xid", Node: a.Node.Name, Limit: 3})
	if err != nil || len(es) != 1 || es[0].Event.Meter != "gpu1" {
		t.Errorf("events of a kind = %+v, %v", es, err)
	}
	for _, f := range []ledger.EventFilter{{Cluster: "lumi"}, {Node: "elsewhere"}, {Kind: "reset"}, {Kind: "xid", FromMS: Start + 1}} {
		if es, err = l.Events(bg(), f); err != nil || len(es) != 0 {
			t.Errorf("%+v: %d events, %v; want none", f, len(es), err)
		}
	}
}

func testCatalogue(t *testing.T, open Opener) {
	l, a := open.start(t)
	ask := func(id uint64) (*window.Catalogue, bool) {
		t.Helper()
		c, ok, err := l.Catalogue(bg(), a.Node, id)
		if err != nil {
			t.Fatal(err)
		}
		return c, ok
	}
	if _, ok := ask(a.Catalogue.ID); ok {
		t.Error("a catalogue is known before a window came")
	}
	Want(t, l, ledger.Booked, a.Submit(a.Next(step)))
	c, ok := ask(a.Catalogue.ID)
	if !ok || c.ID != a.Catalogue.ID || len(c.Meters) != 4 || c.Meters[3] != a.Catalogue.Meters[3] || c.Policy != a.Catalogue.Policy {
		t.Errorf("catalogue = %+v, %v", c, ok)
	}
	if _, ok := ask(1); ok {
		t.Error("an unknown catalogue is known")
	}
	old := a.Catalogue.ID
	a.Boot("boot-2", false)
	Want(t, l, ledger.Booked, a.Submit(a.Next(step)))
	for _, id := range []uint64{old, a.Catalogue.ID} {
		if _, ok := ask(id); !ok {
			t.Errorf("catalogue %d is gone", id)
		}
	}
}
