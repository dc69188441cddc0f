// Package sample turns readings into what can be booked. A Track follows one
// meter: it normalises and unwraps counters, integrates power, and gives each
// span between two readings a verdict. A Loop reads one source on time, with a
// deadline, and reports it stuck instead of starting it twice.
package sample

import (
	"fmt"
	"math/bits"
	"sort"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
)

// Limits of what is believed; all in nanoseconds.
const (
	// EdgeTolerance: a reading this near to an edge is the reading of the edge.
	EdgeTolerance = 250e6
	// SampledGap: power is sampled up to here, bridged above.
	SampledGap = 5e9
	// StuckAfter: a counter that stands still for so long while its device draws
	// power is stuck.
	StuckAfter = 5e9
	// Suspicions: so many readings in a row that do not follow from the last
	// good one, and the counter is taken to have started anew.
	Suspicions = 3
	// gateSlack is what a counter may jump beyond its limit: one update of
	// 100 ms and its resolution are well below a second of the limit.
	gateSlackNS = 1e9
	// maxPower is the gate of a scope that names no limit: 8.8 MW, beyond any
	// node, and what energy.Integral can take.
	maxPower energy.Microwatts = 1 << 43
)

// Point is an accepted reading: the odometer at a time. The rest describes the
// span that led to it from the point before.
type Point struct {
	At       int64 // Unix ns
	UJ       energy.Microjoules
	Raw      energy.Microjoules // counters: as read
	Power    energy.Microwatts
	Gap      bool // the span carries no energy: nobody knows
	Bridged  bool // the span's energy is exact, its spread in time assumed
	Activity collector.Activity
	line     energy.Line
	bends    []bend // where the draw is known to have changed, by time
}

// Odd is something about a reading that a person should know.
type Odd struct {
	AtNS    int64
	Verdict energy.Verdict
	Meter   string
	Detail  string
	Over    bool // what was odd is so no more
}

// Track follows one meter. Not safe for concurrent use.
type Track struct {
	Scope  collector.Scope
	MaxGap int64 // ns; power is not integrated over more

	source   string // epoch as the source names it
	epoch    string // that, and where our odometer began
	points   []Point
	past     *Past
	integral energy.Integral
	suspects int
	suspect  energy.Microjoules
	moved    int64 // when the counter was last seen to move
	still    int64 // since when the counter stands still, 0 if it moves
	isStuck  bool
}

// Start is where an odometer stood when it was last heard of: from the state
// of this agent, or from the ledger's ends.
type Start struct {
	Epoch string // odometer epoch
	UJ    energy.Microjoules
	Raw   energy.Microjoules
	AtNS  int64
	// Rate is what the meter drew then, 0 if it is not known. It shapes a span
	// that is bridged, and books nothing.
	Rate energy.Microwatts `json:",omitempty"`
}

// Past is what a track was before its odometer began a new epoch.
type Past struct {
	Epoch  string
	Points []Point
}

// Epoch names the odometer; "" before the first reading.
func (t *Track) Epoch() string { return t.epoch }

// Last is the newest point; ok is false before the first reading.
func (t *Track) Last() (Point, bool) {
	if len(t.points) == 0 {
		return Point{}, false
	}
	return t.points[len(t.points)-1], true
}

// Points since the last Trim, oldest first. Not to be changed.
func (t *Track) Points() []Point { return t.points }

// EpochOf names an odometer: the source's epoch and the time it began.
func EpochOf(source string, atNS int64) string { return fmt.Sprintf("%s@%d", source, atNS/1e6) }

// EpochSource is the source's part of an odometer epoch.
func EpochSource(epoch string) string {
	for i := len(epoch) - 1; i >= 0; i-- {
		if epoch[i] == '@' {
			return epoch[:i]
		}
	}
	return epoch
}

// Add takes a reading. broke is true where the odometer began a new epoch with
// it (also with the first reading): what is open must be cut there. A reading
// that is not believed leaves the track as it was and says so in odd.
func (t *Track) Add(r collector.Reading) (broke bool, odd *Odd) {
	at := r.At.UnixNano()
	last, begun := t.Last()
	if begun && at <= last.At {
		if at < last.At {
			return false, &Odd{AtNS: at, Verdict: energy.Late, Meter: t.Scope.Name, Detail: "a reading older than the last one was passed over"}
		}
		return false, nil
	}
	if t.Scope.Kind == collector.Power {
		return t.addPower(r, at, begun)
	}
	if top := t.top(); r.Counter > top {
		return false, &Odd{
			AtNS: at, Verdict: energy.Implausible, Meter: t.Scope.Name,
			Detail: fmt.Sprintf("%d uJ is no value of a counter that ends at %d uJ", r.Counter, top),
		}
	}
	if !begun || r.Epoch != t.source {
		verdict := energy.NewEpoch
		if !begun {
			verdict = energy.First
		}
		return t.restart(r, at, verdict, "")
	}
	return t.addCounter(r, at, last)
}

// top is the largest value the counter can show.
func (t *Track) top() energy.Microjoules {
	if t.Scope.Modulus > 0 {
		return min(t.Scope.Modulus, energy.MaxOdometer)
	}
	return energy.MaxOdometer
}

func (t *Track) addPower(r collector.Reading, at int64, begun bool) (bool, *Odd) {
	limit := maxPower
	if t.Scope.Limit > 0 {
		limit = min(limit, t.Scope.Limit)
	}
	if r.Power > limit {
		return false, &Odd{
			AtNS: at, Verdict: energy.Implausible, Meter: t.Scope.Name,
			Detail: fmt.Sprintf("%d uW is above the limit of %d uW", r.Power, limit),
		}
	}
	if !begun || r.Epoch != t.source {
		return t.restart(r, at, energy.First, "")
	}
	from, _ := t.integral.Last()
	p := Point{At: at, Power: r.Power, Activity: r.Activity}
	if at-from > t.MaxGap {
		t.integral.Skip(at, r.Power)
		p.UJ, p.Gap = t.integral.Odometer(), true
		t.points = append(t.points, p)
		return false, &Odd{
			AtNS: at, Verdict: energy.Late, Meter: t.Scope.Name,
			Detail: fmt.Sprintf("no power reading for %d ms: missing", (at-from)/1e6),
		}
	}
	p.Bridged = at-from > SampledGap
	p.line, _ = t.integral.Next(at, r.Power)
	p.UJ = t.integral.Odometer()
	t.points = append(t.points, p)
	return false, nil
}

func (t *Track) addCounter(r collector.Reading, at int64, last Point) (bool, *Odd) {
	d, v := energy.Delta(last.Raw, r.Counter, t.Scope.Modulus, t.most(at-last.At))
	caughtUp := false
	if v == energy.Implausible && t.moved < last.At {
		// a coarse or frozen counter books in one step what it drew while it stood
		if d2, v2 := energy.Delta(last.Raw, r.Counter, t.Scope.Modulus, t.most(at-t.moved)); v2.Energy() {
			d, v, caughtUp = d2, v2, true
		}
	}
	switch v {
	case energy.Counted, energy.Wrapped:
	case energy.Ambiguous:
		return t.restart(r, at, v, fmt.Sprintf("no reading for %d ms, longer than a wrap may take", (at-last.At)/1e6))
	default: // backwards, implausible: believe it only if it lasts
		return t.doubt(r, at, v, last)
	}
	t.suspects = 0
	p := Point{At: at, UJ: last.UJ + d, Raw: r.Counter, Power: r.Power, Activity: r.Activity, Bridged: caughtUp}
	if p.UJ > energy.MaxOdometer {
		return t.restart(r, at, energy.NewEpoch, "the odometer is full")
	}
	if d > 0 {
		t.moved = at
	}
	odd := t.watchStill(r, at, d, &p)
	t.points = append(t.points, p)
	return false, odd
}

// most is the energy the scope can have drawn in that time. A
// counter that wraps and has no limit is taken to wrap once a minute at most.
func (t *Track) most(ns int64) energy.Microjoules {
	if t.Scope.Limit == 0 {
		if t.Scope.Modulus == 0 {
			return energy.Most(maxPower, ns+gateSlackNS, t.Scope.Resolution)
		}
		return energy.Most(energy.Microwatts(t.Scope.Modulus/60), ns, 0)
	}
	return energy.Most(t.Scope.Limit, ns+gateSlackNS, t.Scope.Resolution)
}

// doubt keeps the last good reading until the strange ones follow from each
// other; then the counter has started anew.
func (t *Track) doubt(r collector.Reading, at int64, v energy.Verdict, last Point) (bool, *Odd) {
	_, follows := energy.Delta(t.suspect, r.Counter, t.Scope.Modulus, t.most(at-last.At))
	if t.suspects > 0 && follows.Energy() {
		t.suspects++
	} else {
		t.suspects = 1
	}
	t.suspect = r.Counter
	if t.suspects >= Suspicions {
		return t.restart(r, at, v, fmt.Sprintf("the counter went from %d to %d uJ and goes on from there", last.Raw, r.Counter))
	}
	return false, &Odd{
		AtNS: at, Verdict: v, Meter: t.Scope.Name,
		Detail: fmt.Sprintf("%d uJ after %d uJ was not believed", r.Counter, last.Raw),
	}
}

// watchStill marks the span of a counter that stands still while its device
// draws power: that time is missing.
func (t *Track) watchStill(r collector.Reading, at int64, d energy.Microjoules, p *Point) *Odd {
	if d > 0 || !r.HasPower || r.Power < energy.Watt {
		t.still, t.isStuck = 0, false
		return nil
	}
	if t.still == 0 {
		t.still = at
	}
	// a coarse counter may stand still for a step's worth of its power
	step := energy.Most(r.Power, at-t.still, 0)
	if at-t.still < StuckAfter || step <= t.Scope.Resolution {
		return nil
	}
	p.Gap = true
	if t.isStuck {
		return nil
	}
	t.isStuck = true
	return &Odd{
		AtNS: at, Verdict: energy.Stuck, Meter: t.Scope.Name,
		Detail: fmt.Sprintf("the counter stands at %d uJ while the device draws %d uW", r.Counter, r.Power),
	}
}

// restart begins a new odometer epoch at this reading; nothing is claimed for
// the time before.
func (t *Track) restart(r collector.Reading, at int64, v energy.Verdict, detail string) (bool, *Odd) {
	t.source = r.Epoch
	t.suspects, t.moved, t.still, t.isStuck = 0, at, 0, false
	t.integral = energy.Integral{}
	if t.past == nil && len(t.points) > 0 {
		t.past = &Past{Epoch: t.epoch, Points: t.points}
		t.points = nil
	}
	t.epoch = EpochOf(r.Epoch, at)
	p := Point{At: at, Raw: r.Counter, UJ: r.Counter, Power: r.Power, Activity: r.Activity, Gap: true}
	if t.Scope.Kind == collector.Power {
		t.integral.Add(at, r.Power)
		p.UJ, p.Raw = 0, 0
	}
	t.points = append(t.points[:0], p)
	if v == energy.First {
		return true, nil
	}
	if detail == "" {
		detail = "the source began a new epoch " + r.Epoch
	}
	return true, &Odd{AtNS: at, Verdict: v, Meter: t.Scope.Name, Detail: detail}
}

// Resume sets the track to where its odometer stood, before its first reading.
// It must be followed by a reading of the same source epoch to mean anything;
// Add starts anew otherwise.
func (t *Track) Resume(s Start, power energy.Microwatts) {
	if t.Scope.Kind == collector.Power {
		t.integral.Resume(s.UJ, s.AtNS, power)
	}
	t.source, t.epoch, t.moved = EpochSource(s.Epoch), s.Epoch, s.AtNS
	if s.Rate > 0 && t.Scope.Kind == collector.Counter {
		power = s.Rate
	}
	t.points = append(t.points[:0], Point{At: s.AtNS, UJ: s.UJ, Raw: s.Raw, Power: power})
}

// At is the odometer at a time: on the line of power, between two counter
// readings by time. exact is false where it lies between counter readings or
// outside what was read.
func (t *Track) At(ns int64) (uj energy.Microjoules, exact bool) {
	i := sort.Search(len(t.points), func(i int) bool { return t.points[i].At >= ns })
	switch {
	case len(t.points) == 0:
		return 0, false
	case i == len(t.points):
		return t.points[i-1].UJ, false
	case t.points[i].At == ns:
		return t.points[i].UJ, true
	case i == 0:
		return t.points[0].UJ, false
	}
	a, b := t.points[i-1], t.points[i]
	if t.Scope.Kind == collector.Power {
		if b.Gap {
			return a.UJ, true
		}
		return b.line.At(ns), true
	}
	from, to := b.around(a, ns)
	return from.uj + between(to.uj-from.uj, ns-from.at, to.at-from.at), false
}

// between is the part of uj that falls on ns of span ns, by time.
func between(uj energy.Microjoules, ns, span int64) energy.Microjoules {
	hi, lo := bits.Mul64(uint64(uj), uint64(ns))
	q, _ := bits.Div64(hi, lo, uint64(span))
	return energy.Microjoules(q)
}

// Leading is the point that ends the span a time lies in: it tells what that
// span was.
func (t *Track) Leading(ns int64) (Point, bool) {
	i := sort.Search(len(t.points), func(i int) bool { return t.points[i].At >= ns })
	if i == len(t.points) {
		return Point{}, false
	}
	return t.points[i], true
}

// Old is the track as it was before its odometer began anew.
func Old(t *Track, past *Past) *Track {
	return &Track{Scope: t.Scope, MaxGap: t.MaxGap, epoch: past.Epoch, points: past.Points}
}

// Near is the point nearest to a time, if it is within the tolerance.
func (t *Track) Near(ns int64) (Point, bool) {
	i := sort.Search(len(t.points), func(i int) bool { return t.points[i].At >= ns })
	best, found := Point{}, false
	for _, j := range []int{i, i - 1} {
		if j < 0 || j >= len(t.points) {
			continue
		}
		if d := abs(t.points[j].At - ns); d <= EdgeTolerance && (!found || d < abs(best.At-ns)) {
			best, found = t.points[j], true
		}
	}
	return best, found
}

// Broken gives what the track was before its odometer began anew, until Settle.
func (t *Track) Broken() *Past { return t.past }

// Settle forgets it: the window that was open then is closed.
func (t *Track) Settle() { t.past = nil }

// Trim forgets the points before ns, but for the one that begins the span ns
// lies in.
func (t *Track) Trim(ns int64) {
	i := sort.Search(len(t.points), func(i int) bool { return t.points[i].At > ns })
	if i > 1 {
		t.points = append(t.points[:0], t.points[i-1:]...)
	}
}

// Shift moves every stamp by ns: the clock was stepped, energy was not. The
// span that follows is bridged.
func (t *Track) Shift(ns int64) {
	for i := range t.points {
		t.points[i].At += ns
		t.points[i].line.From += ns
		t.points[i].line.To += ns
		for k := range t.points[i].bends {
			t.points[i].bends[k].at += ns
		}
	}
	if t.integral.Begun() {
		t.integral.Shift(ns)
	}
	t.moved += ns
	if t.still != 0 {
		t.still += ns
	}
}

func abs(n int64) int64 { return max(n, -n) }

// Renew begins a new odometer epoch at the last reading.
func (t *Track) Renew() {
	last, ok := t.Last()
	if !ok {
		return
	}
	t.epoch = EpochOf(t.source, last.At)
	last.Gap, last.UJ = true, last.Raw
	if t.Scope.Kind == collector.Power {
		t.integral = energy.Integral{}
		t.integral.Add(last.At, last.Power)
		last.UJ = 0
	}
	t.points = append(t.points[:0], last)
}
