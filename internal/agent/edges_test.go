package agent_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/agent"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/window"
)

// rack is a board that knows its GPU by other names.
type rack struct{ *board }

func (r rack) Locate(ref string) (collector.Place, bool) {
	switch ref {
	case "minor:7", "GPU-aaaa":
		return collector.Place{Meter: "gpu0", Weight: collector.Whole}, true
	case "MIG-1", "MIG-2":
		return collector.Place{Meter: "gpu0", Weight: 3 * collector.Whole / 7}, true
	}
	return collector.Place{}, false
}

func heldAs(refs ...string) job.Spec {
	s := job.Spec{ID: "1", Project: "P", CPUs: 4}
	for _, r := range refs {
		s.GPUs = append(s.GPUs, window.Share{Device: r, Weight: job.Whole})
	}
	return s
}

// uses sums windows by job and use.
func uses(ws []*window.Window) map[string]energy.Millijoules {
	out := map[string]energy.Millijoules{}
	for _, w := range ws {
		for _, p := range w.Postings {
			id := "-"
			if p.Job >= 0 {
				id = w.Jobs[p.Job].ID
			}
			out[id+" "+p.Use.String()] += p.Energy
		}
	}
	return out
}

func (d *daemon) told(e job.Edge) job.Answer {
	d.Helper()
	a := d.Handle(context.Background(), e)
	if !a.OK {
		d.Fatalf("%s by %s: %s", e.Op, e.Witness, a.Message)
	}
	return a
}

func TestReferencesFindTheirMeter(t *testing.T) {
	for _, c := range []struct {
		refs []string
		job  energy.Millijoules // of 300 W over 20 s
		rest string             // who has the rest
		left energy.Millijoules
	}{
		{[]string{"minor:7"}, 6_000_000, "", 0},
		{[]string{"GPU-aaaa"}, 6_000_000, "", 0},
		{[]string{"gpu0"}, 6_000_000, "", 0},
		{[]string{"MIG-1"}, 2_571_426, "- idle", 3_428_574},
		{[]string{"MIG-1", "MIG-2"}, 5_142_852, "- idle", 857_148},
		{[]string{"minor:9"}, 0, "- unknown", 6_000_000},
		{[]string{"GPU-gone"}, 0, "- unknown", 6_000_000},
		{[]string{"gpu7"}, 0, "- unknown", 6_000_000},
	} {
		t.Run(strings.Join(c.refs, ","), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := start(t, rack{&board{born: clock()}}, t.TempDir(), nil)
				time.Sleep(5 * time.Second)
				a := d.told(job.Edge{Op: "begin", Witness: "prolog", Job: heldAs(c.refs...)})
				if lost := c.rest == "- unknown"; lost != strings.Contains(a.Message, c.refs[0]) {
					t.Errorf("the answer is %q", a.Message)
				}
				time.Sleep(20 * time.Second)
				d.told(job.Edge{Op: "end", Witness: "epilog", Job: job.Spec{ID: "1"}})
				time.Sleep(5 * time.Second)
				got := uses(d.stop())
				if got["1 busy"] < c.job-10 || got["1 busy"] > c.job+10 {
					t.Errorf("the job has %d mJ, want %d (%v)", got["1 busy"], c.job, got)
				}
				idle := energy.Millijoules(0)
				if c.rest == "- idle" {
					idle = 3_000_000 // before and after
				}
				if c.rest != "" && (got[c.rest] < c.left+idle-10 || got[c.rest] > c.left+idle+300_010) {
					t.Errorf("%s has %d mJ, want %d (%v)", c.rest, got[c.rest], c.left+idle, got)
				}
			})
		})
	}
}

// A job told of before the first reading is placed when the source knows its
// devices, before anything is booked.
func TestReferencesOfAnEarlyJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, rack{&board{born: clock()}}, t.TempDir(), nil, job.Edge{Op: "begin", Witness: "file", Job: heldAs("minor:7")})
		time.Sleep(12 * time.Second)
		got := uses(d.stop())
		if got["1 busy"] < 3_500_000 || got["- idle"] != 0 || got["- unknown"] != 0 {
			t.Errorf("the books hold %v; all of it is the job's", got)
		}
	})
}

// What several witnesses tell of one job is one job.
func TestWitnessesOfOneJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, rack{&board{born: clock()}}, t.TempDir(), nil)
		time.Sleep(5 * time.Second)
		found := job.Spec{ID: "1", CPUs: 4, Unplaced: []string{"gpus of job 1"}}
		d.told(job.Edge{Op: "begin", Witness: "cgroup", Job: found})
		d.told(job.Edge{Op: "begin", Witness: "prolog", Job: heldAs("minor:7")})
		d.told(job.Edge{Op: "begin", Witness: "cgroup", Job: found})
		d.told(job.Edge{Op: "begin", Witness: "file", Job: heldAs("minor:7")})
		time.Sleep(10 * time.Second)
		d.told(job.Edge{Op: "end", Witness: "epilog", Job: job.Spec{ID: "1"}})
		d.told(job.Edge{Op: "end", Witness: "cgroup", Job: job.Spec{ID: "1"}})
		if a := d.Handle(context.Background(), job.Edge{Op: "end", Job: job.Spec{ID: "1"}}); a.OK {
			t.Error("a second end on the command line is no mistake?")
		}
		time.Sleep(time.Second)
		requeued := heldAs("minor:7")
		requeued.Restart = 1
		d.told(job.Edge{Op: "begin", Witness: "prolog", Job: requeued})
		// the first run's cgroup vanished late: it ends nothing of the second
		d.told(job.Edge{Op: "end", Witness: "cgroup", Job: job.Spec{ID: "1"}, AtNS: clock().Add(-500 * time.Millisecond).UnixNano()})
		time.Sleep(10 * time.Second)
		d.told(job.Edge{Op: "end", Witness: "epilog", Job: job.Spec{ID: "1"}})
		time.Sleep(3 * time.Second)
		n := newNode(t, options())
		n.take(d.stop())
		books := n.books()
		for _, run := range []string{"job 1/0", "job 1/1"} {
			if got := books[run]; got < 3_000_000-10 || got > 3_000_000+10 {
				t.Errorf("%s has %d mJ, want 10 s at 300 W (%v)", run, got, books)
			}
		}
	})
}

// An edge may be told and kept, where the answer came too late for the hook that
// told it. What is delivered again after the job's end begins and ends nothing.
func TestEdgesThatWereToldAndKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, rack{&board{born: clock()}}, t.TempDir(), nil)
		time.Sleep(5 * time.Second)
		begin := job.Edge{Op: "begin", Witness: "prolog", Job: heldAs("minor:7")}
		end := job.Edge{Op: "end", Witness: "epilog", Job: job.Spec{ID: "1"}}
		began := clock().UnixNano()
		d.told(begin)
		time.Sleep(time.Second)
		ended := clock().UnixNano()
		d.told(end)
		for range 2 { // in the same window, and in a later one
			time.Sleep(10 * time.Second)
			begin.AtNS, end.AtNS = began, ended
			d.told(begin)
			d.told(end)
		}
		time.Sleep(10 * time.Second)
		// the first run's edges are delivered when the second is there
		first, second := heldAs("minor:7"), heldAs("minor:7")
		first.ID, second.ID, second.Restart = "2", "2", 1
		early := clock().UnixNano()
		time.Sleep(2 * time.Second)
		d.told(job.Edge{Op: "begin", Witness: "prolog", Job: second})
		d.told(job.Edge{Op: "begin", Witness: "prolog", Job: first, AtNS: early})
		d.told(job.Edge{Op: "end", Witness: "file", Job: first, AtNS: early + 5e8})
		time.Sleep(10 * time.Second)
		d.told(job.Edge{Op: "end", Witness: "epilog", Job: second})
		time.Sleep(3 * time.Second)
		n := newNode(t, options())
		n.take(d.stop())
		books := n.books()
		for run, want := range map[string]energy.Millijoules{"job 1/0": 300_000, "job 2/0": 600_000, "job 2/1": 3_000_000} {
			if got := books[run]; got < want-10 || got > want+10 {
				t.Errorf("%s has %d mJ, want %d (%v)", run, got, want, books)
			}
		}
		if got := n.events("end_without_begin") + n.events("begin_twice"); got != 0 {
			t.Errorf("%d events say that something was wrong", got)
		}
	})
}

// stepped is a board whose draw a test sets; its counter integrates it.
type stepped struct {
	*board
	mu    sync.Mutex
	at    time.Time
	uj    energy.Microjoules
	watts energy.Microwatts
}

func (s *stepped) set(w energy.Microwatts) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	s.watts = w * energy.Watt
}

func (s *stepped) settle() {
	now := clock()
	s.uj += energy.Most(s.watts, now.Sub(s.at).Nanoseconds(), 0)
	s.at = now
}

func (s *stepped) Read(context.Context) ([]collector.Reading, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	return []collector.Reading{{
		Scope: collector.Scope{Name: "gpu0", Class: energy.GPU, Limit: 700 * energy.Watt}, At: s.at, Epoch: "boot",
		Counter: s.uj, Power: s.watts, HasPower: true,
	}}, nil
}

// The agent is down when jobs begin and end: the edges kept in files share what
// the counter counted, by what the meter drew before and after.
func TestEdgesKeptWhileNoAgentRan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		src := &stepped{board: &board{}, at: clock()}
		src.set(60)
		d := start(t, src, dir, nil)
		time.Sleep(15 * time.Second)
		d.stop()
		time.Sleep(20 * time.Second)
		began := clock()
		src.set(600)
		time.Sleep(25 * time.Second)
		d = start(t, src, dir, nil, job.Edge{Op: "begin", Witness: "file", Job: heldAs("gpu0"), AtNS: began.UnixNano()})
		time.Sleep(5 * time.Second)
		d.told(job.Edge{Op: "end", Witness: "epilog", Job: job.Spec{ID: "1"}})
		src.set(60)
		time.Sleep(5 * time.Second)
		d.stop()
		// and one that began and ended meanwhile
		time.Sleep(20 * time.Second)
		src.set(600)
		b2 := clock()
		time.Sleep(2 * time.Second)
		src.set(60)
		e2 := clock()
		time.Sleep(20 * time.Second)
		short := heldAs("gpu0")
		short.ID = "2"
		d = start(t, src, dir, nil,
			job.Edge{Op: "begin", Witness: "file", Job: short, AtNS: b2.UnixNano()},
			job.Edge{Op: "end", Witness: "file", Job: job.Spec{ID: "2"}, AtNS: e2.UnixNano()})
		time.Sleep(12 * time.Second)
		ws := d.stop()
		got := uses(ws)
		for id, want := range map[string]energy.Millijoules{"1 busy": 30 * 600_000, "2 busy": 2 * 600_000} {
			if diff := got[id] - want; diff > want/200 || diff < -want/200 {
				t.Errorf("%s has %d mJ, want %d within half a percent (%v)", id, got[id], want, got)
			}
		}
		if got["- unknown"] != 0 {
			t.Errorf("%d mJ are unknown; the edges say whose they are", got["- unknown"])
		}
	})
}

// busyBoard says who keeps its GPU busy.
type busyBoard struct {
	*board
	mute *atomic.Bool // it tells no more
}

func (b busyBoard) Processes() []collector.DeviceProcesses {
	if b.mute.Load() {
		return nil
	}
	return []collector.DeviceProcesses{{
		Meter: "gpu0", At: clock().UnixNano(), HasUse: true,
		Processes: []collector.Process{{PID: 10, Use: 200_000}, {PID: 11, Use: 100_000}, {PID: 20, Use: 100_000}, {PID: 99, Use: 600_000}},
	}}
}

// Read shows the GPU at rest at first: 60 W.
func (b busyBoard) Read(ctx context.Context) ([]collector.Reading, error) {
	rs, err := b.board.Read(ctx)
	rs[0].Power, rs[0].HasPower, rs[0].Activity = 300*energy.Watt, true, collector.Working
	if b.reads.Load() < 3 {
		rs[0].Power, rs[0].Activity = 60*energy.Watt, collector.Resting
	}
	return rs, err
}

// Two jobs share a GPU; a process outside both is busier than either.
func TestSharedGPUByMeasuredUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		owner := func(pid int) (string, bool) {
			id, ok := map[int]string{10: "a", 11: "a", 20: "b"}[pid]
			return id, ok
		}
		mute := &atomic.Bool{}
		d := startWith(t, busyBoard{&board{born: clock()}, mute}, t.TempDir(), nil, func(o *agent.Options) {
			o.Pipeline.Utilisation, o.Owner = true, owner
		})
		time.Sleep(15 * time.Second)
		for _, id := range []string{"a", "b"} {
			s := job.Spec{ID: id, GPUs: []window.Share{{Device: "gpu0", Weight: job.Whole / 2}}}
			d.told(job.Edge{Op: "begin", Witness: "prolog", Job: s})
		}
		time.Sleep(20 * time.Second)
		for _, id := range []string{"a", "b"} {
			d.told(job.Edge{Op: "end", Witness: "epilog", Job: job.Spec{ID: id}})
		}
		// a GPU whose driver tells no more of processes is shared by weights again
		mute.Store(true)
		time.Sleep(20 * time.Second)
		for _, id := range []string{"a", "c"} {
			s := job.Spec{ID: id, Restart: 1, GPUs: []window.Share{{Device: "gpu0", Weight: job.Whole / 2}}}
			d.told(job.Edge{Op: "begin", Witness: "prolog", Job: s})
		}
		time.Sleep(10 * time.Second)
		for _, id := range []string{"a", "c"} {
			d.told(job.Edge{Op: "end", Witness: "epilog", Job: job.Spec{ID: id}})
		}
		ws := d.stop()
		got := uses(ws)
		for id, want := range map[string]energy.Millijoules{"a busy": 4_200_000 + 1_500_000, "b busy": 1_800_000, "c busy": 1_500_000} {
			if got[id] < want-10 || got[id] > want+10 {
				t.Errorf("%s has %d mJ, want %d (%v)", id, got[id], want, got)
			}
		}
		if p := ws[0].Catalogue.Policy; p != "utilisation/v1" {
			t.Errorf("the policy is called %q", p)
		}
	})
}

// superchip is a module whose counter is the only meter there is of its GPU.
type superchip struct{ *board }

func (s superchip) Read(ctx context.Context) ([]collector.Reading, error) {
	rs, err := s.board.Read(ctx)
	rs[0].Scope.Name, rs[0].Scope.Rest = "module0", energy.GPU
	return rs, err
}

// A job names the GPU; the meter of the module stands for it.
func TestModuleStandsForItsGPU(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, superchip{&board{born: clock()}}, t.TempDir(), nil)
		time.Sleep(5 * time.Second)
		if a := d.told(job.Edge{Op: "begin", Witness: "prolog", Job: heldAs("gpu0")}); a.Message != "" {
			t.Errorf("the answer is %q", a.Message)
		}
		time.Sleep(20 * time.Second)
		d.told(job.Edge{Op: "end", Witness: "epilog", Job: job.Spec{ID: "1"}})
		got := uses(d.stop())
		if got["1 busy"] < 6_000_000-10 || got["1 busy"] > 6_000_000+10 || got["- unknown"] != 0 {
			t.Errorf("the books hold %v; the job held the module for 20 s at 300 W", got)
		}
	})
}
