package sums

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/wattledger/wattledger/internal/energy"
)

// stateVersion is what State writes and Recover reads.
const stateVersion = 1

// state is what is known of what was emitted, as it is written. Energies are
// whole millijoules.
type state struct {
	Version  int            `json:"version"`
	Clusters []clusterState `json:"clusters"`
}

type clusterState struct {
	Cluster   string                                        `json:"cluster"`
	EmittedMS int64                                         `json:"emitted_ms"`
	Projects  []projectState                                `json:"projects"`
	Classes   [energy.NumClasses][energy.NumUses]classState `json:"classes"`
	Slots     map[int64]*part                               `json:"slots"`
	Jobs      []jobState                                    `json:"jobs,omitempty"`
}

type classState struct {
	MJ    int64 `json:"mj"`
	Shown int64 `json:"shown"`
}

type projectState struct {
	Project string     `json:"project"`
	All     classState `json:"all"`
	Held    classState `json:"held"`
	// Offset is what the ledger holds beyond the counter: energy that was moved
	// between projects after it was posted.
	Offset amount `json:"offset"`
}

type jobState struct {
	Job     string     `json:"job"`
	Project string     `json:"project"`
	MJ      classState `json:"mj"`
	LastMS  int64      `json:"last_ms"`
}

func (c *counter) state() classState { return classState{c.mj, c.shown} }

func (s classState) counter() counter { return counter{mj: s.MJ, shown: s.Shown} }

// State writes what was emitted, for Recover.
func (s *Sums) State() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := state{Version: stateVersion}
	for _, c := range s.clusters {
		if !c.begun {
			continue
		}
		cs := clusterState{Cluster: c.name, EmittedMS: c.at, Slots: c.seen}
		for _, name := range c.order {
			p := c.projects[name]
			if p.all.zero && p.all.mj == 0 {
				continue
			}
			cs.Projects = append(cs.Projects, projectState{name, p.all.state(), p.held.state(), c.offsets[name]})
		}
		for class := range c.classes {
			for use := range c.classes[class] {
				cs.Classes[class][use] = c.classes[class][use].state()
			}
		}
		for id, j := range c.jobs {
			if !j.mj.zero {
				cs.Jobs = append(cs.Jobs, jobState{id, j.project, j.mj.state(), j.last})
			}
		}
		st.Clusters = append(st.Clusters, cs)
	}
	slices.SortFunc(st.Clusters, func(a, b clusterState) int { return strings.Compare(a.Cluster, b.Cluster) })
	b, err := json.Marshal(st)
	if err != nil {
		return nil, fmt.Errorf("BUG: cannot encode the state of the sums: %w", err)
	}
	return b, nil
}

// StateError says that a state cannot be read.
type StateError struct{ Err error }

// Error says why.
func (e *StateError) Error() string { return "cannot read the state of the sums: " + e.Err.Error() }

// Unwrap gives what is wrong.
func (e *StateError) Unwrap() error { return e.Err }

// load takes a state up; its error is a StateError.
func (s *Sums) load(b []byte) error {
	var st state
	if err := json.Unmarshal(b, &st); err != nil {
		return &StateError{err}
	}
	if st.Version != stateVersion {
		return &StateError{fmt.Errorf("its version is %d; this program reads %d", st.Version, stateVersion)}
	}
	for i := range st.Clusters {
		cs := &st.Clusters[i]
		c := s.cluster(cs.Cluster)
		if c == nil {
			continue
		}
		c.at, c.begun = cs.EmittedMS, true
		for _, p := range cs.Projects {
			if q := c.project(p.Project, s.o.Projects); q != nil {
				q.all, q.held = p.All.counter(), p.Held.counter()
				c.offsets[p.Project] = p.Offset
			}
		}
		for class := range cs.Classes {
			for use := range cs.Classes[class] {
				c.classes[class][use] = cs.Classes[class][use].counter()
			}
		}
		for slot, p := range cs.Slots {
			if p != nil && p.Projects != nil {
				c.seen[slot] = p
			}
		}
		for _, j := range cs.Jobs {
			if s.jobs < s.o.Jobs {
				c.jobs[j.Job] = &jobSum{project: j.Project, mj: j.MJ.counter(), last: j.LastMS}
				s.jobs++
			}
		}
	}
	return nil
}
