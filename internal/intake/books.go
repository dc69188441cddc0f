package intake

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
)

// Names of the metrics of the books.
const (
	MetricProjectEnergy = "wattledger_project_energy_joules_total"
	MetricNodes         = "wattledger_nodes"
	MetricNodeLast      = "wattledger_node_last_window_timestamp_seconds"
	MetricBooksErrors   = "wattledger_books_scrape_errors_total"
)

// scrapeWithin bounds what a scrape may cost the ledger.
const scrapeWithin = 10 * time.Second

// Books shows the sums of a ledger as metrics, read when they are asked for.
// These are the only floating point numbers of the books, and they are for
// showing. Energy that no job held has the project "".
//
// A sum may go down: a remainder is signed, and sums move when a job is
// assigned. A counter that goes down would look started anew, and rate() would
// see its whole value as new energy; so what was shown is kept until the sum has
// passed it again. Reports read the ledger and know the difference.
type Books struct {
	ledger ledger.Ledger
	log    *zap.Logger
	errors prometheus.Counter

	energy, nodes, last *prometheus.Desc

	mu    sync.Mutex
	shown map[series]energy.Millijoules
}

// series names one counter.
type series struct {
	cluster, project string
	class            energy.Class
	use              energy.Use
}

// NewBooks makes the collector; register it once.
func NewBooks(l ledger.Ledger, log *zap.Logger) *Books {
	if log == nil {
		log = zap.NewNop()
	}
	return &Books{
		ledger: l, log: log, shown: map[series]energy.Millijoules{},
		errors: prometheus.NewCounter(prometheus.CounterOpts{Name: MetricBooksErrors, Help: "Scrapes for which the ledger did not give its sums."}),
		energy: prometheus.NewDesc(MetricProjectEnergy, "Energy booked to a project; to nobody where project is empty.",
			[]string{"cluster", "project", "class", "use"}, nil),
		nodes: prometheus.NewDesc(MetricNodes, "Nodes that are in the books and have not left them.", []string{"cluster"}, nil),
		last: prometheus.NewDesc(MetricNodeLast, "End of the last booked window: of the node that is furthest behind, and of the newest one.",
			[]string{"cluster", "which"}, nil),
	}
}

// Describe says what is collected.
func (b *Books) Describe(ch chan<- *prometheus.Desc) {
	ch <- b.energy
	ch <- b.nodes
	ch <- b.last
	b.errors.Describe(ch)
}

// Collect reads the ledger.
func (b *Books) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeWithin)
	defer cancel()
	if totals, err := b.ledger.Totals(ctx); err != nil {
		b.failed(err)
	} else {
		b.sums(ch, totals)
	}
	if nodes, err := b.ledger.Nodes(ctx); err != nil {
		b.failed(err)
	} else {
		b.health(ch, nodes)
	}
	b.errors.Collect(ch)
}

func (b *Books) failed(err error) {
	b.errors.Inc()
	b.log.Error("cannot show the sums of the ledger", zap.Error(err))
}

func (b *Books) sums(ch chan<- prometheus.Metric, totals []ledger.ProjectTotal) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range totals {
		t := &totals[i]
		for c := range t.Amounts.Energy {
			for u, mj := range t.Amounts.Energy[c] {
				name := series{t.Cluster, t.Project, energy.Class(c), energy.Use(u)}
				mj = max(mj, b.shown[name])
				if mj <= 0 {
					continue
				}
				b.shown[name] = mj
				ch <- prometheus.MustNewConstMetric(b.energy, prometheus.CounterValue, float64(mj.Joules()),
					t.Cluster, t.Project, energy.Class(c).String(), energy.Use(u).String())
			}
		}
	}
}

func (b *Books) health(ch chan<- prometheus.Metric, nodes []ledger.NodeStatus) {
	type span struct{ n, oldest, newest int64 }
	clusters := map[string]span{}
	for i := range nodes {
		if nodes[i].Left {
			continue
		}
		last := nodes[i].LastMS
		s, ok := clusters[nodes[i].Node.Cluster]
		if !ok {
			s = span{oldest: last, newest: last}
		}
		s.n, s.oldest, s.newest = s.n+1, min(s.oldest, last), max(s.newest, last)
		clusters[nodes[i].Node.Cluster] = s
	}
	for name, s := range clusters {
		ch <- prometheus.MustNewConstMetric(b.nodes, prometheus.GaugeValue, float64(s.n), name)
		ch <- prometheus.MustNewConstMetric(b.last, prometheus.GaugeValue, float64(s.oldest)/1e3, name, "oldest")
		ch <- prometheus.MustNewConstMetric(b.last, prometheus.GaugeValue, float64(s.newest)/1e3, name, "newest")
	}
}
