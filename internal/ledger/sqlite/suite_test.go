package sqlite

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/ledger/ledgertest"
	"github.com/wattledger/wattledger/internal/window"
)

func open(t testing.TB, dir string) *Ledger {
	t.Helper()
	l, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLedger(t *testing.T) {
	ledgertest.Run(t, func(t *testing.T, dir string) ledger.Ledger { return open(t, dir) })
}

// TestConcurrent: booking, opening and reading at once, from many goroutines;
// each reader sees books that close.
func TestConcurrent(t *testing.T) {
	l := open(t, t.TempDir())
	defer l.Close()
	ctx := context.Background()
	var wg sync.WaitGroup
	for i := range 4 {
		a := ledgertest.NewAgent(cluster, fmt.Sprint("node", i), uint64(i))
		a.Open(t, l)
		wg.Go(func() {
			for j := range 60 {
				a.Jobs = []window.Job{{ID: fmt.Sprint(j / 10), Project: "P", StartMS: 1}}
				a.At = ledgertest.Start + int64(j)*window.SlotMS/2
				rs, err := l.Book(ctx, []ledger.Submission{a.Submit(a.Next(step)), a.Submit(a.Next(step))})
				if err != nil || rs[1].Status != ledger.Booked {
					t.Error(rs, err)
					return
				}
				if _, ok, err := l.Open(ctx, a.OpenRequest()); !ok || err != nil {
					t.Error(ok, err)
				}
			}
		})
	}
	for range 3 {
		wg.Go(func() {
			for range 15 {
				b, err := l.Books(ctx, cluster, ledgertest.Start, ledgertest.Start+2*dayMS, ledgertest.Start+dayMS)
				if err != nil {
					t.Error(err)
					return
				}
				sum := b.Nobody.Total()
				for _, p := range b.Projects {
					sum += p.Amounts.Total()
				}
				if sum != b.Metered {
					t.Errorf("metered %d, booked %d", b.Metered, sum)
				}
				r, err := l.Audit(ctx, cluster, ledgertest.Start, 0)
				if err != nil || len(r.Findings) > 0 {
					t.Error(r.Findings, err)
				}
			}
		})
	}
	wg.Wait()
}
