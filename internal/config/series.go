package config

import (
	"time"

	"github.com/prometheus/common/model"
)

// Series are the settings of the aggregator's store of series.
type Series struct {
	Enabled        bool
	RetentionTime  time.Duration
	RetentionBytes int64
	OutOfOrder     time.Duration // how late samples may come
	Wait           time.Duration // how long sums wait for a node
	Nodes          int           // that the store is laid out for, at least
	QueryTimeout   time.Duration
	MaxSamples     int
	MaxSeries      int
	Concurrency    int
	Jobs           int // that have series of their own; 0 for none
}

// seriesFile is the part of the file as it is written.
type seriesFile struct {
	Enabled       string `yaml:"enabled"`
	RetentionTime string `yaml:"retention_time"`
	RetentionSize string `yaml:"retention_size"`
	OutOfOrder    string `yaml:"out_of_order"`
	Wait          string `yaml:"wait"`
	Nodes         string `yaml:"nodes"`
	Query         struct {
		Timeout     string `yaml:"timeout"`
		MaxSamples  string `yaml:"max_samples"`
		MaxSeries   string `yaml:"max_series"`
		Concurrency string `yaml:"concurrency"`
	} `yaml:"query"`
	Jobs struct {
		Enabled string `yaml:"enabled"`
		Limit   string `yaml:"limit"`
	} `yaml:"jobs"`
}

func seriesDefaults() seriesFile {
	f := seriesFile{Enabled: "true", RetentionTime: "366d", RetentionSize: "50GiB", OutOfOrder: "26h", Wait: "1m", Nodes: "0"}
	f.Query.Timeout, f.Query.MaxSamples, f.Query.MaxSeries, f.Query.Concurrency = "30s", "20000000", "300000", "4"
	f.Jobs.Enabled, f.Jobs.Limit = "false", "1000"
	return f
}

func (c *checker) series(f *seriesFile) Series {
	const day = 24 * time.Hour
	s := Series{
		Enabled:        c.truth("series.enabled", f.Enabled),
		RetentionTime:  c.days("series.retention_time", f.RetentionTime, 2*time.Hour, 10*366*day),
		RetentionBytes: c.size("series.retention_size", f.RetentionSize, 1<<28),
		OutOfOrder:     c.days("series.out_of_order", f.OutOfOrder, time.Minute, 366*day),
		Wait:           c.duration("series.wait", f.Wait, time.Second, time.Hour),
		Nodes:          int(c.integer("series.nodes", f.Nodes, 0, 1e6)),
		QueryTimeout:   c.duration("series.query.timeout", f.Query.Timeout, time.Second, 10*time.Minute),
		MaxSamples:     int(c.integer("series.query.max_samples", f.Query.MaxSamples, 1000, 1e9)),
		MaxSeries:      int(c.integer("series.query.max_series", f.Query.MaxSeries, 100, 1e8)),
		Concurrency:    int(c.integer("series.query.concurrency", f.Query.Concurrency, 1, 1000)),
	}
	limit := int(c.integer("series.jobs.limit", f.Jobs.Limit, 1, 100_000))
	if c.truth("series.jobs.enabled", f.Jobs.Enabled) {
		s.Jobs = limit
	}
	return s
}

// days reads a duration that may be written in days, as Prometheus does: 30d.
func (c *checker) days(key, s string, least, most time.Duration) time.Duration {
	d, err := model.ParseDuration(s)
	if err != nil || time.Duration(d) < least || time.Duration(d) > most {
		c.bad(key, s, "a duration from "+model.Duration(least).String()+" to "+model.Duration(most).String()+", like 36h or 30d")
	}
	return time.Duration(d)
}
