package agent

import "github.com/wattledger/wattledger/internal/job"

// Running gives the jobs that the agent holds before Run: of its state, and
// those it was told of by Take.
func (a *Agent) Running() []job.Allocation { return a.state.Jobs.Open() }
