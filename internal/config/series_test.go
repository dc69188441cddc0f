package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wattledger/wattledger/internal/config"
)

func TestSeries(t *testing.T) {
	dir := t.TempDir()
	f := func(text string) (config.Series, error) {
		t.Helper()
		path := filepath.Join(dir, "a.yaml")
		if err := os.WriteFile(path, []byte("data_dir: "+dir+"\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := config.LoadAggregator(path, config.AggregatorFlags{})
		if err != nil {
			return config.Series{}, err
		}
		return a.Series, nil
	}
	want := config.Series{
		Enabled: true, RetentionTime: 366 * 24 * time.Hour, RetentionBytes: 50 << 30, OutOfOrder: 26 * time.Hour, Wait: time.Minute,
		QueryTimeout: 30 * time.Second, MaxSamples: 20_000_000, MaxSeries: 300_000, Concurrency: 4,
	}
	if got, err := f(""); err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	want.RetentionTime, want.Jobs, want.Nodes = 30*24*time.Hour, 50, 25_000
	if got, err := f("series: {retention_time: 30d, nodes: 25000, jobs: {enabled: true, limit: 50}}"); err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	for text, wrong := range map[string]bool{
		"": false,
		"\nexporters: {remote_write: [{name: vm, url: \"http://127.0.0.1:1\"}]}": true,
		"\nalerts: {alertmanagers: [{url: \"http://127.0.0.1:1\"}]}":             true,
	} {
		if _, err := f("series: {enabled: false}" + text); (err != nil) != wrong || wrong && !strings.Contains(err.Error(), "series.enabled: false leaves") {
			t.Errorf("without series, and%s: %v", text, err)
		}
	}
	_, err := f("series: {enabled: maybe, retention_time: 1m, retention_size: 1, out_of_order: -1h, wait: 0s, query: {timeout: 1y, max_samples: 1, max_series: x, concurrency: 0}, jobs: {limit: 0}, nodes: -1}")
	if err == nil {
		t.Fatal("all of it is taken")
	}
	for _, want := range []string{
		"series.enabled: maybe is not true or false", "series.retention_time: 1m is not a duration from 2h to ", "series.retention_size: 1 is not a size",
		"series.out_of_order: -1h is not", "series.wait: 0s is not", "series.query.timeout: 1y is not", "series.query.max_samples: 1 is not",
		"series.query.max_series: x is not", "series.query.concurrency: 0 is not", "series.jobs.limit: 0 is not", "series.nodes: -1 is not",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no fault %q in:\n%v", want, err)
		}
	}
}
