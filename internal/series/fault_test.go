package series_test

import (
	"context"
	"errors"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/prometheus/prometheus/storage"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/wattledger/wattledger/internal/series"
)

// ill is a storage that fails to commit, or panics, while it is told to.
type ill struct {
	storage.Appendable
	full, mad *atomic.Bool
}

type illAppender struct {
	storage.Appender
	ill ill
}

func (i ill) Appender(ctx context.Context) storage.Appender {
	return illAppender{i.Appendable.Appender(ctx), i}
}

func (a illAppender) Commit() error {
	switch {
	case a.ill.full.Load():
		return errors.Join(a.Rollback(), syscall.ENOSPC)
	case a.ill.mad.Load():
		panic("index out of range")
	}
	return a.Appender.Commit()
}

// TestAFullDisk: what could not be stored waits and is stored later; the
// counters have all of it.
func TestAFullDisk(t *testing.T) {
	core, logged := observer.New(zap.ErrorLevel)
	r := newRig(t, series.Options{Log: zap.New(core)})
	var full, mad atomic.Bool
	r.store.Through(func(a storage.Appendable) storage.Appendable { return ill{a, &full, &mad} })
	r.run()
	r.live(begin, 6, 2)
	full.Store(true)
	for i := range int64(6) {
		r.now.Store(begin + 60_000 + i*10_000 + 10_500)
		r.store.Booked(node("n0"), gpus(begin+60_000+i*10_000, 4, 200))
		r.store.Booked(node("n1"), gpus(begin+60_000+i*10_000, 4, 201))
	}
	r.until("it failed", func() bool { return r.metric(series.MetricErrors, "append") > 0 })
	if logged.Len() == 0 || r.store.Ready() != nil {
		t.Errorf("%d lines logged, ready: %v", logged.Len(), r.store.Ready())
	}
	full.Store(false)
	r.now.Add(60_000) // the back-off is over
	r.live(begin+120_000, 6, 2)
	if got := r.value("wattledger_project_energy_joules_total", begin+180_000); got != 180*(900+904) {
		t.Errorf("energy = %v; want %v", got, 180*(900+904))
	}
	if got := r.value("count_over_time(wattledger_gpu_power_watts{node=\"n1\",gpu=\"gpu2\"}[180s])", begin+180_000); got != 180 {
		t.Errorf("%v samples; want 180: nothing is lost", got)
	}
	if got := r.metric(series.MetricDropped); got != 0 {
		t.Errorf("%v windows dropped", got)
	}
}

// TestNobodyWaitsForAStoreThatIsIll: while nothing can be stored, what waits is
// not a reason for backlogs to wait as well.
func TestNobodyWaitsForAStoreThatIsIll(t *testing.T) {
	r := newRig(t, series.Options{QueueBytes: 100_000})
	var full, mad atomic.Bool
	r.store.Through(func(a storage.Appendable) storage.Appendable { return ill{a, &full, &mad} })
	r.run()
	full.Store(true)
	for i := range int64(200) {
		r.now.Store(begin + i*10_000 + 10_500)
		r.store.Booked(node("n0"), gpus(begin+i*10_000, 4, 200))
	}
	r.until("it failed", func() bool { return r.metric(series.MetricErrors, "append") > 0 })
	r.until("the queue is full", func() bool { return r.metric(series.MetricQueueBytes) > 50_000 })
	if r.store.Crowded() {
		t.Error("backlogs are to wait until somebody mends the disk")
	}
}

// TestSeriesBegunForNothingAreNotCounted: a counter that leaves 0 while nothing can
// be stored is begun at each try, and counts once.
func TestSeriesBegunForNothingAreNotCounted(t *testing.T) {
	r := newRig(t, series.Options{NewSeries: 20})
	var full, mad atomic.Bool
	r.store.Through(func(a storage.Appendable) storage.Appendable { return ill{a, &full, &mad} })
	r.run()
	r.live(begin, 3, 1, tell("ecc_uncorrected_total", 0, 0, 0))
	full.Store(true)
	r.at(begin + 40_500)
	w := gpus(begin+30_000, 4, 200)
	gauge(w, 0, "ecc_uncorrected_total", 2, 2, 2)
	r.store.Booked(node("n0"), w)
	for i := range 25 {
		r.until("it failed again", func() bool { return r.metric(series.MetricErrors, "append") > float64(i) })
		r.now.Add(31_000) // the back-off is over
	}
	full.Store(false)
	r.now.Add(31_000)
	r.until("it is stored", func() bool { return r.metric(series.MetricQueue) == 0 })
	r.hasPoints(errorsOf0, 40, "30:0 40:2 ")
}

// TestAPanicStaysWhereItIs: windows that the storage cannot take are dropped and
// counted; the next ones are stored.
func TestAPanicStaysWhereItIs(t *testing.T) {
	r := newRig(t, series.Options{})
	var full, mad atomic.Bool
	r.store.Through(func(a storage.Appendable) storage.Appendable { return ill{a, &full, &mad} })
	r.run()
	mad.Store(true)
	r.now.Store(begin + 10_500)
	r.store.Booked(node("n0"), gpus(begin, 4, 200))
	r.until("it panicked", func() bool { return r.metric(series.MetricErrors, "panic") > 0 })
	mad.Store(false)
	r.live(begin+10_000, 6, 1)
	if got := r.metric(series.MetricDropped); got != 1 {
		t.Errorf("%v windows dropped; want 1", got)
	}
	if got := r.value("wattledger_project_energy_joules_total", begin+70_000); got != 70*900 {
		t.Errorf("energy = %v; want %v", got, 70*900)
	}
}
