package site

import (
	"maps"
	"slices"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/fleet"
)

// Truth is what the books must hold of all that was acknowledged, to the
// millijoule: rows of every meter, job and project, of what nobody held, and of
// all. Ask after Run, with Options.Truth.
func (s *Site) Truth() []fleet.TruthRow {
	var out []fleet.TruthRow
	for _, n := range s.nodes {
		for i, mj := range n.metered {
			out = append(out, fleet.TruthRow{Kind: fleet.KindMeter, ID: n.name + "/" + s.m.defs[i].Name, Energy: mj})
		}
	}
	jobs, projects := map[string]energy.Millijoules{}, map[string]energy.Millijoules{}
	for _, j := range s.jobs {
		mj := energy.Millijoules(j.booked.Load())
		jobs[j.ID] += mj
		projects[j.Project] += mj
	}
	rows := func(kind string, sums map[string]energy.Millijoules) {
		for _, id := range slices.Sorted(maps.Keys(sums)) {
			out = append(out, fleet.TruthRow{Kind: kind, ID: id, Energy: sums[id]})
		}
	}
	rows(fleet.KindJob, jobs)
	rows(fleet.KindProject, projects)
	return append(out,
		fleet.TruthRow{Kind: fleet.KindIdle, Energy: energy.Millijoules(s.idle.Load())},
		fleet.TruthRow{Kind: fleet.KindTotal, Energy: energy.Millijoules(s.total.Load())})
}
