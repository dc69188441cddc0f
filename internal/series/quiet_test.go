package series_test

import (
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"weak"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/storage"

	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/series"
	"github.com/wattledger/wattledger/internal/window"
)

const (
	errorsOf0 = `wattledger_gpu_ecc_errors_total{node="n0",gpu="gpu0",kind="uncorrected"}`
	resetOf0  = `wattledger_gpu_recovery_action{node="n0",gpu="gpu0"}`
)

// tell gives each window a value of a gauge of gpu0 by its number.
func tell(name string, values ...float64) func(int, ledger.Node, *window.Window) {
	return func(i int, _ ledger.Node, w *window.Window) {
		if i < len(values) {
			gauge(w, 0, name, values[i], values[i], values[i])
		}
	}
}

// points are the samples of a series, seconds after begin and values.
func (r *rig) points(selector string, until int64) string {
	r.t.Helper()
	out := ""
	for at := int64(0); at <= until; at += 10 {
		for _, v := range r.query(fmt.Sprintf("last_over_time(%s[10s])", selector), begin+at*1000) {
			out += fmt.Sprintf("%d:%g ", at, v)
		}
	}
	return out
}

func (r *rig) hasPoints(selector string, until int64, want string) {
	r.t.Helper()
	if diff := cmp.Diff(want, r.points(selector, until)); diff != "" {
		r.t.Errorf("%s, -want +got:\n%s", selector, diff)
	}
}

// TestWhatStandsAtZeroBeginsNoSeries: its first movement has the 0 before it, so
// that increase sees it, and from then on it goes on at 0, too.
func TestWhatStandsAtZeroBeginsNoSeries(t *testing.T) {
	o := &outlet{got: map[string][]point{}}
	r := newRig(t, series.Options{Outlet: o}).run()
	r.live(begin, 12, 5,
		tell("ecc_uncorrected_total", 0, 0, 0, 0, 2, 2, 3, 0, 0, 1, 1, 1), // the driver is loaded anew
		tell("ecc_corrected_total", 5, 5, 5),                              // what is not 0 when it is first seen has nothing before it
		tell("recovery_action", 0, 0, 1, 1, 0, 0, 0),
		tell("remapped_rows_pending", 0, 0, 0, 0), tell("processes", 0, 0, 0))
	r.hasPoints(errorsOf0, 120, "40:0 50:2 60:2 70:3 80:0 90:0 100:1 110:1 120:1 ")
	r.hasPoints(resetOf0, 120, "20:0 30:1 40:1 50:0 60:0 70:0 ")
	r.hasPoints(`wattledger_gpu_ecc_errors_total{node="n0",gpu="gpu0",kind="corrected"}`, 120, "10:5 20:5 30:5 ")
	r.hasPoints(`wattledger_gpu_remapped_rows_pending`, 120, "")
	r.hasPoints(`wattledger_gpu_processes{node="n1"}`, 120, "10:0 20:0 30:0 ") // 0 is not the rule there
	if got := r.value(`increase(`+errorsOf0+`[60s])`, begin+50_000); got < 2 || got > 2.5 {
		t.Errorf("increase of the first movement = %v; want 2", got)
	}
	if got := r.value(`resets(`+errorsOf0+`[120s])`, begin+120_000); got != 1 {
		t.Errorf("%v resets; want 1", got)
	}
	if got := r.metric(series.MetricUnmoved); got != 5*(4+2+4) {
		t.Errorf("%v samples not stored; want 50", got)
	}
	o.same(r, begin+1_000_000)
}

// TestAfterAStartSeriesGoOn at 0, too, where they were begun before: what is in
// the head is asked once.
func TestAfterAStartSeriesGoOn(t *testing.T) {
	dir := t.TempDir()
	killed := newRig(t, series.Options{Dir: dir}).run()
	killed.live(begin, 6, 1, tell("ecc_uncorrected_total", 0, 0, 7, 7, 7, 7), tell("recovery_action", 1, 0, 0, 0, 0, 0), tell("ecc_corrected_total", 0, 0, 0, 0, 0, 0))
	r := newRig(t, series.Options{Dir: copied(t, dir)})
	r.now.Store(begin + 60_500)
	r.run()
	r.live(begin+60_000, 4, 1, tell("ecc_uncorrected_total", 0, 0, 1, 1), tell("recovery_action", 0, 0, 0, 0), tell("ecc_corrected_total", 0, 0, 4, 4))
	r.hasPoints(errorsOf0, 100, "20:0 30:7 40:7 50:7 60:7 70:0 80:0 90:1 100:1 ")
	r.hasPoints(resetOf0, 100, "10:1 20:0 30:0 40:0 50:0 60:0 70:0 80:0 90:0 100:0 ")
	r.hasPoints(`wattledger_gpu_ecc_errors_total{node="n0",gpu="gpu0",kind="corrected"}`, 100, "80:0 90:4 100:4 ")
	if got := r.value(`resets(`+errorsOf0+`[100s])`, begin+100_000); got != 1 {
		t.Errorf("%v resets; want 1: the driver was loaded anew while nobody looked", got)
	}
	if got := r.value(`count_over_time(wattledger_gpu_power_watts{gpu="gpu1"}[100s])`, begin+100_000); got != 100 {
		t.Errorf("%v samples; want 100", got)
	}
}

// TestAFirstMovementIsTriedAgain with the 0 before it when a commit fails.
func TestAFirstMovementIsTriedAgain(t *testing.T) {
	r := newRig(t, series.Options{})
	var full, mad atomic.Bool
	r.store.Through(func(a storage.Appendable) storage.Appendable { return ill{a, &full, &mad} })
	r.run()
	r.live(begin, 3, 1, tell("ecc_uncorrected_total", 0, 0, 0))
	full.Store(true)
	r.at(begin + 50_500)
	for i, v := range []float64{2, 2} {
		w := gpus(begin+30_000+int64(i)*10_000, 4, 200)
		gauge(w, 0, "ecc_uncorrected_total", v, v, v)
		r.store.Booked(node("n0"), w)
	}
	r.until("it failed", func() bool { return r.metric(series.MetricErrors, "append") > 0 })
	full.Store(false)
	r.now.Add(60_000)
	r.live(begin+50_000, 1, 1, tell("ecc_uncorrected_total", 2))
	r.hasPoints(errorsOf0, 60, "30:0 40:2 50:2 60:2 ")
	if got := r.metric(series.MetricRefused, "duplicate"); got != 0 {
		t.Errorf("%v samples refused as told twice", got)
	}
}

// TestOrderAndAbsenceDoNotMatter: gauges that come in another order, are left
// out, or told twice, go to their own series, and none is begun twice.
func TestOrderAndAbsenceDoNotMatter(t *testing.T) {
	r := newRig(t, series.Options{NewSeries: 1 + 4 + 2*4*5}).run()
	names := []string{"temperature_celsius", "memory_used_bytes", "power_limit_watts", "utilization_ratio", "processes"}
	r.live(begin, 30, 2, func(i int, n ledger.Node, w *window.Window) {
		if i%7 == 6 { // meters in another order, and one is away
			m := w.Catalogue.Meters
			m[0], m[2] = m[2], m[0]
			w.Catalogue.ID = 99
		}
		for k := range 4 * len(names) {
			at := (k*(1+2*(i%3)) + i) % (4 * len(names)) // with 5, four of them five times
			g, name := at%4, names[at/4]
			if i%5 == 4 && g == 1 {
				continue
			}
			v := float64(1000*g + at/4)
			gauge(w, g, name, v, v, v)
		}
	})
	for at := int64(10); at <= 300; at += 10 {
		for g := range 4 {
			for k, name := range []string{"temperature_celsius", "memory_used_bytes", "power_limit_watts", "utilization_ratio", "processes"} {
				for labels, v := range r.query(fmt.Sprintf(`last_over_time(wattledger_gpu_%s{node="n1",gpu="gpu%d"}[10s])`, name, g), begin+at*1000) {
					want := float64(1000*g + k)
					if i := at/10 - 1; i%7 == 6 && g%2 == 0 {
						want = float64(1000*(2-g) + k)
					}
					if v != want {
						t.Fatalf("%s at %d s = %v; want %v", labels, at, v, want)
					}
				}
			}
		}
	}
	if got := r.value(`count({node="n1"})`, begin+280_000); got != 25 {
		t.Errorf("%v series; want 25", got)
	}
	if got := r.metric(series.MetricRefused, "series_limit"); got != 0 {
		t.Errorf("%v samples are beyond the limit of new series: some were begun twice", got)
	}
}

// TestWindowsAreNotHeld once they are stored: of 25,000 nodes that is half a
// gigabyte.
func TestWindowsAreNotHeld(t *testing.T) {
	r := newRig(t, series.Options{}).run()
	var held []weak.Pointer[window.Window]
	r.live(begin, 3, 5, func(_ int, _ ledger.Node, w *window.Window) { held = append(held, weak.Make(w)) })
	r.until("the windows are let go", func() bool {
		runtime.GC()
		return !slices.ContainsFunc(held, func(p weak.Pointer[window.Window]) bool { return p.Value() != nil })
	})
	if len(held) != 15 {
		t.Errorf("%d windows", len(held))
	}
}
