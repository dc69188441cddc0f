// Package attribution splits the energy of a window over those who held its
// devices. It is pure: the same input gives the same postings, and they add up
// to the millijoule.
//
// The policy is called "allocation/v1". A device allocated to a job is the
// job's, working or not (held is what it burnt at rest). A device shared by
// weights is split by them; weights that exceed the device are scaled down,
// what they leave is idle. Shared classes (cpu, memory, other, node) follow the
// CPUs a job holds, or its part of the GPUs where it names no CPUs; memory
// follows the memory it holds where that is said. A job that names neither GPUs
// nor CPUs owns the node.
//
// The policy "utilisation/v1" differs where several jobs share a GPU and their
// use of it was measured: what the device draws at rest is split by the weights,
// what it draws above that by the measured use.
package attribution

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/meter"
	"github.com/wattledger/wattledger/internal/window"
)

// Policy and UtilisationPolicy are the names reports print.
const (
	Policy            = "allocation/v1"
	UtilisationPolicy = "utilisation/v1"
)

// Piece is a part of one meter's window in which nothing changed: cut at every
// reading and at every job edge.
type Piece struct {
	// Hold is an instant that tells who held the device, Unix ns.
	Hold int64
	// FromMS and ToMS are the device time of the piece, within the window.
	FromMS, ToMS int64
	UJ           energy.Microjoules
	Missing      bool // no energy is known for this time
	Unsure       bool // whoever held nothing here may have held something: unknown, not idle
	Grade        energy.Grade
	Activity     collector.Activity
	// Rest is the part of UJ that the device draws doing nothing, and Uses is
	// who kept it busy above that; no Uses: it was not measured.
	Rest energy.Microjoules
	Uses []Use
}

// Use is the part of a device's time that a job kept it busy, in millionths.
type Use struct {
	Job  string // id; a node holds one run of it
	Part uint32
}

// Input of one window.
type Input struct {
	Tree        *meter.Tree
	Energy      []energy.Millijoules // per meter of the tree, as its range books it
	Pieces      [][]Piece            // per meter of the tree
	Allocations []job.Allocation
	CPUs        uint32 // of the node, 0 if not known
	MemoryBytes uint64 // of the node, 0 if not known
}

// owner is who a part goes to.
type owner struct {
	alloc int // index, -1 for nobody
	use   energy.Use
	grade energy.Grade
}

// part is a share of a piece or of a meter's window.
type part struct {
	owner
	uj uint64
	ms int64
}

// Output of one window. Posting.Job is an index into the allocations.
type Output struct {
	Postings []window.Posting
	Absences []window.Absence
}

type key struct {
	owner
	class energy.Class
}

// Attribute splits every meter's energy.
func Attribute(in Input) Output {
	a := attributor{in: in, sums: map[key]window.Posting{}, order: make([]int, len(in.Allocations))}
	for n := range a.order {
		a.order[n] = n
	}
	slices.SortFunc(a.order, a.compareJobs)
	for i := range in.Tree.Nodes {
		if a.in.Tree.GPU(i) != "" {
			a.gpus++
		}
	}
	for i := range in.Tree.Nodes {
		if in.Tree.Nodes[i].Leaf() {
			a.leaf(i)
		} else {
			a.rest(i)
		}
	}
	return a.output()
}

type attributor struct {
	in     Input
	sums   map[key]window.Posting
	order  []int // allocations in the fixed order of ties
	gpus   uint64
	absent [energy.NumClasses]int64
	claims map[string]uint64 // of each GPU, at the instant claimed
	at     int64
}

// leaf posts a device in full.
func (a *attributor) leaf(i int) {
	class := a.in.Tree.Nodes[i].Class
	parts := a.parts(i, class, a.in.Tree.GPU(i))
	for n, mj := range share(a.in.Energy[i], parts) {
		a.post(parts[n].owner, class, mj, parts[n].ms)
	}
	for _, p := range a.in.Pieces[i] {
		if p.Missing {
			a.absent[class] += p.ToMS - p.FromMS
		}
	}
}

// rest posts parent minus children: the parent's own energy by the shares of
// its class, less each child's by the same shares, so that whoever held the
// node while a child burnt is not charged twice. Its grade is the worst of its
// inputs.
func (a *attributor) rest(i int) {
	n := a.in.Tree.Nodes[i]
	class := n.PostClass()
	grade := a.worst(i)
	for _, c := range n.Children {
		grade = grade.Worse(a.worst(c))
	}
	device := a.in.Tree.GPU(i)
	sub := func(m int, sign energy.Millijoules) {
		parts := a.parts(m, class, device)
		for k, mj := range share(a.in.Energy[m], parts) {
			o := parts[k].owner
			o.grade = grade
			if o.use == energy.Held {
				o.use = energy.Busy // the rest has no activity of its own
			}
			a.post(o, class, sign*mj, 0)
		}
	}
	sub(i, 1)
	for _, c := range n.Children {
		sub(c, -1)
	}
}

func (a *attributor) worst(i int) energy.Grade {
	g := energy.Counter
	for _, p := range a.in.Pieces[i] {
		if !p.Missing {
			g = g.Worse(p.Grade)
		}
	}
	return g
}

// share splits a meter's millijoules over its parts by their microjoules.
func share(total energy.Millijoules, parts []part) []energy.Millijoules {
	weights := make([]uint64, len(parts))
	for i, p := range parts {
		weights[i] = p.uj
	}
	out, ok := energy.Split(nil, total, weights)
	if !ok { // a range without pieces of energy: cannot be, and must not be lost
		out[len(out)-1] = total
	}
	return out
}

// parts gathers the pieces of a meter by owner, in a fixed order. The last part
// is always nobody's unknown, so that share has a place for what cannot be.
func (a *attributor) parts(i int, class energy.Class, device string) []part {
	sums := map[owner]part{}
	var order []owner
	add := func(o owner, uj uint64, ms int64) {
		p, seen := sums[o]
		if !seen {
			order = append(order, o)
		}
		p.owner, p.uj, p.ms = o, p.uj+uj, p.ms+ms
		sums[o] = p
	}
	var weights []uint64
	var holders []int
	pieces := a.in.Pieces[i]
	for n := 0; n < len(pieces); {
		p, ms := pieces[n], pieces[n].ToMS-pieces[n].FromMS
		if n == 0 || p.Hold != pieces[n-1].Hold {
			holders, weights = a.holders(p.Hold, class, device, holders[:0], weights[:0])
		}
		for n++; n < len(pieces) && alike(&p, &pieces[n]); n++ { // a second after the other, in which nothing changed
			p.UJ, ms = p.UJ+pieces[n].UJ, ms+pieces[n].ToMS-pieces[n].FromMS
		}
		if p.Missing {
			continue
		}
		p.Unsure = p.Unsure || a.unplaced(p.Hold, class)
		ujs := a.split(p, holders, weights)
		mss, _ := energy.Split(nil, energy.Millijoules(ms), weights)
		for k, h := range holders {
			if weights[k] > 0 {
				add(ownerOf(h, p), uint64(ujs[k]), int64(mss[k]))
			}
		}
	}
	slices.SortFunc(order, a.compare)
	out := make([]part, 0, len(order)+1)
	for _, o := range order {
		out = append(out, sums[o])
	}
	return append(out, part{owner: owner{alloc: -1, use: energy.Unknown, grade: energy.Bridged}})
}

// alike tells whether a piece is split as the one before it.
func alike(a, b *Piece) bool {
	return a.Hold == b.Hold && a.Missing == b.Missing && a.Unsure == b.Unsure && a.Grade == b.Grade && a.Activity == b.Activity &&
		len(a.Uses) == 0 && len(b.Uses) == 0
}

// split gives each holder its part of a piece's energy: by weight, or, where it
// was measured, what lies above the device's rest by use.
func (a *attributor) split(p Piece, holders []int, weights []uint64) []energy.Millijoules {
	byWeight := func(uj energy.Microjoules) []energy.Millijoules {
		parts, _ := energy.Split(nil, energy.Millijoules(uj), weights)
		return parts
	}
	if len(p.Uses) == 0 || len(holders) < 3 { // one job and nobody: nothing to share
		return byWeight(p.UJ)
	}
	uses := make([]uint64, len(holders))
	for k, h := range holders {
		for _, u := range p.Uses {
			if h >= 0 && u.Job == a.in.Allocations[h].ID {
				uses[k] = uint64(u.Part)
			}
		}
	}
	above, ok := energy.Split(nil, energy.Millijoules(p.UJ-min(p.Rest, p.UJ)), uses)
	if !ok { // none of the holders did anything
		return byWeight(p.UJ)
	}
	parts := byWeight(min(p.Rest, p.UJ))
	for k := range parts {
		parts[k] += above[k]
	}
	return parts
}

// unplaced tells whether a job holds something then that no meter answers to:
// what nobody is known to hold may be its.
func (a *attributor) unplaced(at int64, class energy.Class) bool {
	for i := range a.in.Allocations {
		al := &a.in.Allocations[i]
		if len(al.Unplaced) > 0 && (class == energy.GPU || al.CPUs == 0) && at >= al.From && (al.To == 0 || at < al.To) {
			return true
		}
	}
	return false
}

func ownerOf(alloc int, p Piece) owner {
	o := owner{alloc: alloc, grade: p.Grade}
	switch {
	case alloc >= 0 && p.Activity == collector.Resting:
		o.use = energy.Held
	case alloc >= 0:
		o.use = energy.Busy
	case p.Unsure:
		o.use = energy.Unknown
	default:
		o.use = energy.Idle
	}
	return o
}

// holders gives who held a device at an instant, with weights in millionths;
// the last is nobody with what is left.
func (a *attributor) holders(at int64, class energy.Class, device string, who []int, weights []uint64) ([]int, []uint64) {
	var sum uint64
	for _, n := range a.order {
		al := &a.in.Allocations[n]
		if at < al.From || (al.To != 0 && at >= al.To) {
			continue
		}
		w := a.weight(al, class, device, at)
		if w == 0 {
			continue
		}
		who, weights, sum = append(who, n), append(weights, w), sum+w
	}
	left := uint64(0)
	if sum < job.Whole {
		left = job.Whole - sum
	}
	return append(who, -1), append(weights, left)
}

// weight is the part of a device, or of a shared class, that a job holds.
func (a *attributor) weight(al *job.Allocation, class energy.Class, device string, at int64) uint64 {
	if al.WholeNode() {
		return job.Whole
	}
	if class == energy.GPU && device != "" {
		return gpuWeight(al, device)
	}
	if class == energy.Memory && al.MemoryBytes > 0 && a.in.MemoryBytes > 0 {
		return millionths(min(al.MemoryBytes, a.in.MemoryBytes), a.in.MemoryBytes)
	}
	if class != energy.GPU && al.CPUs > 0 && a.in.CPUs > 0 {
		return min(uint64(al.CPUs)*job.Whole/uint64(a.in.CPUs), job.Whole)
	}
	var held uint64
	claims := a.claimed(at)
	for _, g := range al.GPUs { // a GPU that is claimed more than once is shared
		held += uint64(g.Weight) * job.Whole / max(claims[g.Device], job.Whole)
	}
	return min(held/max(a.gpus, 1), job.Whole)
}

// claimed sums the claims on each GPU at an instant.
func (a *attributor) claimed(at int64) map[string]uint64 {
	if a.claims != nil && a.at == at {
		return a.claims
	}
	a.at, a.claims = at, map[string]uint64{}
	for i := range a.in.Allocations {
		al := &a.in.Allocations[i]
		if at < al.From || (al.To != 0 && at >= al.To) {
			continue
		}
		for _, g := range al.GPUs {
			a.claims[g.Device] += uint64(g.Weight)
		}
	}
	return a.claims
}

// millionths of the whole; part <= whole.
func millionths(part, whole uint64) uint64 {
	hi, lo := bits.Mul64(part, job.Whole)
	q, _ := bits.Div64(hi, lo, whole)
	return q
}

func gpuWeight(al *job.Allocation, device string) uint64 {
	for _, g := range al.GPUs {
		if g.Device == device {
			return uint64(g.Weight)
		}
	}
	return 0
}

func (a *attributor) post(o owner, class energy.Class, mj energy.Millijoules, ms int64) {
	k := key{o, class}
	p := a.sums[k]
	p.Job, p.Class, p.Use, p.Grade = o.alloc, class, o.use, o.grade
	p.Energy += mj
	p.DeviceMS += ms
	a.sums[k] = p
}

func (a *attributor) output() Output {
	var out Output
	for _, p := range a.sums {
		if p.Energy != 0 || p.DeviceMS != 0 {
			out.Postings = append(out.Postings, p)
		}
	}
	slices.SortFunc(out.Postings, func(x, y window.Posting) int {
		return cmp.Or(cmp.Compare(x.Class, y.Class),
			a.compare(owner{x.Job, x.Use, x.Grade}, owner{y.Job, y.Use, y.Grade}))
	})
	for c, ms := range a.absent {
		if ms > 0 {
			out.Absences = append(out.Absences, window.Absence{Class: energy.Class(c), DeviceMS: ms})
		}
	}
	return out
}

// compare is the fixed order of ties: by job id, restart and begin, nobody
// last; then use and grade. It does not depend on how events arrived.
func (a *attributor) compare(x, y owner) int {
	return cmp.Or(a.compareJobs(x.alloc, y.alloc), cmp.Compare(x.use, y.use), cmp.Compare(x.grade, y.grade))
}

func (a *attributor) compareJobs(x, y int) int {
	switch {
	case x == y:
		return 0
	case x < 0:
		return 1
	case y < 0:
		return -1
	}
	j, k := a.in.Allocations[x], a.in.Allocations[y]
	return cmp.Or(cmp.Compare(j.ID, k.ID), cmp.Compare(j.Restart, k.Restart), cmp.Compare(j.From, k.From))
}
