package alerts

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/notifier"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/wattledger/wattledger/internal/obs"
	"github.com/wattledger/wattledger/internal/series/metric"
)

// Names of the metrics. The second and third are those of Prometheus' packages
// that rules ask for.
const (
	MetricCurrent  = "wattledger_alert_rules_current"
	MetricFailures = "prometheus_rule_evaluation_failures_total"
	MetricDropped  = "prometheus_notifications_dropped_total"
)

const (
	// outageTolerance is how long a restart may take for an alert that waits or
	// fires to go on where it was.
	outageTolerance = time.Hour
	// graceAfter is for how long an alert that waited must be seen again after a
	// restart, at least.
	graceAfter = time.Minute
	// readyEvery is how often it is asked whether the store is open.
	readyEvery = 500 * time.Millisecond
	// stopWithin is how long what is queued for Alertmanagers may take at the end.
	stopWithin = 5 * time.Second
)

// Storage is where rules read and write: internal/series has it.
type Storage interface {
	storage.Queryable
	storage.Appendable
}

// Options say what is evaluated, over what, and who is told. Storage and Engine
// are needed.
type Options struct {
	Storage Storage
	Engine  promql.QueryEngine
	// Ready says why the storage cannot be asked; nil for one that always can.
	Ready func() error
	// Builtin: the rules that come with the aggregator; Files are patterns of
	// files beside them.
	Builtin       bool
	Files         []string
	Alertmanagers []Alertmanager
	// ExternalURL is where people reach the aggregator, for links; "" for none.
	ExternalURL string
	// Every is how often rules are evaluated whose group does not say (15 s).
	Every time.Duration
	// Resend is after how long an alert that lasts is sent again (1 m).
	Resend     time.Duration
	Log        *zap.Logger
	Registerer prometheus.Registerer
}

// Manager evaluates rules and sends alerts. Run once; the rest may be called
// from any goroutine.
type Manager struct {
	o        Options
	set      atomic.Pointer[ruleSet]
	rules    *rules.Manager
	notifier *notifier.Manager
	targets  map[string][]*targetgroup.Group
	cancel   context.CancelFunc // ends queries under way
	current  prometheus.Gauge

	mu      sync.Mutex // of what follows, and of loading
	running bool
}

// Own lists the metrics that alert rules may ask for of this package: its own,
// and those of Prometheus' packages that it registers, among others.
func Own() []metric.Metric {
	return []metric.Metric{
		{Name: MetricCurrent, Type: metric.Gauge, Help: "1 where the rules in force are what the rule files say; 0 after a reload that was refused."},
		{Name: MetricFailures, Type: metric.Counter, Labels: []string{"rule_group"}, Help: "Evaluations of rules that failed."},
		{Name: MetricDropped, Type: metric.Counter, Labels: []string{"alertmanager"}, Help: "Alerts that an Alertmanager did not take. Those that last are sent again."},
	}
}

// New reads the rules; a wrong file is an error with file, line and reason.
// Nothing is evaluated before Run.
func New(o Options) (*Manager, error) {
	if o.Storage == nil || o.Engine == nil {
		return nil, errors.New("cannot evaluate alert rules: a storage and an engine are needed")
	}
	o.setDefaults()
	external, err := url.Parse(o.ExternalURL)
	if err != nil {
		return nil, fmt.Errorf("cannot link alerts to %q: %w", o.ExternalURL, err)
	}
	set, err := readRules(o.Builtin, o.Files)
	if err != nil {
		return nil, err
	}
	m := &Manager{o: o, current: prometheus.NewGauge(prometheus.GaugeOpts{Name: MetricCurrent, Help: Own()[0].Help})}
	m.set.Store(set)
	m.current.Set(1)
	log := seldom(o.Log)
	if m.notifier, m.targets, err = openNotifier(&o, log); err != nil {
		return nil, err
	}
	if o.Registerer != nil {
		if err := o.Registerer.Register(m.current); err != nil {
			return nil, fmt.Errorf("cannot register metrics of alerts: %w", err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	m.rules = rules.NewManager(&rules.ManagerOptions{
		ExternalURL: external, QueryFunc: rules.EngineQueryFunc(o.Engine, o.Storage), NotifyFunc: m.notify, Context: ctx,
		Appendable: o.Storage, Queryable: o.Storage, Logger: obs.Slog(log, "alerts"), Registerer: o.Registerer,
		OutageTolerance: outageTolerance, ForGracePeriod: graceAfter, ResendDelay: o.Resend, GroupLoader: loader{m}, Parser: promQL(),
	})
	return m, nil
}

func (o *Options) setDefaults() {
	if o.Every <= 0 {
		o.Every = 15 * time.Second
	}
	if o.Resend <= 0 {
		o.Resend = time.Minute
	}
	if o.Ready == nil {
		o.Ready = func() error { return nil }
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
}

// seldom writes a message thrice in ten minutes at most: a rule that fails does
// so four times a minute, and is counted.
func seldom(log *zap.Logger) *zap.Logger {
	return log.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core {
		return zapcore.NewSamplerWithOptions(c, 10*time.Minute, 3, 0)
	}))
}

// loader gives the rules manager the files of the set in force.
type loader struct{ m *Manager }

func (l loader) Load(name string, lax bool, s model.ValidationScheme) (*rulefmt.RuleGroups, []error) {
	return l.m.set.Load().Load(name, lax, s)
}

func (l loader) Parse(expr string) (parser.Expr, error) { return l.m.set.Load().Parse(expr) }

// Rules is for series.Store.SetRules: what /rules and /alerts show.
func (m *Manager) Rules() *rules.Manager { return m.rules }

// Reload reads the rule files again. If any is wrong, nothing changes and the
// error says which, where and why.
func (m *Manager) Reload() error {
	set, err := readRules(m.o.Builtin, m.o.Files)
	if err != nil {
		m.current.Set(0)
		return fmt.Errorf("cannot read the alert rules again, those in force go on: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.set.Store(set)
	m.current.Set(1)
	return m.load()
}

// load brings the set into force, if rules are evaluated at all; m.mu is held.
func (m *Manager) load() error {
	if !m.running {
		return nil
	}
	if err := m.rules.Update(m.o.Every, m.set.Load().names, labels.EmptyLabels(), m.o.ExternalURL, nil); err != nil {
		return fmt.Errorf("BUG: cannot take rules that were found to be right: %w", err)
	}
	return nil
}

// Run evaluates and sends until ctx ends. Rules wait for the storage.
func (m *Manager) Run(ctx context.Context) error {
	m.mu.Lock()
	m.running = true
	err := m.load()
	m.mu.Unlock()
	if err != nil {
		return err
	}
	sending, evaluating := make(chan struct{}), make(chan struct{})
	targets := make(chan map[string][]*targetgroup.Group)
	go func() {
		defer close(sending)
		m.notifier.Run(targets)
	}()
	targets <- m.targets
	ready := m.wait(ctx)
	go func() {
		defer close(evaluating)
		m.rules.Run()
	}()
	if ready {
		m.o.Log.Info("alert rules are evaluated", zap.Int("files", len(m.set.Load().names)), zap.Int("alertmanagers", len(m.o.Alertmanagers)))
		<-ctx.Done()
	}
	m.cancel()
	m.rules.Stop()
	<-evaluating
	m.notifier.Stop()
	select {
	case <-sending:
	case <-time.After(stopWithin):
		m.o.Log.Warn("alerts wait for an Alertmanager that does not answer; those that last are sent after the next start")
	}
	return nil
}

// wait returns when the storage can be asked (true), or ctx has ended.
func (m *Manager) wait(ctx context.Context) bool {
	t := time.NewTicker(readyEvery)
	defer t.Stop()
	for m.o.Ready() != nil {
		select {
		case <-ctx.Done():
			return false
		case <-t.C:
		}
	}
	return ctx.Err() == nil
}
