package outbox_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/wattledger/wattledger/internal/outbox"
)

// receiver is what a box delivers to. Records are numbers.
type receiver struct {
	mu    sync.Mutex
	says  func(numbers []int) error // nil: yes
	took  []int                     // what it said yes to, in order
	asked int
}

func (r *receiver) send(_ context.Context, payloads [][]byte) error {
	var numbers []int
	for _, p := range payloads {
		numbers = append(numbers, number(p))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	if r.says != nil {
		if err := r.says(numbers); err != nil {
			return err
		}
	}
	r.took = append(r.took, numbers...)
	return nil
}

func (r *receiver) say(f func([]int) error) { r.mu.Lock(); r.says = f; r.mu.Unlock() }

func (r *receiver) forget() { r.mu.Lock(); r.took = nil; r.mu.Unlock() }

func (r *receiver) has() []int { r.mu.Lock(); defer r.mu.Unlock(); return slices.Clone(r.took) }

func (r *receiver) times() int { r.mu.Lock(); defer r.mu.Unlock(); return r.asked }

// payload is a record of a size that holds a number.
func payload(n, size int) []byte {
	p := make([]byte, max(size, 8))
	binary.LittleEndian.PutUint64(p, uint64(n))
	return p
}

func number(p []byte) int { return int(binary.LittleEndian.Uint64(p)) }

func numbers(from, to int) []int {
	var out []int
	for n := from; n < to; n++ {
		out = append(out, n)
	}
	return out
}

// bench is a box under test.
type bench struct {
	t    *testing.T
	opts outbox.Options
	box  *outbox.Box
	reg  *prometheus.Registry
	logs *observer.ObservedLogs
	to   *receiver
	next int // number of the next record
	stop func()
}

func newBench(t *testing.T, change func(*outbox.Options)) *bench {
	t.Helper()
	b := &bench{t: t, to: &receiver{}, stop: func() {}}
	b.opts = outbox.Options{Dir: filepath.Join(t.TempDir(), "out"), MaxValues: 10, Now: time.Now, Send: b.to.send}
	if change != nil {
		change(&b.opts)
	}
	b.open()
	t.Cleanup(func() { b.stop(); b.box.Crash() })
	return b
}

func (b *bench) open() {
	b.t.Helper()
	var core zapcore.Core
	core, b.logs = observer.New(zap.DebugLevel)
	b.reg = prometheus.NewPedanticRegistry()
	b.opts.Log, b.opts.Registerer = zap.New(core), b.reg
	var err error
	if b.box, err = outbox.Open(b.opts); err != nil {
		b.t.Fatal(err)
	}
}

// crash ends the process that has the box, and begins another.
func (b *bench) crash() {
	b.t.Helper()
	b.stop()
	b.box.Crash()
	b.open()
}

func (b *bench) run() {
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); b.box.Run(ctx) }()
	b.stop = func() { cancel(); <-done; b.stop = func() {} }
}

// append adds so many records of one value.
func (b *bench) append(count, size int) {
	b.t.Helper()
	for range count {
		if err := b.box.Append(payload(b.next, size), 1); err != nil {
			b.t.Fatal(err)
		}
		b.next++
	}
}

// samples reads MetricSamples.
func (b *bench) samples() map[string]int {
	b.t.Helper()
	families, err := b.reg.Gather()
	if err != nil {
		b.t.Fatal(err)
	}
	got := map[string]int{}
	for _, f := range families {
		if f.GetName() != outbox.MetricSamples {
			continue
		}
		for _, m := range f.GetMetric() {
			if v := int(m.GetCounter().GetValue()); v != 0 {
				got[m.GetLabel()[0].GetValue()] = v
			}
		}
	}
	return got
}

func (b *bench) want(what string, want, got any) {
	b.t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		b.t.Errorf("%s, -want +got:\n%s", what, diff)
	}
}

func answer(code int) error { return fmt.Errorf("cannot post: %w", &outbox.Answer{Code: code}) }

func errReset() error { return errors.New("connection reset by peer") }

func TestDeliversInOrderOverFailures(t *testing.T) {
	for _, fault := range []error{
		errReset(), answer(500), answer(503), answer(429), answer(401), answer(403), answer(404), answer(302), answer(502), answer(408),
	} {
		t.Run(fault.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, func(o *outbox.Options) { o.Rewind = -1 })
				tries := 0
				b.to.say(func([]int) error {
					if tries++; tries%3 != 0 {
						return fault
					}
					return nil
				})
				b.run()
				b.append(95, 100)
				time.Sleep(time.Hour)
				b.want("delivered", numbers(0, 95), b.to.has())
				b.want("samples", map[string]int{"delivered": 95}, b.samples())
				b.want("waiting", uint64(0), b.box.Values())
				b.stop()
			})
		})
	}
}

func TestWaitsBeforeItTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.to.say(func([]int) error { return errReset() })
		b.run()
		b.append(1, 8)
		time.Sleep(time.Hour)
		b.stop()
		// 30 s at the longest, half of it at the least.
		if n := b.to.times(); n < 120 || n > 300 {
			t.Errorf("%d attempts in an hour; want 120 to 300", n)
		}
		if n := b.logs.Len(); n < 2 || n > 8 {
			t.Errorf("%d lines in the log for an hour's failure; want 2 to 8: %v", n, b.logs.All())
		}
	})
}

func TestLeavesAReceiverAloneThatAsksForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.to.say(func([]int) error { return &outbox.Answer{Code: http.StatusTooManyRequests, After: 2 * time.Minute} })
		b.run()
		b.append(1, 8)
		time.Sleep(2 * time.Minute)
		b.want("attempts in two minutes", 1, b.to.times())
		time.Sleep(time.Minute)
		b.want("attempts in three minutes", 2, b.to.times())
		b.stop()
	})
}

func TestSlowReceiverIsTimedOutAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		var slow atomic.Bool
		slow.Store(true)
		b.box.Crash()
		b.opts.Send = func(ctx context.Context, payloads [][]byte) error {
			if slow.Load() {
				<-ctx.Done()
				return ctx.Err()
			}
			return b.to.send(ctx, payloads)
		}
		b.open()
		b.run()
		b.append(3, 8)
		time.Sleep(time.Minute)
		if line := b.logs.All()[0]; !strings.Contains(fmt.Sprint(line.ContextMap()["error"]), "no answer within 30s") {
			t.Errorf("the log does not say what is wrong: %v", line.ContextMap())
		}
		slow.Store(false)
		time.Sleep(time.Minute)
		b.want("delivered", numbers(0, 3), b.to.has())
		b.stop()
	})
}

func TestOneBadRecordCostsItself(t *testing.T) {
	for _, code := range []int{400, 409, 413, 422} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, func(o *outbox.Options) { o.MaxValues = 64 })
			b.to.say(func(n []int) error {
				if slices.Contains(n, 41) {
					return answer(code)
				}
				return nil
			})
			b.run()
			b.append(100, 8)
			time.Sleep(time.Minute)
			b.want("delivered", slices.Concat(numbers(0, 41), numbers(42, 100)), b.to.has())
			b.want("samples", map[string]int{"delivered": 99, "refused": 1}, b.samples())
			b.want("lines", 1, b.logs.Len())
			if n := b.to.times(); n > 30 {
				t.Errorf("%d requests to find one bad record in 64", n)
			}
			b.stop()
		})
	}
}

// TestReceiverThatRefusesWhatItHas: a Prometheus without an out-of-order window
// refuses a whole request for one sample that is older than its newest one.
func TestReceiverThatRefusesWhatItHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(o *outbox.Options) { o.MaxValues = 64 })
		newest, lose := -1, true
		b.to.say(func(n []int) error {
			if n[0] < newest {
				return answer(400)
			}
			if newest = n[len(n)-1]; lose { // it took all, and the answer is lost
				b.to.took, lose = append(b.to.took, n...), false
				return errReset()
			}
			return nil
		})
		b.append(30, 8)
		b.run()
		time.Sleep(5 * time.Second)
		b.append(100, 8)
		time.Sleep(time.Hour)
		got := b.to.has()
		slices.Sort(got)
		b.want("delivered", numbers(0, 130), slices.Compact(got))
		b.stop()
	})
}

func TestWhatWasDeliveredIsSentAgainAfterABreak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.run()
		for range 60 {
			b.append(1, 8)
			time.Sleep(time.Second)
		}
		b.to.say(func([]int) error { return errReset() })
		b.append(5, 8)
		time.Sleep(10 * time.Minute)
		b.to.forget() // it comes back without its memory
		b.to.say(nil)
		time.Sleep(time.Minute)
		got := b.to.has()
		slices.Sort(got)
		got = slices.Compact(got)
		if got[0] > 47 || got[0] < 40 || got[len(got)-1] != 64 || len(got) != 65-got[0] {
			t.Errorf("what came after the break: %v; want about 45 to 64", got)
		}
		b.want("samples", map[string]int{"delivered": 65}, b.samples())
		b.stop()
	})
}

// TestReceiverThatWasAwayBetweenRequests: it took nothing amiss, so only a
// connection that is new tells that it was started anew.
func TestReceiverThatWasAwayBetweenRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var anew atomic.Bool
		b := newBench(t, func(o *outbox.Options) {
			send := o.Send
			o.Send = func(ctx context.Context, payloads [][]byte) error {
				if anew.Swap(false) {
					outbox.Reconnected(ctx)
				}
				return send(ctx, payloads)
			}
		})
		b.run()
		for i := range 60 {
			if i == 50 {
				b.to.forget()
				anew.Store(true)
			}
			b.append(1, 8)
			time.Sleep(time.Second)
		}
		time.Sleep(time.Minute)
		got := b.to.has()
		slices.Sort(got)
		got = slices.Compact(got)
		if got[0] > 37 || got[0] < 30 || got[len(got)-1] != 59 || len(got) != 60-got[0] {
			t.Errorf("what came after the new connection: %v; want about 35 to 59", got)
		}
		b.want("samples", map[string]int{"delivered": 60}, b.samples())
		b.stop()
	})
}

func TestReceiverThatBreaksAllTheTimeIsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		requests := 0
		b.to.say(func([]int) error {
			time.Sleep(100 * time.Millisecond)
			if requests++; requests%5 == 0 {
				return errReset()
			}
			return nil
		})
		b.append(20_000, 8)
		b.run()
		time.Sleep(15 * time.Minute)
		b.want("samples", map[string]int{"delivered": 20_000}, b.samples())
		b.stop()
	})
}

func TestNothingIsLostWhenTheProcessDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(o *outbox.Options) { o.Limit = outbox.MinLimit })
		for round := range 20 {
			b.run()
			b.append(40, 1000)
			time.Sleep(time.Duration(round) * 200 * time.Millisecond)
			b.crash()
		}
		b.run()
		time.Sleep(time.Minute)
		got := b.to.has()
		slices.Sort(got)
		b.want("delivered", numbers(0, 800), slices.Compact(got))
		b.stop()
	})
}

func TestFullRingGivesUpTheOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(o *outbox.Options) { o.Limit = outbox.MinLimit; o.MaxValues = 1 })
		b.to.say(func([]int) error { return answer(503) })
		b.run()
		time.Sleep(time.Second)
		b.append(5000, 1000)
		if n := b.box.Bytes(); n > outbox.MinLimit {
			t.Errorf("%d bytes on disk; want %d at most", n, outbox.MinLimit)
		}
		waits := int(b.box.Values())
		b.to.say(nil)
		time.Sleep(10 * time.Minute)
		got, samples := b.to.has(), b.samples()
		b.want("no other fate", 5000, samples["delivered"]+samples["dropped"])
		b.want("delivered", len(got), samples["delivered"])
		b.want("newest", numbers(5000-waits, 5000), got[len(got)-waits:])
		if len(got) > waits+1 || waits < 800 {
			t.Errorf("%d delivered, %d waited; want those and the one on its way", len(got), waits)
		}
		b.want("waiting", uint64(0), b.box.Values())
		b.stop()
	})
}

func TestFilesOfDeliveredRecordsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(o *outbox.Options) { o.Limit = outbox.MinLimit; o.Rewind = -1 })
		b.run()
		for range 50 {
			b.append(100, 1000)
			time.Sleep(5 * time.Second)
		}
		if n := b.box.Bytes(); n > outbox.MinLimit/4 {
			t.Errorf("%d bytes are kept although all is delivered", n)
		}
		b.want("samples", map[string]int{"delivered": 5000}, b.samples())
		b.stop()
	})
}

func TestDiskThatFailsCostsWhatCouldNotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.append(3, 8)
		b.box.BreakDisk()
		if err := b.box.Append(payload(99, 8), 7); err == nil {
			t.Error("a record that could not be written was taken")
		}
		b.append(3, 8)
		b.run()
		time.Sleep(time.Minute)
		b.want("delivered", numbers(0, 6), b.to.has())
		b.want("samples", map[string]int{"delivered": 6, "unbuffered": 7}, b.samples())
		b.stop()
	})
}
