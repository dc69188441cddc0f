package window_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/window"
)

// books is what a ledger keeps of windows: energy and time by job and line,
// device time of nobody, and how far each odometer went.
type books struct {
	energy, ms map[string]int64
	from, to   map[int]energy.Microjoules
}

func book(ws ...*window.Window) books {
	b := books{map[string]int64{}, map[string]int64{}, map[int]energy.Microjoules{}, map[int]energy.Microjoules{}}
	for _, w := range ws {
		for _, p := range w.Postings {
			who := "-"
			if p.Job >= 0 {
				j := w.Jobs[p.Job]
				who = fmt.Sprint(j.ID, "/", j.Restart, "/", j.SubmitMS)
			}
			k := fmt.Sprint(who, p.Class, p.Use, p.Grade)
			b.energy[k] += int64(p.Energy)
			b.ms[k] += p.DeviceMS
		}
		for _, a := range w.Absences {
			b.ms["missing "+a.Class.String()] += a.DeviceMS
		}
		for _, r := range w.Ranges {
			if _, ok := b.from[r.Meter]; !ok {
				b.from[r.Meter] = r.From
			}
			b.to[r.Meter] = r.To
		}
	}
	maps.DeleteFunc(b.energy, func(_ string, v int64) bool { return v == 0 })
	maps.DeleteFunc(b.ms, func(_ string, v int64) bool { return v == 0 })
	return b
}

// run makes adjoining windows at random: odometers go on, energy is split over
// a few jobs, now and then a meter is silent.
func run(r *rand.Rand, n int) []*window.Window {
	cat := &window.Catalogue{ID: 3, Meters: []window.Meter{
		{Name: "gpu0", Class: energy.GPU, Root: true, Leaf: true},
		{Name: "gpu1", Class: energy.GPU, Root: true, Leaf: true},
		{Name: "package0", Class: energy.CPU, Root: true, Leaf: true, Integrated: true},
	}}
	at := []energy.Microjoules{0, 5_500, 999}
	stamp := []int64{0, 0, 0}
	var out []*window.Window
	ms := int64(0)
	for range n {
		w := &window.Window{Catalogue: cat, StartMS: ms, EndMS: ms + 1 + r.Int64N(9_999)}
		for i := range 1 + r.IntN(3) {
			w.Jobs = append(w.Jobs, window.Job{ID: fmt.Sprint("j", r.IntN(3), i), Restart: uint32(r.IntN(2)), StartMS: ms})
		}
		span := w.EndMS - w.StartMS
		for m := range at {
			class := cat.Meters[m].Class
			if r.IntN(5) == 0 {
				w.Absences = append(w.Absences, window.Absence{Class: class, DeviceMS: span})
				continue
			}
			to := at[m] + energy.Microjoules(r.IntN(5_000_000))
			rg := window.Range{Meter: m, From: at[m], To: to, FromMS: stamp[m], ToMS: w.EndMS}
			if !cat.Meters[m].Integrated {
				rg.Raw = to
			}
			w.Ranges = append(w.Ranges, rg)
			at[m], stamp[m] = to, w.EndMS
			weights := []uint64{r.Uint64N(100), r.Uint64N(100), r.Uint64N(100) + 1}
			parts, _ := energy.Split(nil, rg.Energy(), weights)
			times, _ := energy.Split(nil, energy.Millijoules(span), weights)
			for k := range parts {
				p := window.Posting{Job: -1, Class: class, Use: energy.Idle, Grade: energy.Grade(r.IntN(3)), Energy: parts[k], DeviceMS: int64(times[k])}
				if k < 2 {
					p.Job, p.Use = r.IntN(len(w.Jobs)), energy.Busy
				}
				w.Postings = append(w.Postings, p)
			}
		}
		if r.IntN(2) == 0 {
			w.Holdings = append(w.Holdings, window.Holding{Job: r.IntN(len(w.Jobs)), Devices: []window.Share{{Device: "gpu0", Weight: 5}}})
		}
		out, ms = append(out, w), w.EndMS
	}
	return out
}

func TestJoinConserves(t *testing.T) {
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 1))
		ws := run(r, 2+r.IntN(10))
		for _, w := range ws {
			if err := window.Check(w); err != nil {
				t.Fatalf("seed %d: a window of the test is not good: %v", seed, err)
			}
		}
		want := book(ws...)
		last := ws[len(ws)-1]
		copies := make([]window.Window, len(ws))
		for i := range ws {
			copies[i] = *ws[i]
		}
		rest := append([]*window.Window{}, ws...)
		for len(rest) > 1 { // in any order
			i := r.IntN(len(rest) - 1)
			j, ok := window.Join(rest[i], rest[i+1])
			if !ok {
				t.Fatalf("seed %d: windows [%d, %d) and [%d, %d) do not join", seed, rest[i].StartMS, rest[i].EndMS, rest[i+1].StartMS, rest[i+1].EndMS)
			}
			if err := window.Check(j); err != nil {
				t.Fatalf("seed %d: the joined window: %v", seed, err)
			}
			rest = append(append(rest[:i:i], j), rest[i+2:]...)
		}
		if got := book(rest[0]); !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d: joined %v, apart %v", seed, got, want)
		}
		if len(rest[0].Holdings) != len(last.Holdings) {
			t.Fatalf("seed %d: %d holdings at the end, want %d", seed, len(rest[0].Holdings), len(last.Holdings))
		}
		for i, h := range rest[0].Holdings {
			if got, want := rest[0].Jobs[h.Job], last.Jobs[last.Holdings[i].Job]; got.ID != want.ID || got.Restart != want.Restart {
				t.Fatalf("seed %d: held by %v, want %v", seed, got, want)
			}
		}
		for i := range ws {
			if !reflect.DeepEqual(*ws[i], copies[i]) {
				t.Fatalf("seed %d: joining changed window %d", seed, i)
			}
		}
	}
}

func TestJoinRefuses(t *testing.T) {
	f := func(what string, change func(a, b *window.Window)) {
		t.Helper()
		ws := run(rand.New(rand.NewPCG(1, 2)), 2)
		a, b := ws[0], ws[1]
		cat := *a.Catalogue
		b.Catalogue = &cat
		change(a, b)
		if _, ok := window.Join(a, b); ok {
			t.Errorf("%s: joined", what)
		}
	}
	f("another catalogue", func(_, b *window.Window) { b.Catalogue.ID++ })
	f("a gap between", func(_, b *window.Window) { b.StartMS++ })
	f("an overlap", func(_, b *window.Window) { b.StartMS-- })
	f("another slot", func(_, b *window.Window) { b.EndMS = window.SlotMS + 1 })
	f("after the last", func(a, _ *window.Window) { a.Final = true })
	f("a bridge", func(a, _ *window.Window) { a.Bridge = true })
	f("a bridge behind", func(_, b *window.Window) { b.Bridge = true })
	f("a hole in the range", func(a, b *window.Window) {
		a.Ranges = []window.Range{{Meter: 0, From: 1, To: 5}}
		b.Ranges = []window.Range{{Meter: 0, From: 6, To: 7}}
	})
	f("a range twice", func(a, b *window.Window) {
		a.Ranges = []window.Range{{Meter: 0, From: 1, To: 5}}
		b.Ranges = []window.Range{{Meter: 0, From: 4, To: 7}}
	})
}

func TestJoinTellsWhenJobsRan(t *testing.T) {
	ws := run(rand.New(rand.NewPCG(3, 3)), 2)
	a, b := ws[0], ws[1]
	a.Jobs, b.Jobs = []window.Job{{ID: "x", StartMS: 100}}, []window.Job{{ID: "x", Project: "P", User: "u", StartMS: 100, EndMS: 900}}
	a.Postings, b.Postings, a.Holdings, b.Holdings = nil, nil, nil, nil
	b.Final = true
	j, ok := window.Join(a, b)
	if !ok || len(j.Jobs) != 1 || j.Jobs[0] != (window.Job{ID: "x", Project: "P", User: "u", StartMS: 100, EndMS: 900}) || !j.Final {
		t.Errorf("joined %+v, %v; want one job with its project and its end, and the end of the node", j, ok)
	}
}
