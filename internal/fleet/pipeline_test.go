package fleet

import (
	"maps"
	"math"
	"testing"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/job"
)

// plain is the plainest accountant that could work: it sees only the steps of a
// feed, subtracts readings, and gives each difference to those who run between
// them. It has no windows, books in floats of joules and knows nothing of the
// simulation's insides.
type plain struct {
	booked map[string]float64
	cpus   int
	// careful: after a value that cannot be, begin anew.
	careful bool
}

type plainNode struct {
	gpus    int
	last    map[string]collector.Reading
	running []job.Spec
	sum     float64 // of the remainder
	below   time.Time
	demoted bool
}

func (p *plain) feed(t *testing.T, f Feed, gpus int) {
	n := &plainNode{gpus: gpus, last: map[string]collector.Reading{}}
	var lastAt time.Time
	for _, s := range steps(t, f) {
		got := map[string]float64{}
		scopes := map[string]collector.Scope{}
		for _, r := range s.Readings {
			scopes[r.Scope.Name] = r.Scope
			got[r.Scope.Name] = p.difference(n, r)
		}
		parent := ""
		for name, j := range got {
			if !n.demoted || scopes[name].Parent != "" {
				p.booked["meter,"+f.Node()+"/"+name] += j
			}
			if scopes[name].Parent != "" {
				parent = scopes[name].Parent
			}
		}
		rest := 0.0
		if parent != "" {
			rest = got[parent]
			for name, j := range got {
				if name != parent {
					rest -= j
				}
			}
			n.sum += rest
			if n.sum >= 0 {
				n.below = s.At
			}
			delete(got, parent)
		}
		for name, j := range got {
			p.split(n, scopes[name], j)
		}
		if !n.demoted {
			p.split(n, collector.Scope{Class: energy.Other}, rest)
		}
		if edge := s.At.Truncate(10 * time.Second); parent != "" && edge.After(lastAt) && edge.Sub(n.below) >= 5*time.Minute {
			n.demoted = true
		}
		lastAt = s.At
		for _, id := range s.Ends {
			n.end(t, id)
		}
		n.running = append(n.running, s.Begins...)
	}
}

func (n *plainNode) end(t *testing.T, id string) {
	for i, r := range n.running {
		if r.ID == id {
			n.running = append(n.running[:i:i], n.running[i+1:]...)
			return
		}
	}
	t.Errorf("job %s ends and was not running", id)
}

func (p *plain) difference(n *plainNode, r collector.Reading) float64 {
	name := r.Scope.Name
	prev, ok := n.last[name]
	if ok && !r.At.After(prev.At) {
		return 0
	}
	if !ok {
		if n.below.IsZero() {
			n.below = r.At.Add(time.Second)
		}
		n.last[name] = r
		return 0
	}
	dt := r.At.Sub(prev.At).Seconds()
	limit := float64(r.Scope.Limit) / 1e6
	var j float64
	wrong := false
	switch {
	case r.Scope.Kind == collector.Power:
		j = float64(prev.Power+r.Power) / 2e6 * dt
		wrong = r.Power > r.Scope.Limit
		if dt > 30 {
			j = 0
		}
	case r.Epoch != prev.Epoch:
	case r.Counter < prev.Counter && r.Scope.Modulus == 0:
		wrong = true
	default:
		d := r.Counter - prev.Counter
		if r.Counter < prev.Counter {
			d += r.Scope.Modulus
		}
		j = float64(d) / 1e6
		wrong = j > limit*(dt+0.1)+float64(r.Scope.Resolution)/1e6
	}
	if wrong {
		if p.careful {
			delete(n.last, name)
		}
		return 0
	}
	n.last[name] = r
	return j
}

func (p *plain) split(n *plainNode, s collector.Scope, j float64) {
	if j == 0 {
		return
	}
	shares := make([]float64, len(n.running))
	sum := 0.0
	for i, r := range n.running {
		switch {
		case r.WholeNode():
			shares[i] = 1
		case s.Class == energy.GPU:
			for _, g := range r.GPUs {
				if g.Device == s.Name {
					shares[i] += float64(g.Weight) / 1e6
				}
			}
		case r.CPUs > 0:
			shares[i] = float64(r.CPUs) / float64(p.cpus)
		default:
			for _, g := range r.GPUs {
				shares[i] += float64(g.Weight) / 1e6 / float64(n.gpus)
			}
		}
		sum += shares[i]
	}
	scale := 1.0
	if sum > 1 {
		scale = 1 / sum
	}
	for i, r := range n.running {
		p.booked["job,"+r.ID] += j * shares[i] * scale
		p.booked["project,"+r.Project] += j * shares[i] * scale
	}
	p.booked["idle,"] += j * (1 - sum*scale)
	p.booked["total,"] += j
}

func (p *plain) books() Booked {
	out := Booked{}
	for key, j := range p.booked {
		out[key] = energy.Millijoules(math.Round(j * 1000))
	}
	return out
}

func account(t *testing.T, s *Simulation, careful bool) Booked {
	t.Helper()
	p := &plain{booked: map[string]float64{}, cpus: s.o.NodeCPUs, careful: careful}
	for _, f := range s.Feeds() {
		l, ok := s.Layout(f.Node())
		if !ok {
			t.Fatalf("no layout of %s", f.Node())
		}
		p.feed(t, f, l.gpus())
	}
	return p.books()
}

// TestTruthIsWhatThePlainAccountantBooks: two ways to the same numbers, one from
// the power, one from the readings.
func TestTruthIsWhatThePlainAccountantBooks(t *testing.T) {
	f := func(o SimOptions) {
		t.Helper()
		s := simulate(t, o)
		rows := s.Truth()
		for _, d := range CompareTruth(rows, account(t, s, false), false) {
			t.Errorf("%+v: %v", o, d)
		}
		careful := account(t, s, true)
		for _, d := range CompareTruth(rows, careful, true) {
			t.Errorf("careful, %+v: %v", o, d)
		}
		if n := len(CompareTruth(rows, careful, false)); (n > 0) == o.NoFaults {
			t.Errorf("careful, %+v: %d differences without doubt", o, n)
		}
	}
	at := time.Date(2026, 10, 10, 12, 0, 0, 0, time.UTC)
	f(SimOptions{Seed: 1, Nodes: 8, Start: at, For: 10 * time.Minute})
	f(SimOptions{Seed: 2, Nodes: 5, Start: at.Add(7 * time.Second), For: 23 * time.Minute, NodeCPUs: 64})
	f(SimOptions{Seed: 3, Nodes: 4, Start: at, For: 20 * time.Minute, NoFaults: true})
}

// TestComparisonFindsWhatIsWrong: each of these is a defect of a peer.
func TestComparisonFindsWhatIsWrong(t *testing.T) {
	s := simulate(t, SimOptions{Seed: 9, Nodes: 4, Start: time.Unix(1_700_000_000, 0), For: 15 * time.Minute})
	rows, good := s.Truth(), account(t, s, false)
	f := func(change func(Booked), want int) {
		t.Helper()
		b := maps.Clone(good)
		change(b)
		if got := CompareTruth(rows, b, false); len(got) != want {
			t.Errorf("differences: %v; want %d", got, want)
		}
	}
	one := rows[0]
	for _, r := range rows {
		if r.Kind == KindJob {
			one = r
			break
		}
	}
	key := TruthKey(KindJob, one.ID)
	f(func(Booked) {}, 0)
	f(func(b Booked) { b[key] = one.Energy + one.Tolerance }, 0)
	f(func(b Booked) { b[key] = one.Energy + one.Tolerance + 1 }, 1)
	f(func(b Booked) { b[key] = one.Energy - one.Tolerance - 1 }, 1)
	f(func(b Booked) { delete(b, key) }, 1)
	f(func(b Booked) { b["job,none"] = 1 }, 1)
	f(func(b Booked) { b["job,none"] = 0 }, 0)
	f(func(b Booked) { b[TruthKey(KindIdle, "")] = 0 }, 1)
	f(func(b Booked) {
		maps.DeleteFunc(b, func(k string, _ energy.Millijoules) bool { return kindOf(k) == KindMeter })
	}, 0)
	if got := CompareTruth(rows, Booked{}, false); len(got) != 0 {
		t.Errorf("nothing was booked of any kind: %v", got)
	}
}
