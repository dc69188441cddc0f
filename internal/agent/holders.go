package agent

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/attribution"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/sample"
)

// Begin starts a job at a time; the caller takes a reading at that edge.
func (p *Pipeline) Begin(s job.Spec, at time.Time) error {
	was := p.jobs.Runs(s.ID)
	if err := p.jobs.Begin(s, at.UnixNano()); err != nil {
		return err
	}
	for _, a := range p.jobs.Runs(s.ID) { // runs that this begin says are over
		if !a.Open() && !slices.ContainsFunc(was, func(w job.Allocation) bool { return w.From == a.From && !w.Open() }) {
			p.untold = append(p.untold, a)
		}
	}
	p.sure(s)
	return nil
}

// End ends a job at a time.
func (p *Pipeline) End(id string, at time.Time) (job.Allocation, error) {
	a, err := p.jobs.End(id, at.UnixNano())
	if err == nil {
		p.sure(a.Spec)
		p.untold = append(p.untold, a)
	}
	return a, err
}

// endedSince tells whether an end at a time can be that of the run that is open:
// one that lies before its begin was an earlier run's.
func (p *Pipeline) endedSince(id string, at time.Time) error {
	if a, ok := p.jobs.Running(id); ok && at.UnixNano() < a.From {
		return fmt.Errorf("end of job %s at %s, before its run began: %w", id, at.UTC().Format(time.RFC3339Nano), job.ErrNotRunning)
	}
	return nil
}

// sure: somebody who knows spoke about these devices.
func (p *Pipeline) sure(s job.Spec) {
	if s.WholeNode() {
		clear(p.doubt)
	}
	for _, g := range s.GPUs {
		delete(p.doubt, g.Device)
	}
}

// jobTimes are the begins and ends of jobs within the last span of a track, if
// that is long enough to be bent at them.
func (p *Pipeline) jobTimes(t *sample.Track) []int64 {
	pts := t.Points()
	n := len(pts)
	if n < 2 || pts[n-1].At-pts[n-2].At <= sample.SampledGap {
		return nil
	}
	from, to := pts[n-2].At, pts[n-1].At
	return jobEdges(p.jobs.During(from, to), from, to)
}

// noteRest keeps the least that a GPU was seen to draw at rest.
func (p *Pipeline) noteRest(r collector.Reading) {
	if !p.opt.Utilisation || r.Scope.Class != energy.GPU || r.Activity != collector.Resting || !r.HasPower {
		return
	}
	if least, ok := p.atRest[r.Scope.Name]; !ok || r.Power < least {
		p.atRest[r.Scope.Name] = r.Power
	}
}

// Measured takes what each job was seen to do on a shared GPU; nil: nothing is
// known any more.
func (p *Pipeline) Measured(gpu string, uses []attribution.Use) {
	if uses == nil {
		delete(p.uses, gpu)
		return
	}
	p.uses[gpu] = uses
}

// shared adds to a piece of a GPU what is known of who kept it busy.
func (p *Pipeline) shared(pc *attribution.Piece, meterName string, ns int64) {
	i := p.tree.Find(meterName)
	if !p.opt.Utilisation || i < 0 {
		return
	}
	uses := p.uses[p.tree.GPU(i)]
	rest, known := p.atRest[meterName]
	if uses == nil || !known { // what it draws at rest is shared by weights: it must be known
		return
	}
	pc.Uses, pc.Rest = uses, energy.Most(rest, ns, 0)
}

// MeasuredAlone forgets what was measured of all other GPUs: one that nobody
// tells of any more (its driver does not answer) is not shared by what once was.
func (p *Pipeline) MeasuredAlone(gpus []string) {
	maps.DeleteFunc(p.uses, func(gpu string, _ []attribution.Use) bool { return !slices.Contains(gpus, gpu) })
}

func (p *Pipeline) policy() string {
	if p.opt.Utilisation {
		return attribution.UtilisationPolicy
	}
	return attribution.Policy
}
