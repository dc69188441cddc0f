// Package job knows who held what on this node, and since when. Its
// sub-packages learn it: hook from the agent's own socket, later slurm and
// kubernetes from those systems.
package job

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/wattledger/wattledger/internal/window"
)

// maxSubmitMS is the year 9999, the last that a window can name.
const maxSubmitMS = 253_402_300_799_999

// Whole is the weight of a whole device: shares are in millionths.
const Whole = 1_000_000

// Spec is what a workload manager says of a job when it begins on this node.
type Spec struct {
	ID       string `json:"id"`
	Restart  uint32 `json:"restart,omitempty"`
	SubmitMS int64  `json:"submit_ms,omitempty"`
	Project  string `json:"project,omitempty"`
	User     string `json:"user,omitempty"`
	// Partition (queue) it runs in; for people.
	Partition string `json:"partition,omitempty"`
	// SLUID is Slurm's own name of this run (26.05), "" where there is none.
	SLUID string `json:"sluid,omitempty"`
	// GPUs the job holds, by meter name, with weights in millionths. On the way
	// to the agent a device may be a reference that a collector.Locator knows
	// (minor:2, MIG-...); the agent puts the meter's name in its place.
	GPUs []window.Share `json:"gpus,omitempty"`
	// Unplaced are references that no meter answers to. Nobody knows which
	// device they mean, so while the job runs, GPUs that nobody holds are
	// unknown, never idle.
	Unplaced []string `json:"unplaced,omitempty"`
	// CPUs is how many hardware CPUs of the node it holds, 0 if not said.
	CPUs uint32 `json:"cpus,omitempty"`
	// MemoryBytes of the node it holds, 0 if not said.
	MemoryBytes uint64 `json:"memory_bytes,omitempty"`
	// Exclusive: the node and everything in it is the job's. So is a job that
	// names neither GPUs nor CPUs.
	Exclusive bool `json:"exclusive,omitempty"`
	// Found: nobody told of the job, it was seen running (in its cgroup). What
	// its workload manager says of it later takes the place of this.
	Found bool `json:"found,omitempty"`
	// Teller is the witness who told of it, as in Edge; the agent notes it, so
	// that after a restart each witness knows the jobs that are its own.
	Teller string `json:"teller,omitempty"`
}

// WholeNode tells whether the job owns everything on the node.
func (s Spec) WholeNode() bool {
	return s.Exclusive || (len(s.GPUs) == 0 && len(s.Unplaced) == 0 && s.CPUs == 0)
}

// Allocation is a job on this node for a span of time, [From, To) in Unix ns.
type Allocation struct {
	Spec
	From int64 `json:"from_ns"`
	To   int64 `json:"to_ns,omitempty"` // 0: it still runs
}

// Open tells whether the job still runs here.
func (a Allocation) Open() bool { return a.To == 0 }

// Holds is the part of [from, to) in which the job was here.
func (a Allocation) Holds(from, to int64) (int64, int64, bool) {
	from = max(from, a.From)
	if a.To != 0 {
		to = min(to, a.To)
	}
	return from, to, from < to
}

// Errors of Begin and End, for a clear answer on the socket.
var (
	ErrRunning    = errors.New("the job is already running here")
	ErrNotRunning = errors.New("no such job is running here")
	ErrEnded      = errors.New("that run has ended here already")
	ErrBadSpec    = errors.New("the job cannot be taken")
)

// Table holds the allocations of a node: those that run, and those that ended
// but still touch a window that is open. It is not safe for concurrent use: the
// agent's one loop owns it.
type Table struct {
	list  []Allocation // by From, then ID
	past  []Allocation // forgotten lately, oldest first
	edits uint64
}

// Edits counts the changes to what MarshalJSON writes.
func (t *Table) Edits() uint64 { return t.edits }

// maxPast is how many runs are known after they were forgotten.
const maxPast = 1024

// Begin adds a job at time at. A second begin of a run that is open is
// ErrRunning; it changes nothing, but for a run that was only found: what is
// said of it now takes the place of what was seen. A begin that lies before the
// end of its own run, which has ended, is ErrEnded: it was told before. A begin
// of another run of the job ends the one that is open; one that lies before a
// run that is known is of an earlier run, which ended by then.
func (t *Table) Begin(s Spec, at int64) error {
	if err := s.check(); err != nil {
		return err
	}
	i := t.find(s.ID)
	if i >= 0 && s.Found {
		return fmt.Errorf("begin of job %s: %w", s.ID, ErrRunning)
	}
	if i >= 0 && s.sameRun(t.list[i].Spec) {
		if t.list[i].Found {
			t.edits++
			t.list[i].Spec, t.list[i].From = s, min(t.list[i].From, at)
			t.sort()
			return nil
		}
		return fmt.Errorf("begin of job %s (restart %d): %w since %s", s.ID, s.Restart, ErrRunning, time.Unix(0, t.list[i].From).UTC().Format(time.RFC3339))
	}
	if t.hasEnded(func(a *Allocation) bool { return at < a.To && s.sameRun(a.Spec) }) {
		return fmt.Errorf("begin of job %s (restart %d): %w", s.ID, s.Restart, ErrEnded)
	}
	t.edits++
	begun := Allocation{Spec: s, From: at}
	for n := range t.list {
		switch a := &t.list[n]; {
		case a.ID != s.ID:
		case a.From > at: // that is the later run
			begun.To = min(a.From, cmp.Or(begun.To, a.From))
		case a.Open(): // an earlier run whose end was never told ended by now
			a.end(at)
		}
	}
	t.list = append(t.list, begun)
	t.sort()
	return nil
}

// sameRun tells whether two witnesses speak of one run of a job: of a run that
// was only found, the restart count is not known.
func (s *Spec) sameRun(o Spec) bool {
	return s.ID == o.ID && (s.Restart == o.Restart || s.Found || o.Found) && (s.SLUID == "" || o.SLUID == "" || s.SLUID == o.SLUID)
}

// hasEnded looks among the runs that ended, also those that were forgotten.
func (t *Table) hasEnded(which func(*Allocation) bool) bool {
	for _, l := range [][]Allocation{t.list, t.past} {
		for i := range l {
			if !l[i].Open() && which(&l[i]) {
				return true
			}
		}
	}
	return false
}

// Ended tells whether a run of the job was here at a time and has ended since:
// an end that comes once more is known.
func (t *Table) Ended(id string, at int64) bool {
	return t.hasEnded(func(a *Allocation) bool { return a.ID == id && a.From <= at && at <= a.To })
}

// Runs gives the runs of a job that are not forgotten, oldest first.
func (t *Table) Runs(id string) []Allocation {
	var out []Allocation
	for _, a := range t.list {
		if a.ID == id {
			out = append(out, a)
		}
	}
	return out
}

func (t *Table) sort() {
	slices.SortStableFunc(t.list, func(a, b Allocation) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.ID, b.ID))
	})
}

// find gives the index of the open run of a job, -1 if it has none.
func (t *Table) find(id string) int {
	return slices.IndexFunc(t.list, func(a Allocation) bool { return a.Open() && a.ID == id })
}

// Edit changes what is said of each allocation, not when it was.
func (t *Table) Edit(change func(*Spec)) {
	t.edits++
	for i := range t.list {
		change(&t.list[i].Spec)
	}
}

// Running gives the open run of a job.
func (t *Table) Running(id string) (Allocation, bool) {
	i := t.find(id)
	if i < 0 {
		return Allocation{}, false
	}
	return t.list[i], true
}

func (s Spec) check() error {
	if s.ID == "" {
		return fmt.Errorf("%w: it has no id", ErrBadSpec)
	}
	for what, v := range map[string]string{"id": s.ID, "project": s.Project, "user": s.User, "partition": s.Partition, "sluid": s.SLUID, "witness": s.Teller} {
		if !utf8.ValidString(v) || strings.ContainsFunc(v, unicode.IsControl) {
			return fmt.Errorf("%w: its %s %q is not plain text", ErrBadSpec, what, v)
		}
		if len(v) > window.MaxName {
			return fmt.Errorf("%w: its %s has %d bytes, at most %d", ErrBadSpec, what, len(v), window.MaxName)
		}
	}
	if s.SubmitMS < 0 || s.SubmitMS > maxSubmitMS {
		return fmt.Errorf("%w: it was submitted at %d ms, which is no time", ErrBadSpec, s.SubmitMS)
	}
	if n := len(s.GPUs) + len(s.Unplaced); n > window.MaxMeters {
		return fmt.Errorf("%w: it names %d GPUs, at most %d", ErrBadSpec, n, window.MaxMeters)
	}
	seen := make(map[string]bool, len(s.GPUs))
	for _, g := range s.GPUs {
		if g.Device == "" || len(g.Device) > window.MaxName {
			return fmt.Errorf("%w: a device has no name, or one longer than %d bytes", ErrBadSpec, window.MaxName)
		}
		if seen[g.Device] {
			return fmt.Errorf("%w: %s is named twice", ErrBadSpec, g.Device)
		}
		seen[g.Device] = true
		if g.Weight == 0 || g.Weight > Whole {
			return fmt.Errorf("%w: its share of %s is %d millionths, not 1 to %d", ErrBadSpec, g.Device, g.Weight, Whole)
		}
	}
	return nil
}

// End closes the open run of the job; a node holds one. It gives the closed
// allocation.
func (t *Table) End(id string, at int64) (Allocation, error) {
	i := t.find(id)
	if i < 0 {
		return Allocation{}, fmt.Errorf("end of job %s: %w", id, ErrNotRunning)
	}
	t.edits++
	t.list[i].end(at)
	return t.list[i], nil
}

// end closes it, never before it began; To 0 would mean that it still runs.
func (a *Allocation) end(at int64) {
	a.To = max(at, a.From)
	if a.To == 0 {
		a.To = 1
	}
}

// During gives the allocations that touch [from, to), oldest first. The slice
// is the caller's.
func (t *Table) During(from, to int64) []Allocation {
	var out []Allocation
	for _, a := range t.list {
		if _, _, ok := a.Holds(from, to); ok {
			out = append(out, a)
		}
	}
	return out
}

// Open gives the allocations that still run.
func (t *Table) Open() []Allocation {
	var out []Allocation
	for _, a := range t.list {
		if a.Open() {
			out = append(out, a)
		}
	}
	return out
}

// Forget drops what ended at or before the time: no window needs it any more.
// That it was here stays known for a while.
func (t *Table) Forget(before int64) {
	t.list = slices.DeleteFunc(t.list, func(a Allocation) bool {
		gone := !a.Open() && a.To <= before
		if gone {
			t.edits++
			t.past = append(t.past, Allocation{Spec: Spec{ID: a.ID, Restart: a.Restart, SLUID: a.SLUID, Found: a.Found}, From: a.From, To: a.To})
		}
		return gone
	})
	if n := len(t.past) - maxPast; n > 0 {
		t.past = slices.Delete(t.past, 0, n)
	}
}

// Shift moves every stamp at or after since by ns: the clock was stepped. What
// came before stays before, also where the clock was put back.
func (t *Table) Shift(since, ns int64) {
	t.edits++
	for _, l := range [][]Allocation{t.list, t.past} {
		for i := range l {
			a := &l[i]
			a.From = shift(a.From, since, ns)
			if a.To != 0 {
				a.To = max(shift(a.To, since, ns), a.From)
			}
		}
	}
}

func shift(at, since, ns int64) int64 {
	if at >= since {
		return at + ns
	}
	return min(at, since+ns)
}

// MarshalJSON writes the allocations as the agent's state keeps them.
func (t *Table) MarshalJSON() ([]byte, error) { return json.Marshal(t.list) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (t *Table) UnmarshalJSON(b []byte) error {
	t.edits++
	return json.Unmarshal(b, &t.list)
}
