// Package dashboards makes the Grafana dashboards of wattledger. They are
// written in Go so that a misspelt panel does not compile and a misspelt metric
// fails a test; json/ holds what comes out, for Grafana's provisioning (see
// provisioning/ and Write). Dashboards over a fleet read the sums that the
// aggregator makes at intake and the series that its rules record, never a
// million raw series, and they show: what is charged is in the report.
//
// docs/dashboards.md says for people what each is for.
package dashboards

import (
	"encoding/json"
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// Dashboards name each other by these.
const (
	uidFleet    = "wattledger-fleet"
	uidNode     = "wattledger-node"
	uidGPUs     = "wattledger-gpus"
	uidJobs     = "wattledger-jobs"
	uidProjects = "wattledger-projects"
	uidBooks    = "wattledger-books"
	uidPower    = "wattledger-power"
	uidItself   = "wattledger-itself"
)

// tag finds the dashboards of wattledger; the links at the top of each go by it.
const tag = "wattledger"

// page is one dashboard.
type page struct {
	uid, title, description string
	since, refresh          string // "now-6h"; how often it is read again
	variables               []cog.Builder[dashboard.VariableModel]
	notes                   []note // annotations
	sections                []section
}

// section is a row: a title with panels below it.
type section struct {
	title  string
	panels []cog.Builder[dashboard.Panel]
}

// pages lists the dashboards by the name of their file, without ".json".
func pages() map[string]page {
	return map[string]page{
		"fleet-now":     fleetNow(),
		"node":          node(),
		"gpu-health":    gpuHealth(),
		"jobs":          jobs(),
		"projects":      projects(),
		"energy-books":  energyBooks(),
		"power-quality": powerQuality(),
		"wattledger":    itself(),
	}
}

// Generate makes the dashboards as Grafana reads them, by file name. What it
// gives is what json/ holds.
func Generate() (map[string][]byte, error) {
	out := map[string][]byte{}
	for name, p := range pages() {
		d, err := p.build()
		if err != nil {
			return nil, fmt.Errorf("cannot build dashboard %s: %w", name, err)
		}
		text, err := json.MarshalIndent(d, "", "  ")
		if err != nil {
			return nil, fmt.Errorf("cannot write dashboard %s: %w", name, err)
		}
		out[name+".json"] = append(text, '\n')
	}
	return out, nil
}

func (p page) build() (dashboard.Dashboard, error) {
	b := dashboard.NewDashboardBuilder("wattledger: "+p.title).Uid(p.uid).Description(p.description).
		Tags([]string{tag, "energy"}).Readonly().Timezone("browser").
		Time(p.since, "now").Refresh(p.refresh).Tooltip(dashboard.DashboardCursorSyncCrosshair).
		Link(toAllOthers()).WithVariable(dataSource())
	for _, v := range p.variables {
		b = b.WithVariable(v)
	}
	for _, n := range p.notes {
		b = b.Annotation(n)
	}
	for _, s := range p.sections {
		b = b.WithRow(dashboard.NewRowBuilder(s.title))
		for _, panel := range s.panels {
			b = b.WithPanel(panel)
		}
	}
	d, err := b.Build()
	if err == nil {
		number(d.Panels)
	}
	return d, err
}

// number gives each panel an id that links to it can rely on.
func number(panels []dashboard.PanelOrRowPanel) {
	for i, p := range panels {
		id := uint32(i + 1)
		if p.Panel != nil {
			p.Panel.Id = &id
		} else {
			p.RowPanel.Id = id
		}
	}
}
