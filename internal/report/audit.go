package report

import (
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
)

// AuditSchema names the JSON of an Audit.
const AuditSchema = "wattledger.audit/v1"

// Audit is what recomputing both sides of the books showed.
type Audit struct {
	Schema   string             `json:"schema"`
	Closes   bool               `json:"closes"`
	From     string             `json:"from"`
	To       string             `json:"to"`
	Clusters []string           `json:"clusters"`
	Slots    int                `json:"slots"` // node-slots recomputed
	Metered  energy.Millijoules `json:"metered_mj,string"`
	Booked   energy.Millijoules `json:"booked_mj,string"`
	Unbooked energy.Millijoules `json:"unbooked_mj,string"`
	Findings []Finding          `json:"findings"`
}

// Finding is one place where the books do not close. Fields that a kind of
// finding does not have are empty.
type Finding struct {
	Kind       string             `json:"kind"`
	Cluster    string             `json:"cluster"`
	Node       string             `json:"node"`
	Meter      string             `json:"meter"`
	Slot       string             `json:"slot"` // its start
	Difference energy.Millijoules `json:"difference_mj,string"`
	Detail     string             `json:"detail"`
}

// NewAudit begins an audit of a span that has seen nothing yet.
func NewAudit(fromMS, toMS int64) Audit {
	return Audit{
		Schema: AuditSchema, Closes: true, From: stamp(fromMS), To: stamp(toMS),
		Clusters: []string{}, Findings: []Finding{},
	}
}

// Add puts the result of one cluster in. The audit closes only while nothing was
// found, nothing is unbooked and both sides are equal in every cluster.
func (a *Audit) Add(cluster string, r *ledger.AuditResult) {
	a.Clusters = append(a.Clusters, cluster)
	a.Slots += r.Slots
	a.Metered += r.Metered
	a.Booked += r.Booked
	a.Unbooked += r.Unbooked
	if len(r.Findings) > 0 || r.Unbooked != 0 || r.Metered != r.Booked {
		a.Closes = false
	}
	for _, f := range r.Findings {
		line := Finding{
			Kind: f.Kind, Cluster: f.Cluster, Node: f.Node, Meter: f.Meter,
			Difference: f.Difference, Detail: f.Detail,
		}
		if f.SlotMS != 0 {
			line.Slot = stamp(f.SlotMS)
		}
		a.Findings = append(a.Findings, line)
	}
}
