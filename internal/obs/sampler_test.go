package obs

import (
	"fmt"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// stopped is a clock that a test sets.
type stopped struct{ at time.Time }

func (s *stopped) Now() time.Time                       { return s.at }
func (s *stopped) NewTicker(time.Duration) *time.Ticker { return nil }

func TestSampler(t *testing.T) {
	core, seen := observer.New(zapcore.InfoLevel)
	dropped := 0
	clock := &stopped{time.Unix(1_790_000_000, 0)}
	log := zap.New(newSampler(core, func() { dropped++ }), zap.WithClock(clock))
	f := func(what string, want, wantDropped int, say func()) {
		t.Helper()
		dropped = 0
		say()
		if n := len(seen.TakeAll()); n != want || dropped != wantDropped {
			t.Errorf("%s: %d written, %d dropped; want %d, %d", what, n, dropped, want, wantDropped)
		}
	}
	often := func(l *zap.Logger, text string) func() {
		return func() {
			for range 15 {
				l.Warn(text)
				l.Debug(text)
			}
		}
	}
	f("a message", logFirst, 15-logFirst, often(log, "again"))
	f("the same with a field", 0, 15, often(log.With(zap.Int("i", 1)), "again"))
	f("another", logFirst, 15-logFirst, often(log, "other"))
	f("another level", 1, 0, func() { log.Error("again") })
	clock.at = clock.at.Add(logTick - time.Millisecond)
	f("before the tick is over", 0, 15, often(log, "again"))
	clock.at = clock.at.Add(time.Millisecond)
	f("after", logFirst, 15-logFirst, often(log, "again"))
	clock.at = clock.at.Add(-time.Hour)
	f("the clock was set back", logFirst, 15-logFirst, often(log, "again"))
	f("many texts", 3*logTexts, 0, func() {
		for i := range 3 * logTexts {
			log.Info(fmt.Sprint(i))
		}
	})
	if n := len(log.Core().(*sampler).counts.of); n > logTexts {
		t.Errorf("%d texts are kept", n)
	}
}
