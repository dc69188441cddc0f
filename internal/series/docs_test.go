package series_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/series"
	"github.com/wattledger/wattledger/internal/series/metric"
	"github.com/wattledger/wattledger/internal/series/sums"
	"github.com/wattledger/wattledger/internal/window"
)

var update = flag.Bool("update", false, "rewrite docs/metrics.md from what the code says now")

func TestDocs(t *testing.T) {
	const path = "../../docs/metrics.md"
	var got bytes.Buffer
	if err := series.WriteDocs(&got, aggregatorPage(t), agentPage(t)); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got.Bytes(), want) {
		t.Errorf("docs/metrics.md is not what the code says (-update rewrites it): %v", err)
	}
}

// TestNames: base units at the end of names, counters in _total, one family of a
// name.
func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range append(metric.All(), series.Own()...) {
		stem, total := strings.CutSuffix(m.Name, "_total")
		if total != (m.Type == metric.Counter) {
			t.Errorf("%s is a %s", m.Name, m.Type)
		}
		if m.Unit != "" && !strings.HasSuffix(stem, "_"+m.Unit) {
			t.Errorf("%s is in %s", m.Name, m.Unit)
		}
		if seen[m.Name] || m.Help == "" || !strings.HasSuffix(m.Help, ".") {
			t.Errorf("%s: listed twice, or without a sentence of help", m.Name)
		}
		seen[m.Name] = true
	}
}

// everything is a window with all that agents send, and some that nobody knows.
func everything(i int, _ ledger.Node, w *window.Window) {
	w.Catalogue.Meters = append(w.Catalogue.Meters, window.Meter{Name: "dram0", Epoch: "e", Class: energy.Memory, Root: true})
	meters := map[metric.Scope]int{metric.OfGPU: i % 4, metric.OfNode: -1, metric.OfMeter: 4}
	for _, s := range metric.Sources() {
		gauge(w, meters[s.Scope], s.Wire, 1, 3, 2)
	}
	gauge(w, 0, "something_new", 1, 1, 1)
	w.Postings[0].Use = energy.Held
	w.Postings = append(w.Postings, window.Posting{Job: -1, Class: energy.Other, Use: energy.Idle, Energy: 5})
	w.Ranges = append(w.Ranges, window.Range{Meter: len(w.Catalogue.Meters) - 1, To: 5000})
}

// TestOnlyWhatIsListedIsStored, all of it is, and with the labels it is listed
// with.
func TestOnlyWhatIsListedIsStored(t *testing.T) {
	r := newRig(t, series.Options{Sums: sums.Options{Jobs: 10}}).run()
	r.live(begin, 12, 2, everything)
	code, a := r.get("/api/v1/series", "match[]", `{__name__=~".+"}`, "start", "1790002800", "end", "1790003000")
	if code != http.StatusOK {
		t.Fatalf("%d %s", code, a.Error)
	}
	var got []map[string]string
	if err := json.Unmarshal(a.Data, &got); err != nil {
		t.Fatal(err)
	}
	listed := map[string][]string{}
	for _, m := range metric.All() {
		listed[m.Name] = m.Labels
	}
	stored := map[string]bool{}
	for _, labels := range got {
		name := labels["__name__"]
		stored[name] = true
		var have []string
		for l := range labels {
			if l != "__name__" {
				have = append(have, l)
			}
		}
		want := slices.Clone(listed[name])
		slices.Sort(have)
		slices.Sort(want)
		if !slices.Equal(have, want) || want == nil {
			t.Errorf("%v: its labels are listed as %v", labels, want)
		}
	}
	for name := range listed {
		if !stored[name] {
			t.Errorf("%s is listed and was not stored", name)
		}
	}
	if got := r.metric(series.MetricRefused, "unknown_name"); got != 24 {
		t.Errorf("%v samples of an unknown name were refused; want 24", got)
	}
}

// TestOwnMetricsAreListed, and fit to be scraped.
func TestOwnMetricsAreListed(t *testing.T) {
	r := newRig(t, series.Options{}).run()
	r.live(begin, 3, 1)
	if problems, err := testutil.GatherAndLint(r.reg); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	families, err := r.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var have, want []string
	for _, f := range families {
		have = append(have, f.GetName())
	}
	for _, m := range series.Own() {
		want = append(want, m.Name)
	}
	slices.Sort(want)
	if !slices.Equal(have, want) {
		t.Errorf("have %v\nlisted %v", have, want)
	}
}
