package sqlite

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/wattledger/wattledger/internal/ledger"
)

// together opens for all nodes in one transaction: they gather while another is
// under way.
func together(t *testing.T, l *Ledger, requests []ledger.OpenRequest) (incarnations []uint64, errs []error) {
	t.Helper()
	incarnations, errs = make([]uint64, len(requests)), make([]error, len(requests))
	var wg sync.WaitGroup
	l.mu.Lock()
	for i, r := range requests {
		wg.Go(func() {
			var o ledger.Opening
			o, _, errs[i] = l.Open(context.Background(), r)
			incarnations[i] = o.Incarnation
		})
	}
	waiting := func() int {
		l.openings.mu.Lock()
		defer l.openings.mu.Unlock()
		return len(l.openings.waiting)
	}
	for end := time.Now().Add(20 * time.Second); waiting() < len(requests); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d of %d wait", waiting(), len(requests))
		}
	}
	l.mu.Unlock()
	wg.Wait()
	return incarnations, errs
}

func requestsOf(n int, nonce string) []ledger.OpenRequest {
	out := make([]ledger.OpenRequest, n)
	for i := range out {
		out[i] = ledger.OpenRequest{Node: ledger.Node{Cluster: "c", Name: fmt.Sprint("n", i)}, Nonce: nonce, Session: nonce}
	}
	return out
}

// TestOpeningsShareATransaction, and each gets its own answer.
func TestOpeningsShareATransaction(t *testing.T) {
	l := open(t, t.TempDir())
	defer l.Close()
	got, errs := together(t, l, requestsOf(40, "a"))
	for i := range got {
		if errs[i] != nil || got[i] != 1 {
			t.Errorf("node %d: incarnation %d, %v", i, got[i], errs[i])
		}
	}
	twice := append(requestsOf(1, "b"), requestsOf(2, "b")[1]) // n0, n1
	got, errs = together(t, l, twice)
	if errs[0] != nil || errs[1] != nil || got[0] != 2 || got[1] != 2 {
		t.Errorf("another agent on two nodes: %v, %v; want incarnation 2 of both", got, errs)
	}
}

// TestAnOpeningThatFailsStopsNoOther of the same transaction.
func TestAnOpeningThatFailsStopsNoOther(t *testing.T) {
	l := open(t, t.TempDir())
	defer l.Close()
	if _, errs := together(t, l, requestsOf(3, "a")); errs[0] != nil || errs[1] != nil || errs[2] != nil {
		t.Fatal(errs)
	}
	l.mu.Lock()
	err := l.w.exec("UPDATE node SET past = 'damaged' WHERE name = ?", "n1")
	l.tx = nil
	l.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	got, errs := together(t, l, requestsOf(3, "b"))
	if errs[0] != nil || errs[1] == nil || errs[2] != nil || got[0] != 2 || got[2] != 2 {
		t.Errorf("incarnations %v, %v; want an error of n1 alone", got, errs)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.Open(t.Context(), requestsOf(1, "c")[0]); err == nil {
		t.Error("a closed ledger opens")
	}
}
