package intake_test

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wattledger/wattledger/internal/intake"
	"github.com/wattledger/wattledger/internal/intake/intaketest"
	"github.com/wattledger/wattledger/internal/window"
)

// TestBacklogsWaitWhereOthersLag: what is live is booked meanwhile, also where
// backlogs fill all the room that they have.
func TestBacklogsWaitWhereOthersLag(t *testing.T) {
	var crowded atomic.Bool
	crowded.Store(true)
	b := newBench(t, func(o *intake.Options) { o.Crowded, o.QueueWindows = crowded.Load, 16 })
	c, ws := intaketest.Windows(9, 1)
	var wg sync.WaitGroup
	var answered atomic.Int32
	h := head("late", b.open("late").Incarnation)
	wg.Go(func() {
		if code, _ := b.send(batch(t, h, []*window.Catalogue{c}, ws...)); code != http.StatusOK {
			t.Errorf("the backlog: %d", code)
		}
		answered.Add(1)
	})
	for b.metric(intake.MetricQueue) != 9 {
		time.Sleep(time.Millisecond)
	}
	h2 := head("later", b.open("later").Incarnation)
	if code, _ := b.send(batch(t, h2, []*window.Catalogue{c}, ws...)); code != http.StatusServiceUnavailable {
		t.Errorf("a backlog beyond the room for them: %d", code)
	}
	live := head("live", b.open("live").Incarnation)
	for _, w := range ws {
		if code, _ := b.send(batch(t, live, []*window.Catalogue{c}, w)); code != http.StatusOK {
			t.Errorf("a live window: %d", code)
		}
	}
	if answered.Load() != 0 {
		t.Error("the backlog was booked before")
	}
	crowded.Store(false)
	wg.Wait()
}

// TestNobodyWaitsAnyMore: a backlog whose agent has lost patience leaves its place
// to others, and is not booked when it is the turn of its copy.
func TestNobodyWaitsAnyMore(t *testing.T) {
	var crowded atomic.Bool
	crowded.Store(true)
	b := newBench(t, func(o *intake.Options) {
		o.Crowded, o.QueueWindows, o.Patience = crowded.Load, 40, 20*time.Millisecond
	})
	c, ws := intaketest.Windows(9, 1)
	h := head("late", b.open("late").Incarnation)
	body := batch(t, h, []*window.Catalogue{c}, ws...)
	for i := range 6 { // there is room for two
		if code, _ := b.send(body); code != http.StatusServiceUnavailable {
			t.Fatalf("try %d: %d", i, code)
		}
		if got := b.metric(intake.MetricQueue); got > 9 {
			t.Fatalf("after %d tries %v windows wait", i+1, got)
		}
	}
	crowded.Store(false)
	for end := time.Now().Add(20 * time.Second); ; {
		code, _ := b.send(body)
		if code == http.StatusOK {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("never taken: %d", code)
		}
	}
}

// TestNobodyIsLeftBehind: what comes while Run ends, and after, is answered, however
// long an agent would wait.
func TestNobodyIsLeftBehind(t *testing.T) {
	b := newBench(t, func(o *intake.Options) { o.Patience = time.Hour })
	c, ws := intaketest.Windows(400, 1)
	var wg sync.WaitGroup
	for i := range 8 {
		node := fmt.Sprint("n", i)
		h := head(node, b.open(node).Incarnation)
		wg.Go(func() {
			for k, w := range ws {
				if code, _ := b.send(batch(t, h, []*window.Catalogue{c}, w)); code == http.StatusServiceUnavailable {
					return
				} else if code != http.StatusOK {
					t.Errorf("window %d: %d", k, code)
				}
			}
			t.Error("the end did not come in between: the test does not test it")
		})
	}
	for b.metric(intake.MetricWindows, "booked") < 40 {
		time.Sleep(time.Millisecond)
	}
	b.end()
	wg.Wait()
	if got := b.metric(intake.MetricQueue); got != 0 {
		t.Errorf("%v windows wait for nobody", got)
	}
}
