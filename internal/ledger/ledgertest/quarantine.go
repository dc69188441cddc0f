package ledgertest

import (
	"testing"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

// spoil makes a window unbalanced.
func spoil(w *window.Window) *window.Window {
	c := Copy(w)
	c.Postings[0].Energy++
	return c
}

func entries(t *testing.T, l ledger.Ledger, want int) []ledger.QuarantineEntry {
	t.Helper()
	es, err := l.Quarantine(bg())
	if err != nil || len(es) != want {
		t.Fatalf("quarantine = %+v, %v; want %d entries", es, err, want)
	}
	return es
}

func testQuarantineJoins(t *testing.T, open Opener) {
	l, a := open.start(t)
	w1, w2, w3 := a.Next(step), a.Next(step), a.Next(step)
	bad := a.Submit(spoil(w2))
	rs := Book(t, l, a.Submit(w1), bad, a.Submit(w3))
	for i, want := range []ledger.Status{ledger.Booked, ledger.Quarantined, ledger.Booked} {
		if rs[i].Status != want {
			t.Fatalf("result %d = %s (%s); want %s", i, rs[i].Status, rs[i].Reason, want)
		}
	}
	all := w1.Metered() + w2.Metered() + w3.Metered()
	closes(t, l, all, "hole", "quarantine")
	if b := month(t, l); b.Unbooked != w2.Metered() {
		t.Errorf("unbooked = %s; want %s", b.Unbooked, w2.Metered())
	}
	e := entries(t, l, 1)[0]
	if e.Energy != w2.Metered() || e.Settled || e.Node != a.Node || e.StartMS != w2.StartMS || e.EndMS != w2.EndMS || e.Reason == "" || e.AtMS != w2.EndMS {
		t.Errorf("entry = %+v", e)
	}
	// Offered again as it was it stays where it is; sound, it fits the hole.
	Want(t, l, ledger.Quarantined, bad)
	entries(t, l, 1)
	part := Copy(w2)
	part.Ranges[0].To--
	Want(t, l, ledger.Conflict, a.Submit(part)) // inside what is reserved, and not all of it
	good := a.Submit(w2)
	rs = Book(t, l, good, good)
	if rs[0].Status != ledger.Booked || rs[1].Status != ledger.Duplicate {
		t.Fatalf("sound window for the hole, and again = %v", rs)
	}
	closes(t, l, all)
	if !entries(t, l, 1)[0].Settled {
		t.Error("the entry is not settled")
	}
	// The holdings are those of the newest window, not of the hole.
	if o := a.Open(t, l); o.LastMS != w3.EndMS {
		t.Errorf("last = %d; want %d", o.LastMS, w3.EndMS)
	}
}

func testQuarantineRepost(t *testing.T, open Opener) {
	l, a := open.start(t)
	a.Jobs = []window.Job{{ID: "1", Project: "P", StartMS: Start}}
	w1, w2, w3, w4 := a.Next(step), a.Next(step), a.Next(step), a.Next(step)
	late := a.Submit(w3)
	late.NowMS = w3.StartMS - 600_000 // its node's clock is ten minutes ahead
	Want(t, l, ledger.Booked, a.Submit(w1))
	Want(t, l, ledger.Quarantined, a.Submit(spoil(w2)), late)
	es := entries(t, l, 2)
	if r, err := l.Repost(bg(), es[0].ID, false); err != nil || r.Status != ledger.Quarantined || r.Reason == "" {
		t.Errorf("a spoilt window as it is = %+v, %v", r, err)
	}
	Want(t, l, ledger.Booked, a.Submit(w4)) // time passes
	if r, err := l.Repost(bg(), es[1].ID, false); err != nil || r.Status != ledger.Booked {
		t.Errorf("a window whose time has come = %+v, %v", r, err)
	}
	if r, err := l.Repost(bg(), es[0].ID, true); err != nil || r.Status != ledger.Booked {
		t.Errorf("a spoilt window as unknown = %+v, %v", r, err)
	}
	for _, e := range es {
		if r, err := l.Repost(bg(), e.ID, true); err != nil || r.Status != ledger.Duplicate {
			t.Errorf("a settled entry = %+v, %v", r, err)
		}
	}
	if _, err := l.Repost(bg(), 99, true); err == nil {
		t.Error("an entry that is not there was re-posted")
	}
	closes(t, l, w1.Metered()+w2.Metered()+w3.Metered()+w4.Metered())
	b := month(t, l)
	if got := b.Nobody.Use(energy.Unknown); got != w2.Metered() {
		t.Errorf("unknown = %s; want %s", got, w2.Metered())
	}
	if b.Nobody.Grades[energy.Bridged] != w2.Metered() || b.Unbooked != 0 {
		t.Errorf("bridged = %s, unbooked = %s", b.Nobody.Grades[energy.Bridged], b.Unbooked)
	}
	if b.MissingMS != 3*(31*dayMS-4*step) {
		t.Errorf("missing = %d ms; want all but four windows", b.MissingMS)
	}
	Want(t, l, ledger.Booked, a.Submit(a.Next(step)))
}

// testQuarantineBadNumbers: what goes back or is out of range moves no end.
func testQuarantineBadNumbers(t *testing.T, open Opener) {
	l, a := open.start(t)
	w1 := a.Next(step)
	Want(t, l, ledger.Booked, a.Submit(w1))
	for i, to := range []energy.Microjoules{w1.Ranges[0].To - 1, energy.MaxOdometer + 1} {
		before := append([]energy.Microjoules(nil), a.UJ...)
		w := a.Next(step)
		w.Ranges[0].To = to
		s := a.Submit(w)
		Want(t, l, ledger.Quarantined, s)
		next := a.Next(step) // begins where no end stands
		rs := Want(t, l, ledger.Apart, a.Submit(next))
		for j, e := range rs[0].Ends {
			if e.UJ > energy.MaxOdometer || (j == 0) != (e.UJ == before[j]) {
				t.Errorf("case %d: end of %s = %d; it was %d", i, e.Meter, e.UJ, before[j])
			}
			a.UJ[j] = e.UJ // the agent bridges from the ledger's ends
		}
		Want(t, l, ledger.Duplicate, s)
		Want(t, l, ledger.Booked, a.Submit(a.Next(step)))
	}
	es := entries(t, l, 2)
	for _, e := range es {
		if r, err := l.Repost(bg(), e.ID, false); err != nil || r.Status != ledger.Quarantined {
			t.Errorf("bad numbers as they are = %+v, %v", r, err)
		}
		if r, err := l.Repost(bg(), e.ID, true); err != nil || r.Status != ledger.Booked {
			t.Errorf("bad numbers as unknown = %+v, %v", r, err)
		}
	}
	audited(t, l)
	// A raw reading that does not give the odometer is kept out of the end.
	w := a.Next(step)
	w.Ranges[0].Raw--
	Want(t, l, ledger.Quarantined, a.Submit(w))
	if e := a.Open(t, l).Ends[0]; !e.Estimated || e.Raw != e.UJ || e.UJ != w.Ranges[0].To {
		t.Errorf("end = %+v; want it with the raw reading that the odometer gives", e)
	}
	Want(t, l, ledger.Booked, a.Submit(a.Next(step)))
}

func testQuarantineClock(t *testing.T, open Opener) {
	l, a := open.start(t)
	var all energy.Millijoules
	now := Start + step
	for _, at := range []int64{0, -window.SlotMS, now + 5*60_000 + 1, now + 400*dayMS, 1 << 62, -1 << 62} {
		a.At = at
		w := a.Next(step)
		s := a.Submit(w)
		s.NowMS = now
		Want(t, l, ledger.Quarantined, s)
		all += w.Metered()
	}
	closes(t, l, all, "hole", "quarantine") // as unbooked when it came
	a.At = now + 5*60_000
	s := a.Submit(a.Next(step))
	s.NowMS = now
	Want(t, l, ledger.Booked, s)
	for _, e := range entries(t, l, 6) {
		if r, err := l.Repost(bg(), e.ID, true); err != nil || r.Status != ledger.Booked {
			t.Errorf("as unknown = %+v, %v", r, err)
		}
	}
	closes(t, l, all+s.Window.Metered())
}

func testQuarantineCatalogue(t *testing.T, open Opener) {
	l, a := open.start(t)
	w := a.Next(step)
	broken := func(f func(m []window.Meter)) {
		t.Helper()
		c := Copy(w)
		meters := append([]window.Meter(nil), a.Catalogue.Meters...)
		f(meters)
		c.Catalogue = catalogue(meters)
		Want(t, l, ledger.Quarantined, a.Submit(c))
	}
	broken(func(m []window.Meter) { m[0].Class = 9 })
	broken(func(m []window.Meter) { m[0].Name = "" })
	broken(func(m []window.Meter) { m[0].Name = "gpu1" })
	c := Copy(w)
	c.Catalogue, c.Ranges = nil, nil
	Want(t, l, ledger.Quarantined, a.Submit(c))
	c = Copy(w)
	c.Ranges[0].Meter = 77
	Want(t, l, ledger.Quarantined, a.Submit(c))
	if _, err := l.Book(bg(), []ledger.Submission{{Node: a.Node}}); err == nil {
		t.Error("a submission without a window was booked")
	}
}

func testRefused(t *testing.T, open Opener) {
	l, a := open.start(t)
	rs := Book(t, l, a.Submit(a.Next(step)), a.Submit(spoil(a.Next(step))), a.Submit(a.Next(step)))
	if rs[0].Status != ledger.Booked || rs[1].Status != ledger.Quarantined || rs[2].Status != ledger.Booked {
		t.Errorf("quarantine stopped the windows after it: %v", rs)
	}
	ghost := NewAgent(cluster, "nobody", 1)
	Want(t, l, ledger.Reopen, ghost.Submit(ghost.Next(step)))
	ghost = NewAgent("nowhere", "nobody", 1)
	Want(t, l, ledger.Reopen, ghost.Submit(ghost.Next(step)))
}

// testNothingMoves: a window in which no odometer moved has only its hash.
func testNothingMoves(t *testing.T, open Opener) {
	l, a := open.start(t)
	w := a.Next(step)
	Want(t, l, ledger.Booked, a.Submit(w))
	still := &window.Window{Catalogue: a.Catalogue, StartMS: a.At, EndMS: a.At + step}
	still.Absences = []window.Absence{{Class: energy.GPU, DeviceMS: 2 * step}, {Class: energy.CPU, DeviceMS: step}}
	a.At += step
	Want(t, l, ledger.Booked, a.Submit(still))
	Want(t, l, ledger.Duplicate, a.Submit(still))
	closes(t, l, w.Metered())
	if b := books(t, l, Start, Start+window.SlotMS); b.MissingMS != 3*(window.SlotMS-step) {
		t.Errorf("missing = %d", b.MissingMS)
	}
	Want(t, l, ledger.Booked, a.Submit(a.Next(step)))
}

// testEpochs: an epoch that ended long ago is still known, however many came
// after it.
func testEpochs(t *testing.T, open Opener) {
	dir := t.TempDir()
	l, a := open(t, dir), NewAgent(cluster, "node1", 7)
	a.Open(t, l)
	var old []ledger.Submission
	var all energy.Millijoules
	for i := range 40 {
		a.Boot("boot-"+string(rune('A'+i)), i%3 == 0)
		s := a.Submit(a.Next(step))
		old = append(old, s)
		all += s.Window.Metered()
		Want(t, l, ledger.Booked, s)
	}
	if n := len(a.Open(t, l).Ends); n < 4 || n > 40 {
		t.Errorf("%d ends are kept at hand after 40 boots", n)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir)
	defer l.Close()
	for _, i := range []int{0, 39, 1, 20} {
		Want(t, l, ledger.Duplicate, old[i])
		w := Copy(old[i].Window)
		w.Jobs = []window.Job{{ID: "x"}}
		Want(t, l, ledger.Conflict, a.Submit(w))
	}
	Want(t, l, ledger.Booked, a.Submit(a.Next(step)))
	audited(t, l)
	if b := month(t, l); b.Metered < all {
		t.Errorf("metered %s; want at least %s", b.Metered, all)
	}
}
