package dashboardtest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
)

// page is a dashboard, as far as queries go.
type page struct {
	Time   struct{ From string }
	Panels []struct {
		Title   string
		Type    string
		Targets []target
	}
	Templating struct {
		List []variable
	}
	Annotations struct {
		List []struct {
			Name   string
			Target target
		}
	}
}

type variable struct {
	Name, Type, Query, AllValue string
	IncludeAll                  bool
}

type target struct {
	Expr, Interval string
	Range          bool
}

// leastStep is that of the data source (timeInterval in provisioning/), columns
// about how many values a graph has room for.
const (
	leastStep = 15 * time.Second
	columns   = 1000
)

type client struct{ o Options }

func (c client) page(ctx context.Context, name string, p *page) ([]Result, error) {
	span, err := model.ParseDuration(strings.TrimPrefix(p.Time.From, "now-"))
	if err != nil {
		return nil, fmt.Errorf("cannot read the time of dashboard %s: %w", name, err)
	}
	if c.o.Range > 0 {
		span = model.Duration(c.o.Range)
	}
	a := asker{client: c, from: c.o.Now.Add(-time.Duration(span)), vars: map[string]string{}}
	var out []Result
	for _, v := range p.Templating.List {
		if v.Type != "datasource" {
			if q, asked := a.choose(ctx, v); asked {
				out = append(out, Result{Kind: Variable, Dashboard: name, Title: v.Name, Queries: []Query{q}})
			}
		}
	}
	for _, panel := range p.Panels {
		if panel.Type != "row" && panel.Type != "text" {
			out = append(out, Result{Kind: Panel, Dashboard: name, Title: panel.Title, Queries: a.all(ctx, panel.Targets...)})
		}
	}
	for _, n := range p.Annotations.List {
		out = append(out, Result{Kind: Mark, Dashboard: name, Title: n.Name, Queries: a.all(ctx, n.Target)})
	}
	return out, nil
}

// asker asks for one dashboard.
type asker struct {
	client
	from time.Time
	vars map[string]string
}

// choose gives a variable its value; asked is false where that takes no query.
func (a *asker) choose(ctx context.Context, v variable) (q Query, asked bool) {
	value, set := a.o.Vars[v.Name]
	if v.Type != "query" {
		a.vars[v.Name] = cmp.Or(value, v.Query)
		return q, false
	}
	m := regexp.MustCompile(`^label_values\((.+), ?(\w+)\)$`).FindStringSubmatch(v.Query)
	if m == nil {
		return Query{Expr: v.Query, Err: errors.New("it is not label_values(selector, label)")}, true
	}
	q.Expr = a.filled(m[1], leastStep, leastStep)
	var values []string
	q.Took, q.Err = a.get(ctx, "/api/v1/label/"+m[2]+"/values", url.Values{
		"match[]": {q.Expr}, "start": {stamp(a.from)}, "end": {stamp(a.o.Now)},
	}, &values)
	q.Series = len(values)
	switch {
	case set:
	case v.IncludeAll:
		value = v.AllValue
	case len(values) > 0:
		value = values[0]
	}
	a.vars[v.Name] = value
	return q, true
}

func (a *asker) all(ctx context.Context, targets ...target) []Query {
	out := make([]Query, 0, len(targets))
	for _, t := range targets {
		out = append(out, a.ask(ctx, t))
	}
	return out
}

func (a *asker) ask(ctx context.Context, t target) (q Query) {
	least := leastStep
	if t.Interval != "" {
		d, err := model.ParseDuration(t.Interval)
		if err != nil {
			return Query{Expr: t.Expr, Err: fmt.Errorf("cannot read its step: %w", err)}
		}
		least = time.Duration(d)
	}
	step := max(least, a.o.Now.Sub(a.from)/columns).Truncate(time.Second)
	q.Expr = a.filled(t.Expr, step, least)
	path, v := "/api/v1/query", url.Values{"query": {q.Expr}, "time": {stamp(a.o.Now)}}
	if t.Range { // steps are multiples of the step, as Grafana asks for them
		path, v = "/api/v1/query_range", url.Values{"query": {q.Expr}, "start": {stamp(a.from.Truncate(step))}, "end": {stamp(a.o.Now.Truncate(step))}, "step": {seconds(step)}}
	}
	var data struct {
		Result []struct {
			Value  [2]any
			Values [][2]any
		}
	}
	q.Took, q.Err = a.get(ctx, path, v, &data)
	for _, s := range data.Result {
		for _, v := range append(s.Values, s.Value) {
			if text, ok := v[1].(string); ok && text != "NaN" {
				q.Series++
				break
			}
		}
	}
	return q
}

// filled puts the values of variables, and what Grafana calls intervals, into a
// query.
func (a *asker) filled(text string, step, scrape time.Duration) string {
	pairs := []string{
		"$__rate_interval", seconds(max(step+scrape, 4*scrape)) + "s", "$__interval", seconds(step) + "s",
		"$__range", seconds(a.o.Now.Sub(a.from)) + "s",
	}
	for name, value := range a.vars {
		pairs = append(pairs, "${"+name+"}", value, "$"+name, value)
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }
func stamp(t time.Time) string       { return strconv.FormatFloat(float64(t.UnixMilli())/1e3, 'f', 3, 64) }

// get asks the API and decodes what it answers.
func (c client) get(ctx context.Context, path string, v url.Values, to any) (took time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(c.o.URL, "/")+path+"?"+v.Encode(), http.NoBody)
	if err != nil {
		return 0, err
	}
	if c.o.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.o.Token)
	}
	begin := time.Now() //nolint:forbidigo // how long an answer takes is what is asked for
	resp, err := cmp.Or(c.o.Client, http.DefaultClient).Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	took = time.Since(begin) //nolint:forbidigo // as above
	if err != nil {
		return took, err
	}
	var answer struct {
		Error string
		Data  json.RawMessage
	}
	if err := json.Unmarshal(body, &answer); err != nil || resp.StatusCode != http.StatusOK {
		return took, fmt.Errorf("%s: %s", resp.Status, cmp.Or(answer.Error, string(body[:min(len(body), 200)])))
	}
	return took, json.Unmarshal(answer.Data, to)
}
