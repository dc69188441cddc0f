package dashboards

import (
	"github.com/grafana/grafana-foundation-sdk/go/bargauge"
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/text"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// Units that the SDK has no name for, as Grafana spells them.
const wattsPerSecond = "si:W/s"

// panel says what a panel shows; the functions below say how. It fills a width
// of 24ths of the page. The description says what a value means, and what to do
// when it is bad.
type panel struct {
	title, description string
	unit               string
	width, height      uint32
	queries            []query
	levels             []dashboard.Threshold // from green on
	links              []link
	columns            []column // of a table, one for each query
	signed             bool     // values may be below zero
	empty              string   // what to say where there is no data
}

// query is PromQL. step is the least step of a range query ("" for that of the
// data source, 15 s): twice what is between two samples, or more.
type query struct{ expr, legend, step string }

// column is how a table shows the values of one of its queries; without a name
// it does not. unit is for another than the panel's.
type column struct {
	name, unit string
	levels     []dashboard.Threshold
}

func (p panel) targets(instant bool, format prometheus.PromQueryFormat) []cog.Builder[variants.Dataquery] {
	out := make([]cog.Builder[variants.Dataquery], 0, len(p.queries))
	for i, q := range p.queries {
		b := prometheus.NewDataqueryBuilder().Datasource(source()).Expr(q.expr).
			LegendFormat(q.legend).RefId(string(rune('A' + i))).Format(format)
		if q.step != "" {
			b = b.Interval(q.step)
		}
		if instant {
			b = b.Instant()
		} else {
			b = b.Range()
		}
		out = append(out, b)
	}
	return out
}

// number shows one value or few, now.
func (p panel) number() *stat.PanelBuilder {
	color := common.BigValueColorModeNone
	if len(p.levels) > 0 {
		color = common.BigValueColorModeBackground
	}
	b := stat.NewPanelBuilder().Title(p.title).Description(p.description).Unit(p.unit).
		Span(p.width).Height(p.height).Datasource(source()).Targets(p.targets(true, prometheus.PromQueryFormatTimeSeries)).
		ColorMode(color).GraphMode(common.BigValueGraphModeNone).ReduceOptions(last()).Thresholds(thresholds(p.levels)).
		DataLinks(built(p.links))
	if p.empty != "" {
		b = b.NoValue(p.empty)
	}
	return b
}

// lines shows values over time; areas stacks them.
func (p panel) lines() *timeseries.PanelBuilder {
	b := timeseries.NewPanelBuilder().Title(p.title).Description(p.description).Unit(p.unit).
		Span(p.width).Height(p.height).Datasource(source()).Targets(p.targets(false, prometheus.PromQueryFormatTimeSeries)).
		LineWidth(1).FillOpacity(10).ShowPoints(common.VisibilityModeAuto).
		Legend(common.NewVizLegendOptionsBuilder().ShowLegend(true).
			DisplayMode(common.LegendDisplayModeTable).Placement(common.LegendPlacementRight).
			Calcs([]string{"lastNotNull", "max"}).SortBy("Last *").SortDesc(true)).
		Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti).Sort(common.SortOrderDescending)).
		DataLinks(built(p.links))
	if !p.signed {
		b = b.Min(0)
	}
	if len(p.levels) > 0 {
		b = b.Thresholds(thresholds(p.levels)).
			ThresholdsStyle(common.NewGraphThresholdsStyleConfigBuilder().Mode(common.GraphThresholdsStyleModeDashed))
	}
	if p.empty != "" {
		b = b.NoValue(p.empty)
	}
	return b
}

func (p panel) areas() *timeseries.PanelBuilder {
	return p.lines().FillOpacity(40).
		Stacking(common.NewStackingConfigBuilder().Mode(common.StackingModeNormal).Group("A"))
}

// steps draws each value as a column, for what is counted by quarters of an hour.
func (p panel) steps() *timeseries.PanelBuilder {
	return p.lines().DrawStyle(common.GraphDrawStyleBars).FillOpacity(60).ShowPoints(common.VisibilityModeNever)
}

// bars compares values, now.
func (p panel) bars() *bargauge.PanelBuilder {
	return bargauge.NewPanelBuilder().Title(p.title).Description(p.description).Unit(p.unit).
		Span(p.width).Height(p.height).Datasource(source()).Targets(p.targets(true, prometheus.PromQueryFormatTimeSeries)).
		Orientation(common.VizOrientationHorizontal).DisplayMode(common.BarGaugeDisplayModeBasic).
		ReduceOptions(last()).Min(0).Thresholds(thresholds(p.levels)).DataLinks(built(p.links))
}

// rows is a table of what there is now: a row for each set of labels, a column
// for each query. It is sorted by the first column of a value.
func (p panel) rows() *table.PanelBuilder {
	rename, hide := map[string]any{}, map[string]any{}
	for _, name := range []string{"Time", "__name__", "instance", "alertstate"} {
		hide[name] = true
	}
	b := table.NewPanelBuilder().Title(p.title).Description(p.description).Unit(p.unit).
		Span(p.width).Height(p.height).Datasource(source()).Targets(p.targets(true, prometheus.PromQueryFormatTable)).
		Filterable(true).CellHeight(common.TableCellHeightSm).DataLinks(built(p.links)).
		Footer(common.NewTableFooterOptionsBuilder().Show(false).Reducer([]string{"sum"}))
	for i, c := range p.columns {
		from := "Value" // as Grafana calls it
		if len(p.queries) > 1 {
			from = "Value #" + string(rune('A'+i))
		}
		if c.name == "" {
			hide[from] = true
			continue
		}
		rename[from] = c.name
		if i == 0 {
			b = b.SortBy([]cog.Builder[common.TableSortByFieldState]{common.NewTableSortByFieldStateBuilder().DisplayName(c.name).Desc(true)})
		}
		if look := c.look(); len(look) > 0 {
			b = b.OverrideByName(c.name, look)
		}
	}
	if p.empty != "" {
		b = b.NoValue(p.empty)
	}
	return b.
		WithTransformation(dashboard.DataTransformerConfig{Id: "merge", Options: map[string]any{}}).
		WithTransformation(dashboard.DataTransformerConfig{Id: "organize", Options: map[string]any{
			"excludeByName": hide, "indexByName": map[string]any{}, "renameByName": rename,
		}})
}

// look is how the values of a column are shown.
func (c column) look() []dashboard.DynamicConfigValue {
	var out []dashboard.DynamicConfigValue
	if c.unit != "" {
		out = append(out, dashboard.DynamicConfigValue{Id: "unit", Value: c.unit})
	}
	if len(c.levels) > 0 {
		steps := []any{map[string]any{"color": "green", "value": nil}}
		for _, l := range c.levels {
			steps = append(steps, map[string]any{"color": l.Color, "value": *l.Value})
		}
		out = append(out, dashboard.DynamicConfigValue{Id: "thresholds", Value: map[string]any{"mode": "absolute", "steps": steps}},
			dashboard.DynamicConfigValue{Id: "custom.cellOptions", Value: map[string]any{"type": "color-text"}})
	}
	return out
}

// words is a panel that only says something.
func words(title, description, markdown string, width, height uint32) cog.Builder[dashboard.Panel] {
	return text.NewPanelBuilder().Title(title).Description(description).Span(width).Height(height).
		Datasource(source()).Mode(text.TextModeMarkdown).Content(markdown)
}

// onTheRight gives the lines of one query an axis and a unit of their own.
func onTheRight(b *timeseries.PanelBuilder, refID, unit string) *timeseries.PanelBuilder {
	return b.OverrideByQuery(refID, []dashboard.DynamicConfigValue{
		{Id: "unit", Value: unit}, {Id: "custom.axisPlacement", Value: "right"}, {Id: "custom.fillOpacity", Value: 0.0},
	})
}

// dashed makes the lines of one query a limit: no area, no stack.
func dashed(b *timeseries.PanelBuilder, refID string) *timeseries.PanelBuilder {
	return b.OverrideByQuery(refID, []dashboard.DynamicConfigValue{
		{Id: "custom.lineStyle", Value: map[string]any{"dash": []any{10.0, 10.0}, "fill": "dash"}},
		{Id: "custom.drawStyle", Value: "line"},
		{Id: "custom.fillOpacity", Value: 0.0},
		{Id: "custom.stacking", Value: map[string]any{"mode": "none", "group": "A"}},
		{Id: "color", Value: map[string]any{"mode": "fixed", "fixedColor": "red"}},
	})
}

func last() *common.ReduceDataOptionsBuilder {
	return common.NewReduceDataOptionsBuilder().Calcs([]string{"lastNotNull"}).Values(false)
}

func thresholds(levels []dashboard.Threshold) *dashboard.ThresholdsConfigBuilder {
	steps := levels
	if len(levels) == 0 || levels[0].Value != nil {
		steps = append([]dashboard.Threshold{{Color: "green"}}, levels...)
	}
	return dashboard.NewThresholdsConfigBuilder().Mode(dashboard.ThresholdsModeAbsolute).Steps(steps)
}

// levels are the values from which on something is a warning, and bad.
func levels(orange, red float64) []dashboard.Threshold {
	return []dashboard.Threshold{{Value: new(orange), Color: "orange"}, {Value: new(red), Color: "red"}}
}

// bad is the value from which on something is bad.
func bad(from float64) []dashboard.Threshold {
	return []dashboard.Threshold{{Value: new(from), Color: "red"}}
}

// good is the reverse: below orange it is red, below green orange.
func good(orange, green float64) []dashboard.Threshold {
	return []dashboard.Threshold{{Color: "red"}, {Value: new(orange), Color: "orange"}, {Value: new(green), Color: "green"}}
}

func built(links []link) []cog.Builder[dashboard.DashboardLink] {
	out := make([]cog.Builder[dashboard.DashboardLink], 0, len(links))
	for _, l := range links {
		out = append(out, l)
	}
	return out
}
