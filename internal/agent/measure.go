package agent

import (
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
	for _, src := range a.opt.Sources {
		ps, ok := src.(collector.ProcessSource)
		if !ok {
			continue
		}
		for _, d := range ps.Processes() {
			if !d.HasUse || now.UnixNano()-d.At > measureFor.Nanoseconds() {
				a.pipe.Measured(d.Meter, nil)
				continue
			}
			a.pipe.Measured(d.Meter, a.usesOf(d.Processes))
		}
	}
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
