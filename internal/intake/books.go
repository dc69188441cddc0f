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
	MetricProjectHeld   = "wattledger_project_held_energy_joules_total"
	MetricClusterEnergy = "wattledger_cluster_energy_joules_total"
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

	energy, held, uses, nodes, last *prometheus.Desc

	mu    sync.Mutex
	shown map[series]energy.Millijoules
}

// series names one counter.
type series struct {
	desc *prometheus.Desc
	a, b string // labels after that of the cluster
	of   string // cluster
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
			[]string{"cluster", "project"}, nil),
		held: prometheus.NewDesc(MetricProjectHeld, "The part of it that was burnt while the devices held did nothing.",
			[]string{"cluster", "project"}, nil),
		uses: prometheus.NewDesc(MetricClusterEnergy, "Energy booked, by class of hardware and by use.",
			[]string{"cluster", "class", "use"}, nil),
		nodes: prometheus.NewDesc(MetricNodes, "Nodes that are in the books and have not left them.", []string{"cluster"}, nil),
		last: prometheus.NewDesc(MetricNodeLast, "End of the last booked window: of the node that is furthest behind, and of the newest one.",
			[]string{"cluster", "which"}, nil),
	}
}

// Describe says what is collected.
func (b *Books) Describe(ch chan<- *prometheus.Desc) {
	ch <- b.energy
	ch <- b.held
	ch <- b.uses
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
	sums := map[series]energy.Millijoules{}
	for i := range totals {
		t := &totals[i]
		sums[series{b.energy, t.Project, "", t.Cluster}] += t.Amounts.Total()
		if t.Project != "" {
			sums[series{b.held, t.Project, "", t.Cluster}] += t.Amounts.Use(energy.Held)
		}
		for c := range t.Amounts.Energy {
			for u, mj := range t.Amounts.Energy[c] {
				if mj != 0 {
					sums[series{b.uses, energy.Class(c).String(), energy.Use(u).String(), t.Cluster}] += mj
				}
			}
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, mj := range sums {
		mj = max(mj, b.shown[name])
		b.shown[name] = mj
		labels := []string{name.of, name.a}
		if name.desc == b.uses {
			labels = append(labels, name.b)
		}
		ch <- prometheus.MustNewConstMetric(name.desc, prometheus.CounterValue, float64(mj.Joules()), labels...)
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
