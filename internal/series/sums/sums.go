package sums

import (
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/series/metric"
	"github.com/wattledger/wattledger/internal/window"
)

const (
	// StepMS is how far apart counters are stamped, in milliseconds.
	StepMS = 10_000
	// seconds of a step.
	seconds = StepMS / 1000
	// hourMS is an hour in milliseconds.
	hourMS = 3_600_000
	// maxSteps wait at most, per cluster: a day; beyond, the oldest is emitted
	// as it is.
	maxSteps = 24 * hourMS / StepMS
	// maxClusters are added up; of others only the nodes' own series are there.
	maxClusters = 256
	// idleStepMS is how often a counter that does not move is written again, so
	// that a query finds it.
	idleStepMS = 60_000
)

// stale is how Prometheus' storage spells that a series has ended: a NaN of its
// own (model/value.StaleNaN).
const stale = 0x7ff0000000000002

// Key names a series. Fields that the metric has no label for are empty.
type Key struct {
	Metric                            string
	Cluster, Project, Job, Class, Use string
}

// Sample is a value of a series at a time (Unix ms).
type Sample struct {
	Key   Key
	AtMS  int64
	Value float64
}

// Options say how sums are made.
type Options struct {
	// Wait is how long a step waits for nodes (default 60 s). It must be longer
	// than a window and the time it takes to arrive.
	Wait time.Duration
	// Projects of a cluster that get series (default 10,000); the energy of
	// others is in the cluster's counters alone.
	Projects int
	// Jobs that have series at a time, over all clusters; 0 for none.
	Jobs int
}

// Stats count what became of windows; all only grow.
type Stats struct {
	LateWindows      int64 // energy went to a later step
	LateEnergy       energy.Millijoules
	LateSeconds      int64 // seconds of a node's power that are in no sum
	LostNodes        int64 // times that a node was no longer waited for
	RefusedProjects  int64 // windows with a project beyond the limit
	RefusedJobs      int64 // windows with a job beyond the limit
	RefusedClusters  int64 // windows of clusters beyond the limit
	ForcedSteps      int64 // steps emitted because too many waited
	RecoveredEnergy  energy.Millijoules
	UnplacedProjects int64 // projects whose books moved while nobody looked
}

// Sums adds up. Methods may be called from any goroutine.
type Sums struct {
	o  Options
	mu sync.Mutex

	clusters map[string]*cluster
	jobs     int
	stats    Stats
	watts    []float64
	shares   []share
}

// New makes sums of an empty ledger; see Recover.
func New(o Options) *Sums {
	if o.Wait <= 0 {
		o.Wait = time.Minute
	}
	if o.Projects <= 0 {
		o.Projects = 10_000
	}
	return &Sums{o: o, clusters: map[string]*cluster{}}
}

// Stats gives what was counted so far.
func (s *Sums) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Standing is how far a cluster is.
type Standing struct {
	Cluster     string
	EmittedMS   int64 // the last step
	NewestMS    int64 // end of the newest window
	Steps       int   // that wait
	Lost, Nodes int
}

// Standings gives how far each cluster is, by name.
func (s *Sums) Standings() []Standing {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Standing, 0, len(s.clusters))
	for _, c := range s.clusters {
		st := Standing{Cluster: c.name, EmittedMS: c.at, NewestMS: c.newest, Steps: len(c.steps)}
		for _, n := range c.nodes {
			if !n.left {
				st.Nodes++
				if n.lost {
					st.Lost++
				}
			}
		}
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b Standing) int { return strings.Compare(a.Cluster, b.Cluster) })
	return out
}

type node struct {
	last int64 // end of its newest window
	lost bool  // not waited for
	left bool  // said that it leaves
}

// mark is the first sign that a time is over.
type mark struct{ end, at int64 }

// counter is what a series of energy holds.
type counter struct {
	mj    int64 // as booked; may go down
	shown int64 // the most it ever was
	zero  bool  // nothing was ever emitted
}

type pair struct{ all, held counter }

// cluster is one machine.
type cluster struct {
	name   string
	at     int64 // the last step that was emitted; 0: none, no time is known
	begun  bool  // the counters at at were emitted
	born   int64 // when its first node was heard of, 0 if the books know it
	nodes  map[string]*node
	steps  map[int64]*step
	marks  []mark
	newest int64

	projects map[string]*pair
	order    []string // names of projects, sorted
	classes  [energy.NumClasses][energy.NumUses]counter
	offsets  map[string]amount // what the ledger holds of a project beyond its counter
	seen     map[int64]*part   // emitted, by slot, of the newest slots
	jobs     map[string]*jobSum

	watts   [seconds]float64 // of the last step
	wattsAt int64            // that step, 0 if it had no power
	active  map[string]bool  // projects that had power in it
}

// amount is energy of a project within a step.
type amount struct {
	MJ   int64 `json:"mj"`
	Held int64 `json:"held,omitempty"`
}

// part is energy of one slot.
type part struct {
	Projects map[string]amount                        `json:"projects"`
	Classes  [energy.NumClasses][energy.NumUses]int64 `json:"classes"`
}

func newPart() *part { return &part{Projects: map[string]amount{}} }

func (p *part) add(o *part) {
	for name, a := range o.Projects {
		b := p.Projects[name]
		p.Projects[name] = amount{b.MJ + a.MJ, b.Held + a.Held}
	}
	for c := range o.Classes {
		for u, mj := range o.Classes[c] {
			p.Classes[c][u] += mj
		}
	}
}

// step is what is known of one step.
type step struct {
	slots    map[int64]*part
	watts    [seconds]float64
	nodes    [seconds]int
	projects map[string]*[seconds]float64
	jobs     map[string]*jobPart
	fine     bool // a node tells more of it than a mean over several steps
}

func (c *cluster) step(t, nowMS int64) *step {
	st := c.steps[t]
	if st == nil {
		st = &step{slots: map[int64]*part{}, projects: map[string]*[seconds]float64{}}
		c.steps[t] = st
		c.sign(t, nowMS)
	}
	return st
}

func (st *step) part(slot int64) *part {
	p := st.slots[slot]
	if p == nil {
		p = newPart()
		st.slots[slot] = p
	}
	return p
}

// sign notes when a time was first known to be over.
func (c *cluster) sign(end, nowMS int64) {
	if n := len(c.marks); n > 0 && c.marks[n-1].end >= end {
		return
	}
	c.marks = append(c.marks, mark{end, nowMS})
}

// signed is when it was first known that t is over.
func (c *cluster) signed(t int64) (int64, bool) {
	i, _ := slices.BinarySearchFunc(c.marks, t, func(m mark, t int64) int { return int(max(-1, min(1, m.end-t))) })
	if i == len(c.marks) {
		return 0, false
	}
	return c.marks[i].at, true
}

func (s *Sums) cluster(name string) *cluster {
	c := s.clusters[name]
	if c == nil {
		if len(s.clusters) >= maxClusters {
			return nil
		}
		c = &cluster{
			name: name, nodes: map[string]*node{}, steps: map[int64]*step{}, projects: map[string]*pair{},
			offsets: map[string]amount{}, seen: map[int64]*part{}, jobs: map[string]*jobSum{}, active: map[string]bool{},
		}
		s.clusters[name] = c
	}
	return c
}

// project gives the counters of a project, nil beyond the limit.
func (c *cluster) project(name string, most int) *pair {
	p := c.projects[name]
	if p == nil && len(c.projects) < most {
		p = &pair{all: counter{zero: true}, held: counter{zero: true}}
		c.projects[name] = p
		at, _ := slices.BinarySearch(c.order, name)
		c.order = slices.Insert(c.order, at, name)
	}
	return p
}

// Fold adds a window that was booked now.
func (s *Sums) Fold(n ledger.Node, w *window.Window, nowMS int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.cluster(n.Cluster)
	if c == nil {
		s.stats.RefusedClusters++
		return
	}
	if c.at == 0 {
		c.at, c.born = window.Slot(w.StartMS)*window.SlotMS, nowMS
	}
	c.reported(n.Name, w, nowMS)
	s.energy(c, w, nowMS)
	s.power(c, w, nowMS)
}

func (c *cluster) reported(name string, w *window.Window, nowMS int64) {
	n := c.nodes[name]
	if n == nil {
		n = &node{}
		c.nodes[name] = n
	}
	n.last, n.left = max(n.last, w.EndMS), w.Final
	if n.last >= c.at {
		n.lost = false
	}
	if w.EndMS > c.newest {
		c.newest = w.EndMS
		c.sign(floor(w.EndMS), nowMS)
	}
}

// energy puts the postings of a window into the step it ends in.
func (s *Sums) energy(c *cluster, w *window.Window, nowMS int64) {
	t := ceil(w.EndMS)
	if t <= c.at {
		t = c.at + StepMS
		s.stats.LateWindows++
		s.stats.LateEnergy += w.Booked()
	}
	st := c.step(t, nowMS)
	p := st.part(window.Slot(w.StartMS))
	s.shares = s.shares[:0]
	for i := range w.Postings {
		post := &w.Postings[i]
		mj := int64(post.Energy)
		p.Classes[post.Class][post.Use] += mj
		if post.Job < 0 {
			continue
		}
		s.share(w, post.Job, mj, post.Use == energy.Held)
	}
	for _, sh := range s.shares {
		if c.project(sh.project, s.o.Projects) == nil {
			s.stats.RefusedProjects++
			continue
		}
		a := p.Projects[sh.project]
		p.Projects[sh.project] = amount{a.MJ + sh.mj, a.Held + sh.held}
	}
	if s.o.Jobs > 0 {
		s.jobEnergy(c, st, w)
	}
}

// share is what a project has of a window.
type share struct {
	project  string
	mj, held int64
}

func (s *Sums) share(w *window.Window, job int, mj int64, held bool) {
	name := projectOf(w, job)
	i := slices.IndexFunc(s.shares, func(sh share) bool { return sh.project == name })
	if i < 0 {
		i = len(s.shares)
		s.shares = append(s.shares, share{project: name})
	}
	s.shares[i].mj += mj
	if held {
		s.shares[i].held += mj
	}
}

func projectOf(w *window.Window, job int) string {
	if p := w.Jobs[job].Project; p != "" {
		return p
	}
	return ledger.Unassigned
}

// power adds the node's power to the seconds it lies in; s.shares are those of
// the window.
func (s *Sums) power(c *cluster, w *window.Window, nowMS int64) {
	watts, detailed, ok := NodePower(w, s.watts[:0])
	if s.watts = watts; !ok {
		return
	}
	fine := detailed || len(watts) <= 2*seconds
	total := float64(w.Metered())
	for n := 0; len(watts) > 0; watts = watts[n:] {
		at := w.EndMS - (w.EndMS-w.StartMS)%1000 - int64(len(watts)-1)*1000
		t := ceil(at)
		n = min(len(watts), int((t-at)/1000)+1) // seconds in this step
		if t <= c.at {
			s.stats.LateSeconds += int64(n)
			continue
		}
		st := c.step(t, nowMS)
		st.fine = st.fine || fine
		first := (at+999)/1000 - (t-StepMS)/1000 - 1
		for k, v := range watts[:n] {
			st.watts[first+int64(k)] += v
			st.nodes[first+int64(k)]++
		}
		if total <= 0 {
			continue
		}
		for _, sh := range s.shares {
			if c.projects[sh.project] != nil {
				st.projectPower(sh.project, first, watts[:n], float64(sh.mj)/total)
			}
		}
		if s.o.Jobs > 0 {
			for _, v := range watts[:n] {
				st.jobPower(c, w, v, total)
			}
		}
	}
}

// projectPower adds a project's share of a node's power.
func (st *step) projectPower(project string, first int64, watts []float64, share float64) {
	p := st.projects[project]
	if p == nil {
		p = new([seconds]float64)
		st.projects[project] = p
	}
	for k, v := range watts {
		p[first+int64(k)] += v * share
	}
}

// NodePower gives the mean power of a node, W, for each whole second of a window
// from its start on. detailed tells whether it comes from 1-second readings; ok
// whether the window holds metered energy at all.
func NodePower(w *window.Window, buf []float64) (watts []float64, detailed, ok bool) {
	length := w.EndMS - w.StartMS
	n := int(length / 1000)
	for i := range w.Ranges {
		ok = ok || w.Catalogue.Meters[w.Ranges[i].Meter].Root
	}
	if !ok || n == 0 {
		return buf, false, false
	}
	from := len(buf)
	buf = append(buf, make([]float64, n)...)
	watts = buf[from:]
	var sum float64
	for i := range w.Telemetry {
		r := &w.Telemetry[i]
		if !IsPower(r) || r.StartMS != w.StartMS || len(r.Milli) != n || inside(w, r.Meter) {
			continue
		}
		detailed = true
		for k, milli := range r.Milli {
			watts[k] += float64(milli) / 1000
			sum += float64(milli) / 1000
		}
	}
	rest := float64(w.Metered())/float64(length) - sum/float64(n)
	for k := range watts {
		watts[k] += rest
	}
	return buf, detailed, true
}

// IsPower tells whether a series is the power of a meter at 1 s.
func IsPower(r *window.Series) bool {
	return r.Meter >= 0 && r.StepMS == 1000 && r.Name == metric.WirePower
}

// inside tells whether a meter lies in another that has its power at 1 s.
func inside(w *window.Window, meter int) bool {
	meters := w.Catalogue.Meters
	parent := meters[meter].Parent
	for range meters { // no deeper than there are meters
		if parent == "" {
			return false
		}
		above := slices.IndexFunc(meters, func(m window.Meter) bool { return m.Name == parent })
		if above < 0 {
			return false
		}
		for i := range w.Telemetry {
			if r := &w.Telemetry[i]; r.Meter == above && IsPower(r) {
				return true
			}
		}
		parent = meters[above].Parent
	}
	return false
}

func floor(ms int64) int64 { return ms / StepMS * StepMS }

func ceil(ms int64) int64 { return (ms + StepMS - 1) / StepMS * StepMS }

func ended() float64 { return math.Float64frombits(stale) }
