// Package dashboards makes the Grafana dashboards of wattledger. They are
// written in Go so that a misspelt panel does not compile and a misspelt metric
// fails a test; json/ holds what comes out, for Grafana's provisioning (see
// provisioning/). Dashboards over a fleet read the sums that the aggregator
// makes at intake, never a million raw series, and they show: what is charged
// is in the report.
package dashboards

import (
	"encoding/json"
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/bargauge"
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// Files are the dashboards as Grafana reads them, by file name.
func Files() (map[string][]byte, error) {
	out := map[string][]byte{}
	for name, builder := range map[string]*dashboard.DashboardBuilder{
		"projects-and-books.json": projectsAndBooks(),
	} {
		d, err := builder.Build()
		if err != nil {
			return nil, fmt.Errorf("cannot build dashboard %s: %w", name, err)
		}
		number(d.Panels)
		text, err := json.MarshalIndent(d, "", "  ")
		if err != nil {
			return nil, fmt.Errorf("cannot write dashboard %s: %w", name, err)
		}
		out[name] = append(text, '\n')
	}
	return out, nil
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

// panel says what a panel shows; the functions below say how. It fills a width
// of 24ths of the page.
type panel struct {
	title, description string
	unit               string
	width, height      uint32
	queries            []query
}

type query struct{ expr, legend string }

func source() common.DataSourceRef {
	return common.DataSourceRef{Type: new("prometheus"), Uid: new("${datasource}")}
}

func (p panel) targets(instant bool) []cog.Builder[variants.Dataquery] {
	out := make([]cog.Builder[variants.Dataquery], 0, len(p.queries))
	for i, q := range p.queries {
		b := prometheus.NewDataqueryBuilder().Datasource(source()).Expr(q.expr).
			LegendFormat(q.legend).RefId(string(rune('A' + i)))
		if instant {
			b = b.Instant()
		} else {
			b = b.Range()
		}
		out = append(out, b)
	}
	return out
}

// number shows one value, now.
func (p panel) number(levels ...dashboard.Threshold) *stat.PanelBuilder {
	color, graph := common.BigValueColorModeNone, common.BigValueGraphModeNone
	if len(levels) > 0 {
		color = common.BigValueColorModeBackground
	}
	return stat.NewPanelBuilder().Title(p.title).Description(p.description).Unit(p.unit).
		Span(p.width).Height(p.height).Datasource(source()).Targets(p.targets(true)).
		ColorMode(color).GraphMode(graph).ReduceOptions(last()).Thresholds(thresholds(levels))
}

// lines shows values over time; areas stacks them.
func (p panel) lines() *timeseries.PanelBuilder {
	return timeseries.NewPanelBuilder().Title(p.title).Description(p.description).Unit(p.unit).
		Span(p.width).Height(p.height).Datasource(source()).Targets(p.targets(false)).
		LineWidth(1).FillOpacity(10).ShowPoints(common.VisibilityModeNever).Min(0).
		Legend(common.NewVizLegendOptionsBuilder().ShowLegend(true).
			DisplayMode(common.LegendDisplayModeTable).Placement(common.LegendPlacementRight).
			Calcs([]string{"lastNotNull", "max"}).SortBy("Last *").SortDesc(true)).
		Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti).Sort(common.SortOrderDescending))
}

func (p panel) areas() *timeseries.PanelBuilder {
	return p.lines().FillOpacity(40).
		Stacking(common.NewStackingConfigBuilder().Mode(common.StackingModeNormal).Group("A"))
}

// bars compares values, now.
func (p panel) bars() *bargauge.PanelBuilder {
	return bargauge.NewPanelBuilder().Title(p.title).Description(p.description).Unit(p.unit).
		Span(p.width).Height(p.height).Datasource(source()).Targets(p.targets(true)).
		Orientation(common.VizOrientationHorizontal).DisplayMode(common.BarGaugeDisplayModeBasic).
		ReduceOptions(last()).Min(0).Thresholds(thresholds(nil))
}

func last() *common.ReduceDataOptionsBuilder {
	return common.NewReduceDataOptionsBuilder().Calcs([]string{"lastNotNull"}).Values(false)
}

func thresholds(levels []dashboard.Threshold) *dashboard.ThresholdsConfigBuilder {
	steps := append([]dashboard.Threshold{{Color: "green"}}, levels...)
	return dashboard.NewThresholdsConfigBuilder().Mode(dashboard.ThresholdsModeAbsolute).Steps(steps)
}

func from(value float64, color string) dashboard.Threshold {
	return dashboard.Threshold{Value: new(value), Color: color}
}

// choice is a variable that lists a label's values; All is everything.
func choice(name, label, text string) *dashboard.QueryVariableBuilder {
	all := dashboard.StringOrArrayOfString{ArrayOfString: []string{"$__all"}}
	word := dashboard.StringOrArrayOfString{ArrayOfString: []string{"All"}}
	return dashboard.NewQueryVariableBuilder(name).Label(text).Datasource(source()).
		Query(dashboard.StringOrMap{String: new(label)}).Definition(label).
		Refresh(dashboard.VariableRefreshOnTimeRangeChanged).Sort(dashboard.VariableSortNaturalAsc).
		Multi(true).IncludeAll(true).AllValue(".*").
		Current(dashboard.VariableOption{Selected: new(true), Text: word, Value: all})
}
