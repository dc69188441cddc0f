package agent

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/window"
)

// powerSeries is the power of a meter second by second.
const powerSeries = "power_watts"

type gaugeKey struct{ meter, name string }

// gauge is a value over a window, for looking at.
type gauge struct {
	sum, max, last float64
	n              int
}

// Gauge notes a value of the agent itself, shown as one of the node's.
func (p *Pipeline) Gauge(name string, v float64) {
	p.gauge(collector.Reading{Gauges: []collector.Gauge{{Name: name, Value: v}}})
}

func (p *Pipeline) gauge(r collector.Reading) {
	for _, g := range r.Gauges {
		if math.IsNaN(g.Value) || math.IsInf(g.Value, 0) {
			continue
		}
		k := gaugeKey{r.Scope.Name, g.Name}
		v := p.gauges[k]
		if v.n == 0 || g.Value > v.max {
			v.max = g.Value
		}
		v.sum, v.last, v.n = v.sum+g.Value, g.Value, v.n+1
		p.gauges[k] = v
	}
}

// telemetry adds the power of node and GPUs at 1 s, and the gauges. Nothing of
// it is booked.
func (p *Pipeline) telemetry(w *window.Window) {
	if w.EndMS-w.StartMS <= 2*p.opt.Window.Milliseconds() {
		p.power(w)
	}
	keys := make([]gaugeKey, 0, len(p.gauges))
	for k := range p.gauges {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b gaugeKey) int {
		return cmp.Or(cmp.Compare(a.meter, b.meter), cmp.Compare(a.name, b.name))
	})
	w.Telemetry = slices.Grow(w.Telemetry, len(keys))
	means := make([]int64, len(keys)) // each series has one of them
	for i, k := range keys {
		g := p.gauges[k]
		means[i] = milli(g.sum / float64(g.n))
		w.Telemetry = append(w.Telemetry, window.Series{
			Meter: p.meterOf(k.meter), Name: k.name, StartMS: w.StartMS, StepMS: w.EndMS - w.StartMS,
			Milli: means[i : i+1 : i+1], Max: milli(g.max), Last: milli(g.last),
		})
	}
	clear(p.gauges)
}

// meterOf gives the booked meter that a gauge is about: its own, or that of the
// scope a witness looks at (gpu0 for gpu0-amdgpu); -1 is the node.
func (p *Pipeline) meterOf(name string) int {
	if i := p.tree.Find(name); i >= 0 {
		return i
	}
	scope, _, _ := strings.Cut(name, "-")
	return p.tree.Find(scope)
}

func (p *Pipeline) power(w *window.Window) {
	for i, n := range p.tree.Nodes {
		if n.Class != energy.GPU && n.Class != energy.Node {
			continue
		}
		s := window.Series{Meter: i, Name: powerSeries, StartMS: w.StartMS, StepMS: 1000, Milli: make([]int64, 0, max(0, w.EndMS-w.StartMS)/1000)}
		for ms := w.StartMS; ms+1000 <= w.EndMS; ms += 1000 {
			a, _ := p.tracks[i].At(ms * 1e6)
			b, _ := p.tracks[i].At((ms + 1000) * 1e6)
			if b < a {
				b = a
			}
			// uJ in a second are uW; a tenth of a watt is enough to look at
			s.Milli = append(s.Milli, int64((b-a+50_000)/100_000)*100)
		}
		if len(s.Milli) > 0 {
			w.Telemetry = append(w.Telemetry, s)
		}
	}
}

func milli(v float64) int64 { return int64(math.Round(min(max(v*1000, -9e18), 9e18))) }
