package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// Bounds of Options.Limit and of the size of a segment.
const (
	MinLimit     = 1 << 20
	largestPart  = 8 << 20
	partsOfLimit = 8
)

// Options of a [Box]. Zero durations and sizes take the value in brackets.
type Options struct {
	Dir       string        // of the ring, for this receiver alone
	Limit     int64         // bytes on disk, at least MinLimit [1 GiB]; one record may go beyond
	SyncEvery time.Duration // [1s]
	// Rewind is how much of what was delivered is sent again after a connection
	// broke or a process died; negative for nothing [15s].
	Rewind time.Duration

	MaxValues int           // of one request, unless one record has more [5000]
	MaxBytes  int           // of one request's payloads, unless one record has more [4 MiB]
	Linger    time.Duration // how long a request that is not full waits [1s]
	Timeout   time.Duration // of one request [30s]
	Shortest  time.Duration // first wait after a failure [250ms]
	Longest   time.Duration // longest wait after a failure [30s]

	// Send delivers payloads in one request. nil: the receiver has taken all of
	// it. An error that holds an [Answer] is the receiver's.
	Send func(ctx context.Context, payloads [][]byte) error

	Now        func() time.Time
	Log        *zap.Logger           // nil: silent
	Registerer prometheus.Registerer // nil: not shown; give it labels that tell receivers apart
}

func (o *Options) fill() error {
	for _, d := range []struct {
		d       *time.Duration
		instead time.Duration
	}{
		{&o.SyncEvery, time.Second},
		{&o.Rewind, 15 * time.Second},
		{&o.Linger, time.Second},
		{&o.Timeout, 30 * time.Second},
		{&o.Shortest, 250 * time.Millisecond},
		{&o.Longest, 30 * time.Second},
	} {
		if *d.d == 0 {
			*d.d = d.instead
		}
	}
	o.Rewind = max(o.Rewind, 0)
	if o.Limit == 0 {
		o.Limit = 1 << 30
	}
	if o.MaxValues == 0 {
		o.MaxValues = 5000
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = MaxRecord
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	switch {
	case o.Dir == "" || o.Send == nil || o.Now == nil:
		return errors.New("cannot open a buffer without a folder, a receiver and a clock")
	case o.Limit < MinLimit:
		return fmt.Errorf("cannot open the buffer %s: %d bytes are fewer than %d", o.Dir, o.Limit, MinLimit)
	case o.MaxValues < 1 || o.MaxBytes < 1:
		return fmt.Errorf("cannot open the buffer %s: requests of %d values and %d bytes hold nothing", o.Dir, o.MaxValues, o.MaxBytes)
	}
	for _, d := range []time.Duration{o.SyncEvery, o.Linger, o.Timeout, o.Shortest, o.Longest} {
		if d < 0 {
			return fmt.Errorf("cannot open the buffer %s: %v is not a span of time", o.Dir, d)
		}
	}
	return nil
}

// segment is the size at which a segment is full. One is always read while
// another gives way.
func (o *Options) segment() int64 { return min(o.Limit/partsOfLimit, largestPart) }
