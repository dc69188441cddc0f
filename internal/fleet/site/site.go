package site

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
)

// Options describes a site and how it is sent. Those up to Faults decide what
// is sent, the others how.
type Options struct {
	Machine string // one of Machines
	Nodes   int
	Seed    uint64
	// Start is where windows of 10 s in their own time begin; a multiple of 10 s.
	Start time.Time
	// For is how long it goes on from there, whole 10 s; 0 for ever.
	For time.Duration
	// History before Start is sent first, as fast as it goes, in windows of 15
	// minutes that hold energy alone, as an agent's spool merges them.
	History time.Duration
	// Backlog before Start (and after History) is sent likewise, in full.
	Backlog time.Duration
	Faults  []string // see ParseFaults
	// FewGauges: ten series of a GPU instead of the thirty that agents send.
	FewGauges bool

	Cluster string
	URL     string // of the aggregator; "" to make windows and send none
	Token   string
	// Speed is how many times faster than it happens; 0 for as fast as it goes.
	Speed float64
	// Connections that nodes share; 0 for one per node, up to 4096.
	Connections int
	// Batch is how many windows of a node a request carries where Speed is 0;
	// 0 for 30.
	Batch int
	// Final: nodes leave the books at the end.
	Final bool
	// Truth: what is booked is accounted for.
	Truth bool
	Now   func() time.Time
}

// Site is a machine under load.
type Site struct {
	o       Options
	m       *machine
	sched   *schedule
	digest  string
	skews   []int64
	nodes   []*node
	devices [256][]window.Share // what a job holds, by its GPUs

	first, detail, start, end int64 // ms: of all, of windows of 10 s, of its own time
	began                     time.Time
	throttles                 map[string]string // names of gauges

	jobs        []*Job
	idle, total atomic.Int64 // mJ that were acknowledged

	delivered   atomic.Int64 // ms up to which all is
	windows     atomic.Int64
	repeated    atomic.Int64
	retries     atomic.Int64
	bytes       atomic.Int64
	undelivered atomic.Int64
	acks        histogram
	mu          sync.Mutex
	err         error
}

// New checks the options and sets the machine up.
func New(o Options) (*Site, error) {
	m, err := machineOf(o.Machine)
	if err != nil {
		return nil, err
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.Connections == 0 {
		o.Connections = 4096
	}
	o.Connections = min(o.Connections, o.Nodes)
	if o.Batch == 0 {
		o.Batch = 30
	}
	s := &Site{o: o, m: m, start: o.Start.UnixMilli(), throttles: map[string]string{}}
	s.detail = s.start - o.Backlog.Milliseconds()
	s.first = s.detail - o.History.Milliseconds()
	s.delivered.Store(s.first)
	if o.For > 0 {
		s.end = s.start + o.For.Milliseconds()
	}
	for _, r := range throttleReasons() {
		s.throttles[r] = "throttle_" + r + "_seconds_total"
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "site/1 %t %s %d %d %d %d %d %q", o.FewGauges, o.Machine, o.Nodes, o.Seed, s.first, s.detail, s.start, o.Faults))
	s.digest = hex.EncodeToString(sum[:])[:12]
	plan := newFaultPlan(o.Faults, o.Seed, s.detail)
	s.skews = plan.skews(o.Nodes)
	s.sched = newSchedule(m, o.Nodes, o.Seed, s.first, plan)
	if o.Truth {
		s.sched.begun = func(j *Job) { s.jobs = append(s.jobs, j) }
	}
	s.hold()
	for i := range o.Nodes {
		s.nodes = append(s.nodes, newNode(s, int32(i)))
	}
	s.began = o.Now() // Start is now, at Speed
	return s, nil
}

func (o *Options) check() error {
	switch {
	case o.Nodes < 1 || o.Nodes > 100_000:
		return fmt.Errorf("cannot simulate %d nodes: from 1 to 100000", o.Nodes)
	case o.Start.UnixMilli()%stepMS != 0 || o.Start.Unix() <= 0:
		return fmt.Errorf("cannot simulate from %v on: it is not a multiple of 10 s after 1970", o.Start)
	case o.For < 0 || o.For%(10*time.Second) != 0:
		return fmt.Errorf("cannot simulate for %v: it is not a multiple of 10 s", o.For)
	case o.History < 0 || o.History%(10*time.Second) != 0 || o.Backlog < 0 || o.Backlog%(10*time.Second) != 0:
		return fmt.Errorf("cannot begin %v and %v before the start: they are not multiples of 10 s", o.History, o.Backlog)
	case o.Speed < 0 || o.Speed > 1e6:
		return fmt.Errorf("cannot simulate %g times as fast as it happens: up to 1000000, or 0 for as fast as it goes", o.Speed)
	case o.Connections < 0 || o.Batch < 0 || o.Batch > 90:
		return errors.New("cannot simulate: there are 1 or more connections, and 1 to 90 windows in a request")
	case o.Start.Add(-o.History-o.Backlog).Unix() <= 0:
		return errors.New("cannot simulate the time before 1970")
	}
	for _, f := range o.Faults {
		if _, err := ParseFaults(f); err != nil {
			return err
		}
	}
	return wire.CheckName("cluster", o.Cluster)
}

// hold makes what jobs hold.
func (s *Site) hold() {
	all := s.sched.all()
	for mask := 1; mask <= int(all); mask++ {
		if uint8(mask) == all {
			s.devices[mask] = []window.Share{{Device: "node", Weight: job.Whole}}
			continue
		}
		for g := range s.m.gpus {
			if mask&(1<<g) != 0 {
				s.devices[mask] = append(s.devices[mask], window.Share{Device: fmt.Sprint("gpu", g), Weight: job.Whole})
			}
		}
	}
}

// Progress is how far a site is.
type Progress struct {
	Nodes     int
	Delivered time.Time     // all before is in the books
	Live      bool          // history and backlog are
	Lag       time.Duration // behind its own pace
	Windows   int64         // booked
	Repeated  int64         // sent again, and recognised as such
	Retries   int64         // requests that had to be sent again
	Bytes     int64         // of requests
	P50, P99  time.Duration // of acknowledgements
	// Undelivered windows were left when it was stopped.
	Undelivered int64
}

// Progress may be asked at any time after Run has begun.
func (s *Site) Progress() Progress {
	p := Progress{
		Nodes: s.o.Nodes, Delivered: time.UnixMilli(s.delivered.Load()).UTC(), Windows: s.windows.Load(),
		Repeated: s.repeated.Load(), Retries: s.retries.Load(), Bytes: s.bytes.Load(), Undelivered: s.undelivered.Load(),
		Live: s.delivered.Load() >= s.start, P50: s.acks.quantile(0.5), P99: s.acks.quantile(0.99),
	}
	if at := s.delivered.Load(); s.o.Speed > 0 && at >= s.start {
		// Of the round that is delivered now, the last window is due a spread later.
		p.Lag = max(0, s.o.Now().Sub(s.dueAt(at+stepMS).Add(s.spread())))
	}
	return p
}

// ForgetAcks lets the times of acknowledgements begin anew: a first round makes
// what later ones find.
func (s *Site) ForgetAcks() { s.acks.forget() }

// Start is the first instant of all, history included.
func (s *Site) Start() time.Time { return time.UnixMilli(s.first).UTC() }

func (s *Site) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

func (s *Site) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func throttleReasons() [11]string {
	return [...]string{
		"app_clocks", "base_clocks", "board_limit", "hardware_thermal", "low_utilization", "power", "power_brake",
		"reliability", "software_thermal", "sync_boost", "thermal",
	}
}

// account notes what an acknowledged window booked.
func (s *Site) account(n *node, b *built) {
	s.windows.Add(1)
	for _, l := range b.lines {
		if l.job == nil {
			s.idle.Add(int64(l.mj))
		} else {
			l.job.booked.Add(int64(l.mj))
		}
		s.total.Add(int64(l.mj))
	}
	if b.meters != nil && n.metered == nil {
		n.metered = make([]energy.Millijoules, len(s.m.defs))
	}
	for i, mj := range b.meters {
		n.metered[i] += mj
	}
}
