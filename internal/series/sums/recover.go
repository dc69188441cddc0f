package sums

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

// mostSlots are compared one by one; what was booked before them and not emitted
// is found in the totals.
const mostSlots = 16

// Ledger is what Recover reads of a ledger.
type Ledger interface {
	Totals(ctx context.Context) ([]ledger.ProjectTotal, error)
	Nodes(ctx context.Context) ([]ledger.NodeStatus, error)
	Books(ctx context.Context, cluster string, fromMS, toMS, nowMS int64) (ledger.Books, error)
}

// Recover makes sums that go on where the state left off, nil for none. Nothing
// may be booked while it reads the ledger: what is booked later comes by Fold.
func Recover(ctx context.Context, l Ledger, old []byte, o Options, nowMS int64) (*Sums, error) {
	s := New(o)
	if old != nil {
		if err := s.load(old); err != nil {
			return nil, err
		}
	}
	nodes, err := l.Nodes(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot recover the sums: %w", err)
	}
	totals, err := l.Totals(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot recover the sums: %w", err)
	}
	for i := range nodes {
		if n := &nodes[i]; n.LastMS > 0 {
			if c := s.cluster(n.Node.Cluster); c != nil {
				c.nodes[n.Node.Name] = &node{last: n.LastMS, left: n.Left}
				c.newest = max(c.newest, n.LastMS)
			}
		}
	}
	for _, c := range s.clusters {
		all := newPart()
		for i := range totals {
			if t := &totals[i]; t.Cluster == c.name {
				all.amounts(t.Project, &t.Amounts)
			}
		}
		if err := s.recover(ctx, l, c, all, nowMS); err != nil {
			return nil, fmt.Errorf("cannot recover the sums of cluster %q: %w", c.name, err)
		}
	}
	return s, nil
}

func (p *part) amounts(project string, a *ledger.Amounts) {
	for class := range a.Energy {
		for use, mj := range a.Energy[class] {
			p.Classes[class][use] += int64(mj)
		}
	}
	if project != "" {
		b := p.Projects[project]
		p.Projects[project] = amount{b.MJ + int64(a.Total()), b.Held + int64(a.Use(energy.Held))}
	}
}

// recover brings one cluster to where the ledger is; all is all that the ledger
// ever booked.
func (s *Sums) recover(ctx context.Context, l Ledger, c *cluster, all *part, nowMS int64) error {
	if c.newest == 0 {
		return nil // a state, and an empty ledger: the counters wait to be passed
	}
	fresh := c.at == 0
	if fresh {
		c.at = window.Slot(c.newest-1) * window.SlotMS
	}
	last := max(window.Slot(c.newest-1), window.Slot(c.at))
	first := window.Slot(c.at)
	if !fresh {
		first = window.Slot(c.at-1) - seenSlots + 1
	}
	first = max(first, last-mostSlots)
	missing := map[int64]*part{}
	for slot := first; slot <= last; slot++ {
		b, err := l.Books(ctx, c.name, slot*window.SlotMS, (slot+1)*window.SlotMS, nowMS)
		if err != nil {
			return err
		}
		p := newPart()
		p.amounts("", &b.Nobody)
		for i := range b.Projects {
			p.amounts(b.Projects[i].Name, &b.Projects[i].Amounts)
		}
		if fresh {
			all.sub(p)
		} else if seen := c.seen[slot]; seen != nil {
			p.sub(seen)
		}
		// Where only projects differ, energy was moved between them: see drift.
		if p.Classes != [energy.NumClasses][energy.NumUses]int64{} {
			missing[slot] = p
		}
	}
	if fresh {
		c.begin(all, s.o.Projects)
	} else {
		s.drift(c, all, missing, nowMS)
	}
	for _, slot := range slices.Sorted(maps.Keys(missing)) {
		s.place(c, slot, missing[slot], nowMS)
	}
	c.sign(floor(c.newest), nowMS)
	for _, n := range c.nodes {
		n.lost = n.last < c.at-s.o.Wait.Milliseconds()
	}
	return nil
}

// begin sets the counters of a cluster that were never emitted.
func (c *cluster) begin(p *part, most int) {
	for name, a := range p.Projects {
		if q := c.project(name, most); q != nil && (a.MJ != 0 || a.Held != 0) {
			q.all, q.held = counter{mj: a.MJ}, counter{mj: a.Held}
		}
	}
	for class := range p.Classes {
		for use, mj := range p.Classes[class] {
			c.classes[class][use] = counter{mj: mj}
		}
	}
}

// place puts energy that was booked and not emitted where it belongs: the step
// that its slot has come to, and the next one if that is emitted.
func (s *Sums) place(c *cluster, slot int64, p *part, nowMS int64) {
	for class := range p.Classes {
		for _, mj := range p.Classes[class] {
			s.stats.RecoveredEnergy += energy.Millijoules(mj)
		}
	}
	t := min((slot+1)*window.SlotMS, ceil(c.newest))
	c.step(max(t, c.at+StepMS), nowMS).part(slot).add(p)
}

// drift compares the counters with the totals: energy of slots that are not
// compared one by one was booked late, and comes with the next step. Where the
// books of one project went down others went up by being moved: that is noted,
// and the counters stay.
func (s *Sums) drift(c *cluster, all *part, missing map[int64]*part, nowMS int64) {
	late := newPart()
	late.add(all)
	for _, p := range missing {
		late.sub(p)
	}
	for class := range late.Classes {
		for use := range late.Classes[class] {
			late.Classes[class][use] -= c.classes[class][use].mj
		}
	}
	moved := false
	for _, name := range c.order {
		p := c.projects[name]
		a := late.Projects[name]
		off := c.offsets[name]
		late.Projects[name] = amount{a.MJ - p.all.mj - off.MJ, a.Held - p.held.mj - off.Held}
	}
	for _, a := range late.Projects {
		moved = moved || a.MJ < 0 || a.Held < 0
	}
	if moved {
		for name, a := range late.Projects {
			if (a != amount{}) {
				off := c.offsets[name]
				c.offsets[name] = amount{off.MJ + a.MJ, off.Held + a.Held}
				s.stats.UnplacedProjects++
			}
		}
		clear(late.Projects)
	}
	maps.DeleteFunc(late.Projects, func(_ string, a amount) bool { return a == amount{} })
	for class := range late.Classes {
		for use := range late.Classes[class] {
			late.Classes[class][use] = max(0, late.Classes[class][use])
		}
	}
	if !late.empty() {
		s.place(c, window.Slot(c.at-1)-seenSlots-1, late, nowMS)
	}
}

func (p *part) sub(o *part) {
	for name, a := range o.Projects {
		b := p.Projects[name]
		p.Projects[name] = amount{b.MJ - a.MJ, b.Held - a.Held}
	}
	for c := range o.Classes {
		for u, mj := range o.Classes[c] {
			p.Classes[c][u] -= mj
		}
	}
}

func (p *part) empty() bool {
	for _, a := range p.Projects {
		if a != (amount{}) {
			return false
		}
	}
	return p.Classes == [energy.NumClasses][energy.NumUses]int64{}
}
