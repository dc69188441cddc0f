//go:build e2e

package e2e_test

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/wattledger/wattledger/test/peers"
)

// peersNode is a live agent of a name, with a page of metrics and a job on its
// first GPU.
func peersNode(t *testing.T, a *aggregator, name, project string) (n *node, page string) {
	t.Helper()
	n = newNode(t, a.url())
	page = peers.FreeAddress(t)
	text, err := os.ReadFile(n.config)
	if err != nil {
		t.Fatal(err)
	}
	s := strings.NewReplacer("node: "+liveNode, "node: "+name, `listen: ""`, "listen: "+page).Replace(string(text))
	if err := os.WriteFile(n.config, []byte(s), 0o600); err != nil {
		t.Fatal(err)
	}
	n.up(t)
	n.job(t, "begin", "--id", "7"+name[1:], "--project", project, "--gpus", "0")
	return n, "http://" + page
}

// samples are values by the labels of their series and their stamp.
type samples map[string]map[int64]float64

func (s samples) add(list []peers.Series) {
	for _, one := range list {
		key := model.Metric{}
		for k, v := range one.Labels {
			key[model.LabelName(k)] = model.LabelValue(v)
		}
		to := s[key.String()]
		if to == nil {
			to = map[int64]float64{}
			s[key.String()] = to
		}
		for _, p := range one.Points {
			if !math.IsNaN(p.V) { // the end of a series
				to[p.MS] = p.V
			}
		}
	}
}

func (s samples) len() int {
	n := 0
	for _, points := range s {
		n += len(points)
	}
	return n
}

// kept is every sample of nodes, GPUs, projects and clusters that a PromQL
// server holds; what the aggregator tells of itself has a job.
func kept(t *testing.T, url string) samples {
	t.Helper()
	out := samples{}
	out.add((&peers.Peer{URL: url}).Query(t, `{__name__=~"wattledger_.+",job=""}[3h]`, time.Now().Add(time.Minute)))
	return out
}

// lacking lists samples that another does not have, or has with another value by
// more than part of it.
func (s samples) lacking(o samples, part float64) (out []string) {
	for key, points := range s {
		for ms, v := range points {
			got, ok := o[key][ms]
			if !ok || math.Abs(got-v) > part*math.Abs(v) {
				out = append(out, fmt.Sprintf("%s at %d: %v, there %v (%v)", key, ms, v, got, ok))
			}
		}
	}
	slices.Sort(out)
	return out
}

// receiver is one that the aggregator sends to.
type receiver struct {
	name string
	peer *peers.Peer
	part float64 // by which values may differ: VictoriaMetrics keeps decimals
	got  func() samples
}

// influxSamples reads all points of an InfluxDB under the names of the series.
func influxSamples(t *testing.T, p *peers.Peer) samples {
	t.Helper()
	var answer struct {
		Results []struct {
			Series []struct {
				Name    string
				Tags    map[string]string
				Columns []string
				Values  [][]*json.Number
			}
		}
	}
	b := p.Influx(t, map[string][]string{"db": {"books"}, "epoch": {"ms"}, "q": {"SELECT * FROM /wattledger.*/ GROUP BY *"}})
	if err := json.Unmarshal(b, &answer); err != nil {
		t.Fatal(err)
	}
	out := samples{}
	for _, r := range answer.Results {
		for _, s := range r.Series {
			for i, field := range s.Columns[1:] {
				labels := map[string]string{"__name__": s.Name + "_" + field}
				for k, v := range s.Tags {
					if v != "" {
						labels[k] = v
					}
				}
				one := peers.Series{Labels: labels}
				for _, row := range s.Values {
					if row[i+1] == nil {
						continue
					}
					ms, err1 := row[0].Int64()
					v, err2 := row[i+1].Float64()
					if err1 != nil || err2 != nil {
						t.Fatal(err1, err2)
					}
					one.Points = append(one.Points, peers.Point{MS: ms, V: v})
				}
				out.add([]peers.Series{one})
			}
		}
	}
	for key, points := range out {
		if len(points) == 0 {
			delete(out, key)
		}
	}
	return out
}

// flushed is what a VictoriaMetrics holds, the newest with it.
func flushed(t *testing.T, p *peers.Peer) samples {
	t.Helper()
	p.Get(t, "/internal/force_flush")
	return kept(t, p.URL)
}

func remoteWriteTo(name, url string) string {
	return fmt.Sprintf("  - {name: %s, url: %s, linger: 50ms, timeout: 2s}\n", name, url)
}

func influxTo(name, url string) string {
	return fmt.Sprintf("  - {name: %s, url: %s, bucket: books/autogen, linger: 50ms, timeout: 2s}\n", name, url)
}

// metricsOf reads a page of metrics; values by the text of their series.
func metricsOf(t *testing.T, url string) map[string]float64 {
	t.Helper()
	r, err := http.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for name, f := range families {
		for _, m := range f.GetMetric() {
			key := model.Metric{model.MetricNameLabel: model.LabelValue(name)}
			for _, l := range m.GetLabel() {
				key[model.LabelName(l.GetName())] = model.LabelValue(l.GetValue())
			}
			if m.GetHistogram() == nil && m.GetSummary() == nil {
				out[key.String()] = m.GetGauge().GetValue() + m.GetCounter().GetValue() + m.GetUntyped().GetValue()
			}
		}
	}
	return out
}

// scraped is the key of a page's series as Prometheus has it.
func scraped(t *testing.T, key, job, instance string) string {
	t.Helper()
	name, rest, labelled := strings.Cut(strings.TrimSuffix(key, "}"), "{")
	m := model.Metric{model.MetricNameLabel: model.LabelValue(name), "job": model.LabelValue(job), "instance": model.LabelValue(instance)}
	if labelled {
		for pair := range strings.SplitSeq(rest, ", ") {
			k, v, _ := strings.Cut(pair, "=")
			if v = strings.Trim(v, `"`); v != "" {
				m[model.LabelName(k)] = model.LabelValue(v)
			}
		}
	}
	return m.String()
}
