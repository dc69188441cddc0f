package sqlite

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/ledger/ledgertest"
	"github.com/wattledger/wattledger/internal/window"
)

// fleet makes windows cheaply: one per node, changed in place.
type fleet struct {
	subs []ledger.Submission
	n    uint64
	at   int64
}

func newFleet(b *testing.B, l *Ledger, nodes, meters, projects int) *fleet {
	b.Helper()
	f := &fleet{at: ledgertest.Start}
	for i := range nodes {
		name := ledger.Node{Cluster: cluster, Name: fmt.Sprintf("node%05d", i)}
		o, ok, err := l.Open(context.Background(), ledger.OpenRequest{Node: name, Nonce: "n", Session: "s", NowMS: f.at})
		if err != nil || !ok {
			b.Fatal(ok, err)
		}
		c := &window.Catalogue{ID: uint64(meters), Policy: "allocation/v1"}
		w := &window.Window{Catalogue: c}
		w.Jobs = []window.Job{{ID: fmt.Sprint(71_000 + i), Project: fmt.Sprintf("P%03d", i%projects), User: "u1", StartMS: 1}}
		w.Holdings = []window.Holding{{Job: 0, Devices: []window.Share{{Device: "gpu0", Weight: 1_000_000}, {Device: "cpu", Weight: 1_000_000}}}}
		for m := range meters {
			c.Meters = append(c.Meters, window.Meter{
				Name: fmt.Sprintf("meter%d", m), Epoch: "boot", Class: energy.Class(m % 3), Root: true, Leaf: true,
			})
			w.Ranges = append(w.Ranges, window.Range{Meter: m})
		}
		for m := range 3 {
			w.Postings = append(w.Postings, window.Posting{Job: 0, Class: energy.Class(m)})
		}
		w.Postings = append(w.Postings, window.Posting{Job: -1, Use: energy.Idle, Class: energy.GPU})
		f.subs = append(f.subs, ledger.Submission{Node: name, Incarnation: o.Incarnation, Session: "s", Window: w})
	}
	return f
}

// next moves every node by ms.
func (f *fleet) next(ms int64) []ledger.Submission {
	for i := range f.subs {
		s := &f.subs[i]
		w := s.Window
		f.n++
		s.Hash = f.n * 0x9e3779b97f4a7c15
		w.StartMS, w.EndMS, s.NowMS = f.at, f.at+ms, f.at+ms
		for p := range w.Postings {
			w.Postings[p].Energy, w.Postings[p].DeviceMS = 0, 0
		}
		for r := range w.Ranges {
			add := energy.Microjoules(300_000_000 + f.n%1000*1000)
			w.Ranges[r].From = w.Ranges[r].To
			w.Ranges[r].To += add
			w.Ranges[r].Raw, w.Ranges[r].FromMS, w.Ranges[r].ToMS = w.Ranges[r].To, w.StartMS, w.EndMS
			p := &w.Postings[r%3]
			if r == 0 {
				p = &w.Postings[3]
			}
			p.Energy += w.Ranges[r].Energy()
			p.DeviceMS += ms
		}
	}
	f.at += ms
	return f.subs
}

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkBook: 256 nodes per call, one job each, 12 odometers, 10 s windows.
func BenchmarkBook(b *testing.B) {
	l := open(b, b.TempDir())
	defer l.Close()
	const nodes = 256
	f := newFleet(b, l, nodes, 12, 300)
	windows := 0
	start := cpu()
	for b.Loop() {
		rs, err := l.Book(context.Background(), f.next(step))
		if err != nil || rs[0].Status != ledger.Booked || rs[nodes-1].Status != ledger.Booked {
			b.Fatal(rs, err)
		}
		windows += nodes
	}
	b.ReportMetric(float64((cpu()-start).Microseconds())/float64(windows), "cpu-us/window")
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(windows), "us/window")
}

// BenchmarkBooks: a month of 672 nodes (2 million node-slots), 300 projects, as
// Europe/Rome sees it.
func BenchmarkBooks(b *testing.B) {
	l := open(b, b.TempDir())
	defer l.Close()
	f := newFleet(b, l, 672, 4, 300)
	const month = 31 * dayMS
	for f.at = ledgertest.Start - dayMS; f.at < ledgertest.Start+month+dayMS; {
		if _, err := l.Book(context.Background(), f.next(window.SlotMS)); err != nil {
			b.Fatal(err)
		}
	}
	from := ledgertest.Start - 2*3_600_000
	b.Run("month", func(b *testing.B) {
		for b.Loop() {
			books, err := l.Books(context.Background(), cluster, from, from+month+3_600_000, from+month)
			if err != nil || len(books.Projects) != 300 || books.Projects[0].Jobs == 0 {
				b.Fatal(len(books.Projects), err)
			}
		}
	})
	b.Run("job", func(b *testing.B) {
		for b.Loop() {
			if js, err := l.Job(context.Background(), cluster, "71100"); err != nil || len(js) != 1 {
				b.Fatal(js, err)
			}
		}
	})
	b.Run("jobs", func(b *testing.B) {
		for b.Loop() {
			if js, err := l.Jobs(context.Background(), ledger.JobFilter{Cluster: cluster}); err != nil || len(js) != 672 {
				b.Fatal(len(js), err)
			}
		}
	})
	b.Run("audit-day", func(b *testing.B) {
		for b.Loop() {
			r, err := l.Audit(context.Background(), cluster, ledgertest.Start, ledgertest.Start+dayMS)
			if err != nil || len(r.Findings) > 0 {
				b.Fatal(r.Findings, err)
			}
			b.ReportMetric(float64(r.Slots), "node-slots")
		}
	})
}
