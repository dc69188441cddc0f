package fleet

import (
	"bytes"
	"encoding/csv"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
)

func simulate(t *testing.T, o SimOptions) *Simulation {
	t.Helper()
	s, err := Simulate(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func options() SimOptions {
	return SimOptions{Seed: 7, Nodes: 4, Start: time.Date(2026, 10, 10, 0, 0, 0, 0, time.UTC), For: 20 * time.Minute}
}

// TestTrackIntegratesPower: energy up to any instant is the sum of power over
// every millisecond before it.
func TestTrackIntegratesPower(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	mw := make([]int32, 50)
	for i := range mw {
		mw[i] = rng.Int32N(700_000)
	}
	tr := newTrack(mw)
	var sum int64
	for ms := range quantum * int64(len(mw)) {
		if got := tr.energy(ms); got != sum {
			t.Fatalf("energy up to %d ms: %d uJ; want %d", ms, got, sum)
		}
		sum += tr.at(ms)
	}
}

// TestCountersIntegratePower: the difference of any two readings of a counter is
// the integral of its power between their renewals, to one step.
func TestCountersIntegratePower(t *testing.T) {
	for seed := range uint64(3) {
		o := options()
		o.Seed = seed
		s := simulate(t, o)
		for i := range o.Nodes {
			n := s.node(i)
			for _, m := range n.meters {
				if m.scope.Kind != collector.Counter {
					continue
				}
				wraps := 0
				for ms := int64(37); ms+777 <= n.length; ms += 777 {
					ra, since := n.resets(m, ms)
					if rb, _ := n.resets(m, ms+777); ra != rb {
						continue
					}
					a, b := n.sense(m, ms), n.sense(m, ms+777)
					d := int64(b.Counter) - int64(a.Counter)
					if d < 0 && m.scope.Modulus > 0 {
						d += int64(m.scope.Modulus + m.scope.Resolution) // the range is short by a step
						wraps++
					}
					var want int64 // from the power, quantum by quantum
					to := ms + 777 - (ms+777)%m.every
					for at := max(since, ms-ms%m.every); at < to; {
						next := min(to, at-at%quantum+quantum)
						want += m.track.at(at) * (next - at)
						at = next
					}
					if off := d - want; off > int64(m.scope.Resolution)+1 || off < -int64(m.scope.Resolution)-1 {
						t.Fatalf("seed %d: %s/%s from %d ms: counter %d uJ, power %d uJ", seed, n.name, m.scope.Name, ms, d, want)
					}
					if b.Counter >= m.scope.Modulus && m.scope.Modulus > 0 {
						t.Fatalf("%s: %d is not below %d", m.scope.Name, b.Counter, m.scope.Modulus)
					}
				}
				if (m.scope.Modulus > 0) != (wraps > 0) {
					t.Errorf("seed %d: %s/%s: %d wraps", seed, n.name, m.scope.Name, wraps)
				}
			}
		}
	}
}

// TestTruthAddsUp: jobs and idle are the total, projects are the jobs, and what
// the meters tell with what is missing is what was drawn.
func TestTruthAddsUp(t *testing.T) {
	for seed := range uint64(5) {
		o := options()
		o.Seed, o.Nodes = seed, 1+int(seed)
		s := simulate(t, o)
		sum := map[string]energy.Millijoules{}
		id := map[string]energy.Millijoules{}
		tolerance := map[string]energy.Millijoules{}
		rows := s.Truth()
		for _, r := range rows {
			sum[r.Kind] += r.Energy
			tolerance[r.key()] = r.Tolerance
			id[r.key()] = r.Energy
			if r.Tolerance <= 0 || Tolerance(r) != r.Tolerance {
				t.Errorf("seed %d: tolerance of %+v", seed, r)
			}
		}
		rounding := energy.Millijoules(len(rows))
		near := func(what string, got, want energy.Millijoules) {
			t.Helper()
			if d := got - want; d > rounding || d < -rounding {
				t.Errorf("seed %d: %s: %d mJ; want %d", seed, what, got, want)
			}
		}
		near("jobs and idle", sum[KindJob]+sum[KindIdle], sum[KindTotal])
		near("projects", sum[KindProject], sum[KindJob])
		var roots energy.Millijoules
		for i := range o.Nodes {
			n := s.node(i)
			for _, m := range n.meters {
				key := n.name + "/" + m.scope.Name
				drawn := energy.Millijoules(m.track.energy(n.length) / 1000)
				near(key, id["meter,"+key]+id["missing,"+key]+id["witness,"+key], drawn)
				if (id["witness,"+key] > 0) != (n.layout == Witness && m.scope.Name == "node") {
					t.Errorf("seed %d: %s: %d mJ as a witness", seed, key, id["witness,"+key])
				}
				// 2 J per epoch where counters count whole joules; a window of the
				// node's power where its last one as a root may be taken as another.
				if got := tolerance["meter,"+key]; got > 4_010 && id["witness,"+key] == 0 || got > 50_000_000 {
					t.Errorf("seed %d: %s: tolerance %d mJ", seed, key, got)
				}
				if m.scope.Parent == "" && n.layout != Witness {
					roots += id["meter,"+key]
				}
			}
			if n.layout == Witness { // the node meter first, its children later
				d := s.demotion(i)
				for _, m := range n.meters {
					if m.scope.Parent == "" {
						roots += energy.Millijoules(m.track.energy(d) / 1000)
					} else {
						roots += energy.Millijoules((m.track.energy(n.length) - m.track.energy(d)) / 1000)
					}
				}
			}
		}
		near("roots", roots, sum[KindTotal])
	}
}

// TestScriptHasEverything that a pipeline is to be tried with.
func TestScriptHasEverything(t *testing.T) {
	s := simulate(t, SimOptions{Seed: 3, Nodes: 8, Start: options().Start, For: 10 * time.Minute})
	seen := map[string]int{}
	for i := range s.o.Nodes {
		n := s.node(i)
		l := &ledger{n: n, books: newBooks(), windowMS: 10_000, demotion: s.demotion(i)}
		l.walk()
		if l.straddled > 0 {
			t.Errorf("%s: %d gaps reach over a job edge", n.name, l.straddled)
		}
		for _, e := range n.edges() {
			if e.ms%100 == 0 || e.ms <= 0 || e.ms >= n.length {
				t.Errorf("%s: an edge at %d ms", n.name, e.ms)
			}
			for _, f := range n.faults {
				if e.ms > f.from-3000 && e.ms < f.to+3000 {
					t.Errorf("%s: an edge at %d ms beside a fault from %d to %d", n.name, e.ms, f.from, f.to)
				}
			}
			if len(e.ends) > 0 && len(e.begins) > 0 {
				seen["back to back"]++
			}
		}
		nodes := map[string]bool{}
		for _, r := range n.runs {
			if r.to-r.from == 2000 {
				seen["two seconds"]++
			}
			if r.spec.Restart > 0 {
				seen["requeued"]++
			}
			if r.rests {
				seen["held idle"]++
			}
			if strings.HasPrefix(r.spec.ID, "5000000") && !nodes[r.spec.ID] {
				seen["job "+r.spec.ID]++
			}
			if r.to > n.length {
				seen["open"]++
			}
		}
		for _, f := range n.faults {
			seen[[]string{"reset", "missed", "silent", "stale", "absurd", "backwards"}[f.kind]]++
		}
		if n.works(0, n.length*80/100) || n.layout == HGX {
			seen["works"]++
		}
	}
	for _, what := range []string{"back to back", "two seconds", "requeued", "held idle", "job 50000000", "open", "reset", "missed", "silent", "stale", "absurd", "backwards", "works"} {
		if seen[what] == 0 || what == "job 50000000" && seen[what] != 2 {
			t.Errorf("%s: %d times", what, seen[what])
		}
	}
}

func TestStepsOfASimulation(t *testing.T) {
	s := simulate(t, options())
	for _, f := range s.Feeds() {
		layout, _ := s.Layout(f.Node())
		all := steps(t, f)
		if first, last := all[0], all[len(all)-1]; !first.At.Equal(s.o.Start) || !last.At.Equal(s.o.Start.Add(s.o.For)) || len(first.Readings) == 0 {
			t.Errorf("%s: from %v to %v", f.Node(), first.At, last.At)
		}
		epochs := map[string]bool{}
		activities := map[collector.Activity]int{}
		odd, late := 0, 0
		for _, st := range all {
			if st.At.UnixMilli()%1000 != 0 {
				odd++
				if len(st.Ends)+len(st.Begins) == 0 || len(st.Readings) == 0 {
					t.Errorf("%s: a step at %v without an edge or readings", f.Node(), st.At)
				}
			}
			for _, r := range st.Readings {
				if r.At.After(st.At) {
					t.Errorf("%s: a reading of the future at %v", f.Node(), st.At)
				}
				if r.At.Before(st.At) {
					late++
				}
				if r.HasPower && layout != HGX && r.Power > r.Scope.Limit {
					t.Errorf("%s: %s draws %d uW at %v", f.Node(), r.Scope.Name, r.Power, st.At)
				}
				epochs[r.Epoch] = true
				activities[r.Activity]++
			}
		}
		if odd < 5 {
			t.Errorf("%s: %d steps at odd times", f.Node(), odd)
		}
		switch layout {
		case Leonardo:
			if len(epochs) != 3 || late != 1 || activities[collector.Working] == 0 || activities[collector.Resting] == 0 {
				t.Errorf("%s: epochs %v, %d stale, activities %v", f.Node(), epochs, late, activities)
			}
		case Lumi:
			if len(epochs) != 2 || late != 7 {
				t.Errorf("%s: epochs %v, %d stale", f.Node(), epochs, late)
			}
		case Witness, HGX:
			if len(epochs) != 1 {
				t.Errorf("%s: epochs %v", f.Node(), epochs)
			}
		}
	}
}

func TestSameSeedSameSimulation(t *testing.T) {
	f := func(a, b SimOptions, want bool) {
		t.Helper()
		x, y := simulate(t, a), simulate(t, b)
		steps := reflect.DeepEqual(steps(t, x.Feeds()[0]), steps(t, y.Feeds()[0]))
		truth := reflect.DeepEqual(x.Truth(), y.Truth())
		name := x.Digest() == y.Digest()
		if steps != want || truth != want || name != want {
			t.Errorf("steps are the same: %v, truth: %v, name: %v; want %v", steps, truth, name, want)
		}
	}
	a, b := options(), options()
	a.For, b.For = 10*time.Minute, 10*time.Minute
	f(a, b, true)
	b.Seed++
	f(a, b, false)
}

func TestParentBecomesAWitnessAtAWindowsEdge(t *testing.T) {
	f := func(second int, window time.Duration, layout Layout, want time.Duration) {
		t.Helper()
		o := options()
		o.Start, o.Window, o.Layouts = o.Start.Add(time.Duration(second)*time.Second), window, []Layout{layout}
		if got := time.Duration(simulate(t, o).demotion(0)) * time.Millisecond; got != want {
			t.Errorf("after %v; want %v", got, want)
		}
	}
	f(0, 0, Witness, 300*time.Second)
	f(7, 0, Witness, 303*time.Second)
	f(10, 0, Witness, 300*time.Second)
	f(0, time.Minute, Witness, 300*time.Second)
	f(1, time.Minute, Witness, 359*time.Second)
	f(0, 0, Lumi, 20*time.Minute+time.Millisecond)
}

func TestTruthFile(t *testing.T) {
	s := simulate(t, options())
	var file bytes.Buffer
	if err := WriteTruth(&file, append(s.Truth(), TruthRow{Kind: KindMissing, ID: "x", Energy: -1_005})); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&file).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(rows[0], ","); got != "kind,id,joules" {
		t.Errorf("header %q", got)
	}
	if got := rows[len(rows)-1][2]; got != "-1.005" {
		t.Errorf("joules %q; want -1.005", got)
	}
}

func TestBadOptions(t *testing.T) {
	f := func(change func(*SimOptions), want string) {
		t.Helper()
		o := options()
		change(&o)
		if _, err := Simulate(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error: %v; want %q", err, want)
		}
	}
	f(func(o *SimOptions) { o.Nodes = 0 }, "0 nodes")
	f(func(o *SimOptions) { o.For = time.Minute }, "for 1m0s")
	f(func(o *SimOptions) { o.For += time.Millisecond }, "whole seconds")
	f(func(o *SimOptions) { o.Start = time.Time{} }, "not a whole second after 1970")
	f(func(o *SimOptions) { o.NodeCPUs = 4 }, "4 CPUs")
	f(func(o *SimOptions) { o.Window = 1500 * time.Millisecond }, "windows of 1.5s")
	f(func(o *SimOptions) { o.Layouts = []Layout{"cray-1"} }, `layout "cray-1"`)
}

func BenchmarkSimulation(b *testing.B) {
	s, err := Simulate(SimOptions{Seed: 1, Nodes: 4, Start: options().Start, For: time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.Run("feeds", func(b *testing.B) {
		for b.Loop() {
			for _, f := range s.Feeds() {
				for _, err := f.Next(); err == nil; _, err = f.Next() {
				}
			}
		}
	})
	b.Run("truth", func(b *testing.B) {
		for b.Loop() {
			s.Truth()
		}
	})
}
