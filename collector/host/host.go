// Package host looks at the node as a whole, through gopsutil: processor time,
// load and memory. It gives gauges only and knows no energy. It reads
// /proc/stat, /proc/loadavg and /proc/meminfo, starts nothing and needs no
// privilege.
//
// The kernel adds up its counts of all processors at each look: milliseconds on
// a node of 288. So it looks every ten seconds, the grain in which gauges are
// kept, and gives nothing in between; the utilisation is that of the whole span.
package host

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/shirou/gopsutil/v3/common"
	"github.com/shirou/gopsutil/v3/cpu"
	"github.com/shirou/gopsutil/v3/load"
	"github.com/shirou/gopsutil/v3/mem"

	"github.com/wattledger/wattledger/collector"
)

// Source reads the gauges of the host.
type Source struct {
	// Procfs is where procfs is mounted; empty for /proc.
	Procfs string
	// Now is the clock.
	Now func() time.Time
	// Every is how often it looks, on the multiples of that time; 0 for 10 s.
	Every time.Duration

	mu   sync.Mutex
	span time.Time     // in which it has looked
	last cpu.TimesStat // of the reading before
	seen bool
}

const defaultEvery = 10 * time.Second

// Name is "host".
func (s *Source) Name() string { return "host" }

// Read gives one reading of the scope "host" where it is time for one, else
// none. The utilisation of the processors
// is that since the reading before; the first has none. What cannot be read is
// left out and is a DeviceError; the rest is given.
func (s *Source) Read(ctx context.Context) ([]collector.Reading, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	at := s.Now()
	if !s.due(at) {
		return nil, nil
	}
	if s.Procfs != "" {
		ctx = context.WithValue(ctx, common.EnvKey, common.EnvMap{common.HostProcEnvKey: s.Procfs})
	}
	r := collector.Reading{Scope: collector.Scope{Name: "host", Kind: collector.Gauges}, At: at}
	var errs []error
	gauge := func(name string, v float64) { r.Gauges = append(r.Gauges, collector.Gauge{Name: name, Value: v}) }
	failed := func(what string, err error) {
		errs = append(errs, &collector.DeviceError{Device: "host", Err: fmt.Errorf("cannot read %s: %w", what, err)})
	}

	if times, err := cpu.TimesWithContext(ctx, false); err != nil {
		failed("processor times", err)
	} else if len(times) != 1 {
		failed("processor times", errors.New("there is no line of all processors"))
	} else if used, ok := s.used(times[0]); ok {
		gauge("cpu_utilization_ratio", used)
	}
	if avg, err := load.AvgWithContext(ctx); err != nil {
		failed("load", err)
	} else {
		gauge("load1", avg.Load1)
		gauge("load5", avg.Load5)
		gauge("load15", avg.Load15)
	}
	if m, err := mem.VirtualMemoryWithContext(ctx); err != nil {
		failed("memory", err)
	} else {
		gauge("memory_used_bytes", float64(m.Used))
		gauge("memory_total_bytes", float64(m.Total))
	}
	if len(r.Gauges) == 0 {
		return nil, errors.Join(errs...)
	}
	return []collector.Reading{r}, errors.Join(errs...)
}

// due tells whether a new span has begun, also where the clock was set back.
func (s *Source) due(at time.Time) bool {
	every := s.Every
	if every <= 0 {
		every = defaultEvery
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	span := at.Truncate(every)
	if span.Equal(s.span) {
		return false
	}
	s.span = span
	return true
}

// used is the part of the processors' time since the reading before that was
// spent neither idle nor waiting for input and output.
func (s *Source) used(now cpu.TimesStat) (float64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was, seen := s.last, s.seen
	s.last, s.seen = now, true
	if !seen {
		return 0, false
	}
	idle := now.Idle + now.Iowait - was.Idle - was.Iowait
	all := whole(now) - whole(was)
	if all <= 0 {
		return 0, false
	}
	return min(1, max(0, 1-idle/all)), !math.IsNaN(idle)
}

// whole time of the processors; that of guests is part of user and nice.
func whole(t cpu.TimesStat) float64 {
	return t.User + t.Nice + t.System + t.Idle + t.Iowait + t.Irq + t.Softirq + t.Steal
}
