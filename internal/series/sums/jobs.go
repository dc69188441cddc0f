package sums

import (
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/series/metric"
	"github.com/wattledger/wattledger/internal/window"
)

// jobGoneMS is how long a job without postings keeps its place.
const jobGoneMS = 600_000

// jobPart is a job's part of a step.
type jobPart struct {
	project string
	mj      int64
	joules  float64 // from 1-second power, within the step
}

// jobSum is what is known of a job that has series. Its counter begins where the
// job was first seen, not where the job began.
type jobSum struct {
	project string
	mj      counter
	last    int64 // step with its last posting
	powered bool
}

// jobEnergy adds postings of jobs that have series, or may get them.
func (s *Sums) jobEnergy(c *cluster, st *step, w *window.Window) {
	if st.jobs == nil {
		st.jobs = map[string]*jobPart{}
	}
	for i := range w.Jobs {
		var mj int64
		posted := false
		for k := range w.Postings {
			if w.Postings[k].Job == i {
				mj += int64(w.Postings[k].Energy)
				posted = true
			}
		}
		if !posted {
			continue
		}
		id := w.Jobs[i].ID
		if c.jobs[id] == nil {
			if s.jobs >= s.o.Jobs {
				s.stats.RefusedJobs++
				continue
			}
			s.jobs++
			c.jobs[id] = &jobSum{project: projectOf(w, i), mj: counter{zero: true}, last: ceil(w.EndMS)}
		}
		p := st.jobs[id]
		if p == nil {
			p = &jobPart{project: projectOf(w, i)}
			st.jobs[id] = p
		}
		p.mj += mj
	}
}

// jobPower adds a second of a node's power to the jobs of its window.
func (st *step) jobPower(c *cluster, w *window.Window, watts, total float64) {
	for i := range w.Postings {
		post := &w.Postings[i]
		if post.Job < 0 || c.jobs[w.Jobs[post.Job].ID] == nil {
			continue
		}
		if st.jobs == nil {
			st.jobs = map[string]*jobPart{}
		}
		id := w.Jobs[post.Job].ID
		p := st.jobs[id]
		if p == nil {
			p = &jobPart{project: projectOf(w, post.Job)}
			st.jobs[id] = p
		}
		p.joules += watts * (float64(post.Energy) / total)
	}
}

// emitJobs writes the jobs of a step, and ends those that are over.
func (s *Sums) emitJobs(c *cluster, st *step, t int64, out []Sample) []Sample {
	for id, j := range c.jobs {
		var p *jobPart
		if st != nil {
			p = st.jobs[id]
		}
		key := Key{Cluster: c.name, Job: id, Project: j.project}
		power, total := key, key
		power.Metric, total.Metric = metric.JobPower, metric.JobEnergy
		switch {
		case p != nil:
			if j.mj.zero {
				out = append(out, Sample{total, t - StepMS, 0})
			}
			j.mj.add(p.mj)
			j.last, j.powered = t, true
			out = append(out, Sample{power, t, p.joules / seconds}, Sample{total, t, joules(j.mj.shown)})
		case j.powered:
			j.powered = false
			out = append(out, Sample{power, t, ended()})
		case t-j.last > jobGoneMS:
			out = append(out, Sample{total, t, ended()})
			delete(c.jobs, id)
			s.jobs--
		case t%idleStepMS == 0 && !j.mj.zero:
			out = append(out, Sample{total, t, joules(j.mj.shown)})
		}
	}
	return out
}

func (c *counter) add(mj int64) (moved bool) {
	c.mj += mj
	before := c.shown
	c.shown = max(c.shown, c.mj)
	moved = c.zero || c.shown != before
	c.zero = false
	return moved
}

// joules as they are shown: whole millijoules, to the precision of a float.
func joules(mj int64) float64 { return float64(energy.Millijoules(mj).Joules()) }
