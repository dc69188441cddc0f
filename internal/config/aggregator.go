package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/wattledger/wattledger/internal/energy"
)

// Aggregator is what wattledger-aggregator works with.
type Aggregator struct {
	DataDir     string
	Listen      string
	CertFile    string // both or none
	KeyFile     string
	TokensFile  string // "": everybody on the (loopback) listener may do everything
	CommitEvery time.Duration
	Zone        *time.Location
	Zones       map[string]*time.Location // by cluster
	Accounting  map[string]Accounting     // by cluster
	Future      time.Duration
	Contract    map[string]energy.Microwatts // by cluster: what its site may draw
	Series      Series
	Alerts      Alerts
	Exporters   Exporters
	LogLevel    string
}

// ZoneOf is the zone whose midnight begins a month of a cluster.
func (a *Aggregator) ZoneOf(cluster string) *time.Location {
	if z := a.Zones[cluster]; z != nil {
		return z
	}
	return a.Zone
}

// AggregatorFlags override the file where they are not empty.
type AggregatorFlags struct{ DataDir, Listen string }

// aggregatorFile is the file as it is written.
type aggregatorFile struct {
	DataDir string `yaml:"data_dir"`
	Listen  string `yaml:"listen"`
	TLS     struct {
		CertFile string `yaml:"cert_file"`
		KeyFile  string `yaml:"key_file"`
	} `yaml:"tls"`
	TokensFile  string `yaml:"tokens_file"`
	CommitEvery string `yaml:"commit_every"`
	Timezone    string `yaml:"timezone"`
	Clusters    []struct {
		Name       string          `yaml:"name"`
		Timezone   string          `yaml:"timezone"`
		Contract   string          `yaml:"contract_watts"`
		Accounting *accountingFile `yaml:"accounting"`
	} `yaml:"clusters"`
	Quarantine struct {
		Future string `yaml:"future"`
	} `yaml:"quarantine"`
	Series    seriesFile    `yaml:"series"`
	Alerts    alertsFile    `yaml:"alerts"`
	Exporters exportersFile `yaml:"exporters"`
	Log       struct {
		Level string `yaml:"level"`
	} `yaml:"log"`
}

func aggregatorDefaults() *aggregatorFile {
	f := &aggregatorFile{DataDir: "/var/lib/wattledger", Listen: "127.0.0.1:9440", CommitEvery: "150ms", Timezone: "UTC"}
	f.Quarantine.Future, f.Log.Level = "5m", "info"
	f.Series, f.Alerts = seriesDefaults(), alertsDefaults()
	return f
}

// LoadAggregator reads a file ("" for none). The error lists every fault.
func LoadAggregator(path string, flags AggregatorFlags) (*Aggregator, error) {
	c, f := &checker{}, aggregatorDefaults()
	if err := c.read(path, f); err != nil {
		return nil, err
	}
	if flags.DataDir != "" {
		f.DataDir = flags.DataDir
	}
	if flags.Listen != "" {
		f.Listen = flags.Listen
	}
	a := &Aggregator{
		DataDir: c.folder("data_dir", f.DataDir), Listen: f.Listen,
		CertFile: f.TLS.CertFile, KeyFile: f.TLS.KeyFile, TokensFile: f.TokensFile,
		CommitEvery: c.duration("commit_every", f.CommitEvery, time.Millisecond, 5*time.Second),
		Zone:        c.zone("timezone", f.Timezone), Zones: map[string]*time.Location{},
		Accounting: map[string]Accounting{}, Contract: map[string]energy.Microwatts{},
		Future:    c.duration("quarantine.future", f.Quarantine.Future, time.Second, 24*time.Hour),
		Series:    c.series(&f.Series),
		Alerts:    c.alerts(&f.Alerts),
		Exporters: c.exporters(f.DataDir, &f.Exporters),
		LogLevel:  c.level("log.level", f.Log.Level),
	}
	for i, cl := range f.Clusters {
		key := fmt.Sprintf("clusters[%d]", i)
		c.name(key+".name", cl.Name, "a cluster")
		if a.Zones[cl.Name] != nil {
			c.bad(key+".name", cl.Name, "a cluster that is named once")
		}
		if a.Zones[cl.Name] = a.Zone; cl.Timezone != "" {
			a.Zones[cl.Name] = c.zone(key+".timezone", cl.Timezone)
		}
		if w := c.contract(key+".contract_watts", cl.Contract); w > 0 {
			a.Contract[cl.Name] = w
		}
		if cl.Accounting != nil {
			a.Accounting[cl.Name] = c.accounting(key+".accounting", cl.Name, cl.Accounting)
		}
	}
	if !a.Series.Enabled && len(a.Exporters.RemoteWrite)+len(a.Exporters.InfluxDB)+len(a.Alerts.Alertmanagers)+len(a.Alerts.RuleFiles) > 0 {
		c.cannot("series.enabled", errors.New("false leaves exporters and alerts without anything to send or to look at: turn it on, or remove them"))
	}
	c.checkListener(f)
	if err := c.err(); err != nil {
		return nil, err
	}
	return a, nil
}

// checkListener refuses to be reachable from elsewhere without TLS and tokens.
func (c *checker) checkListener(f *aggregatorFile) {
	loopback := c.listen("listen", f.Listen)
	c.file("tokens_file", f.TokensFile)
	withTLS := f.TLS.CertFile != "" || f.TLS.KeyFile != ""
	if withTLS {
		if _, err := tls.LoadX509KeyPair(f.TLS.CertFile, f.TLS.KeyFile); err != nil {
			c.cannot("tls", fmt.Errorf("cert_file %q and key_file %q are not a certificate and its key: %w", f.TLS.CertFile, f.TLS.KeyFile, err))
		}
	}
	if loopback {
		return
	}
	if !withTLS {
		c.cannot("tls.cert_file", errors.New(`"" is not a certificate: the listener `+f.Listen+" can be reached from elsewhere and needs TLS"))
	}
	if f.TokensFile == "" {
		c.cannot("tokens_file", errors.New(`"" is not a file of tokens: the listener `+f.Listen+" can be reached from elsewhere and needs them"))
	}
}
