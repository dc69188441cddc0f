package sqlite

import (
	"fmt"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

// covered keeps account of known device time less what uses cover.
func (a *auditor) covered(slot int64, s *auditSlot) {
	b := a.balance[s.node]
	if b == nil {
		b = &[energy.NumClasses]int64{}
		a.balance[s.node] = b
		for _, p := range a.known[s.node] {
			for c, k := range p.counts {
				b[c] += k * (min(p.to, a.p.to*window.SlotMS) - max(p.from, a.p.from*window.SlotMS))
			}
		}
	}
	from, to := slot*window.SlotMS, (slot+1)*window.SlotMS
	for c := range b {
		covered := s.booked.time(c)
		b[c] -= covered
		lack := covered
		for _, p := range a.known[s.node] {
			lack -= p.counts[c] * max(0, min(p.to, to)-max(p.from, from))
		}
		if lack > a.worst[s.node].lack {
			a.worst[s.node] = worstSlot{slot, lack}
		}
	}
}

// checkPresence: no node can be covered for longer than it is known.
func (a *auditor) checkPresence() {
	for id, b := range a.balance {
		for c, rest := range b {
			if rest < 0 {
				a.find(ledger.Finding{
					Kind: "device_time", Node: a.nodes[id], SlotMS: a.worst[id].slot * window.SlotMS,
					Detail: fmt.Sprintf("class %s: %d ms more are covered than devices are known", energy.Class(c), -rest),
				})
			}
		}
	}
}
