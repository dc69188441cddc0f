package agent_test

import (
	"testing"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
)

// bmc reads every five seconds, a part of what the dials draw, plus watts.
type bmc struct {
	name  string
	kind  collector.Kind
	part  float64
	plus  float64
	drawn energy.Microjoules
	last  time.Time
}

func (b *bmc) reading(n *node) (collector.Reading, bool) {
	watts := b.plus
	for _, d := range n.dials {
		watts += float64(d.watts) / 1e6 * b.part
	}
	uw := energy.Microwatts(watts * 1e6)
	if !b.last.IsZero() {
		b.drawn += energy.Most(uw, n.now.Sub(b.last).Nanoseconds(), 0)
	}
	b.last = n.now
	r := collector.Reading{
		Scope: collector.Scope{Name: b.name, Class: energy.Node, Kind: b.kind, Witness: true}, At: n.now, Epoch: "e", Power: uw, HasPower: true,
	}
	if b.kind == collector.Counter {
		r.Counter = b.drawn
	}
	return r, n.now.Unix()%5 == 0
}

func TestWitnesses(t *testing.T) {
	gpus := func() []*dial {
		return []*dial{counterDial("gpu0", "", energy.GPU, 400), counterDial("gpu1", "", energy.GPU, 300)}
	}
	node := func() []*dial {
		return append([]*dial{counterDial("node", "", energy.Node, 1000)}, counterDial("gpu0", "node", energy.GPU, 400))
	}
	for _, c := range []struct {
		what  string
		dials []*dial
		b     bmc
		want  int
	}{
		{"a node sees fans and losses besides its GPUs", gpus(), bmc{name: "node-bmc", kind: collector.Power, part: 1, plus: 300}, 0},
		{"a node sees a little less: within its error", gpus(), bmc{name: "node-bmc", kind: collector.Power, part: 0.95}, 0},
		{"a node sees less than its GPUs", gpus(), bmc{name: "node-bmc", kind: collector.Power, part: 0.8}, 1},
		{"the same scope, and it sees more", gpus()[:1], bmc{name: "gpu0-second", kind: collector.Counter, part: 1, plus: 100}, 1},
		{"the same scope, and it agrees", gpus()[:1], bmc{name: "gpu0-second", kind: collector.Counter, part: 1}, 0},
		{"the node itself is booked, and it sees more", node()[:1], bmc{name: "node-bmc", kind: collector.Power, part: 1.3}, 1},
		{"nothing is booked of its scope", gpus(), bmc{name: "dram0-second", kind: collector.Power, part: 9}, 0},
	} {
		t.Run(c.what, func(t *testing.T) {
			n := newNode(t, options(), c.dials...)
			run := func(seconds int) {
				for range seconds {
					n.pass(time.Second)
					var rs []collector.Reading
					for _, d := range n.dials {
						rs = append(rs, d.reading(n.now))
					}
					if r, ok := c.b.reading(n); ok {
						rs = append(rs, r)
					}
					n.take(n.p.Observe(n.now, rs))
				}
			}
			run(400)
			n.flush()
			if got := n.events("witness"); got != c.want {
				t.Errorf("%d events, want %d", got, c.want)
			}
			c.b.part, c.b.plus = 1, 0
			run(200)
			n.flush()
			if got := n.events("witness_over"); got != c.want {
				t.Errorf("%d events after they agree again, want %d", got, c.want)
			}
		})
	}
}
