package sums

import (
	"math"
	"slices"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/series/metric"
	"github.com/wattledger/wattledger/internal/window"
)

const (
	// stepsPerCall bounds what one call of Advance gives, per cluster.
	stepsPerCall = 64
	// lingerMS is how long the edge of a slot waits at least, so that the first
	// windows of nodes that nobody knew, or waited for, are on its right side; and
	// how long a cluster that nobody knew gathers nodes.
	lingerMS = 15_000
	// seenSlots are remembered behind the last step: two hours.
	seenSlots = 8
)

// Advance emits the steps that are due at nowMS: their samples are appended to
// out, those of a series in order of time. more tells that there were more steps
// than one call gives. What was emitted is not given again: the caller keeps it
// until it is stored, and asks for State only then.
func (s *Sums) Advance(nowMS int64, out []Sample) (samples []Sample, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make([]string, 0, len(s.clusters))
	for name := range s.clusters {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		c := s.clusters[name]
		slowest := c.slowest()
		for i := 0; ; i++ {
			t := c.next()
			if t == 0 || t > nowMS || !s.due(c, t, nowMS, &slowest) {
				break
			}
			if i == stepsPerCall {
				more = true
				break
			}
			out = s.emit(c, t, out)
		}
	}
	return out, more
}

// next is the step after the last: of a gap in which nobody sent anything, only
// the edges of slots; 0 if nothing is known after it.
func (c *cluster) next() int64 {
	t := c.at + StepMS
	if c.steps[t] != nil {
		return t
	}
	first := int64(math.MaxInt64)
	for k := range c.steps {
		first = min(first, k)
	}
	switch {
	case first == math.MaxInt64:
		return 0
	case first-c.at <= 2*idleStepMS:
		return t
	case first-c.at > 48*hourMS:
		return first - StepMS
	}
	return min((window.Slot(c.at)+1)*window.SlotMS, first-StepMS)
}

// slowest is the end of what every node that is waited for has sent.
func (c *cluster) slowest() int64 {
	slowest := int64(math.MaxInt64)
	for _, n := range c.nodes {
		if !n.lost && !n.left {
			slowest = min(slowest, n.last)
		}
	}
	return slowest
}

// due tells whether a step is complete, or has waited for long enough.
func (s *Sums) due(c *cluster, t, nowMS int64, slowest *int64) bool {
	if len(c.steps) > maxSteps {
		s.stats.ForcedSteps++
		return true
	}
	since, ok := c.signed(t)
	wait := s.o.Wait.Milliseconds()
	linger := min(lingerMS, wait)
	if nowMS < c.born+linger {
		return false
	}
	if t%window.SlotMS != 0 {
		linger = 0
	}
	if *slowest >= t && nowMS >= max(t, since)+linger {
		return true
	}
	if !ok || nowMS < max(t, since)+wait {
		return false
	}
	for _, n := range c.nodes {
		if !n.lost && !n.left && n.last < t {
			n.lost = true
			s.stats.LostNodes++
		}
	}
	*slowest = c.slowest()
	return true
}

func (s *Sums) emit(c *cluster, t int64, out []Sample) []Sample {
	if !c.begun {
		c.begun = true
		out = c.emitEnergy(c.at, true, out)
	}
	st := c.steps[t]
	delete(c.steps, t)
	if st != nil {
		out = c.take(st, t, s.o.Projects, out)
	}
	out = c.emitEnergy(t, t%idleStepMS == 0, out)
	out = c.emitPower(st, t, out)
	if s.o.Jobs > 0 {
		out = s.emitJobs(c, st, t, out)
	}
	c.at = t
	keep, _ := slices.BinarySearchFunc(c.marks, t, func(m mark, t int64) int { return int(max(-1, min(1, m.end-t))) })
	c.marks = slices.Delete(c.marks, 0, keep)
	for slot := range c.seen {
		if slot < window.Slot(t-1)-seenSlots {
			delete(c.seen, slot)
		}
	}
	return out
}

// take adds the energy of a step to the counters. One that is new gets zeros
// before it, so that differences to them exist.
func (c *cluster) take(st *step, t int64, most int, out []Sample) []Sample {
	for slot, p := range st.slots {
		for name, a := range p.Projects {
			counters := c.project(name, most)
			if counters == nil {
				continue
			}
			if counters.all.zero && (a.MJ != 0 || a.Held != 0) {
				key := Key{Metric: metric.ProjectEnergy, Cluster: c.name, Project: name}
				out = emitZeros(key, t, out)
				key.Metric = metric.ProjectHeldEnergy
				out = emitZeros(key, t, out)
			}
			counters.all.mj += a.MJ
			counters.held.mj += a.Held
		}
		for class := range p.Classes {
			for use, mj := range p.Classes[class] {
				counter := &c.classes[class][use]
				if mj != 0 && counter.mj == 0 && counter.shown == 0 {
					out = emitZeros(c.classKey(class, use), t, out)
				}
				counter.mj += mj
			}
		}
		if slot < window.Slot(t-1)-seenSlots {
			continue
		}
		if c.seen[slot] == nil {
			c.seen[slot] = newPart()
		}
		c.seen[slot].add(p)
	}
	return out
}

// emitZeros writes that a counter was zero: at the step before, and at the edges
// of the slots of an hour.
func emitZeros(key Key, t int64, out []Sample) []Sample {
	for edge := window.Slot(t-hourMS) * window.SlotMS; edge < t-StepMS; edge += window.SlotMS {
		out = append(out, Sample{key, edge, 0})
	}
	return append(out, Sample{key, t - StepMS, 0})
}

func (c *cluster) classKey(class, use int) Key {
	return Key{Metric: metric.ClusterEnergy, Cluster: c.name, Class: energy.Class(class).String(), Use: energy.Use(use).String()}
}

// emitEnergy writes the counters that moved, or all.
func (c *cluster) emitEnergy(t int64, all bool, out []Sample) []Sample {
	for _, name := range c.order {
		p := c.projects[name]
		if p.all.zero && p.all.mj == 0 && p.held.mj == 0 {
			continue // known, and nothing was ever booked
		}
		key := Key{Metric: metric.ProjectEnergy, Cluster: c.name, Project: name}
		if p.all.add(0) || all {
			out = append(out, Sample{key, t, joules(p.all.shown)})
		}
		key.Metric = metric.ProjectHeldEnergy
		if p.held.add(0) || all {
			out = append(out, Sample{key, t, joules(p.held.shown)})
		}
	}
	for class := range c.classes {
		for use := range c.classes[class] {
			counter := &c.classes[class][use]
			moved := counter.add(0)
			if counter.shown != 0 && (moved || all) {
				out = append(out, Sample{c.classKey(class, use), t, joules(counter.shown)})
			}
		}
	}
	return out
}

// emitPower writes the seconds of a step, the last alone where all that is known
// is a mean over several steps: of the cluster where any node is known, of
// projects zero where others are known and they have none.
func (c *cluster) emitPower(st *step, t int64, out []Sample) []Sample {
	if st == nil || !slices.ContainsFunc(st.nodes[:], func(n int) bool { return n > 0 }) {
		st = nil
	}
	for name := range c.active {
		if st == nil || st.projects[name] == nil {
			delete(c.active, name)
			out = append(out, Sample{Key{Metric: metric.ProjectPower, Cluster: c.name, Project: name}, t - StepMS + 1000, ended()})
		}
	}
	if st == nil {
		c.wattsAt = 0
		return out
	}
	key := func(name string) Key { return Key{Metric: name, Cluster: c.name} }
	most, last := 0, 0
	for i, n := range st.nodes {
		if most = max(most, n); n > 0 {
			last = i
		}
	}
	told := func(i int) bool { return st.nodes[i] > 0 && (st.fine || i == last) }
	for i := range st.nodes {
		if !told(i) {
			continue
		}
		at := t - StepMS + int64(i+1)*1000
		out = append(out, Sample{key(metric.ClusterPower), at, st.watts[i]})
		if c.wattsAt == t-StepMS {
			out = append(out, Sample{key(metric.ClusterRamp), at, (st.watts[i] - c.watts[i]) / seconds})
		}
	}
	out = append(out, Sample{key(metric.ClusterPowerNodes), t, float64(most)})
	for name, watts := range st.projects {
		c.active[name] = true
		for i := range st.nodes {
			if told(i) {
				out = append(out, Sample{Key{Metric: metric.ProjectPower, Cluster: c.name, Project: name}, t - StepMS + int64(i+1)*1000, watts[i]})
			}
		}
	}
	c.watts, c.wattsAt = st.watts, t
	if slices.Contains(st.nodes[:], 0) {
		c.wattsAt = 0
	}
	return out
}
