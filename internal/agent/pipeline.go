// Package agent is the node's side of the books: it follows the meters, keeps
// the allocations, cuts windows, makes them durable and hands them to the
// sender.
//
// Pipeline is the part that decides numbers. It runs under whatever clock its
// caller has: the daemon gives it a tick a second, a replay gives it a
// recording.
package agent

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/attribution"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/meter"
	"github.com/wattledger/wattledger/internal/sample"
	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
)

// DemoteAfter is how long a parent may read less than its children before it
// becomes a witness.
const DemoteAfter = 5 * time.Minute

// SilentAfter is how long a parent may give no reading before it becomes a
// witness: what its children burn meanwhile is booked with its next reading.
const SilentAfter = time.Hour

// maxAhead is how far a source's own clock may be ahead of the node's.
const maxAhead = 5 * time.Second

// PipelineOptions say how windows are cut.
type PipelineOptions struct {
	Window time.Duration // 10 s; edges are multiples of it and of the slot
	MaxGap time.Duration // power is not integrated over more; 30 s
	Grace  time.Duration // how long after its edge a window waits for readings
	CPUs   uint32        // of the node, 0 if not known
	// MemoryBytes of the node, 0 if not known.
	MemoryBytes uint64
	// Utilisation: GPUs that jobs share are split by measured use (see package
	// attribution).
	Utilisation bool
	// PowerEpoch is the epoch of integrated meters: the name of the state.
	PowerEpoch string
	// Told hears every event as it happens; nil: nobody does.
	Told func(collector.Event)
	// Demoted meters are witnesses from the start.
	Demoted []string
}

// Pipeline turns readings and job edges into windows. Not safe for concurrent
// use.
type Pipeline struct {
	opt    PipelineOptions
	jobs   *job.Table
	scopes map[string]collector.Scope
	tree   *meter.Tree
	cat    *window.Catalogue
	tracks []*sample.Track // by the tree
	spare  map[string]*sample.Track
	starts map[string]sample.Start // of meters not read yet
	unsure int64                   // before this time (ns) nobody is unknown, not idle
	doubt  map[string]bool         // devices whose last known holder may still be there

	awaited   time.Time // first reading, while a meter of the books before is to come
	begun     bool
	start     int64 // of the open window, ms
	edges     []edge
	deficit   map[string]deficit
	demoted   map[string]bool
	gauges    map[gaugeKey]gauge
	cross     map[string]*sample.Cross // counters against the power of their scope
	witnesses map[string]*witness
	uses      map[string][]attribution.Use // by GPU, as last measured
	atRest    map[string]energy.Microwatts // the least a GPU drew doing nothing
	events    []window.Event
	untold    []job.Allocation // ended, and no window has said so
	out       []*window.Window
}

// edge is where a meter's range of the open window begins.
type edge struct {
	ns    int64
	uj    energy.Microjoules
	known bool
}

// deficit is the running sum of a remainder that is below zero.
type deficit struct {
	sum    energy.Millijoules
	since  int64 // ms
	silent int64 // since when it is not read, ms; 0 if it is
}

// NewPipeline makes a pipeline over a table of allocations, which the caller
// may fill before and must change through Begin and End afterwards.
func NewPipeline(opt PipelineOptions, jobs *job.Table) *Pipeline {
	p := &Pipeline{
		opt: opt, jobs: jobs,
		scopes:    map[string]collector.Scope{},
		spare:     map[string]*sample.Track{},
		starts:    map[string]sample.Start{},
		doubt:     map[string]bool{},
		deficit:   map[string]deficit{},
		demoted:   map[string]bool{},
		gauges:    map[gaugeKey]gauge{},
		cross:     map[string]*sample.Cross{},
		witnesses: map[string]*witness{},
		uses:      map[string][]attribution.Use{},
		atRest:    map[string]energy.Microwatts{},
	}
	for _, name := range opt.Demoted {
		p.demoted[name] = true
	}
	return p
}

// Resume says where the odometers stood when the books were last written, so
// that what passed unseen is bridged. Call it before the first Observe. Time
// before unsureBefore belongs to unknown where no job is known to hold it.
func (p *Pipeline) Resume(starts map[string]sample.Start, lastMS int64, unsureBefore int64) {
	maps.Copy(p.starts, starts)
	if lastMS > 0 {
		p.begun, p.start = true, lastMS
	}
	p.unsure = unsureBefore
}

// Doubt names devices that a job held when the books were last written, in a
// state that is lost: until somebody begins or ends there, nobody's energy on
// them is unknown.
func (p *Pipeline) Doubt(devices []string) {
	for _, d := range devices {
		p.doubt[d] = true
	}
}

// Observe takes the readings of one instant, and closes every window that they
// complete. The windows are the caller's to make durable.
func (p *Pipeline) Observe(now time.Time, readings []collector.Reading) []*window.Window {
	p.out = nil
	grown := p.meet(readings)
	broke := false
	cut := int64(0)
	lendActivity(readings)
	for _, r := range readings {
		if r.Scope.Kind == collector.Gauges {
			p.gauge(r)
			continue
		}
		t := p.spare[r.Scope.Name]
		if t == nil {
			p.testify(r)
			continue
		}
		if r.At.After(now.Add(maxAhead)) { // once taken, every true stamp would be older
			p.event(now.UnixMilli(), "future", r.Scope.Name, fmt.Sprintf("a reading stamped %s ahead of the clock was passed over", r.At.Sub(now)))
			continue
		}
		if r.Scope.Kind == collector.Power {
			r.Epoch = p.opt.PowerEpoch
		}
		b, odd := t.Add(r)
		if odd != nil {
			p.event(odd.AtNS/1e6, odd.Verdict.String(), odd.Meter, odd.Detail)
		}
		if b {
			broke = true
			cut = max(cut, ceilMS(r.At.UnixNano()))
		}
		if odd == nil {
			p.crossCheck(r, t)
			p.noteRest(r)
		}
		p.gauge(r)
		t.Bend(p.jobTimes(t))
	}
	if p.cat == nil && len(p.spare) > 0 {
		if p.expects(now) {
			return nil
		}
		broke = true
	}
	if broke || grown {
		p.cutAt(max(cut, ceilMS(earliest(readings, now))))
	}
	p.advance(now.UnixMilli())
	return p.out
}

func earliest(readings []collector.Reading, now time.Time) int64 {
	at := now.UnixNano()
	for _, r := range readings {
		at = min(at, r.At.UnixNano())
	}
	return at
}

// meet makes tracks for meters not seen before; true where the tree must grow.
func (p *Pipeline) meet(readings []collector.Reading) bool {
	grown := false
	for _, r := range readings {
		s := r.Scope
		if s.Kind == collector.Gauges || p.spare[s.Name] != nil || s.Witness || p.demoted[s.Name] {
			if p.demoted[s.Name] {
				s.Witness = true
				p.scopes[s.Name] = s
			}
			continue
		}
		p.scopes[s.Name] = s
		t := &sample.Track{Scope: s, MaxGap: p.opt.MaxGap.Nanoseconds()}
		if st, ok := p.starts[s.Name]; ok {
			if p.containsRoot(s.Name) {
				// what lies inside it was booked as roots meanwhile: to go on from
				// its old odometer would book that twice
				p.event(r.At.UnixMilli(), "gap", s.Name, "it came back after the meters inside it were booked without it: its odometer begins anew")
				delete(p.starts, s.Name)
			} else {
				t.Resume(st, r.Power)
			}
		}
		p.spare[s.Name] = t
		grown = true
	}
	return grown
}

// advance closes the windows that are complete at now: every meter was read at
// or after the edge, or the grace is over.
func (p *Pipeline) advance(nowMS int64) {
	for p.begun && p.cat != nil {
		end := p.nextEdge()
		if !p.complete(end) && nowMS < end+p.opt.Grace.Milliseconds() {
			return
		}
		if nowMS < end {
			return
		}
		p.close(end)
	}
}

// complete: all meters have a reading at or after the edge.
func (p *Pipeline) complete(endMS int64) bool {
	for _, t := range p.tracks {
		if last, ok := t.Last(); !ok || last.At < endMS*1e6 {
			return false
		}
	}
	return true
}

// nextEdge is where the open window ends: the next multiple of the window
// within the slot. A span in which no meter was read is one window as far as
// the slot goes.
func (p *Pipeline) nextEdge() int64 {
	w := p.opt.Window.Milliseconds()
	slotEnd := (window.Slot(p.start) + 1) * window.SlotMS
	end := min((p.start/w+1)*w, slotEnd)
	next := int64(-1)
	for _, t := range p.tracks {
		for _, pt := range t.Points() {
			if pt.At > p.start*1e6+sample.EdgeTolerance {
				if at := pt.At / 1e6; next < 0 || at < next {
					next = at
				}
				break
			}
		}
	}
	if next > end {
		end = max(end, min(next/w*w, slotEnd))
	}
	return end
}

// cutAt closes what is open up to a time at which the tree or an epoch changes,
// and goes on with a new catalogue.
func (p *Pipeline) cutAt(cutMS int64) {
	if p.begun && p.cat != nil {
		for p.nextEdge() <= cutMS {
			p.close(p.nextEdge())
		}
		if p.start < cutMS {
			p.close(cutMS)
		}
	}
	p.rebuild(cutMS)
}

// rebuild makes the tree and the catalogue from the meters there are.
func (p *Pipeline) rebuild(atMS int64) {
	scopes := slices.Collect(maps.Values(p.scopes))
	tree, err := meter.New(scopes)
	if err != nil { // the meters contradict each other: book the parts that do not
		p.event(atMS, "scope_tree", "", err.Error())
		for i := range scopes {
			scopes[i].Parent = ""
		}
		tree, _ = meter.New(scopes)
	}
	before := map[string]edge{}
	if p.cat != nil {
		for i, n := range p.tree.Nodes {
			before[n.Name+"\x00"+p.cat.Meters[i].Epoch] = p.edges[i]
		}
	}
	p.tree, p.tracks, p.edges = tree, nil, nil
	cat := &window.Catalogue{Policy: p.policy()}
	first := int64(-1)
	for _, n := range tree.Nodes {
		t := p.spare[n.Name]
		t.Settle()
		cat.Meters = append(cat.Meters, window.Meter{
			Name: n.Name, Epoch: t.Epoch(), Parent: p.parentName(n), Class: n.PostClass(),
			Root: n.Root(), Leaf: n.Leaf(), Integrated: n.Kind == collector.Power, Modulus: n.Modulus,
		})
		e, kept := before[n.Name+"\x00"+t.Epoch()]
		if !kept {
			if pts := t.Points(); len(pts) > 0 {
				e = edge{ns: pts[0].At, uj: pts[0].UJ, known: true}
			}
		}
		p.tracks, p.edges = append(p.tracks, t), append(p.edges, e)
		if e.known && (first < 0 || e.ns < first) {
			first = e.ns
		}
	}
	for _, n := range tree.Nodes {
		delete(p.starts, n.Name)
	}
	cat.ID = wire.CatalogueID(cat)
	fresh := p.cat == nil
	p.cat = cat
	if first >= 0 && (!p.begun || (fresh && first/1e6 > p.start)) {
		p.begun, p.start = true, first/1e6 // nothing is known of the time before
	}
}

func (p *Pipeline) parentName(n meter.Node) string {
	if n.Up < 0 {
		return ""
	}
	return p.tree.Nodes[n.Up].Name
}

// Flush closes the open window at the last readings: the agent stops.
func (p *Pipeline) Flush() []*window.Window {
	p.out = nil
	if !p.begun || p.cat == nil {
		return nil
	}
	last := int64(0)
	for _, t := range p.tracks {
		if pt, ok := t.Last(); ok {
			last = max(last, pt.At/1e6)
		}
	}
	for p.nextEdge() <= last {
		p.close(p.nextEdge())
	}
	if last > p.start {
		p.close(last)
	}
	return p.out
}

// Step moves the books to a clock that was stepped by d: windows move, energy
// does not.
func (p *Pipeline) Step(d time.Duration) {
	ns := d.Nanoseconds()
	for _, t := range p.spare {
		t.Shift(ns)
	}
	for i := range p.edges {
		p.edges[i].ns += ns
	}
	since := p.start * 1e6 // the open window begins there, its first range at an edge
	for _, e := range p.edges {
		if e.known {
			since = min(since, e.ns-ns)
		}
	}
	p.jobs.Shift(since, ns)
	for i := range p.untold {
		if a := &p.untold[i]; a.To >= since {
			a.To += ns
		} else {
			a.To = min(a.To, since+ns)
		}
	}
	for name, f := range p.deficit {
		if f.since != 0 {
			f.since += d.Milliseconds()
		}
		if f.silent != 0 {
			f.silent += d.Milliseconds()
		}
		p.deficit[name] = f
	}
	if p.unsure > 0 && p.unsure < math.MaxInt64 { // for ever stays for ever
		p.unsure += ns
	}
	p.start += d.Milliseconds()
	p.event(p.start, "clock_step", "", fmt.Sprintf("the clock was stepped by %s", d))
}

// Ends is where every odometer stands at the start of the open window, for the
// state that survives a restart.
func (p *Pipeline) Ends() (starts map[string]sample.Start, lastMS int64) {
	starts = maps.Clone(p.starts)
	if p.cat == nil {
		return starts, p.start
	}
	for i, n := range p.tree.Nodes {
		if e := p.edges[i]; e.known {
			m := p.cat.Meters[i]
			starts[n.Name] = sample.Start{Epoch: m.Epoch, UJ: e.uj, Raw: rawOf(m, e.uj), AtNS: e.ns, Rate: p.tracks[i].Rate()}
		}
	}
	return starts, p.start
}

// Odometer is where a booked meter stands; false before its first reading.
func (p *Pipeline) Odometer(name string) (energy.Microjoules, bool) {
	t := p.spare[name]
	if t == nil {
		return 0, false
	}
	last, ok := t.Last()
	return last.UJ, ok
}

// Demoted names the parents that became witnesses.
func (p *Pipeline) Demoted() []string {
	return slices.Sorted(maps.Keys(p.demoted))
}

// Tree is the scope tree in use, nil before the first reading.
func (p *Pipeline) Tree() *meter.Tree { return p.tree }

func ceilMS(ns int64) int64 { return (ns + 999_999) / 1_000_000 }
