package agent

import (
	"strings"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/sample"
)

// crossCheck holds a counter against the power of its scope.
func (p *Pipeline) crossCheck(r collector.Reading, t *sample.Track) {
	last, ok := t.Last()
	if !ok || !r.HasPower {
		return
	}
	c := p.cross[r.Scope.Name]
	if c == nil {
		c = &sample.Cross{}
		p.cross[r.Scope.Name] = c
	}
	if odd := c.Add(r, t.Epoch(), last.UJ); odd != nil {
		kind := "counter_power"
		if odd.Over {
			kind = "counter_power_over"
		}
		p.event(odd.AtNS/1e6, kind, odd.Meter, odd.Detail)
	}
}

// lendActivity gives a meter that cannot tell whether its device worked what a
// witness of the same device saw: gpu0 of the blade's counters learns it from
// gpu0-amdgpu.
func lendActivity(readings []collector.Reading) {
	for _, w := range readings {
		name, _, second := strings.Cut(w.Scope.Name, "-")
		if !second || !w.Scope.Witness || w.Activity == collector.NotKnown {
			continue
		}
		for i := range readings {
			if readings[i].Scope.Name == name && readings[i].Activity == collector.NotKnown {
				readings[i].Activity = w.Activity
			}
		}
	}
}
