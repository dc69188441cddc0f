package intake_test

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/wattledger/wattledger/internal/intake"
	"github.com/wattledger/wattledger/internal/intake/intaketest"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/ledger/sqlite"
	"github.com/wattledger/wattledger/internal/window"
)

// TestBookedIsToldOfEachWindowOnce: of those that were booked now, and not of
// duplicates, with the projects that the ledger posted to.
func TestBookedIsToldOfEachWindowOnce(t *testing.T) {
	led, err := sqlite.Open(t.TempDir(), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = led.Close() }()
	var mu sync.Mutex
	told := map[int64]string{}
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(told)
	}
	b := newBench(t, func(o *intake.Options) {
		o.Ledger = led
		o.Booked = func(n ledger.Node, w *window.Window) {
			mu.Lock()
			defer mu.Unlock()
			if told[w.StartMS] != "" || n.Name != "n1" {
				t.Errorf("%v is told of %d again", n, w.StartMS)
			}
			told[w.StartMS] = w.Jobs[0].Project
		}
	})
	c, ws := intaketest.Windows(4, 1)
	for _, w := range ws {
		w.Jobs = []window.Job{{ID: "1"}} // its project is not known to the node
		w.Postings = []window.Posting{{Energy: w.Metered(), DeviceMS: 10_000}}
	}
	h := head("n1", b.open("n1").Incarnation)
	f := func(ws ...*window.Window) {
		t.Helper()
		if code, r := b.send(batch(t, h, []*window.Catalogue{c}, ws...)); code != http.StatusOK {
			t.Fatalf("%d %+v", code, r)
		}
	}
	f(ws[:2]...)
	if err := led.Assign(t.Context(), "c", window.Job{ID: "1"}, "P"); err != nil {
		t.Fatal(err)
	}
	f(ws...)
	for end := time.Now().Add(10 * time.Second); count() < 4; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("told of %d windows; want 4", count())
		}
	}
	for i, want := range []string{ledger.Unassigned, ledger.Unassigned, "P", "P"} {
		if got := told[ws[i].StartMS]; got != want {
			t.Errorf("window %d: posted to %q; want %q", i, got, want)
		}
	}
}
