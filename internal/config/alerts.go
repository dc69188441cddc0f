package config

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/wattledger/wattledger/internal/energy"
)

// Alerts are the rules that the aggregator evaluates, and who is told. They
// need the store of series.
type Alerts struct {
	Builtin       bool     // the rules that come with the aggregator
	RuleFiles     []string // patterns of others beside them
	Alertmanagers []Alertmanager
	ExternalURL   string // where people reach the aggregator; "": alerts have no link
	Every         time.Duration
	Resend        time.Duration // an alert that lasts is sent again so often
}

// Alertmanager is one that takes alerts.
type Alertmanager struct {
	URL       string // without /api/v2/alerts
	TokenFile string // "": none is sent
	CAFile    string // "": the system's authorities
}

// alertsFile is the part of the file as it is written.
type alertsFile struct {
	Builtin       string   `yaml:"builtin"`
	RuleFiles     []string `yaml:"rule_files"`
	Alertmanagers []struct {
		URL       string `yaml:"url"`
		TokenFile string `yaml:"token_file"`
		CAFile    string `yaml:"ca_file"`
	} `yaml:"alertmanagers"`
	ExternalURL string `yaml:"external_url"`
	Every       string `yaml:"evaluate_every"`
	Resend      string `yaml:"resend"`
}

func alertsDefaults() alertsFile {
	return alertsFile{Builtin: "true", Every: "15s", Resend: "1m"}
}

func (c *checker) alerts(f *alertsFile) Alerts {
	a := Alerts{
		Builtin: c.truth("alerts.builtin", f.Builtin), RuleFiles: f.RuleFiles,
		ExternalURL: strings.TrimSuffix(f.ExternalURL, "/"),
		Every:       c.duration("alerts.evaluate_every", f.Every, time.Second, 10*time.Minute),
		Resend:      c.duration("alerts.resend", f.Resend, time.Second, time.Hour),
	}
	for i, pattern := range f.RuleFiles {
		// What is in the files is seen when they are read.
		if _, err := filepath.Match(pattern, ""); err != nil || !filepath.IsAbs(pattern) {
			c.bad(fmt.Sprintf("alerts.rule_files[%d]", i), pattern, "the path of a file of rules or a pattern of such paths, like /etc/wattledger/rules/*.yml")
		}
	}
	if f.ExternalURL != "" && !address(f.ExternalURL) {
		c.bad("alerts.external_url", f.ExternalURL, "the address at which people reach the aggregator, like https://wattledger.example.org")
	}
	seen := map[string]bool{}
	for i, m := range f.Alertmanagers {
		key := fmt.Sprintf("alerts.alertmanagers[%d]", i)
		am := Alertmanager{URL: strings.TrimSuffix(m.URL, "/"), TokenFile: m.TokenFile, CAFile: m.CAFile}
		c.alertmanager(key, &am)
		if seen[am.URL] {
			c.bad(key+".url", m.URL, "an Alertmanager that is named once")
		}
		seen[am.URL] = true
		a.Alertmanagers = append(a.Alertmanagers, am)
	}
	return a
}

func (c *checker) alertmanager(key string, m *Alertmanager) {
	switch u, err := url.Parse(m.URL); {
	case err == nil && u.User != nil:
		c.bad(key+".url", u.Redacted(), "an address without a password: use token_file")
	case !address(m.URL) || strings.HasSuffix(m.URL, "/api/v2/alerts"):
		c.bad(key+".url", m.URL, "the address of an Alertmanager without the path of its API, like https://alertmanager:9093")
	case u.Scheme == "http" && !isLoopback(u.Hostname()) && m.TokenFile != "":
		c.bad(key+".url", m.URL, "a safe way for a token: use https")
	}
	c.secret(key+".token_file", m.TokenFile)
	if pem := c.file(key+".ca_file", m.CAFile); pem != nil && !x509.NewCertPool().AppendCertsFromPEM(pem) {
		c.bad(key+".ca_file", m.CAFile, "a file of certificates (PEM)")
	}
}

// address tells whether s is one of a web server, without a query.
func address(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && u.User == nil && u.RawQuery == "" && u.Fragment == ""
}

// contract reads a power in whole watts; "" is none.
func (c *checker) contract(key, s string) energy.Microwatts {
	if s == "" {
		return 0
	}
	return energy.Microwatts(c.integer(key, s, 1, 1e12)) * energy.Watt
}
