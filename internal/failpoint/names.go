package failpoint

// Env is the environment variable that arms one point: "name", or "name:N" for
// its N-th passage. It is read only in builds with the tag failpoint.
const Env = "WATTLEDGER_FAILPOINT"

// The points of the agent.
const (
	// AgentAfterReading: the meters are read, nothing is attributed yet.
	AgentAfterReading = "agent-after-reading"
	// JobBeforeState: a job's begin or end is known, but not in the state.
	JobBeforeState = "job-before-state"
	// JobAfterState: a job's begin or end is in the state, its caller not answered.
	JobAfterState = "job-after-state"
	// AgentBeforeSpool: a window is closed, but not handed to the spool.
	AgentBeforeSpool = "agent-before-spool"
	// SpoolTorn: half of a record is written.
	SpoolTorn = "spool-torn"
	// SpoolBeforeSync: a record is written, but not on stable storage.
	SpoolBeforeSync = "spool-before-sync"
	// SpoolAfterSync: a record is durable, the caller does not know it yet.
	SpoolAfterSync = "spool-after-sync"
	// SpoolBeforeRename: a merged segment is complete under its temporary name.
	SpoolBeforeRename = "spool-before-rename"
	// SpoolAfterRename: a merged segment is in place, what it replaces still there.
	SpoolAfterRename = "spool-after-rename"
	// StateBeforeRename: new agent state is complete under its temporary name.
	StateBeforeRename = "state-before-rename"
	// StateAfterRename: new agent state is in place.
	StateAfterRename = "state-after-rename"
	// SenderBeforeSend: records are claimed, no byte has left.
	SenderBeforeSend = "sender-before-send"
	// SenderAfterAck: the aggregator has booked, the spool does not know it yet.
	SenderAfterAck = "sender-after-ack"
	// SpoolBeforeCommit: a commit is asked for, its mark is not written.
	SpoolBeforeCommit = "spool-before-commit"
	// SpoolAfterCommit: the mark is written, committed segments still there.
	SpoolAfterCommit = "spool-after-commit"
)

// The points of the aggregator.
const (
	// IntakeAfterDecode: a request is decoded, but not with the ledger.
	IntakeAfterDecode = "intake-after-decode"
	// LedgerInTransaction: ranges and postings are written, the transaction is open.
	LedgerInTransaction = "ledger-in-transaction"
	// LedgerBeforeCommit: all is written, the transaction is about to commit.
	LedgerBeforeCommit = "ledger-before-commit"
	// LedgerAfterCommit: the transaction is committed, but not acknowledged.
	LedgerAfterCommit = "ledger-after-commit"
)

// AgentNames returns the points of the agent in the order of its pipeline.
func AgentNames() []string {
	return []string{
		AgentAfterReading, JobBeforeState, JobAfterState,
		AgentBeforeSpool, SpoolTorn, SpoolBeforeSync, SpoolAfterSync,
		SpoolBeforeRename, SpoolAfterRename,
		StateBeforeRename, StateAfterRename,
		SenderBeforeSend, SenderAfterAck,
		SpoolBeforeCommit, SpoolAfterCommit,
	}
}

// AggregatorNames returns the points of the aggregator in the order of its
// pipeline.
func AggregatorNames() []string {
	return []string{IntakeAfterDecode, LedgerInTransaction, LedgerBeforeCommit, LedgerAfterCommit}
}

// Names returns all points, the agent's first, in pipeline order.
func Names() []string {
	return append(AgentNames(), AggregatorNames()...)
}
