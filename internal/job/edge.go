package job

// Edge is a begin or an end, as it is told to the agent.
type Edge struct {
	Op  string `json:"op"` // begin or end
	Job Spec   `json:"job"`
	// AtNS is when it happened, Unix ns of this node's clock, where that is not
	// now: an edge that was kept in a file while no agent ran, or that was found
	// later than it happened. It is then placed by time between the readings
	// around it; what is booked already stays as it is.
	AtNS int64 `json:"at_ns,omitempty"`
	// Witness is who tells: prolog, epilog, cgroup, slurm (asked about a
	// job that was found), kubernetes, file, or "" for the command line.
	Witness string `json:"witness,omitempty"`
	// Note is what the teller could not read or believe; the agent keeps it as
	// an event.
	Note string `json:"note,omitempty"`
}

// Answer is what the agent says to it.
type Answer struct {
	OK bool `json:"ok"`
	// Bridged: the reading of the edge did not come in time; the edge is placed
	// by time between the readings around it.
	Bridged bool   `json:"bridged,omitempty"`
	Message string `json:"message,omitempty"`
	// Again: nothing was kept, and nothing is wrong with the edge: tell it again
	// later.
	Again bool `json:"again,omitempty"`
}
