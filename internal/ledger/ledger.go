// Package ledger says what the books are: booked odometer ranges on one side,
// postings on the other, committed together or not at all. Implementations live
// in sub-packages and pass the shared tests of ledgertest.
//
// Exactly-once rests on one mechanism: a window is booked only where each of its
// ranges begins at the end of what is booked of that odometer, or where all of
// them together are exactly a hole. Sequence numbers play no part.
package ledger

import (
	"context"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/window"
)

// Unassigned is the project of a job whose project is not (yet) known.
const Unassigned = "(unassigned)"

// Node names a node within its cluster.
type Node struct{ Cluster, Name string }

// End is how far an odometer is booked (or reserved by a hole).
type End struct {
	Meter, Epoch string
	UJ           energy.Microjoules
	Raw          energy.Microjoules // raw counter there; 0 for integrated meters
	Estimated    bool
	AtMS         int64 // stamp of that reading
	Modulus      energy.Microjoules
	Root         bool
}

// OpenRequest is how an agent introduces itself, once per process.
type OpenRequest struct {
	Node Node
	// Incarnation the agent had, 0 if its state was absent.
	Incarnation uint64
	// Nonce was drawn when the state was made: a second request with the same
	// nonce gets the same answer.
	Nonce string
	// Session names the process.
	Session string
	NowMS   int64
}

// Opening is the answer: where the books of this node stand.
type Opening struct {
	Incarnation uint64
	Ends        []End
	Jobs        []window.Job // open at the end of the last booked window
	Holdings    []window.Holding
	LastMS      int64 // end of the last booked window, 0 if none
}

// Status is what became of a window.
type Status uint8

const (
	// Booked now.
	Booked Status = iota
	// Duplicate: the same window was booked before; nothing was done.
	Duplicate
	// Quarantined: it joins, but may not be booked (see Reason). It is kept, its
	// ranges are a hole, and the next window joins after it.
	Quarantined
	// Conflict: its range is booked with other content (two nodes with one name,
	// a cloned disk). Refused, counted, alarmed; nothing was done.
	Conflict
	// Apart: it neither joins nor fits a hole. Refused; Ends says where the books
	// stand, the agent resends from there or bridges.
	Apart
	// Fenced: another incarnation or session took over.
	Fenced
	// Reopen: this ledger does not know the session (it was restored from a
	// backup, say); the agent opens again.
	Reopen
)

// String is the status as metrics and logs spell it.
func (s Status) String() string {
	words := []string{"booked", "duplicate", "quarantined", "conflict", "apart", "fenced", "reopen"}
	if int(s) < len(words) {
		return words[s]
	}
	return "invalid"
}

// Submission is one window offered for booking.
type Submission struct {
	Node        Node
	Incarnation uint64
	Session     string
	Window      *window.Window
	Hash        uint64 // of the window's encoded energy content (telemetry excluded)
	Raw         []byte // encoded, kept if it is quarantined
	NowMS       int64  // when it arrived
}

// Result answers one submission.
type Result struct {
	Status Status
	Reason string
	Ends   []End // with Apart
	// Projects, with Booked: what each of the window's jobs was posted to, which
	// the ledger may know better than the window; nil for a window without jobs.
	Projects []string
}

// Amounts are the sums of one line: energy by class and use, by grade, device
// time. For a job only Busy and Held occur; for nobody one of the others.
type Amounts struct {
	Energy   [energy.NumClasses][energy.NumUses]energy.Millijoules
	Grades   [energy.NumGrades]energy.Millijoules
	DeviceMS [energy.NumClasses][energy.NumUses]int64
}

// Add adds o to a.
func (a *Amounts) Add(o *Amounts) {
	for c := range a.Energy {
		for u := range a.Energy[c] {
			a.Energy[c][u] += o.Energy[c][u]
			a.DeviceMS[c][u] += o.DeviceMS[c][u]
		}
	}
	for g := range a.Grades {
		a.Grades[g] += o.Grades[g]
	}
}

// Post adds one posting.
func (a *Amounts) Post(p window.Posting) {
	a.Energy[p.Class][p.Use] += p.Energy
	a.Grades[p.Grade] += p.Energy
	a.DeviceMS[p.Class][p.Use] += p.DeviceMS
}

// Total is the energy over all classes and uses.
func (a *Amounts) Total() energy.Millijoules {
	var sum energy.Millijoules
	for c := range a.Energy {
		for _, e := range a.Energy[c] {
			sum += e
		}
	}
	return sum
}

// Class and Use are marginal sums.
func (a *Amounts) Class(c energy.Class) energy.Millijoules {
	var sum energy.Millijoules
	for _, e := range a.Energy[c] {
		sum += e
	}
	return sum
}

// Use is the energy of one use over all classes.
func (a *Amounts) Use(u energy.Use) energy.Millijoules {
	var sum energy.Millijoules
	for c := range a.Energy {
		sum += a.Energy[c][u]
	}
	return sum
}

// Project is one project's line of a period.
type Project struct {
	Name    string
	Amounts Amounts
	Jobs    int // with energy posted in the period
}

// Books are the sums of one cluster over a period of whole slots.
type Books struct {
	Cluster      string
	FromMS, ToMS int64
	Metered      energy.Millijoules // root ranges, holes included, from odometers
	Unbooked     energy.Millijoules // holes and quarantine among them
	Nobody       Amounts            // idle, system, unknown
	Projects     []Project          // by name
	MissingMS    int64              // device time known and not covered by any use
	Policies     []string
}

// JobBooks are the books of one run of a job.
type JobBooks struct {
	Cluster string
	// Job has the scheduler's start and end where facts say them; else the earliest
	// start on any node and the latest end, 0 while it runs anywhere.
	Job     window.Job
	Amounts Amounts
	Nodes   []NodeAmounts
}

// NodeAmounts is one node's part of a job.
type NodeAmounts struct {
	Node    string
	Amounts Amounts
}

// JobFilter selects jobs; empty fields select all.
type JobFilter struct {
	Cluster, ID, Project, User string
	FromMS, ToMS               int64 // that overlap the span; 0 for open
	Limit                      int   // 0: 1000
}

// Finding is one place where the books do not close.
type Finding struct {
	Kind       string // difference, hole, chain, quarantine, rollup, device_time
	Cluster    string
	Node       string
	Meter      string
	SlotMS     int64
	Difference energy.Millijoules
	Detail     string
}

// AuditResult is what an audit saw.
type AuditResult struct {
	Slots    int // node-slots recomputed
	Metered  energy.Millijoules
	Booked   energy.Millijoules
	Unbooked energy.Millijoules
	Findings []Finding
}

// QuarantineEntry is a window that could not be booked.
type QuarantineEntry struct {
	ID      int64
	Node    Node
	AtMS    int64 // when it arrived
	StartMS int64
	EndMS   int64
	Reason  string
	Energy  energy.Millijoules // of its root ranges
	Settled bool               // re-posted since
}

// NodeStatus is what is known of a node.
type NodeStatus struct {
	Node        Node
	Incarnation uint64
	LastMS      int64 // end of the last booked window
	Left        bool  // it said that it leaves the books, and is not missed
	Fenced      int   // how often an agent was fenced
	Conflicts   int
}

// EventFilter selects events; empty fields select all.
type EventFilter struct {
	Cluster, Node, Kind string
	FromMS, ToMS        int64 // [from, to); 0 for open
	Limit               int   // 0: 1000
}

// EventRow is an event that came with a window, or that intake itself saw.
type EventRow struct {
	Node  Node
	Event window.Event
}

// ProjectTotal is what was ever posted to a project of a cluster; nobody's
// energy has the empty project name.
type ProjectTotal struct {
	Cluster, Project string
	Amounts          Amounts
}

// Ledger keeps the books. Methods may be called at once from any goroutine.
type Ledger interface {
	// Open serialises with Book of the same node, books nothing, and fences the
	// node's earlier incarnation and session. ok is false if the caller itself is
	// fenced.
	Open(ctx context.Context, r OpenRequest) (o Opening, ok bool, err error)
	// Book decides on each submission in order and makes all of them durable in
	// one transaction. After an error nothing was booked and the agent resends.
	Book(ctx context.Context, s []Submission) ([]Result, error)
	// Catalogue gives a catalogue that was stored by Book, for windows that name
	// it by id only. ok is false if it is not known.
	Catalogue(ctx context.Context, n Node, id uint64) (c *window.Catalogue, ok bool, err error)

	Clusters(ctx context.Context) ([]string, error)
	Books(ctx context.Context, cluster string, fromMS, toMS, nowMS int64) (Books, error)
	Job(ctx context.Context, cluster, id string) ([]JobBooks, error)
	Jobs(ctx context.Context, f JobFilter) ([]JobBooks, error) // without Nodes
	Totals(ctx context.Context) ([]ProjectTotal, error)
	Nodes(ctx context.Context) ([]NodeStatus, error)
	Events(ctx context.Context, f EventFilter) ([]EventRow, error) // newest first
	// Assign says which project a job belongs to; sums move with it.
	Assign(ctx context.Context, cluster string, job window.Job, project string) error
	// Describe completes and corrects runs of jobs with what the workload manager
	// says of them; a run that no node told of is noted. A run goes to the account
	// it names, unless Assign has said otherwise. It never touches energy. Saying
	// the same again changes nothing.
	Describe(ctx context.Context, facts []JobFacts) error
	// Facts gives what is known of the runs of a job id, oldest first.
	Facts(ctx context.Context, cluster, id string) ([]JobFacts, error)
	// Unmetered gives the runs that overlap the span [fromMS, toMS) and ran on
	// nodes whose books hold nothing of them; Nodes are those nodes alone.
	Unmetered(ctx context.Context, cluster string, fromMS, toMS int64) ([]JobFacts, error)
	// PutProjects keeps what is known of projects besides their energy; fields
	// that are empty leave what was known.
	PutProjects(ctx context.Context, facts []ProjectFacts) error
	ProjectFacts(ctx context.Context, cluster string) ([]ProjectFacts, error) // by name
	// Mark keeps how far a reader of other systems has come, Unix ms, with the
	// books that its facts are in. LastMark is 0 for a name that has none.
	Mark(ctx context.Context, name string, atMS int64) error
	LastMark(ctx context.Context, name string) (int64, error)
	// Audit recomputes both sides from the finest grain there is; toMS 0 is the
	// end of the books.
	Audit(ctx context.Context, cluster string, fromMS, toMS int64) (AuditResult, error)
	Quarantine(ctx context.Context) ([]QuarantineEntry, error)
	// Repost books a quarantined window into its hole: as it is, if it passes the
	// check now, else (asUnknown) its ranges as unknown, bridged.
	Repost(ctx context.Context, id int64, asUnknown bool) (Result, error)
	Close() error
}
