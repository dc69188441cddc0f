package window_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/window"
)

// good is a window that may be booked: a node with a GPU and the rest.
func good() *window.Window {
	return &window.Window{
		Catalogue: &window.Catalogue{ID: 7, Meters: []window.Meter{
			{Name: "node", Epoch: "boot@1", Class: energy.Other, Root: true, Integrated: true},
			{Name: "gpu0", Epoch: "boot@1", Parent: "node", Class: energy.GPU, Leaf: true, Modulus: 1_000_000},
		}},
		StartMS: 10_000, EndMS: 20_000,
		Ranges: []window.Range{
			{Meter: 0, From: 5_999, To: 25_000, FromMS: 9_900, ToMS: 20_000},
			{Meter: 1, From: 1_700_000, To: 2_705_000, FromMS: 9_990, ToMS: 19_990, Raw: 705_000},
		},
		Jobs: []window.Job{{ID: "71001", Project: "P"}},
		Postings: []window.Posting{
			{Job: 0, Class: energy.GPU, Use: energy.Busy, Energy: 1_005, DeviceMS: 6_000},
			{Job: -1, Class: energy.GPU, Use: energy.Idle, Energy: 0, DeviceMS: 3_000},
			{Job: 0, Class: energy.Other, Use: energy.Busy, Energy: -985, Grade: energy.Sampled},
		},
		Absences: []window.Absence{{Class: energy.GPU, DeviceMS: 1_000}},
		Holdings: []window.Holding{{Job: 0, Devices: []window.Share{{Device: "gpu0", Weight: 1_000_000}}}},
	}
}

func TestCheckTakesWhatIsGood(t *testing.T) {
	if err := window.Check(good()); err != nil {
		t.Error(err)
	}
	early := good()
	early.StartMS, early.EndMS = -20_000, -10_000
	if err := window.Check(early); err != nil {
		t.Errorf("before 1970: %v", err)
	}
}

func TestCheckRefusesDamage(t *testing.T) {
	f := func(want string, damage func(w *window.Window)) {
		t.Helper()
		w := good()
		damage(w)
		err := window.Check(w)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Check says %v; want %q in it", err, want)
		}
		if errors.Is(err, window.ErrUnbalanced) != strings.HasPrefix(want, "metered") {
			t.Errorf("%v: only an imbalance is ErrUnbalanced", err)
		}
	}
	f("no catalogue", func(w *window.Window) { w.Catalogue = nil })
	f("not after its start", func(w *window.Window) { w.EndMS = w.StartMS })
	f("not after its start", func(w *window.Window) { w.EndMS = w.StartMS - 1 })
	f("crosses a slot edge", func(w *window.Window) { w.EndMS = window.SlotMS + 1 })
	f("crosses a slot edge", func(w *window.Window) { w.StartMS = -1 })
	f("range of meter 2: the catalogue has 2", func(w *window.Window) { w.Ranges[0].Meter = 2 })
	f("range of meter -1", func(w *window.Window) { w.Ranges[0].Meter = -1 })
	f("two ranges of meter gpu0", func(w *window.Window) { w.Ranges = append(w.Ranges, w.Ranges[1]) })
	f("odometer of node goes back from 5999 to 5998 uJ", func(w *window.Window) { w.Ranges[0].To = 5_998 })
	f("odometer of node is out of range", func(w *window.Window) { w.Ranges[0].To = energy.MaxOdometer + 1 })
	f("range of node is out of range", func(w *window.Window) { w.Ranges[0].To = energy.MaxOdometer })
	f("stamps of gpu0 go back", func(w *window.Window) { w.Ranges[1].ToMS = w.Ranges[1].FromMS - 1 })
	f("which its raw reading 705001 uJ does not give", func(w *window.Window) { w.Ranges[1].Raw++ })
	f("does not give", func(w *window.Window) { w.Ranges[1].Raw = 2_705_000 + 1_000_000 })
	f("does not give", func(w *window.Window) { w.Catalogue.Meters[1].Modulus = 0 })
	f("does not give", func(w *window.Window) { w.Catalogue.Meters[1].Modulus = 999_999 })
	f("postings, at most", func(w *window.Window) { w.Postings = make([]window.Posting, window.MaxPostings+1) })
	f("posting to job 1: the window has 1", func(w *window.Window) { w.Postings[0].Job = 1 })
	f("posting to job -2", func(w *window.Window) { w.Postings[1].Job = -2 })
	f("unknown class, use or grade (5, 0, 0)", func(w *window.Window) { w.Postings[0].Class = energy.NumClasses })
	f("unknown class, use or grade", func(w *window.Window) { w.Postings[0].Use = energy.NumUses })
	f("unknown class, use or grade", func(w *window.Window) { w.Postings[0].Grade = energy.NumGrades })
	f("posting of use idle with job 0", func(w *window.Window) { w.Postings[0].Use = energy.Idle })
	f("posting of use busy with job -1", func(w *window.Window) { w.Postings[0].Job = -1 })
	f("posting of use held with job -1", func(w *window.Window) { w.Postings[1].Use = energy.Held })
	f("posting with device time -1 ms", func(w *window.Window) { w.Postings[0].DeviceMS = -1 })
	f("posting with device time", func(w *window.Window) { w.Postings[0].DeviceMS = math.MaxInt64 })
	f("posting is out of range", func(w *window.Window) { w.Postings[0].Energy = window.MaxSpanMJ + 1 })
	f("posting is out of range", func(w *window.Window) { w.Postings[0].Energy = -window.MaxSpanMJ - 1 })
	f("an id is needed", func(w *window.Window) { w.Jobs[0].ID = "" })
	f("no name may be longer", func(w *window.Window) { w.Jobs[0].ID = strings.Repeat("x", window.MaxName+1) })
	f("no name may be longer", func(w *window.Window) { w.Jobs[0].Project = strings.Repeat("x", window.MaxName+1) })
	f("no name may be longer", func(w *window.Window) { w.Jobs[0].User = strings.Repeat("x", window.MaxName+1) })
	// The audit by damage: one posting off by a millijoule, one posting deleted.
	f("metered 20 mJ, booked 21 mJ", func(w *window.Window) { w.Postings[0].Energy++ })
	f("metered 20 mJ, booked -985 mJ", func(w *window.Window) { w.Postings = w.Postings[2:] })
	f("metered 21 mJ, booked 20 mJ", func(w *window.Window) { w.Ranges[0].To += 1_000 })
	f("metered 1025 mJ, booked 20 mJ", func(w *window.Window) { w.Catalogue.Meters[1].Root = true })
	f("device time of class gpu does not close", func(w *window.Window) { w.Postings[1].DeviceMS++ })
	f("device time of class gpu does not close", func(w *window.Window) { w.Absences = nil })
	f("device time of class other does not close", func(w *window.Window) { w.Postings[2].DeviceMS = 1 })
	f("device time of class gpu does not close", func(w *window.Window) { w.EndMS += 5 })
	f("absence of class 9", func(w *window.Window) { w.Absences[0].Class = 9 })
	f("absence of class 0, -1000 ms", func(w *window.Window) { w.Absences[0].DeviceMS = -1000 })
	f("holding of job 1: the window has 1", func(w *window.Window) { w.Holdings[0].Job = 1 })
	f("holding of job -1", func(w *window.Window) { w.Holdings[0].Job = -1 })
	// sums that pass through the end of int64 and come back close only by accident
	f("device time", func(w *window.Window) {
		w.Postings[0].DeviceMS += math.MinInt64 / -2
		w.Postings[1].DeviceMS += math.MinInt64 / -2
		w.Absences = append(w.Absences, window.Absence{DeviceMS: math.MaxInt64}, window.Absence{DeviceMS: 1})
	})
}

func TestSlot(t *testing.T) {
	f := func(ms, want int64) {
		t.Helper()
		if got := window.Slot(ms); got != want {
			t.Errorf("Slot(%d) = %d, want %d", ms, got, want)
		}
	}
	f(0, 0)
	f(window.SlotMS-1, 0)
	f(window.SlotMS, 1)
	f(-1, -1)
	f(-window.SlotMS, -1)
	f(-window.SlotMS-1, -2)
	f(1_790_000_123_456, 1_988_889)
}
