package hook

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/wattledger/wattledger/internal/job"
)

// Pending hands the edges of a folder over that Keep wrote. Several may do so at
// once (the agent, a hook, a unit of systemd's): an edge that comes twice is one.
type Pending struct {
	Dir string
	// Clock is read once a delivery, where something waits.
	Clock func() Clock
	// Handle takes an edge. Where it answers Again, the rest waits.
	Handle func(ctx context.Context, e job.Edge) job.Answer
	// Event is told what became of a file that held no edge, or one that was
	// refused; it may be nil.
	Event func(kind, detail string)
}

// maxAside is how many unreadable files are kept.
const maxAside = 100

// Deliver hands over what waits, in the order of time, and removes what was
// taken. A folder that is not there has nothing. The error says what could not
// be looked at; whoever may not read the folder gets fs.ErrPermission.
func (p Pending) Deliver(ctx context.Context) (taken int, err error) {
	return p.deliver(ctx, func(string) bool { return true })
}

// DeliverJob hands over what waits of one job, so that its begin comes before
// its end.
func (p Pending) DeliverJob(ctx context.Context, id string) (taken int, err error) {
	mark := markOf(id)
	return p.deliver(ctx, func(name string) bool { return strings.Contains(name, mark) })
}

func (p Pending) deliver(ctx context.Context, wanted func(name string) bool) (taken int, err error) {
	d, err := openKept(p.Dir, false)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer d.close()
	names, err := d.names()
	if err != nil {
		return 0, err
	}
	if len(names) == 0 {
		return 0, nil
	}
	now := p.Clock()
	for _, name := range names {
		if !wanted(name) {
			continue
		}
		if ctx.Err() != nil {
			return taken, nil
		}
		k, err := d.read(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // another took it
		}
		if err != nil {
			p.spoilt(d, name, err)
			continue
		}
		if !p.hand(ctx, k, now) {
			return taken, nil
		}
		if mark := markOf(k.Edge.Job.ID); k.Edge.Op == "begin" && k.Boot != now.Boot && !slices.ContainsFunc(names, func(n string) bool { return strings.Contains(n, mark+"end") }) {
			p.endAtBoot(ctx, k.Edge, now)
		}
		taken++
		if err := d.remove(name); err != nil {
			return taken, err
		}
	}
	return taken, nil
}

// hand gives one edge to the agent; false: not now.
func (p Pending) hand(ctx context.Context, k kept, now Clock) bool {
	e := k.Edge
	e.AtNS = p.atNS(k, now)
	a := p.Handle(ctx, e)
	if a.Again {
		return false
	}
	if !a.OK {
		p.event("edge_refused", fmt.Sprintf("a kept %s of job %s was refused: %s", e.Op, e.Job.ID, a.Message))
	}
	return true
}

// endAtBoot ends a job that the machine went down under: it was over when the
// machine came up, at the latest.
func (p Pending) endAtBoot(ctx context.Context, begin job.Edge, now Clock) {
	if booted := now.WallNS - now.BootNS; now.BootNS > 0 && begin.AtNS < booted {
		p.Handle(ctx, job.Edge{Op: "end", Witness: "file", AtNS: booted, Job: job.Spec{ID: begin.Job.ID, Restart: begin.Job.Restart, SLUID: begin.Job.SLUID}})
	}
}

// markOf is what a file's name holds of a job.
func markOf(id string) string {
	return "," + strings.Split(keptName(job.Edge{Job: job.Spec{ID: id}}), ",")[2] + ","
}

// stepped is how far the wall clock may drift from the clock since boot before
// it counts as set.
const stepped = 250_000_000

// atNS is when the edge happened on the wall clock of today: one that was set
// since is seen by the clock that counts from the boot.
func (p Pending) atNS(k kept, now Clock) int64 {
	if k.Boot != now.Boot || k.BootNS <= 0 || k.WallNS <= 0 {
		return k.Edge.AtNS
	}
	set := (now.WallNS - now.BootNS) - (k.WallNS - k.BootNS)
	if set > -stepped && set < stepped {
		return k.Edge.AtNS
	}
	return k.Edge.AtNS + set
}

func (p Pending) spoilt(d *keptDir, name string, why error) {
	file := filepath.Join(d.path, name)
	detail := fmt.Sprintf("%s holds no edge (%v): it is kept as .unreadable", file, why)
	if n := p.countAside(d); n >= maxAside {
		detail = fmt.Sprintf("%s holds no edge (%v), and %d such files are kept: it is removed", file, why, n)
		why = d.remove(name)
	} else {
		why = d.aside(name)
	}
	if why != nil {
		detail += fmt.Sprintf("; this failed: %v", why)
	}
	p.event("edge_unreadable", detail)
}

func (p Pending) countAside(d *keptDir) int {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return maxAside
	}
	n := 0
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".unreadable") {
			n++
		}
	}
	return n
}

func (p Pending) event(kind, detail string) {
	if p.Event != nil {
		p.Event(kind, detail)
	}
}
