package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net/http"
	"net/textproto"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Exporters are the receivers that series are sent to beside the aggregator's
// own store.
type Exporters struct {
	RemoteWrite []Receiver
	InfluxDB    []Receiver
}

// Receiver is one of them.
type Receiver struct {
	Name    string
	URL     string
	Org     string // of InfluxDB
	Bucket  string // of InfluxDB
	Headers map[string]string

	TokenFile    string // "": none
	User         string // "": none
	PasswordFile string

	CAFile, CertFile, KeyFile, ServerName string // "": none

	Labels map[string]string // added to each series
	Only   []string          // patterns of names; none: all

	Samples     int           // of a request
	Linger      time.Duration // until a request goes that is not full
	Timeout     time.Duration
	Rewind      time.Duration // below 0 for none
	BufferDir   string
	BufferBytes int64
}

// exportersFile is the part of the file as it is written.
type exportersFile struct {
	RemoteWrite []receiverFile `yaml:"remote_write"`
	InfluxDB    []influxFile   `yaml:"influxdb"`
}

type influxFile struct {
	receiverFile `yaml:",inline"`

	Org    string `yaml:"org"`
	Bucket string `yaml:"bucket"`
}

type receiverFile struct {
	Name      string            `yaml:"name"`
	URL       string            `yaml:"url"`
	Headers   map[string]string `yaml:"headers"`
	TokenFile string            `yaml:"token_file"`
	BasicAuth struct {
		User         string `yaml:"user"`
		PasswordFile string `yaml:"password_file"`
	} `yaml:"basic_auth"`
	TLS struct {
		CAFile     string `yaml:"ca_file"`
		CertFile   string `yaml:"cert_file"`
		KeyFile    string `yaml:"key_file"`
		ServerName string `yaml:"server_name"`
	} `yaml:"tls"`
	Labels  map[string]string `yaml:"labels"`
	Only    []string          `yaml:"only"`
	Samples string            `yaml:"samples"`
	Linger  string            `yaml:"linger"`
	Timeout string            `yaml:"timeout"`
	Rewind  string            `yaml:"rewind"`
	Buffer  string            `yaml:"buffer"`
}

// exporters checks the receivers. Their buffers lie in the aggregator's folder.
func (c *checker) exporters(dataDir string, f *exportersFile) Exporters {
	var e Exporters
	seen := map[string]bool{}
	add := func(kind string, i int, f *receiverFile) Receiver {
		key := fmt.Sprintf("exporters.%s[%d]", kind, i)
		r := c.receiver(key, f)
		r.BufferDir = filepath.Join(dataDir, "exporters", kind+"-"+r.Name)
		if seen[r.Name] {
			c.bad(key+".name", r.Name, "the name of one exporter alone")
		}
		seen[r.Name] = true
		return r
	}
	for i := range f.RemoteWrite {
		e.RemoteWrite = append(e.RemoteWrite, add("remote_write", i, &f.RemoteWrite[i]))
	}
	for i := range f.InfluxDB {
		in := &f.InfluxDB[i]
		r := add("influxdb", i, &in.receiverFile)
		key := fmt.Sprintf("exporters.influxdb[%d]", i)
		if r.Org, r.Bucket = in.Org, in.Bucket; r.Bucket == "" {
			c.bad(key+".bucket", r.Bucket, "a bucket, or database/retention-policy of InfluxDB 1.8")
		}
		if u, err := url.Parse(r.URL); err == nil && u.RawQuery != "" {
			c.bad(key+".url", r.URL, "the address of a server without parameters, like https://influx:8086")
		}
		e.InfluxDB = append(e.InfluxDB, r)
	}
	return e
}

var (
	receiverName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`) // it names a folder too
	labelName    = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
)

func (c *checker) receiver(key string, f *receiverFile) Receiver {
	or := func(s, instead string) string {
		if s == "" {
			return instead
		}
		return s
	}
	r := Receiver{
		Name: f.Name, URL: f.URL, Headers: f.Headers, Labels: f.Labels, Only: f.Only,
		TokenFile: f.TokenFile, User: f.BasicAuth.User, PasswordFile: f.BasicAuth.PasswordFile,
		CAFile: f.TLS.CAFile, CertFile: f.TLS.CertFile, KeyFile: f.TLS.KeyFile, ServerName: f.TLS.ServerName,
		Samples:     int(c.integer(key+".samples", or(f.Samples, "5000"), 100, 100_000)),
		Linger:      c.duration(key+".linger", or(f.Linger, "1s"), 10*time.Millisecond, time.Minute),
		Timeout:     c.duration(key+".timeout", or(f.Timeout, "30s"), time.Second, 10*time.Minute),
		Rewind:      c.duration(key+".rewind", or(f.Rewind, "15s"), 0, 10*time.Minute),
		BufferBytes: c.size(key+".buffer", or(f.Buffer, "1GiB"), 16<<20),
	}
	if r.Rewind == 0 {
		r.Rewind = -1
	}
	if !receiverName.MatchString(f.Name) {
		c.bad(key+".name", f.Name, "a name of up to 63 of a-z, 0-9, - and _, like mimir")
	}
	c.receiverURL(key, &r)
	c.receiverProof(key, &r)
	c.receiverTLS(key, &r)
	for _, name := range slices.Sorted(maps.Keys(f.Labels)) {
		if !labelName.MatchString(name) || strings.HasPrefix(name, "__") || f.Labels[name] == "" {
			c.bad(key+".labels", name+": "+f.Labels[name], "a label and its value, like site: bologna")
		}
	}
	for _, p := range f.Only {
		if _, err := path.Match(p, ""); err != nil || p == "" {
			c.bad(key+".only", p, "a pattern of names like wattledger_project_*")
		}
	}
	return r
}

func (c *checker) receiverURL(key string, r *Receiver) {
	u, err := url.Parse(r.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.Fragment != "":
		c.bad(key+".url", r.URL, "an address like https://mimir.example.org/api/v1/push")
	case u.User != nil:
		c.bad(key+".url", u.Redacted(), "an address without a password: use basic_auth or token_file")
	case u.Scheme == "http" && !isLoopback(u.Hostname()) && (r.TokenFile != "" || r.User != ""):
		c.bad(key+".url", r.URL, "a safe way for a token or password: use https")
	}
}

func (c *checker) receiverProof(key string, r *Receiver) {
	c.secret(key+".token_file", r.TokenFile)
	if (r.User == "") != (r.PasswordFile == "") {
		c.bad(key+".basic_auth", r.User, "both a user and a password_file")
	}
	c.file(key+".basic_auth.password_file", r.PasswordFile)
	if r.TokenFile != "" && r.User != "" {
		c.bad(key+".token_file", r.TokenFile, "the one way to prove who sends: keep it or basic_auth")
	}
	taken := []string{"Authorization", "Content-Type", "Content-Encoding", "Content-Length", "Host", "User-Agent", "X-Prometheus-Remote-Write-Version"}
	for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
		value := r.Headers[name]
		if !headerName.MatchString(name) || slices.Contains(taken, textproto.CanonicalMIMEHeaderKey(name)) || strings.ContainsAny(value, "\r\n\x00") {
			c.bad(key+".headers", http.CanonicalHeaderKey(name), "a header that can be set here, like X-Scope-OrgID")
		}
	}
}

var headerName = regexp.MustCompile("^[a-zA-Z0-9!#$%&'*+.^_`|~-]+$")

func (c *checker) receiverTLS(key string, r *Receiver) {
	if pem := c.file(key+".tls.ca_file", r.CAFile); pem != nil && !x509.NewCertPool().AppendCertsFromPEM(pem) {
		c.bad(key+".tls.ca_file", r.CAFile, "a file of certificates (PEM)")
	}
	if r.CertFile != "" || r.KeyFile != "" {
		if _, err := tls.LoadX509KeyPair(r.CertFile, r.KeyFile); err != nil {
			c.cannot(key+".tls", fmt.Errorf("cert_file %q and key_file %q are not a certificate and its key: %w", r.CertFile, r.KeyFile, err))
		}
	}
}
