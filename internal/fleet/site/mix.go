package site

import (
	"fmt"
	"math"
	"sort"
)

// The mix follows what the accounting of such machines shows: most jobs are
// small and short, most energy goes to few large ones, tasks of arrays follow
// each other on the same GPU, some people hold GPUs and do nothing with them.
// Long work fills the machine; tries and arrays come at their own rate.

// Tries and arrays in an hour: of a node, and of a machine at least.
const (
	triesOfNode, triesAtLeast   = 0.12, 6.0
	arraysOfNode, arraysAtLeast = 0.005, 0.6
	mostWaiting                 = 200
)

// submit lets people submit what they submit whatever runs.
func (s *schedule) submit() {
	every := func(ofNode, atLeast float64) int64 {
		return 1 + int64(s.rng.ExpFloat64()*hourMS/max(atLeast, ofNode*float64(len(s.owner))))
	}
	for ; s.nextTry <= s.now; s.nextTry += every(triesOfNode, triesAtLeast) {
		j := s.job(s.log(0.6, 1.6, 2.0/60, 6)) // seconds to a few minutes
		j.warm = min(j.warm, j.end/4)
		j.seed, j.mask = 1, s.all()
		if s.rng.IntN(3) > 0 {
			j.mask = 1
		}
		s.wait(j)
	}
	for ; s.nextArray <= s.now; s.nextArray += every(arraysOfNode, arraysAtLeast) {
		a := s.newArray()
		for range 1 + s.rng.IntN(4) { // tasks that run at the same time
			if a.next <= a.last {
				j := s.task(a)
				j.seed, j.mask = 1, 1
				s.wait(j)
			}
		}
	}
}

// wait queues a job that fits into any gap: its mask says how many GPUs it
// wants, its seed how many nodes.
func (s *schedule) wait(j *Job) {
	if len(s.waiting) < mostWaiting {
		s.waiting = append(s.waiting, j)
	}
}

// startWaiting starts what waits, in order, as far as there is room.
func (s *schedule) startWaiting() {
	for len(s.waiting) > 0 {
		j := s.waiting[0]
		gpus := gpusIn(j.mask)
		j.mask = 0
		if !s.start(j, int(j.seed), gpus) {
			j.mask = uint8(1<<gpus - 1)
			return
		}
		s.waiting = s.waiting[1:]
	}
}

// drawJob draws a job with how many nodes it wants, and GPUs of each. Its end
// is its length until it begins.
func (s *schedule) drawJob() (j *Job, nodes, gpus int) {
	nodes, gpus = 1, s.m.gpus
	some := func() int { return 1 << s.rng.IntN(2) } // 1 or 2 GPUs
	large := max(1, len(s.owner)/16)
	switch k := s.rng.IntN(100); {
	case k < 74: // a day's work
		nodes = max(1, int(math.Pow(float64(large), s.rng.Float64())))
		if nodes == 1 && s.rng.IntN(2) == 0 {
			gpus = some()
		}
		j = s.job(s.log(80, 1.0, 6, 480))
	case k < 80: // at a terminal
		gpus = some()
		j = s.job(s.log(70, 0.6, 15, 240))
		j.rests = 700
	case k < 90: // long
		nodes = 1 + s.rng.IntN(min(4, large))
		j = s.job(s.log(700, 0.4, 300, 1440))
	default:
		nodes = max(1, large+s.rng.IntN(max(1, len(s.owner)/6)))
		j = s.job(s.log(90, 0.7, 10, 360))
	}
	return j, nodes, gpus
}

// big draws a job on up to half of the machine; its seed is how many nodes it
// waits for.
func (s *schedule) big() *Job {
	j := s.job(s.log(50, 0.5, 15, 180))
	half := len(s.owner) / 2
	j.seed = uint64(half - s.rng.IntN(half/2+1))
	j.base, j.rests = 800, 10
	return j
}

// log draws minutes around a median.
func (s *schedule) log(median, sigma, least, most float64) int64 {
	m := median * math.Exp(sigma*s.rng.NormFloat64())
	return int64(min(max(m, least), most) * minuteMS)
}

// job makes a job of a length in ms.
func (s *schedule) job(length int64) *Job {
	s.serial++
	p := s.project()
	j := &Job{
		ID: fmt.Sprint(s.serial), Project: s.nameOf(p), User: s.user(p), submit: s.now - 1000*s.rng.Int64N(3600),
		base: 350 + s.rng.Int64N(600), rests: 20, warm: 1000 * (3 + s.rng.Int64N(60)), end: length,
	}
	if s.rng.IntN(12) == 0 { // waits for its data
		j.warm = 1000 * (120 + s.rng.Int64N(600))
	}
	return j
}

func (s *schedule) newArray() *array {
	s.serial++
	return &array{
		id: fmt.Sprint(s.serial), next: 1, last: 4 + s.rng.IntN(40), project: s.project(), median: 0.5 + 6*s.rng.Float64(),
	}
}

// task is the next of an array.
func (s *schedule) task(a *array) *Job {
	j := &Job{
		ID: fmt.Sprintf("%s_%d", a.id, a.next), Project: s.nameOf(a.project), User: s.user(a.project), array: a,
		submit: s.now - 1000, base: 500 + s.rng.Int64N(300), rests: 20, warm: 1000 * (1 + s.rng.Int64N(4)),
		end: s.log(a.median, 0.4, 0.2, 40),
	}
	a.next++
	return j
}

func (s *schedule) project() int {
	at := s.rng.Float64() * s.projects[len(s.projects)-1]
	return sort.SearchFloat64s(s.projects, at)
}

func (s *schedule) nameOf(project int) string {
	return fmt.Sprintf("%s_%03d", s.m.project, 1+project)
}

func (s *schedule) user(project int) string {
	return fmt.Sprintf("u%05d", 100*project+s.rng.IntN(2+project%7))
}
