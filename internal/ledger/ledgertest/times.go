package ledgertest

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

// testMissing: device time that no use covers is missing, from the first window
// on and until now.
func testMissing(t *testing.T, open Opener) {
	l, a := open.start(t)
	silent := NewAgent(cluster, "node2", 3)
	silent.Open(t, l)
	f := func(from, to, now, want int64) {
		t.Helper()
		b, err := l.Books(bg(), cluster, from, to, now)
		if err != nil || b.MissingMS != want {
			t.Errorf("missing in [%+d, %+d) at %+d = %d, %v; want %d", from-Start, to-Start, now-Start, b.MissingMS, err, want)
		}
	}
	f(Start, Start+dayMS, Start+dayMS, 0) // nobody is known yet
	Want(t, l, ledger.Booked, a.Submit(a.Next(step)))
	f(Start, Start+dayMS, Start+step, 0)
	f(Start, Start+dayMS, Start, 0)
	f(Start, Start+dayMS, Start+3*step, 3*2*step)
	f(Start, Start+window.SlotMS, Start+dayMS, 3*(window.SlotMS-step))
	w := a.Next(step) // a GPU did not answer
	w.Ranges[0].To, w.Ranges[0].Raw = w.Ranges[0].From, w.Ranges[0].From
	a.UJ[0] = w.Ranges[0].From
	w = absent(w, energy.GPU, step)
	Want(t, l, ledger.Booked, a.Submit(w))
	f(Start, Start+dayMS, Start+2*step, step)
	a.At += 10 * step // silence
	Want(t, l, ledger.Booked, a.Submit(a.Next(step)))
	f(Start, Start+dayMS, a.At, step+3*10*step)
	Want(t, l, ledger.Booked, silent.Submit(silent.Next(step)))
	f(Start, Start+dayMS, a.At, step+3*10*step+3*12*step)
	f(Start+dayMS, Start+2*dayMS, Start+2*dayMS, 6*dayMS)
	audited(t, l)
}

// absent turns the posting of the first device of a class into an absence; what
// was metered goes to the remainder.
func absent(w *window.Window, c energy.Class, ms int64) *window.Window {
	w = Copy(w)
	var rest energy.Millijoules
	for i, p := range w.Postings {
		if p.Class == c {
			rest = p.Energy
			w.Postings = append(w.Postings[:i], w.Postings[i+1:]...)
			break
		}
	}
	w.Postings[len(w.Postings)-1].Energy += rest
	w.Absences = append(w.Absences, window.Absence{Class: c, DeviceMS: ms})
	return w
}

func testFinal(t *testing.T, open Opener) {
	dir := t.TempDir()
	l, a := open(t, dir), NewAgent(cluster, "node1", 7)
	a.Open(t, l)
	Want(t, l, ledger.Booked, a.Submit(a.Next(step)))
	w := a.Next(step)
	w.Final = true
	Want(t, l, ledger.Booked, a.Submit(w))
	if b := books(t, l, Start, Start+dayMS); b.MissingMS != 0 {
		t.Errorf("missing after the last window = %d", b.MissingMS)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir)
	defer l.Close()
	a.At = Start + dayMS/2
	Want(t, l, ledger.Booked, a.Submit(a.Next(step)))
	if b := books(t, l, Start, Start+dayMS); b.MissingMS != 3*(dayMS/2-step) {
		t.Errorf("missing after it came back = %d; want %d", b.MissingMS, 3*(dayMS/2-step))
	}
	audited(t, l)
}

// testDevices: a change of the devices is a change of what is known.
func testDevices(t *testing.T, open Opener) {
	l, a := open.start(t)
	Want(t, l, ledger.Booked, a.Submit(a.Next(step)))
	a.Boot("boot-2", false)
	Want(t, l, ledger.Booked, a.Submit(a.Next(step))) // as many as before
	fewer := append([]window.Meter(nil), a.Catalogue.Meters[1:]...)
	a.Catalogue, a.UJ = catalogue(fewer), a.UJ[1:]
	a.At += step
	Want(t, l, ledger.Booked, a.Submit(a.Next(step)))
	want := 3*step + 2*(window.SlotMS-4*step) // three while unchanged, then two
	if b := books(t, l, Start, Start+window.SlotMS); b.MissingMS != want {
		t.Errorf("missing = %d; want %d", b.MissingMS, want)
	}
	audited(t, l)
}

// testLateWindow: what a late window covers was known.
func testLateWindow(t *testing.T, open Opener) {
	l, a := open.start(t)
	a.At = Start + dayMS
	Want(t, l, ledger.Booked, a.Submit(a.Next(step)))
	a.Boot("boot-2", false) // of before, say a spool that came back
	a.At = Start + 100*step
	Want(t, l, ledger.Booked, a.Submit(a.Next(step)))
	if b := books(t, l, Start, Start+dayMS); b.MissingMS != 0 {
		t.Errorf("missing before the node was known = %d", b.MissingMS)
	}
	a.At = Start + 99*step
	Want(t, l, ledger.Booked, a.Submit(a.Next(step)))
	a.At = Start + dayMS + step
	w := a.Next(step)
	Want(t, l, ledger.Booked, a.Submit(w))
	if o := a.Open(t, l); o.LastMS != w.EndMS {
		t.Errorf("last = %d; want %d", o.LastMS, w.EndMS)
	}
	audited(t, l)
}

// testEdges: windows that end and begin at slot, day and month edges.
func testEdges(t *testing.T, open Opener) {
	l, a := open.start(t)
	a.Jobs = []window.Job{{ID: "1", Project: "P", StartMS: 1}}
	sums := map[int64]energy.Millijoules{}
	var all energy.Millijoules
	for _, edge := range []int64{Start, Start + window.SlotMS, Start + dayMS, Start + 31*dayMS} {
		a.At = edge - step
		for range 2 {
			w := a.Next(step)
			sums[window.Slot(w.StartMS)] += w.Metered()
			all += w.Metered()
			Want(t, l, ledger.Booked, a.Submit(w))
		}
		a.At = edge - step/2
		w := a.Next(step)
		Want(t, l, ledger.Quarantined, a.Submit(w)) // crosses the edge
		id := entries(t, l, len(entriesOf(t, l)))
		if r, err := l.Repost(bg(), id[len(id)-1].ID, true); err != nil || r.Status != ledger.Booked {
			t.Fatalf("as unknown = %+v, %v", r, err)
		}
		sums[window.Slot(w.StartMS)] += w.Metered()
		all += w.Metered()
	}
	for slot, want := range sums {
		if b := books(t, l, slot*window.SlotMS, (slot+1)*window.SlotMS); b.Metered != want || booked(b) != want {
			t.Errorf("slot %+d: metered %s, booked %s; want %s", slot-window.Slot(Start), b.Metered, booked(b), want)
		}
	}
	if b := books(t, l, Start-dayMS, Start+32*dayMS); b.Metered != all || booked(b) != all {
		t.Errorf("in all: metered %s, booked %s; want %s", b.Metered, booked(b), all)
	}
	if _, err := l.Books(bg(), cluster, Start+1, Start+dayMS, Start); err == nil {
		t.Error("a period that cuts a slot was answered")
	}
	audited(t, l)
}

func entriesOf(t *testing.T, l ledger.Ledger) []ledger.QuarantineEntry {
	t.Helper()
	es, err := l.Quarantine(bg())
	if err != nil {
		t.Fatal(err)
	}
	return es
}

// testPartition: the books of a period are the sum of the books of any parts of
// it, jobs and missing time of one instant aside.
func testPartition(t *testing.T, open Opener) {
	l := open.fresh(t)
	r := rand.New(rand.NewPCG(11, 2))
	end := Start + 4*dayMS
	for i, name := range []string{"n1", "n2", "n3"} {
		a := NewAgent(cluster, name, uint64(i))
		a.Open(t, l)
		var subs []ledger.Submission
		for a.At = Start - dayMS; a.At < end+dayMS/2; a.At += r.Int64N(20) * window.SlotMS {
			a.Jobs = nil
			for j := range r.IntN(3) {
				id := string(rune('a' + r.IntN(6)))
				a.Jobs = append(a.Jobs, window.Job{ID: id + string(rune('0'+j)), Project: "P" + id, StartMS: 1})
			}
			subs = append(subs, a.Submit(a.Next(60_000)))
			a.At += window.SlotMS - 60_000
		}
		Want(t, l, ledger.Booked, subs...)
	}
	now := end + 7*dayMS
	read := func(from, to int64) ledger.Books {
		b, err := l.Books(bg(), cluster, from, to, now)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for range 30 {
		from := Start + r.Int64N(200)*window.SlotMS
		to := from + (1+r.Int64N(180))*window.SlotMS
		whole := read(from, to)
		sum := ledger.Books{Cluster: cluster, FromMS: from, ToMS: to, Policies: whole.Policies}
		parts := map[string]*ledger.Amounts{}
		for at := from; at < to; {
			next := min(to, at+(1+r.Int64N(120))*window.SlotMS)
			b := read(at, next)
			sum.Metered += b.Metered
			sum.Unbooked += b.Unbooked
			sum.MissingMS += b.MissingMS
			sum.Nobody.Add(&b.Nobody)
			for _, p := range b.Projects {
				if parts[p.Name] == nil {
					parts[p.Name] = &ledger.Amounts{}
				}
				parts[p.Name].Add(&p.Amounts)
			}
			at = next
		}
		for _, p := range whole.Projects {
			if parts[p.Name] == nil || *parts[p.Name] != p.Amounts {
				t.Fatalf("%s in [%d, %d): parts give %+v, the whole %+v", p.Name, from, to, parts[p.Name], p.Amounts)
			}
		}
		if len(parts) != len(whole.Projects) {
			t.Fatalf("parts have %d projects, the whole %d", len(parts), len(whole.Projects))
		}
		whole.Projects = nil
		if !reflect.DeepEqual(sum, whole) {
			t.Fatalf("[%d, %d): parts give %+v, the whole %+v", from, to, sum, whole)
		}
	}
	if _, err := l.Audit(bg(), cluster, Start, end); err != nil {
		t.Fatal(err)
	}
	if res, err := l.Audit(bg(), cluster, Start+3*window.SlotMS, end-5*window.SlotMS); err != nil || len(res.Findings) != 0 || res.Slots == 0 {
		t.Errorf("audit of a part = %+v, %v", res, err)
	}
}
