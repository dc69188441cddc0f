package exporters_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/wattledger/wattledger/exporters"
)

// sink notes what it gets. While hold is not closed its disk hangs.
type sink struct {
	name   string
	hold   chan struct{}
	mu     sync.Mutex
	got    []int64
	closed bool
}

func (s *sink) Name() string { return s.name }

func (s *sink) Write(b exporters.Batch) error {
	if s.hold != nil {
		<-s.hold
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range b.Series {
		for _, p := range one.Points {
			s.got = append(s.got, p.MS)
		}
	}
	return nil
}

func (s *sink) Run(ctx context.Context) { <-ctx.Done() }

func (s *sink) Close() error { s.closed = true; return nil }

func at(ms int64) exporters.Batch {
	return exporters.Batch{Series: []exporters.Series{{Name: "a", Points: []exporters.Point{{MS: ms, V: 1}}}}}
}

func TestSlowDiskCostsItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewPedanticRegistry()
		well, stuck := &sink{name: "well"}, &sink{name: "stuck", hold: make(chan struct{})}
		f, err := exporters.NewFan([]exporters.Sink{stuck, well}, reg, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- f.Run(ctx) }()
		const n = 5000
		var want []int64
		for i := range int64(n) {
			f.Offer(at(i))
			want = append(want, i)
			if i%100 == 99 {
				time.Sleep(time.Second)
			}
		}
		synctest.Wait()
		if diff := cmp.Diff(want, well.got); diff != "" {
			t.Errorf("the one that works, -want +got:\n%s", diff)
		}
		close(stuck.hold)
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		lost := 0
		for _, m := range []string{"stuck"} {
			lost += int(overrun(t, reg, m))
		}
		if lost+len(stuck.got) != n || lost == 0 || len(stuck.got) < 1000 {
			t.Errorf("%d written and %d counted as lost of %d", len(stuck.got), lost, n)
		}
		if overrun(t, reg, "well") != 0 || !well.closed || !stuck.closed {
			t.Error("the one that works lost something, or one is not closed")
		}
	})
}

// TestBuffered: what was offered is in the buffers when it says so; a disk that
// hangs delays whoever asks once, not each time.
func TestBuffered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		well, stuck := &sink{name: "well"}, &sink{name: "stuck"}
		f, err := exporters.NewFan([]exporters.Sink{stuck, well}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- f.Run(ctx) }()
		for i := range int64(300) {
			f.Offer(at(i))
			if i%100 != 99 {
				continue
			}
			if !f.Buffered(time.Second) {
				t.Errorf("not buffered after %d", i)
			}
			for _, s := range []*sink{well, stuck} {
				s.mu.Lock()
				if int64(len(s.got)) != i+1 {
					t.Errorf("%s has %d of %d", s.name, len(s.got), i+1)
				}
				s.mu.Unlock()
			}
		}
		stuck.hold = make(chan struct{})
		began := time.Now()
		for i := range int64(10) {
			f.Offer(at(300 + i))
			if f.Buffered(time.Second) {
				t.Error("buffered on a disk that hangs")
			}
		}
		if waited := time.Since(began); waited != time.Second {
			t.Errorf("waited %v for a disk that hangs; want one second in all", waited)
		}
		if len(well.got) != 310 {
			t.Errorf("the one that works has %d of 310", len(well.got))
		}
		close(stuck.hold)
		synctest.Wait()
		f.Offer(at(310))
		if !f.Buffered(time.Second) || len(stuck.got) != 311 {
			t.Errorf("the one that works again has %d of 311", len(stuck.got))
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestPointsInMemoryAreBounded, however large the batches are.
func TestPointsInMemoryAreBounded(t *testing.T) {
	reg := prometheus.NewRegistry()
	f, err := exporters.NewFan([]exporters.Sink{&sink{name: "away"}}, reg, nil)
	if err != nil {
		t.Fatal(err)
	}
	big := exporters.Batch{Series: []exporters.Series{{Name: "a", Points: make([]exporters.Point, 100_000)}}}
	for range 20 {
		f.Offer(big)
	}
	if got := overrun(t, reg, "away"); got < 500_000 || got > 1_000_000 {
		t.Errorf("%v of two million points did not fit", got)
	}
}

func overrun(t *testing.T, reg *prometheus.Registry, receiver string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == exporters.MetricOverrun && m.GetLabel()[0].GetValue() == receiver {
				return m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("no %s of %s", exporters.MetricOverrun, receiver)
	return 0
}

func TestWhatIsQueuedAtTheEndIsWritten(t *testing.T) {
	s := &sink{name: "s"}
	f, err := exporters.NewFan([]exporters.Sink{s}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(500) {
		f.Offer(at(i))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if len(s.got) != 500 {
		t.Errorf("%d of 500 written", len(s.got))
	}
}

func TestOnly(t *testing.T) {
	f := func(name string, want bool, patterns ...string) {
		t.Helper()
		o, err := exporters.NewOnly(patterns)
		if err != nil || o.Has(name) != want {
			t.Errorf("%v has %q: %v, %v; want %v", patterns, name, o.Has(name), err, want)
		}
	}
	f("wattledger_gpu_power_watts", true)
	f("wattledger_gpu_power_watts", true, "wattledger_project_*", "wattledger_gpu_*")
	f("wattledger_gpu_power_watts", false, "wattledger_project_*")
	for _, bad := range []string{"", "["} {
		if _, err := exporters.NewOnly([]string{bad}); err == nil {
			t.Errorf("%q was taken for a pattern", bad)
		}
	}
}

func TestRegisterTwice(t *testing.T) {
	reg := prometheus.NewRegistry()
	if _, err := exporters.NewFan(nil, reg, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := exporters.NewFan(nil, reg, nil); err == nil {
		t.Error("two fans share a registry")
	}
	if n, err := testutil.GatherAndCount(reg); n != 0 || err != nil {
		t.Errorf("%d metrics of no receivers, %v", n, err)
	}
}
