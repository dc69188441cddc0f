package nvml

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// One walker does the whole set as long as it can be done in time; a driver that
// is too slow for that is called for several GPUs at once, and none is missed.
func TestAsManyWalkAsAreNeeded(t *testing.T) {
	f := func(takes time.Duration, least, most int) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			l := newFake(t, 8)
			for _, g := range l.gpus {
				g.takes = takes
			}
			d := l.drive(Options{})
			defer d.end()
			d.ticks(4) // it finds out
			l.with(func() { l.most = 0 })
			for i := range 30 {
				if r := d.tick(); len(r) != 8 || d.err != nil {
					t.Fatalf("calls of %v: tick %d: %d readings, %v", takes, i, len(r), d.err)
				}
				if d.took >= defaultPatience {
					t.Fatalf("calls of %v: a tick took %v", takes, d.took)
				}
			}
			if l.most < least || l.most > most {
				t.Errorf("calls of %v: %d at once, want %d to %d", takes, l.most, least, most)
			}
		})
	}
	f(time.Millisecond, 1, 1)
	f(4*time.Millisecond, 1, 1)
	f(8*time.Millisecond, 2, 2)
	f(30*time.Millisecond, 4, 8)
	f(60*time.Millisecond, 8, 8)
}

// Each GPU that hangs keeps the walker that called it; the others are read on by
// one more, in the tick it happens too. Nothing is left over afterwards.
func TestSeveralHangAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFake(t, 8)
		d := l.drive(Options{})
		defer d.end()
		d.ticks(3)
		l.with(func() {
			l.gpus[0].hang["fields"] = 30 * time.Second
			l.gpus[4].hang["utilization"] = 40 * time.Second
			l.gpus[7].hang["fields"] = 20 * time.Second
		})
		for i := range 19 {
			began := time.Now()
			r := d.tick()
			if len(r) != 5 || len(d.failed()) != 3 {
				t.Fatalf("tick %d: %d readings, failed %v", i, len(r), d.failed())
			}
			for name, x := range r {
				if late := x.At.Sub(began); late >= 100*time.Millisecond || i > 0 && late > 0 {
					t.Errorf("tick %d: %s was read %v late", i, name, late)
				}
			}
			d.s.mu.Lock()
			if n := len(d.s.walkers); n != 3 || i > 0 && d.s.idle == nil {
				t.Errorf("tick %d: %d walkers are held up, one waits: %v", i, n, d.s.idle != nil)
			}
			d.s.mu.Unlock()
		}
		if r := d.ticks(25); len(r) != 8 || d.err != nil {
			t.Fatalf("afterwards: %d readings, %v", len(r), d.err)
		}
		d.s.mu.Lock()
		defer d.s.mu.Unlock()
		if n := len(d.s.walkers); n != 0 || d.s.idle == nil {
			t.Errorf("afterwards: %d walkers, one waits: %v", n, d.s.idle != nil)
		}
	})
}

// All hang: Read comes back all the same, and no walker is made for nothing.
func TestAllHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFake(t, 4)
		d := l.drive(Options{})
		defer d.end()
		d.ticks(2)
		l.with(func() {
			for _, g := range l.gpus {
				g.hang["fields"] = 20 * time.Second
			}
		})
		for range 18 {
			if r := d.tick(); len(r) != 0 || d.took > defaultPatience {
				t.Fatalf("%d readings in %v", len(r), d.took)
			}
			d.s.mu.Lock()
			if n := len(d.s.walkers); n > 4 {
				t.Errorf("%d walkers for four GPUs", n)
			}
			d.s.mu.Unlock()
		}
		if r := d.ticks(8); len(r) != 4 || d.err != nil {
			t.Errorf("afterwards: %v, %v", fmt.Sprint(len(r)), d.err)
		}
	})
}
