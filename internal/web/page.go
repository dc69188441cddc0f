package web

import (
	"bytes"
	"context"
	"fmt"
	"html/template"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/report"
)

// silentAfter is how long a node may say nothing and still count as reporting.
const silentAfter = 5 * time.Minute

// longestName of a project in the table; the whole name is its title.
const longestName = 60

// page is what the template shows.
type page struct {
	Style      template.HTML
	Title      string
	Message    string // instead of statements
	Empty      bool   // the ledger is
	Statements []statement
}

// statement is one cluster's month, every number already in words.
type statement struct {
	Cluster, Month, From, To, Zone, Hours string
	State, Badge, Verdict                 string
	Nothing, Running                      bool
	Tiles                                 []tile
	Uses                                  []use
	Projects                              []projectRow
	Nobody                                []projectRow
	Total                                 projectRow
	Remarks                               []string
	Nodes                                 string
	Previous, Next, JSON, CSV             string // links, empty where there is none
}

type tile struct{ Label, Value, Unit, Note string }

// use is one piece of the bar: X and Width in per cent of it.
type use struct{ Key, Label, Note, X, Width, Value, Percent string }

type projectRow struct {
	Name, FullName                                                   string // the full one where Name is cut
	Value, Percent, BusyWidth, HeldWidth, Busy, Held, Jobs, GPUHours string
}

func (s *site) getPage(w http.ResponseWriter, r *http.Request) {
	p, err := s.statements(r)
	status := http.StatusOK
	if err != nil {
		status, p.Message = s.explain(r, err)
		p.Title, p.Statements, p.Empty = "wattledger", nil, false
	}
	var body bytes.Buffer
	if err := s.page.Execute(&body, p); err != nil {
		s.Log.Error("page not made: " + err.Error())
		status = http.StatusInternalServerError
		body.Reset()
	}
	send(w, status, "text/html", func() error { _, err := body.WriteTo(w); return err })
}

func (s *site) statements(r *http.Request) (page, error) {
	p := page{Style: s.style, Title: "wattledger"}
	q, err := ask(r, "month", "cluster", "timezone")
	if err != nil {
		return p, err
	}
	clusters, err := s.clusters(r.Context(), q)
	if err != nil {
		return p, err
	}
	nodes, err := s.Ledger.Nodes(r.Context())
	if err != nil {
		return p, err
	}
	for _, cluster := range clusters {
		st, err := s.statement(r.Context(), q, cluster)
		if err != nil {
			return p, err
		}
		st.Nodes = nodesWords(nodes, cluster, s.Now())
		p.Statements = append(p.Statements, st)
	}
	p.Empty = len(clusters) == 0
	if len(p.Statements) == 1 {
		p.Title = "Energy of " + clusters[0] + ", " + p.Statements[0].Month
	}
	return p, nil
}

func (s *site) statement(ctx context.Context, q question, cluster string) (statement, error) {
	zone, err := s.zone(q, cluster)
	if err != nil {
		return statement{}, err
	}
	p, err := s.period(q, zone)
	if err != nil {
		return statement{}, err
	}
	doc, err := report.Build(ctx, s.Ledger, cluster, p, "", s.Now())
	if err != nil {
		return statement{}, err
	}
	st := statementOf(&doc, p)
	st.Running = s.Now().Before(p.End)
	link := func(path string, month report.Period, more ...string) string {
		v := url.Values{"cluster": {cluster}, "month": {month.String()}}
		if q.Has("timezone") {
			v.Set("timezone", q.Get("timezone"))
		}
		for i := 0; i < len(more); i += 2 {
			v.Set(more[i], more[i+1])
		}
		return path + "?" + v.Encode()
	}
	st.Previous = link("/", p.Previous())
	if !p.End.After(s.Now()) {
		st.Next = link("/", p.Next())
	}
	st.JSON = link("/api/v1/report", p)
	st.CSV = link("/api/v1/report", p, "format", "csv")
	return st, nil
}

// writeDocument writes a report as a page that stands alone: a file to keep.
func (s *site) writeDocument(w io.Writer, r *report.Report, p report.Period) error {
	st := statementOf(r, p)
	if err := s.page.Execute(w, page{
		Style: s.style, Title: "Energy of " + r.Cluster + ", " + st.Month, Statements: []statement{st},
	}); err != nil {
		return fmt.Errorf("cannot make the page: %w", err)
	}
	return nil
}

func statementOf(r *report.Report, p report.Period) statement {
	const clock = "2 January 2006, 15:04"
	st := statement{
		Cluster: r.Cluster, Month: p.Title(), From: p.Start.Format(clock), To: p.End.Format(clock),
		Zone: p.Zone.String(), Hours: strconv.FormatFloat(p.Hours(), 'f', -1, 64),
		Verdict: r.Verdict(), Nothing: r.Totals.Metered == 0 && r.Totals.Booked == 0, Remarks: r.Remarks(),
	}
	st.State, st.Badge = badge(r)
	show := shower(r.Totals.Booked)
	t := r.Totals
	st.Tiles = []tile{
		{"Metered", show(t.Metered), "kWh", "by the meters of the nodes"},
		{"Booked", show(t.Booked), "kWh", "to projects, idle and system"},
		{"Not booked yet", show(t.Unbooked), "kWh", "holes and quarantine"},
		{"Difference", group(t.Difference.String()), "mJ", "must be 0"},
	}
	st.Uses = useBar(r, show)
	st.Projects, st.Nobody, st.Total = tableRows(r, show)
	return st
}

func badge(r *report.Report) (state, words string) {
	switch r.State() {
	case report.Broken:
		return "broken", "Books do not close"
	case report.Open:
		return "open", "Books are open"
	default:
		return "closes", "Books close"
	}
}

func useBar(r *report.Report, show func(energy.Millijoules) string) []use {
	out := []use{
		{Key: "busy", Label: "busy", Note: "jobs at work"},
		{Key: "held", Label: "held", Note: "jobs doing nothing"},
		{Key: "idle", Label: "idle", Note: "held by nobody"},
		{Key: "system", Label: "system", Note: "service and OS"},
		{Key: "unknown", Label: "unknown", Note: "owner not known"},
	}
	x := 0.0
	for i, mj := range []energy.Millijoules{r.Uses.Busy, r.Uses.Held, r.Uses.Idle, r.Uses.System, r.Uses.Unknown} {
		share := report.Share(mj, r.Totals.Booked) * 100
		out[i].X, out[i].Width = fixed(x), fixed(min(share, 100-x))
		out[i].Value, out[i].Percent = show(mj), report.Percent(mj, r.Totals.Booked)
		x = min(100, x+share)
	}
	return out
}

func tableRows(r *report.Report, show func(energy.Millijoules) string) (projects, nobody []projectRow, total projectRow) {
	booked, hours := r.Totals.Booked, hoursShower(r.GPUHours)
	all := r.ByEnergy()
	var largest energy.Millijoules = 1
	if len(all) > 0 {
		largest = max(1, all[0].Energy)
	}
	jobs := 0
	for _, p := range all {
		jobs += p.Jobs
		row := projectRow{
			Name: report.Plain(p.Name, longestName), Value: show(p.Energy), Percent: report.Percent(p.Energy, booked),
			BusyWidth: fixed(report.Share(p.Busy, largest) * 100), HeldWidth: fixed(report.Share(p.Held, largest) * 100),
			Busy: show(p.Busy), Held: report.Percent(p.Held, p.Energy), Jobs: group(strconv.Itoa(p.Jobs)), GPUHours: hours(p.GPUHours),
		}
		if row.Name != p.Name {
			row.FullName = report.Plain(p.Name, 0)
		}
		projects = append(projects, row)
	}
	for _, n := range []struct {
		name  string
		mj    energy.Millijoules
		hours string
	}{
		{"idle: held by nobody", r.Uses.Idle, r.GPUHours.Idle},
		{"system: service and operating system", r.Uses.System, r.GPUHours.System},
		{"unknown: owner not known", r.Uses.Unknown, r.GPUHours.Unknown},
	} {
		nobody = append(nobody, projectRow{
			Name: n.name, Value: show(n.mj), Percent: report.Percent(n.mj, booked), GPUHours: hours(n.hours),
		})
	}
	total = projectRow{
		Name: "Booked", Value: show(booked), Percent: report.Percent(booked, booked), Busy: show(r.Uses.Busy),
		Held: report.Percent(r.Uses.Held, r.Uses.Busy+r.Uses.Held), Jobs: group(strconv.Itoa(jobs)),
	}
	return projects, nobody, total
}

func nodesWords(nodes []ledger.NodeStatus, cluster string, now time.Time) string {
	var all, silent, left int
	var worst ledger.NodeStatus
	for _, n := range nodes {
		if n.Node.Cluster != cluster {
			continue
		}
		if n.Left {
			left++
			continue
		}
		all++
		if now.UnixMilli()-n.LastMS > silentAfter.Milliseconds() {
			if silent++; silent == 1 || n.LastMS < worst.LastMS {
				worst = n
			}
		}
	}
	switch {
	case all == 0 && left > 0:
		return fmt.Sprintf("%s left the books; none is expected to report.", count(left, "node has", "nodes have"))
	case all == 0:
		return "No node is known."
	case silent == 0:
		return fmt.Sprintf("%s reporting.", count(all, "node is", "nodes are"))
	}
	words := fmt.Sprintf("%d of %s reporting; %s silent the longest, ", all-silent, count(all, "node is", "nodes are"), worst.Node.Name)
	if worst.LastMS == 0 {
		return words + "it has not sent a window yet."
	}
	return words + "for " + span(now.Sub(time.UnixMilli(worst.LastMS))) + "."
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

func span(d time.Duration) string {
	switch {
	case d < 2*time.Hour:
		return fmt.Sprintf("%d minutes", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d hours", int(d.Hours()))
	default:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	}
}

// shower gives the function that shows kWh in a statement: with as many
// decimals as help to read a whole of that size. What is there is never shown
// as nothing.
func shower(whole energy.Millijoules) func(energy.Millijoules) string {
	decimals := 3
	switch kwh := float64(whole) / 3.6e9; {
	case kwh >= 100_000:
		decimals = 0
	case kwh >= 1_000:
		decimals = 1
	}
	unit := uint64(3_600_000_000 / math.Pow10(decimals))
	return func(mj energy.Millijoules) string {
		sign, u := "", uint64(mj)
		if mj < 0 {
			sign, u = "−", uint64(-mj)
		}
		n := (u + unit/2) / unit
		switch {
		case u == 0:
			return "0"
		case n == 0:
			return sign + "<" + point(1, decimals)
		}
		return sign + group(point(n, decimals))
	}
}

// point writes n with its last digits behind the point.
func point(n uint64, decimals int) string {
	text := fmt.Sprintf("%0*d", decimals+1, n)
	if decimals == 0 {
		return text
	}
	return text[:len(text)-decimals] + "." + text[len(text)-decimals:]
}

// group sets narrow spaces between thousands, as the SI does.
func group(number string) string {
	whole, rest, hasRest := strings.Cut(number, ".")
	first := 0
	if strings.HasPrefix(whole, "-") {
		first = 1
	}
	for i := len(whole) - 3; i > first; i -= 3 {
		whole = whole[:i] + "\u202f" + whole[i:]
	}
	if hasRest {
		whole += "." + rest
	}
	return whole
}

// hoursShower shows hours without decimals in a statement of a hundred or more.
func hoursShower(all report.UseHours) func(string) string {
	whole := false
	for _, h := range []string{all.Busy, all.Held, all.Idle, all.System, all.Unknown} {
		whole = whole || len(h) >= len("100.00")
	}
	return func(hours string) string {
		n, err := strconv.ParseFloat(hours, 64)
		switch {
		case err != nil || n == 0:
			return "0"
		case !whole:
			return hours
		case n < 0.5:
			return "<1"
		}
		return group(strconv.FormatFloat(n, 'f', 0, 64))
	}
}

func fixed(x float64) string { return strconv.FormatFloat(x, 'f', 3, 64) }
