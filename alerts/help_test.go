package alerts_test

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/wattledger/wattledger/alerts"
)

// rig is a store with a manager over it.
type rig struct {
	t     *testing.T
	db    *tsdb.DB
	asked atomic.Int64 // queries
	reg   *prometheus.Registry
	logs  *observer.ObservedLogs
	m     *alerts.Manager
	stop  func()
}

func newRig(t *testing.T) *rig {
	t.Helper()
	o := tsdb.DefaultOptions()
	o.OutOfOrderTimeWindow = (26 * time.Hour).Milliseconds()
	db, err := tsdb.Open(t.TempDir(), nil, nil, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return &rig{t: t, db: db}
}

// Querier counts who asks.
func (r *rig) Querier(from, to int64) (storage.Querier, error) {
	r.asked.Add(1)
	return r.db.Querier(from, to)
}

func (r *rig) Appender(ctx context.Context) storage.Appender { return r.db.Appender(ctx) }

// start runs a manager over the store; stop ends it.
func (r *rig) start(o alerts.Options) {
	r.t.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	r.reg, r.logs = prometheus.NewPedanticRegistry(), logs
	o.Storage, o.Engine, o.Registerer, o.Log = r, engine(), r.reg, zap.New(core)
	if o.Every == 0 {
		o.Every = 50 * time.Millisecond
	}
	if o.Resend == 0 {
		o.Resend = 100 * time.Millisecond
	}
	m, err := alerts.New(o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.m = m
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := m.Run(ctx); err != nil {
			r.t.Error(err)
		}
	}()
	r.stop = func() {
		cancel()
		<-done
	}
	r.t.Cleanup(r.stop)
}

// put stores a sample; labels are pairs, the name first.
func (r *rig) put(at time.Time, v float64, name string, pairs ...string) {
	r.t.Helper()
	app := r.db.Appender(r.t.Context())
	if _, err := app.Append(0, labels.FromStrings(append([]string{model.MetricNameLabel, name}, pairs...)...), at.UnixMilli(), v); err != nil {
		r.t.Fatal(err)
	}
	if err := app.Commit(); err != nil {
		r.t.Fatal(err)
	}
}

// state is that of an alert: unknown, inactive, pending or firing.
func (r *rig) state(alert string) string {
	for _, a := range r.m.Rules().AlertingRules() {
		if a.Name() == alert {
			return a.State().String()
		}
	}
	return "none"
}

func (r *rig) metric(name string) float64 {
	r.t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func (r *rig) until(what string, f func() bool) {
	r.t.Helper()
	for end := time.Now().Add(30 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("never came: %s\n%v", what, r.logs.All())
		}
	}
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// oneRule is a file with an alert on power above 5, with more keys.
func oneRule(t *testing.T, name, more string) string {
	t.Helper()
	return write(t, filepath.Join(t.TempDir(), "site.yml"), "groups:\n- name: site\n  rules:\n  - alert: "+name+"\n    expr: power > 5\n    "+more+"\n")
}

// sent is an alert as an Alertmanager gets it.
type sent struct {
	Labels       map[string]string
	Annotations  map[string]string
	StartsAt     time.Time
	EndsAt       time.Time
	GeneratorURL string
}

// receiver is an Alertmanager, as far as it takes alerts.
type receiver struct {
	down  atomic.Bool
	token string

	mu  sync.Mutex
	got []sent
}

func (a *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var list []sent
	switch {
	case a.down.Load():
		http.Error(w, "not now", http.StatusInternalServerError)
	case r.URL.Path != "/am/api/v2/alerts" || r.Method != http.MethodPost:
		http.Error(w, "no such path: "+r.URL.Path, http.StatusNotFound)
	case r.Header.Get("Authorization") != a.token:
		http.Error(w, "who are you", http.StatusUnauthorized)
	case json.NewDecoder(r.Body).Decode(&list) != nil:
		http.Error(w, "no alerts", http.StatusBadRequest)
	default:
		a.mu.Lock()
		defer a.mu.Unlock()
		a.got = append(a.got, list...)
	}
}

// last is the newest that was taken of an alert.
func (a *receiver) last(alert string) (sent, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range slices.Backward(a.got) {
		if s.Labels["alertname"] == alert {
			return s, true
		}
	}
	return sent{}, false
}
