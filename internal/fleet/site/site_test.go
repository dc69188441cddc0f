package site

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/fleet"
	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
)

func begin() time.Time { return time.Date(2026, 10, 10, 8, 0, 0, 0, time.UTC) }

func options(machine string) Options {
	return Options{
		Machine: machine, Nodes: 10, Seed: 7, Start: begin(), For: 20 * time.Minute, Faults: Faults(),
		Cluster: "c", Truth: true, Now: time.Now,
	}
}

func site(t testing.TB, o Options) *Site {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// windows makes every window of a site, in rounds, and gives a copy of each to f.
func windows(t testing.TB, s *Site, f func(n *node, w *window.Window)) {
	t.Helper()
	b := newBuilder(s)
	for at := s.first; ; {
		r := s.next(at, begin())
		if r == nil {
			return
		}
		at = r.to
		for _, n := range s.nodes {
			b.run(n, r, f)
		}
	}
}

// encoded copies a window through the wire, as an aggregator sees it.
func encoded(t testing.TB, w *window.Window) ([]byte, *window.Window) {
	t.Helper()
	raw, err := wire.EncodeFragment([]*window.Catalogue{w.Catalogue}, []*window.Window{w})
	if err != nil {
		t.Fatal(err)
	}
	b, err := wire.DecodeFragment(raw, nil)
	if err != nil {
		t.Fatal(err)
	}
	return raw, b.Windows[0]
}

// TestWindowsMayBeBooked: each passes the check that intake applies, joins the
// one before, and lies in its time.
func TestWindowsMayBeBooked(t *testing.T) {
	for _, machine := range Machines() {
		for seed := range uint64(3) {
			o := options(machine)
			o.Seed, o.History, o.Backlog = seed, 3*time.Hour, time.Hour
			s := site(t, o)
			ends := map[string]energy.Microjoules{}
			last := map[string]int64{}
			telemetry := 0
			windows(t, s, func(n *node, w *window.Window) {
				_, w = encoded(t, w)
				if err := window.Check(w); err != nil {
					t.Fatalf("%s seed %d: %s at %d: %v", machine, seed, n.name, w.StartMS, err)
				}
				if w.StartMS < last[n.name] {
					t.Fatalf("%s goes back from %d to %d", n.name, last[n.name], w.StartMS)
				}
				last[n.name] = w.EndMS
				telemetry += len(w.Telemetry)
				for _, r := range w.Ranges {
					m := w.Catalogue.Meters[r.Meter]
					key := n.name + m.Name + m.Epoch
					if have, ok := ends[key]; ok && have != r.From {
						t.Fatalf("%s seed %d: %s of %s goes on at %d, not at %d", machine, seed, m.Name, n.name, r.From, have)
					}
					ends[key] = r.To
				}
			})
			for name, ms := range last {
				if off := ms - s.end; off > 120_000 || off < -120_000 {
					if s.sched.down[indexOf(s, name)] {
						continue
					}
					t.Errorf("%s seed %d: %s ends %d ms off", machine, seed, name, off)
				}
			}
			if len(last) != o.Nodes || telemetry == 0 {
				t.Errorf("%s: %d nodes, %d series", machine, len(last), telemetry)
			}
		}
	}
}

// TestResetAtAnySecond of a window leaves windows that may be booked.
func TestResetAtAnySecond(t *testing.T) {
	for _, machine := range Machines() {
		for second := range int64(10) {
			o := options(machine)
			o.Nodes, o.For, o.Faults = 1, 2*time.Minute, nil
			s := site(t, o)
			f := &fault{kind: faultReset, from: s.start + 30_000 + second*1000}
			s.sched.add(event{ms: f.from - 1000, back: -1, fault: f})
			events, epochs := 0, map[uint64]bool{}
			windows(t, s, func(_ *node, w *window.Window) {
				if err := window.Check(w); err != nil {
					t.Fatalf("%s, a reset at second %d: [%d, %d): %v", machine, second, w.StartMS, w.EndMS, err)
				}
				events += len(w.Events)
				epochs[w.Catalogue.ID] = true
			})
			if events == 0 || len(epochs) != 2 {
				t.Errorf("%s: %d events, %d catalogues", machine, events, len(epochs))
			}
		}
	}
}

func indexOf(s *Site, name string) int {
	for i, n := range s.nodes {
		if n.name == name {
			return i
		}
	}
	return -1
}

// TestEncodesAsTheWireDoes, to the byte.
func TestEncodesAsTheWireDoes(t *testing.T) {
	for _, machine := range Machines() {
		var e encoder
		windows(t, site(t, options(machine)), func(n *node, w *window.Window) {
			want, err := wire.EncodeFragment(nil, []*window.Window{w})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := e.window(w); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%s: %s at %d: %d bytes, the wire has %d: %v", machine, n.name, w.StartMS, len(got), len(want), err)
			}
		})
	}
}

// TestSameSeedSameSite, to the byte, and in the truth.
func TestSameSeedSameSite(t *testing.T) {
	run := func(o Options) (all []byte, truth []fleet.TruthRow) {
		byNode := make([]bytes.Buffer, o.Nodes)
		windows(t, site(t, o), func(n *node, w *window.Window) {
			b, _ := encoded(t, w)
			byNode[n.index].Write(b)
		})
		s := site(t, o)
		if err := s.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i := range byNode {
			all = append(all, byNode[i].Bytes()...)
		}
		return all, s.Truth()
	}
	o := options("leonardo")
	raw1, truth1 := run(o)
	o.Speed, o.Connections, o.Batch = 50_000, 3, 7 // how it is sent changes nothing
	raw2, truth2 := run(o)
	if !bytes.Equal(raw1, raw2) {
		t.Error("windows of the same options differ")
	}
	if d := cmp.Diff(truth1, truth2); d != "" {
		t.Errorf("truth of the same options (-first +second):\n%s", d)
	}
	o.Seed++
	raw3, truth3 := run(o)
	if bytes.Equal(raw1, raw3) || cmp.Equal(truth1, truth3) {
		t.Error("another seed gives the same site")
	}
}

// TestTruthIsWhatPowerAndScheduleSay adds up power second by second and gives
// it to those the schedule names, in floats and without windows.
func TestTruthIsWhatPowerAndScheduleSay(t *testing.T) {
	for _, machine := range Machines() {
		o := options(machine)
		o.Faults = nil
		s := site(t, o)
		if err := s.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := plain(t, o)
		rows := s.Truth()
		for _, r := range rows {
			// a millijoule for each window and meter, a joule where counters are coarse
			tolerance := energy.Millijoules(4000)
			if r.Kind != fleet.KindMeter {
				tolerance = energy.Millijoules(float64(r.Energy)*1e-4) + 80_000
			}
			got := energy.Millijoules(want[fleet.TruthKey(r.Kind, r.ID)] * 1000)
			if d := r.Energy - got; d > tolerance || d < -tolerance {
				t.Errorf("%s: %s %s: %d mJ; power and schedule say %d mJ", machine, r.Kind, r.ID, r.Energy, got)
			}
		}
		if len(rows) < 100 || want["total,"] < 1e6 {
			t.Errorf("%s: %d rows, %g J in all: the test proves little", machine, len(rows), want["total,"])
		}
	}
}

// plain is the plainest accountant of a site.
func plain(t *testing.T, o Options) map[string]float64 {
	t.Helper()
	s := site(t, o)
	es := s.sched.round(s.end)
	out := map[string]float64{}
	for i, n := range s.nodes {
		running := map[*Job]bool{}
		edges := es[i]
		for ms := s.first; ms < s.end; ms++ {
			for len(edges) > 0 && edges[0].ms == ms {
				if edges[0].kind == begins {
					running[edges[0].job] = true
				} else {
					delete(running, edges[0].job)
				}
				edges = edges[1:]
			}
			dt := 1000 - ms%1000
			if len(edges) > 0 {
				dt = min(dt, edges[0].ms-ms)
			}
			var loads [maxGPUs]load
			holder := map[int]*Job{}
			for j := range running {
				for g := range s.m.gpus {
					if j.mask>>g&1 == 1 {
						loads[g], holder[g] = load{level: j.level(ms / 1000), held: true}, j
					}
				}
			}
			mw := make([]int64, len(s.m.defs))
			s.m.draw(mw, mix(n.seed^uint64(ms/1000)), &loads, int64(len(holder)))
			for k, d := range s.m.defs {
				joules := float64(mw[k]*dt) / 1e6
				out[fleet.TruthKey(fleet.KindMeter, n.name+"/"+d.Name)] += joules
				t := &s.m.tree.Nodes[k]
				if t.Root() {
					out[fleet.TruthKey(fleet.KindTotal, "")] += joules
				}
				for _, c := range t.Children {
					joules -= float64(mw[c]*dt) / 1e6
				}
				for g := range s.m.gpus {
					share := joules / float64(s.m.gpus)
					if d.device() && d.unit != g {
						continue
					} else if d.device() {
						share = joules
					}
					if j := holder[g]; j != nil {
						out[fleet.TruthKey(fleet.KindJob, j.ID)] += share
						out[fleet.TruthKey(fleet.KindProject, j.Project)] += share
					} else {
						out[fleet.TruthKey(fleet.KindIdle, "")] += share
					}
				}
			}
			ms += dt - 1
		}
	}
	return out
}

// TestMixIsLikeAMachines: many small jobs and few large ones that take most of
// the energy, arrays, held and idle time, a project that leads.
func TestMixIsLikeAMachines(t *testing.T) {
	o := options("leonardo")
	o.Nodes, o.For, o.History, o.Faults = 64, 10*time.Minute, 48*time.Hour, nil
	s := site(t, o)
	uses := map[energy.Use]energy.Millijoules{}
	windows(t, s, func(_ *node, w *window.Window) {
		for _, p := range w.Postings {
			uses[p.Use] += p.Energy
		}
	})
	sizes, short, tasks, back := map[int]int{}, 0, 0, 0
	for _, j := range s.jobs {
		sizes[len(j.nodes)]++
		if j.over && j.end-j.start < minuteMS {
			short++
		}
		if bytes.ContainsRune([]byte(j.ID), '_') {
			tasks++
		}
	}
	ended := map[string]bool{}
	for _, j := range s.jobs {
		if j.over {
			ended[fmt.Sprint(j.nodes, j.mask, j.end)] = true
		}
	}
	for _, j := range s.jobs {
		if ended[fmt.Sprint(j.nodes, j.mask, j.start)] {
			back++
		}
	}
	large := 0
	for n := range sizes {
		large = max(large, n)
	}
	if len(s.jobs) < 1000 || sizes[1] < len(s.jobs)/2 || large < 16 || large > 32 || short < 20 || tasks < 100 || back < 50 {
		t.Errorf("%d jobs, %d on one node, at most on %d, %d under a minute, %d tasks of arrays, %d back to back", len(s.jobs), sizes[1], large, short, tasks, back)
	}
	all := uses[energy.Busy] + uses[energy.Held] + uses[energy.Idle]
	part := func(u energy.Use) float64 { return float64(uses[u]) / float64(all) }
	if part(energy.Busy) < 0.6 || part(energy.Held) < 0.005 || part(energy.Idle) < 0.01 || part(energy.Idle) > 0.25 {
		t.Errorf("busy %.3f, held %.3f, idle %.3f of the energy", part(energy.Busy), part(energy.Held), part(energy.Idle))
	}
}

// TestFaultsHappen: each kind that is asked for is in what is sent.
func TestFaultsHappen(t *testing.T) {
	for _, machine := range []string{"leonardo", "lumi", "jupiter"} {
		s := site(t, options(machine))
		events := map[string]int{}
		hot, absent, requeued := 0, 0, 0
		epochs := map[string]map[string]bool{}
		windows(t, s, func(n *node, w *window.Window) {
			for _, e := range w.Events {
				events[e.Kind]++
			}
			for i := range w.Telemetry {
				if r := &w.Telemetry[i]; r.Name == "temperature_celsius" && r.Last > 88_000 {
					hot++
				}
			}
			absent += len(w.Absences)
			for _, m := range w.Catalogue.Meters {
				if epochs[n.name] == nil {
					epochs[n.name] = map[string]bool{}
				}
				epochs[n.name][m.Epoch] = true
			}
			for _, j := range w.Jobs {
				requeued += int(j.Restart)
			}
		})
		for _, kind := range []string{"boot", "xid", "stuck", "reset"} {
			if events[kind] == 0 {
				t.Errorf("%s: no event %s", machine, kind)
			}
		}
		skewed := 0
		for _, ms := range s.skews {
			if ms != 0 {
				skewed++
			}
		}
		if hot == 0 || absent == 0 || skewed == 0 {
			t.Errorf("%s: %d hot GPUs, %d absences, %d clocks off", machine, hot, absent, skewed)
		}
	}
}

func TestFaultsByName(t *testing.T) {
	f := func(list string, want int, good bool) {
		t.Helper()
		got, err := ParseFaults(list)
		if len(got) != want || (err == nil) != good {
			t.Errorf("%q: %v, %v", list, got, err)
		}
	}
	f("all", int(numFaults), true)
	f("none", 0, true)
	f("xid,loss", 2, true)
	f("xid,flood", 0, false)
}

func TestBadOptions(t *testing.T) {
	f := func(change func(*Options)) {
		t.Helper()
		o := options("lumi")
		change(&o)
		if _, err := New(o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
	f(func(o *Options) { o.Machine = "deep-thought" })
	f(func(o *Options) { o.Nodes = 0 })
	f(func(o *Options) { o.Start = o.Start.Add(time.Second) })
	f(func(o *Options) { o.For = 7 * time.Second })
	f(func(o *Options) { o.History = time.Millisecond })
	f(func(o *Options) { o.Speed = -1 })
	f(func(o *Options) { o.Batch = 1000 })
	f(func(o *Options) { o.Faults = []string{"locusts"} })
	f(func(o *Options) { o.Cluster = "a\nb" })
}

func TestHistogram(t *testing.T) {
	var h histogram
	for i := range 100 {
		h.add(time.Duration(i+1) * time.Millisecond)
	}
	if p50, p99 := h.quantile(0.5), h.quantile(0.99); p50 < 50*time.Millisecond || p50 > 57*time.Millisecond || p99 < 99*time.Millisecond || p99 > 112*time.Millisecond {
		t.Errorf("p50 %v, p99 %v", p50, p99)
	}
}
