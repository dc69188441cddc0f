package obs

import (
	"sync"
	"time"

	"go.uber.org/zap/zapcore"
)

// sampler is a core that writes a message so many times a tick and no more, by
// level and text. zap's own sampler does the same with counters for 28,672
// messages, 448 KiB; this one has those of the messages that there were.
type sampler struct {
	zapcore.Core
	counts  *counts
	dropped func()
}

func newSampler(to zapcore.Core, dropped func()) *sampler {
	return &sampler{to, &counts{tick: logTick, first: logFirst, most: logTexts, of: map[message]int{}}, dropped}
}

// counts are shared by a core and those made from it.
type counts struct {
	tick  time.Duration
	first int
	most  int // messages told apart in a tick

	mu    sync.Mutex
	until time.Time
	of    map[message]int
}

type message struct {
	level zapcore.Level
	text  string
}

// take counts a message and tells whether it is to be written.
func (c *counts) take(e *zapcore.Entry) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if wait := c.until.Sub(e.Time); wait <= 0 || wait > c.tick { // over, or the clock was set
		c.until = e.Time.Add(c.tick)
		clear(c.of)
	}
	m := message{e.Level, e.Message}
	n, known := c.of[m]
	if !known && len(c.of) >= c.most {
		return true // not counted, rather than lost
	}
	c.of[m] = n + 1
	return n < c.first
}

// Check drops what was written often enough.
func (s *sampler) Check(e zapcore.Entry, to *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !s.Enabled(e.Level) {
		return to
	}
	if !s.counts.take(&e) {
		s.dropped()
		return to
	}
	return s.Core.Check(e, to)
}

// With gives a core with fields that counts together with this one.
func (s *sampler) With(fields []zapcore.Field) zapcore.Core {
	return &sampler{s.Core.With(fields), s.counts, s.dropped}
}
