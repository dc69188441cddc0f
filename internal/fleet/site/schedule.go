package site

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"sync/atomic"
)

const (
	maxGPUs  = 8
	minuteMS = 60_000
	hourMS   = 60 * minuteMS
	dayMS    = 24 * hourMS
)

// Job is one run of a job on some nodes. Times are Unix ms.
type Job struct {
	ID, Project, User  string
	Restart            uint32
	submit, start, end int64
	seed               uint64
	base, rests, warm  int64 // load, thousandths at rest, ms until it begins to work
	nodes              []int32
	mask               uint8 // GPUs on each node
	array              *array
	over               bool

	booked atomic.Int64 // millijoules that were acknowledged
}

// array is a job array of which tasks are left.
type array struct {
	id         string
	next, last int
	project    int
	median     float64 // of a task's minutes
}

// edgeKind says what happens on a node.
type edgeKind uint8

const (
	begins edgeKind = iota
	ends
	fails
)

// edge is something that happens on a node at an instant.
type edge struct {
	ms    int64
	job   *Job
	fault *fault
	kind  edgeKind
}

// event is something the schedule has to look at.
type event struct {
	ms    int64
	seq   int64 // in the order in which they were thought of
	job   *Job  // ends
	freed *Job  // its nodes are ready again
	back  int32 // this node is; -1
	plan  bool  // faults of the next hour
	fault *fault
}

type events []event

func (h events) Len() int { return len(h) }
func (h events) Less(i, k int) bool {
	return h[i].ms < h[k].ms || h[i].ms == h[k].ms && h[i].seq < h[k].seq
}
func (h events) Swap(i, k int) { h[i], h[k] = h[k], h[i] }
func (h *events) Push(x any)   { *h = append(*h, x.(event)) }
func (h *events) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

// schedule decides who runs where, as a workload manager with a queue that is
// seldom empty. It is driven in steps and remembers only what runs.
type schedule struct {
	m    *machine
	rng  *rand.Rand
	seed uint64
	now  int64
	heap events
	seq  int64

	pools              [maxGPUs + 1]pool // nodes by free GPUs
	owner              [][maxGPUs]*Job
	down               []bool
	used               int // GPUs
	gpus               int
	draining           *Job    // waits for its nodes
	reserved           []int32 // that it has
	nextBig            int64
	waiting            []*Job // tries, tasks, and what a node's death has put back
	nextTry, nextArray int64
	serial             int
	projects           []float64 // cumulated shares
	edges              [][]edge  // of the round, by node
	begun              func(*Job)
	faults             *faultPlan
}

// pool is a set of nodes with an order that does not depend on a map.
type pool struct{ nodes []int32 }

func newSchedule(m *machine, nodes int, seed uint64, start int64, faults *faultPlan) *schedule {
	s := &schedule{
		m: m, seed: seed, now: start, rng: rand.New(rand.NewPCG(seed, 0x6a6f6273)), gpus: nodes * m.gpus,
		owner: make([][maxGPUs]*Job, nodes), down: make([]bool, nodes), serial: 400_000 + int(seed%1000)*10_000, faults: faults,
	}
	for i := range nodes {
		s.pools[m.gpus].nodes = append(s.pools[m.gpus].nodes, int32(i))
	}
	sum := 0.0
	for k := range max(5, min(nodes/20, 300)) {
		sum += 1 / math.Pow(float64(k+1), 1.15)
		s.projects = append(s.projects, sum)
	}
	s.nextBig = start + minuteMS*(6+s.rng.Int64N(20))
	s.nextTry, s.nextArray = start, start
	s.add(event{ms: start + 137, back: -1})
	s.add(event{ms: faults.from, back: -1, plan: true})
	return s
}

func (s *schedule) add(e event) {
	s.seq++
	e.seq = s.seq
	heap.Push(&s.heap, e)
}

// round gives what happens in [now, to), by node.
func (s *schedule) round(to int64) [][]edge {
	s.edges = make([][]edge, len(s.owner))
	for len(s.heap) > 0 && s.heap[0].ms < to {
		e := heap.Pop(&s.heap).(event)
		s.now = e.ms
		s.handle(e)
	}
	s.now = to
	return s.edges
}

func (s *schedule) handle(e event) {
	switch {
	case e.plan:
		s.plan()
		return
	case e.fault != nil:
		s.strike(e.fault)
	case e.job != nil:
		s.end(e.job)
	case e.freed != nil:
		for _, n := range e.freed.nodes {
			s.release(n, e.freed)
		}
	case e.back >= 0:
		s.down[e.back] = false
		s.put(e.back)
	default:
		s.submit()
		s.add(event{ms: odd(s.now + 400 + s.rng.Int64N(4000)), back: -1})
	}
	s.fill()
}

// odd moves an instant off the whole seconds, where power changes and windows
// are cut.
func odd(ms int64) int64 {
	if ms%1000 == 0 {
		return ms + 501
	}
	return ms
}

// target is how many GPUs are asked for: less at night and at weekends.
func (s *schedule) target() int {
	day := float64(s.now%dayMS) / dayMS
	share := 0.90 + 0.07*math.Sin(2*math.Pi*(day-0.33))
	if weekday := (s.now/dayMS + 4) % 7; weekday == 0 || weekday == 6 {
		share -= 0.08
	}
	return int(share * float64(s.gpus))
}

// fill starts jobs until nothing fits or enough run.
func (s *schedule) fill() {
	if s.draining == nil && s.now >= s.nextBig && len(s.owner) >= 4 {
		s.draining = s.big()
		s.nextBig = s.now + 2*hourMS + s.rng.Int64N(14*hourMS)
	}
	if s.draining != nil {
		s.drain()
	}
	s.startWaiting()
	for most := 2 + len(s.owner)/50; most > 0 && s.used < s.target(); most-- {
		if !s.start(s.drawJob()) {
			most -= most / 4
		}
	}
}

// drain keeps free nodes for a large job until it has enough.
func (s *schedule) drain() {
	free := &s.pools[s.m.gpus]
	for len(free.nodes) > 0 && len(s.reserved) < int(s.draining.seed) {
		s.reserved = append(s.reserved, s.take(free, len(free.nodes)-1))
	}
	if len(s.reserved) < int(s.draining.seed) {
		return
	}
	j := s.draining
	j.nodes, j.mask = s.reserved, s.all()
	s.draining, s.reserved = nil, nil
	s.begin(j)
}

func (s *schedule) all() uint8 { return uint8(1<<s.m.gpus - 1) }

// start begins a job if there is room; it is forgotten otherwise.
func (s *schedule) start(j *Job, nodes, gpus int) bool {
	free := &s.pools[s.m.gpus]
	if gpus == s.m.gpus {
		if len(free.nodes) < nodes {
			return false
		}
		for range nodes {
			j.nodes = append(j.nodes, s.take(free, s.rng.IntN(len(free.nodes))))
		}
		j.mask = s.all()
		s.begin(j)
		return true
	}
	for have := gpus; have <= s.m.gpus; have++ {
		p := &s.pools[have]
		if len(p.nodes) == 0 {
			continue
		}
		n := s.take(p, s.rng.IntN(len(p.nodes)))
		j.nodes = []int32{n}
		for g := 0; gpus > 0; g++ {
			if s.owner[n][g] == nil {
				j.mask |= 1 << g
				gpus--
			}
		}
		s.begin(j)
		s.put(n)
		return true
	}
	return false
}

// take removes the k-th node of a pool.
func (s *schedule) take(p *pool, k int) int32 {
	n, last := p.nodes[k], len(p.nodes)-1
	p.nodes[k] = p.nodes[last]
	p.nodes = p.nodes[:last]
	return n
}

// put adds a node to the pool it belongs to.
func (s *schedule) put(n int32) {
	if s.down[n] {
		return
	}
	free := s.free(n)
	if free > 0 {
		s.pools[free].nodes = append(s.pools[free].nodes, n)
	}
}

func (s *schedule) free(n int32) int {
	free := 0
	for g := range s.m.gpus {
		if s.owner[n][g] == nil {
			free++
		}
	}
	return free
}

// unpool takes a node out of its pool, if it is in one.
func (s *schedule) unpool(n int32) {
	p := &s.pools[s.free(n)]
	for k, have := range p.nodes {
		if have == n {
			s.take(p, k)
			return
		}
	}
}

func (s *schedule) begin(j *Job) {
	j.start = s.now
	j.end = odd(s.now + j.end) // was its length
	j.seed = mix(s.seed ^ uint64(s.seq)<<20 ^ uint64(j.start))
	for _, n := range j.nodes {
		for g := range s.m.gpus {
			if j.mask&(1<<g) != 0 {
				s.owner[n][g] = j
				s.used++
			}
		}
		s.edges[n] = append(s.edges[n], edge{ms: s.now, kind: begins, job: j})
	}
	s.add(event{ms: j.end, job: j, back: -1})
	if s.begun != nil {
		s.begun(j)
	}
}

// end tells the nodes; a task of an array is followed at once by the next on
// the same GPUs, others leave their nodes to the epilogue for some seconds.
func (s *schedule) end(j *Job) {
	if j.over {
		return
	}
	j.over, j.end = true, s.now
	for _, n := range j.nodes {
		s.edges[n] = append(s.edges[n], edge{ms: s.now, kind: ends, job: j})
	}
	if a := j.array; a != nil && a.next <= a.last {
		next := s.task(a)
		next.nodes, next.mask = j.nodes, j.mask
		for range j.nodes {
			s.used -= gpusIn(j.mask)
		}
		s.begin(next)
		return
	}
	s.add(event{ms: odd(s.now + 1000 + s.rng.Int64N(20_000)), freed: j, back: -1})
}

// release gives a node's GPUs back.
func (s *schedule) release(n int32, j *Job) {
	if !s.down[n] {
		s.unpool(n)
	}
	for g := range s.m.gpus {
		if s.owner[n][g] == j {
			s.owner[n][g] = nil
			s.used--
		}
	}
	s.put(n)
}

// fail ends what runs on a node and takes it out until another time.
func (s *schedule) fail(n int32, until int64) {
	if s.down[n] {
		return
	}
	for k, r := range s.reserved {
		if r == n {
			s.reserved = append(s.reserved[:k], s.reserved[k+1:]...)
			break
		}
	}
	s.unpool(n)
	s.down[n] = true
	for g := range s.m.gpus {
		if j := s.owner[n][g]; j != nil && !j.over {
			j.array = nil
			s.end(j)
			s.requeue(j)
		}
	}
	s.add(event{ms: until, back: n})
}

// requeue puts some of the jobs that a node took with it back into the queue.
func (s *schedule) requeue(j *Job) {
	if s.rng.IntN(3) == 0 {
		return
	}
	s.wait(&Job{
		ID: j.ID, Project: j.Project, User: j.User, Restart: j.Restart + 1, submit: s.now, seed: uint64(len(j.nodes)),
		base: j.base, rests: j.rests, warm: j.warm, end: s.log(20, 0.5, 2, 120), mask: uint8(1<<gpusIn(j.mask) - 1),
	})
}

func gpusIn(mask uint8) int {
	n := 0
	for ; mask != 0; mask &= mask - 1 {
		n++
	}
	return n
}
