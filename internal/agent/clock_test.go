package agent_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/collector/simulated"
	"github.com/wattledger/wattledger/internal/agent"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/spool"
	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
)

// TestWrongClock starts an agent whose clock is three days behind. It meters into
// the spool; when the aggregator answers, everything is stamped by its clock and
// no joule is lost.
func TestWrongClock(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) { wrongClock(t, dir) })
}

func wrongClock(t *testing.T, dir string) {
	const off = 3*24*time.Hour + 7*time.Minute
	sp, err := spool.Open(spool.Options{Dir: dir + "/spool", NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer sp.Close()
	var windows []*window.Window
	began := time.Now().Add(-time.Hour)
	src, err := simulated.New(simulated.Options{Seed: 3, GPUs: 1, Start: began, Epoch: "e", Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	known := false
	a, err := agent.New(agent.Options{
		Pipeline: agent.PipelineOptions{Window: 10 * time.Second, MaxGap: 30 * time.Second, Grace: 3 * time.Second},
		StateDir: dir, Every: time.Second, Sources: []collector.Source{src}, Spool: sp, Now: time.Now,
		Offset: func() (time.Duration, bool) { return off, known },
		Log:    zap.NewNop(), Metrics: agent.NewMetrics(nil, []string{"simulated"}),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = a.Run(ctx) }()
	time.Sleep(40 * time.Minute)
	known = true
	if err := a.HandleOpen(ledger.Opening{Incarnation: 1}); err != nil {
		t.Error(err)
	}
	time.Sleep(10 * time.Minute)
	stop()
	<-ended
	var sum energy.Millijoules
	perEpoch := map[string][2]int64{}
	for sp.Len() > 0 {
		_, last, records, err := sp.Next(1<<20, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, rec := range records {
			f, err := wire.DecodeFragment(rec, nil)
			if err != nil {
				t.Fatal(err)
			}
			windows = append(windows, f.Windows...)
		}
		if err := sp.Commit(last); err != nil {
			t.Fatal(err)
		}
	}
	if len(windows) < 250 {
		t.Fatalf("%d windows", len(windows))
	}
	for _, w := range windows {
		if err := window.Check(w); err != nil {
			t.Fatal(err)
		}
		sum += w.Booked()
		for _, r := range w.Ranges {
			m := w.Catalogue.Meters[r.Meter]
			p, seen := perEpoch[m.Name]
			if !seen {
				p = [2]int64{int64(r.From), int64(r.From)}
			}
			if p[1] != int64(r.From) {
				t.Fatalf("%s: a range begins at %d, the last one ended at %d", m.Name, r.From, p[1])
			}
			p[1] = int64(r.To)
			perEpoch[m.Name] = p
		}
	}
	var want energy.Millijoules
	for _, p := range perEpoch {
		want += energy.Span(energy.Microjoules(p[0]), energy.Microjoules(p[1]))
	}
	if sum != want || sum < 100_000_000 {
		t.Errorf("booked %d mJ, the odometers went through %d mJ", sum, want)
	}
	// synctest begins at midnight UTC 2000-01-01: by the aggregator's clock that
	// is three days later; spooled windows move by whole slots
	first, newest := windows[0].StartMS, windows[len(windows)-1].EndMS
	begin := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Add(off)
	if d := first - begin.UnixMilli(); d > 8*60_000 || d < -8*60_000 {
		t.Errorf("the first window begins %d ms off the aggregator's time", d)
	}
	if d := newest - begin.Add(50*time.Minute).UnixMilli(); d > 1000 || d < -1000 {
		t.Errorf("the newest window ends %d ms off the aggregator's time", d)
	}
}
