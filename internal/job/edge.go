package job

// Edge is a begin or an end, as it is told to the agent.
type Edge struct {
	Op  string `json:"op"` // begin or end
	Job Spec   `json:"job"`
}

// Answer is what the agent says to it.
type Answer struct {
	OK bool `json:"ok"`
	// Bridged: the reading of the edge did not come in time; the edge is placed
	// by time between the readings around it.
	Bridged bool   `json:"bridged,omitempty"`
	Message string `json:"message,omitempty"`
}
