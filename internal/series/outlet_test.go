package series_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"

	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/series"
	"github.com/wattledger/wattledger/internal/series/sums"
	"github.com/wattledger/wattledger/internal/window"
)

// point is a sample as text, so that no digit is lost.
type point struct {
	MS int64
	V  string
}

// outlet notes what it is given.
type outlet struct {
	not  string // family that nobody wants
	mad  atomic.Bool
	mu   sync.Mutex
	got  map[string][]point // by the labels, as JSON spells them
	last int64              // newest stamp
	ends int
}

func (o *outlet) Series(l labels.Labels) any {
	if l.Get(model.MetricNameLabel) == o.not {
		return nil
	}
	b, err := json.Marshal(l.Map())
	if err != nil {
		return nil
	}
	return string(b)
}

func (o *outlet) Take(list []series.Handed) {
	if o.mad.Load() {
		panic("no receiver")
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, h := range list {
		if value.IsStaleNaN(h.V) { // the end of a series; queries do not show it
			o.ends++
			continue
		}
		name := h.Of.(string)
		p := point{h.MS, strconv.FormatFloat(h.V, 'f', -1, 64)}
		if !slices.Contains(o.got[name], p) {
			o.got[name] = append(o.got[name], p)
		}
		o.last = max(o.last, h.MS)
	}
}

func (o *outlet) newest() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last
}

// stored is every sample that the store holds.
func (r *rig) stored(at int64) map[string][]point {
	r.t.Helper()
	code, a := r.get("/api/v1/query", "query", `{__name__=~".+"}[3h]`, "time", fmt.Sprint(at/1000))
	if code != http.StatusOK {
		r.t.Fatalf("%d %s", code, a.Error)
	}
	var data struct {
		Result []struct {
			Metric map[string]string
			Values [][2]any
		}
	}
	if err := json.Unmarshal(a.Data, &data); err != nil {
		r.t.Fatal(err)
	}
	out := map[string][]point{}
	for _, s := range data.Result {
		name, err := json.Marshal(s.Metric)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, v := range s.Values {
			f, err := strconv.ParseFloat(v[1].(string), 64)
			if err != nil {
				r.t.Fatal(err)
			}
			out[string(name)] = append(out[string(name)], point{int64(v[0].(float64)*1000 + 0.5), strconv.FormatFloat(f, 'f', -1, 64)})
		}
	}
	return out
}

// same holds what was handed out against what is stored, but for the family that
// nobody wants.
func (o *outlet) same(r *rig, at int64) {
	r.t.Helper()
	want := r.stored(at)
	for name := range want {
		var l map[string]string
		if err := json.Unmarshal([]byte(name), &l); err != nil {
			r.t.Fatal(err)
		}
		if l["__name__"] == o.not {
			delete(want, name)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, points := range o.got {
		slices.SortFunc(points, func(a, b point) int { return int(a.MS - b.MS) })
	}
	if diff := cmp.Diff(want, o.got); diff != "" || len(want) < 50 {
		r.t.Errorf("%d series are stored; -stored +handed out:\n%.3000s", len(want), diff)
	}
}

// TestOutletIsGivenWhatIsStored: every sample of nodes and sums that is stored,
// with its stamp and value, and nothing that was refused; late, doubled and
// impossible windows among them.
func TestOutletIsGivenWhatIsStored(t *testing.T) {
	o := &outlet{not: "wattledger_gpu_processes", got: map[string][]point{}}
	r := newRig(t, series.Options{Outlet: o, Sums: sums.Options{Jobs: 10}}).run()
	r.live(begin, 12, 2, everything, func(i int, n ledger.Node, w *window.Window) {
		if i != 7 {
			return
		}
		late, never := *w, *w
		late.StartMS, late.EndMS = late.StartMS-40_000, late.EndMS-40_000 // has other values by then
		never.StartMS, never.EndMS = never.StartMS+86_400_000, never.EndMS+86_400_000
		r.store.Booked(n, &late)
		r.store.Booked(n, &never)
	})
	o.same(r, begin+1_000_000)
	if r.metric(series.MetricRefused) == 0 {
		t.Error("nothing was refused: the test shows too little")
	}
}

// TestOutletComesBeforeTheCommit, so that what is stored is not missing
// elsewhere whenever the process dies; a commit that fails loses nothing either.
func TestOutletComesBeforeTheCommit(t *testing.T) {
	o := &outlet{got: map[string][]point{}}
	r := newRig(t, series.Options{Outlet: o})
	var full, mad atomic.Bool
	r.store.Through(func(a storage.Appendable) storage.Appendable { return ill{a, &full, &mad} })
	r.run()
	r.live(begin, 6, 2, everything)
	full.Store(true)
	r.at(begin + 70_500)
	r.store.Booked(node("n0"), gpus(begin+60_000, 4, 200))
	r.until("a commit failed", func() bool { return r.metric(series.MetricErrors, "append") > 0 })
	if got := o.newest(); got != begin+70_000 {
		t.Errorf("before the commit the newest sample handed out is of %d s; want 70", (got-begin)/1000)
	}
	full.Store(false)
	r.now.Add(60_000)
	r.live(begin+120_000, 3, 2, everything)
	o.same(r, begin+1_000_000)
	if o.ends == 0 {
		t.Error("that the project's power ended meanwhile was not handed out")
	}
}

// TestOutletThatPanics costs itself.
func TestOutletThatPanics(t *testing.T) {
	o := &outlet{got: map[string][]point{}}
	o.mad.Store(true)
	r := newRig(t, series.Options{Outlet: o}).run()
	r.live(begin, 6, 2)
	if got := r.value("count_over_time(wattledger_node_power_watts{node=\"n1\"}[60s])", begin+60_000); got != 60 {
		t.Errorf("%v samples stored; want 60", got)
	}
	if r.metric(series.MetricErrors, "panic") == 0 {
		t.Error("the panic is not counted")
	}
}
