package agent

import (
	"errors"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/attribution"
)

// What processes do is asked for at 0.1 Hz, and believed for so long.
const (
	measureEvery = 10 * time.Second
	measureFor   = 30 * time.Second
)

// measure follows who keeps shared GPUs busy: processes, by the job whose
// cgroup the kernel says they are in. A process of no job is nobody's use.
func (a *Agent) measure(now time.Time) {
	if !a.opt.Pipeline.Utilisation || a.opt.Owner == nil || now.Sub(a.measured) < measureEvery {
		return
	}
	a.measured = now
	var told []string
	for _, src := range a.opt.Sources {
		ps, ok := src.(collector.ProcessSource)
		if !ok {
			continue
		}
		for _, d := range ps.Processes() {
			if !d.HasUse || now.UnixNano()-d.At > measureFor.Nanoseconds() {
				continue
			}
			told = append(told, d.Meter)
			a.pipe.Measured(d.Meter, a.usesOf(d.Processes))
		}
	}
	a.pipe.MeasuredAlone(told)
}

// usesOf sums processes by job, in the order they were seen.
func (a *Agent) usesOf(list []collector.Process) []attribution.Use {
	uses := []attribution.Use{}
	at := map[string]int{}
	for _, p := range list {
		id, ok := a.opt.Owner(p.PID)
		if !ok {
			continue
		}
		i, seen := at[id]
		if !seen {
			i = len(uses)
			at[id], uses = i, append(uses, attribution.Use{Job: id})
		}
		uses[i].Part = min(uses[i].Part+p.Use, 1_000_000)
	}
	return uses
}

// tellOfItself adds what an operator must know of each agent to the telemetry,
// once a window.
func (a *Agent) tellOfItself(now time.Time) {
	if now.Sub(a.selfTold) < a.opt.Pipeline.Window {
		return
	}
	a.selfTold = now
	if a.opt.SpoolBytes > 0 {
		a.pipe.Gauge("spool_used_ratio", float64(a.opt.Spool.Bytes())/float64(a.opt.SpoolBytes))
	}
	if a.opt.Offset != nil {
		if off, ok := a.opt.Offset(); ok {
			a.pipe.Gauge("clock_offset_seconds", off.Seconds())
		}
	}
}

// deviceErrors flattens joined errors.
func deviceErrors(err error) []error {
	if err == nil {
		return nil
	}
	var many interface{ Unwrap() []error }
	if errors.As(err, &many) {
		var out []error
		for _, e := range many.Unwrap() {
			out = append(out, deviceErrors(e)...)
		}
		return out
	}
	return []error{err}
}
