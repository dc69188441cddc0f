package dashboards

import (
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
)

// What is around the panels of a dashboard: the data source, variables, links
// and annotations.

// source is the data source that is chosen at the top of the page.
func source() common.DataSourceRef {
	return common.DataSourceRef{Type: new("prometheus"), Uid: new("${datasource}")}
}

// dataSource is the variable for it: the provisioned one where it is there.
func dataSource() cog.Builder[dashboard.VariableModel] {
	one := func(s string) dashboard.StringOrArrayOfString { return dashboard.StringOrArrayOfString{String: new(s)} }
	return dashboard.NewDatasourceVariableBuilder("datasource").Label("Data source").Type("prometheus").
		Current(dashboard.VariableOption{Selected: new(true), Text: one("wattledger"), Value: one("wattledger")})
}

// one is a variable of which one value is chosen.
func one(name, label, values string) *dashboard.QueryVariableBuilder {
	return dashboard.NewQueryVariableBuilder(name).Label(label).Datasource(source()).
		Query(dashboard.StringOrMap{String: new(values)}).Definition(values).
		Refresh(dashboard.VariableRefreshOnTimeRangeChanged).Sort(dashboard.VariableSortNaturalAsc)
}

// some is a variable of which any values are chosen; All is everything.
func some(name, label, values string) *dashboard.QueryVariableBuilder {
	all := dashboard.StringOrArrayOfString{ArrayOfString: []string{"$__all"}}
	word := dashboard.StringOrArrayOfString{ArrayOfString: []string{"All"}}
	return one(name, label, values).Multi(true).IncludeAll(true).AllValue(".*").
		Current(dashboard.VariableOption{Selected: new(true), Text: word, Value: all})
}

const clusters = `label_values(wattledger_cluster_energy_joules_total, cluster)`

func someClusters() *dashboard.QueryVariableBuilder { return some("cluster", "Cluster", clusters) }

func someProjects() *dashboard.QueryVariableBuilder {
	return some("project", "Project", `label_values(wattledger_project_energy_joules_total{cluster=~"$cluster", project!=""}, project)`)
}

// link is a link as Grafana shows it on the page itself; the SDK's builder
// hides it in a menu.
type link dashboard.DashboardLink

// Build gives the link.
func (l link) Build() (dashboard.DashboardLink, error) {
	if l.Tags == nil {
		l.Tags = []string{}
	}
	return dashboard.DashboardLink(l), nil
}

// toAllOthers are the links at the top of a page, which keep time and choices.
func toAllOthers() link {
	return link{Title: "wattledger", Type: dashboard.DashboardLinkTypeDashboards, Icon: "external link", Tags: []string{tag}, IncludeVars: true, KeepTime: true}
}

// to is a link from data to another dashboard. vars are pairs of a variable and
// the label that it is set to.
func to(title, uid string, ofLabel func(string) string, vars ...string) link {
	url := "/d/" + uid + "?${__url_time_range}&${datasource:queryparam}"
	for i := 0; i+1 < len(vars); i += 2 {
		url += "&var-" + vars[i] + "=" + ofLabel(vars[i+1])
	}
	return link{Title: title, Type: dashboard.DashboardLinkTypeLink, Url: &url}
}

// label is a label of the line that was clicked, field one of the row of a table.
func label(name string) string { return "${__field.labels." + name + "}" }
func field(name string) string { return "${__data.fields." + name + "}" }

func toNode(of func(string) string) link {
	return to("Node", uidNode, of, "cluster", "cluster", "node", "node")
}

func toProject(of func(string) string) link {
	return to("Project", uidProjects, of, "cluster", "cluster", "project", "project")
}

func toJobsOf(of func(string) string) link {
	return to("Jobs of the project", uidJobs, of, "cluster", "cluster", "project", "project")
}

func toGPUs(of func(string) string) link {
	return to("GPU health", uidGPUs, of, "cluster", "cluster")
}

// note is an annotation: marks on all graphs where its query is above zero. The
// SDK's type has no place for a text, so the name says what a mark means.
type note struct {
	name, color, expr string
	off               bool // until somebody switches it on
}

// Build gives the annotation.
func (n note) Build() (dashboard.AnnotationQuery, error) {
	target, err := prometheus.NewDataqueryBuilder().Datasource(source()).Expr(n.expr).RefId("Anno").Interval("60s").Range().Build()
	if err != nil {
		return dashboard.AnnotationQuery{}, err
	}
	ref := source()
	return dashboard.AnnotationQuery{Name: n.name, Datasource: &ref, Enable: !n.off, Hide: new(false), IconColor: n.color, Target: target}, nil
}

// alertsAndEvents marks firing alerts by severity, and events of the hardware.
// An alert of no cluster is one of wattledger itself.
func alertsAndEvents(more string) []note {
	alerts := func(severity string) string {
		return `ALERTS{alertstate="firing", severity="` + severity + `", cluster=~"$cluster|"` + more + `}`
	}
	events := func(kinds string) string {
		return `sum by (cluster, kind) (wattledger_node_recent_events{cluster=~"$cluster"` + more + `, kind` + kinds + `}) > 0`
	}
	return []note{
		{name: "Critical alerts", color: "red", expr: alerts("critical")},
		{name: "Warnings", color: "orange", expr: alerts("warning")},
		{name: "GPU events: Xid, lost, hung, reset", color: "purple", expr: events(`=~"xid|gpu_lost|gpu_hung|reset"`)},
		{name: "Other events of meters", color: "blue", expr: events(`!~"xid|gpu_lost|gpu_hung|reset"`), off: true},
	}
}
