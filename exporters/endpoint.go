package exporters

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/http/httptrace"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/wattledger/wattledger/internal/outbox"
	"github.com/wattledger/wattledger/internal/version"
)

// Endpoint is a receiver and how to prove to it who is sending. Files are read
// anew for each request, so that a secret can be changed while it runs; those of
// TLS are read once.
type Endpoint struct {
	URL     string            // of the receiver
	Headers map[string]string // sent along, like X-Scope-OrgID

	TokenFile    string // holds a token alone; "" for none
	User         string // of basic authentication; "" for none
	PasswordFile string // holds its password alone

	CAFile     string // whom to trust; "" for those whom the system trusts
	CertFile   string // who we are; "" for none
	KeyFile    string
	ServerName string // what the receiver's certificate must say; "" for the host of URL
}

// Client makes a client for the receiver. scheme is the word before the token:
// Bearer or Token.
//
// An answer that does not mean that everything was taken is an error with an
// [outbox.Answer] in it: everything but 2xx, and a 2xx with an HTML page, which
// is how a login page or another server answers. Redirects are not followed:
// they would lose the body, or carry the token elsewhere.
func (e Endpoint) Client(scheme string, now func() time.Time) (*http.Client, error) {
	conf, err := e.tls()
	if err != nil {
		return nil, fmt.Errorf("cannot send to %s: %w", e.URL, err)
	}
	base, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return nil, errors.New("cannot make a client: the default transport was replaced")
	}
	base = base.Clone()
	base.TLSClientConfig, base.DisableCompression, base.MaxIdleConnsPerHost = conf, true, 2
	return &http.Client{Transport: &transport{Endpoint: e, scheme: scheme, base: base, now: now}}, nil
}

func (e Endpoint) tls() (*tls.Config, error) {
	c := &tls.Config{ServerName: e.ServerName, MinVersion: tls.VersionTLS12}
	if e.CAFile != "" {
		pem, err := os.ReadFile(e.CAFile)
		if err != nil {
			return nil, err
		}
		if c.RootCAs = x509.NewCertPool(); !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", e.CAFile)
		}
	}
	if e.CertFile != "" || e.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(e.CertFile, e.KeyFile)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// transport adds what proves who is sending, and turns answers into errors.
type transport struct {
	Endpoint
	scheme string
	base   http.RoundTripper
	now    func() time.Time
	kept   atomic.Bool // the last answer left its connection open
}

// mostText is how much of an answer is read.
const mostText = 4 << 10

// RoundTrip sends a request.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("User-Agent", "wattledger/"+version.String())
	for name, value := range t.Headers {
		req.Header.Set(name, value)
	}
	if err := t.prove(req); err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, err
	}
	ctx := req.Context()
	trace := &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) {
		if !c.Reused && t.kept.Swap(false) {
			outbox.Reconnected(ctx)
		}
	}}
	resp, err := t.base.RoundTrip(req.WithContext(httptrace.WithClientTrace(ctx, trace)))
	if err != nil {
		t.kept.Store(false) // the error tells
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, mostText)) // the answer is in the header
	t.kept.Store(!resp.Close && err == nil && len(text) < mostText)
	_ = resp.Body.Close()
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode >= 200 && resp.StatusCode < 300 && kind != "text/html" {
		resp.Body = http.NoBody
		return resp, nil
	}
	return nil, &outbox.Answer{Code: resp.StatusCode, After: outbox.RetryAfter(resp.Header.Get("Retry-After"), t.now()), Text: string(text)}
}

func (t *transport) prove(req *http.Request) error {
	token, err := secret("token", t.TokenFile)
	if err != nil {
		return err
	}
	password, err := secret("password", t.PasswordFile)
	if err != nil {
		return err
	}
	switch {
	case token != "":
		req.Header.Set("Authorization", t.scheme+" "+token)
	case t.User != "":
		req.SetBasicAuth(t.User, password)
	}
	return nil
}

func secret(what, file string) (string, error) {
	if file == "" {
		return "", nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("%w: cannot read the %s: %w", outbox.ErrUnready, what, err)
	}
	s := strings.TrimSpace(string(b))
	if s == "" || strings.ContainsAny(s, "\r\n") {
		return "", fmt.Errorf("%w: %s is not a file with a %s alone on its line", outbox.ErrUnready, file, what)
	}
	return s, nil
}
