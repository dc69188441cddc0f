package redfish

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/stmcginnis/gofish"
)

const maxBody = 4 << 20

// link is a connection with a controller, one request at a time.
type link struct {
	api   *gofish.APIClient
	trip  *trip
	limit time.Duration // of one request
}

// connect reads the service root and, with Session, logs in.
func (o *Options) connect(ctx context.Context) (*link, error) {
	base, err := url.Parse(o.URL)
	if err != nil {
		return nil, err
	}
	password, err := o.password()
	if err != nil {
		return nil, err
	}
	config, err := o.tls(base.Hostname())
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{ // no proxy: a controller is never behind one
		DialContext:            (&net.Dialer{Timeout: o.Timeout / 2}).DialContext,
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    o.Timeout / 2,
		MaxIdleConns:           1,
		MaxConnsPerHost:        1,
		IdleConnTimeout:        2 * o.Every,
		MaxResponseHeaderBytes: 64 << 10,
	}
	l := &link{limit: o.Timeout / 2, trip: &trip{base: transport, scheme: base.Scheme, host: base.Host}}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	l.trip.use(ctx)
	// The library keeps one context for life; trip has that of the moment.
	l.api, err = gofish.ConnectContext(context.WithoutCancel(ctx), gofish.ClientConfig{
		Endpoint: strings.TrimSuffix(o.URL, "/"), Username: o.User, Password: password, BasicAuth: o.Auth == Basic,
		HTTPClient: &http.Client{Transport: l.trip}, MaxConcurrentRequests: 1,
	})
	if err != nil {
		transport.CloseIdleConnections()
		return nil, fault("cannot open "+o.URL, err)
	}
	return l, nil
}

func (o *Options) password() (string, error) {
	if o.User == "" {
		return "", nil
	}
	text, err := os.ReadFile(o.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("cannot read the controller's password: %w", err)
	}
	password := strings.TrimRight(string(text), "\r\n")
	if password == "" {
		return "", fmt.Errorf("%s: there is no password in it", o.PasswordFile)
	}
	return password, nil
}

// tls says whom to believe.
func (o *Options) tls(host string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: o.ServerName}
	if c.ServerName == "" {
		c.ServerName, _, _ = strings.Cut(host, "%") // a zone is in no certificate
	}
	if o.CAFile != "" {
		text, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("cannot read the authorities: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s: there is no certificate in it", o.CAFile)
		}
	}
	if o.Fingerprint != "" {
		want, err := fingerprint(o.Fingerprint)
		if err != nil {
			return nil, err
		}
		c.InsecureSkipVerify = true // instead, the certificate must be this one
		c.VerifyConnection = func(state tls.ConnectionState) error {
			if got := sha256.Sum256(state.PeerCertificates[0].Raw); got != want {
				return fmt.Errorf("%w: %s", errFingerprint, hex.EncodeToString(got[:]))
			}
			return nil
		}
	}
	return c, nil
}

var errFingerprint = errors.New("the controller's certificate has another fingerprint")

// fingerprint reads hex with or without colons.
func fingerprint(text string) (sum [sha256.Size]byte, err error) {
	b, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	if err != nil || len(b) != len(sum) {
		return sum, fmt.Errorf("fingerprint: %q is not a SHA-256 in hex (openssl x509 -fingerprint -sha256)", text)
	}
	copy(sum[:], b)
	return sum, nil
}

// get decodes the resource at path. A null or a missing member is left as it is.
func (l *link) get(ctx context.Context, path string, into any) error {
	if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") {
		return &failure{kind: nonsense, text: fmt.Sprintf("%q is no path of a resource", path)}
	}
	ctx, cancel := context.WithTimeout(ctx, l.limit)
	defer cancel()
	l.trip.use(ctx)
	response, err := l.api.Get(path)
	if err != nil {
		return fault("cannot read "+path, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return fault("cannot read "+path, err)
	}
	if err := json.Unmarshal(body, into); err != nil {
		if ctx.Err() != nil { // what came as the time was up is no answer
			return fault("cannot read "+path, ctx.Err())
		}
		return &failure{kind: nonsense, text: "cannot understand " + path, err: err}
	}
	return nil
}

// close logs out where the controller answers, and frees the connection.
func (l *link) close(answers bool) {
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	if !answers {
		cancel()
	}
	l.trip.use(ctx)
	l.api.Logout()
	l.trip.base.CloseIdleConnections()
}

// trip sends the library's requests with the context of the moment, over a kept
// connection (the library closes it after each unless the transport is its own),
// to nobody but the controller: a token would follow a link or a redirection.
type trip struct {
	base         *http.Transport
	scheme, host string

	mu  sync.Mutex
	ctx context.Context
}

func (t *trip) use(ctx context.Context) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ctx = ctx
}

// RoundTrip implements http.RoundTripper.
func (t *trip) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != t.scheme || r.URL.Host != t.host || r.URL.User != nil {
		return nil, fmt.Errorf("the controller leads to %s://%s, which is not followed", r.URL.Scheme, r.URL.Host)
	}
	t.mu.Lock()
	ctx := t.ctx
	t.mu.Unlock()
	r = r.Clone(ctx)
	r.Close = false
	response, err := t.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	response.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(response.Body, maxBody), response.Body}
	return response, nil
}
