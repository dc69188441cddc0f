package exporters_test

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wattledger/wattledger/exporters"
	"github.com/wattledger/wattledger/internal/outbox"
)

func client(t *testing.T, e exporters.Endpoint) *http.Client {
	t.Helper()
	c, err := e.Client("Bearer", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func post(t *testing.T, c *http.Client, url string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err == nil {
		err = resp.Body.Close()
	}
	return err
}

func TestAnswersThatAreNotYes(t *testing.T) {
	f := func(name string, h http.HandlerFunc, code int, after time.Duration, text string) {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(h)
			defer srv.Close()
			err := post(t, client(t, exporters.Endpoint{}), srv.URL)
			if code == 0 {
				if err != nil {
					t.Fatalf("%v; want none", err)
				}
				return
			}
			a, ok := errors.AsType[*outbox.Answer](err)
			if !ok {
				t.Fatalf("%v; want an answer", err)
			}
			if a.Code != code || a.After != after || !strings.Contains(a.Text, text) || len(a.Text) > 5000 {
				t.Errorf("%+v; want code %d, after %v, text %q", a, code, after, text)
			}
		})
	}
	says := func(code int, body string, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i+1 < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
			_, _ = w.Write([]byte(body))
		}
	}
	f("no content", says(204, ""), 0, 0, "")
	f("ok", says(200, `{"ok":true}`), 0, 0, "")
	f("a login page", says(200, "<html>Please log in", "Content-Type", "text/html; charset=utf-8"), 200, 0, "Please log in")
	f("bad request", says(400, "out of order sample"), 400, 0, "out of order sample")
	f("wrong token", says(401, "no"), 401, 0, "no")
	f("elsewhere", says(302, "", "Location", "/login"), 302, 0, "")
	f("elsewhere for good", says(308, "", "Location", "/other"), 308, 0, "")
	f("busy", says(429, "", "Retry-After", "7"), 429, 7*time.Second, "")
	f("broken", says(500, "panic"), 500, 0, "panic")
	f("endless", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		for r.Context().Err() == nil {
			if _, err := w.Write([]byte(strings.Repeat("x", 4096))); err != nil {
				return
			}
		}
	}, 503, 0, "xxx")
}

// TestConnectionsThatAreGone between requests are told of: with them a receiver
// may have lost what it answered for. One that it closes each time says nothing.
func TestConnectionsThatAreGone(t *testing.T) {
	f := func(name, header string, want int) {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", header) }))
			defer srv.Close()
			c, told := client(t, exporters.Endpoint{URL: srv.URL}), 0
			for range 6 {
				for range 2 { // the second goes over the same connection
					ctx := outbox.WithReconnected(t.Context(), func() { told++ })
					req, err := http.NewRequestWithContext(ctx, http.MethodPost, srv.URL, strings.NewReader("x"))
					if err != nil {
						t.Fatal(err)
					}
					resp, err := c.Do(req)
					if err != nil { // the break itself was seen
						told++
						continue
					}
					_ = resp.Body.Close()
				}
				srv.CloseClientConnections() // as a kill would
			}
			if told != want {
				t.Errorf("told of %d new connections; want %d", told, want)
			}
		})
	}
	f("kept", "", 5)
	f("closed each time", "close", 0)
}

func TestNoAnswer(t *testing.T) {
	f := func(name string, serve func(net.Conn)) {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			if serve == nil {
				_ = l.Close() // nobody is there
			} else {
				defer func() { _ = l.Close() }()
				go func() {
					for {
						c, err := l.Accept()
						if err != nil {
							return
						}
						serve(c)
						_ = c.Close()
					}
				}()
			}
			err = post(t, client(t, exporters.Endpoint{}), "http://"+l.Addr().String())
			if _, ok := errors.AsType[*outbox.Answer](err); ok || err == nil {
				t.Errorf("%v; want an error without an answer", err)
			}
		})
	}
	read := func(c net.Conn) { _, _ = c.Read(make([]byte, 1024)) }
	f("down", nil)
	f("hangs up", read)
	f("garbage", func(c net.Conn) { read(c); _, _ = c.Write([]byte("\x00\x01SSH-2.0-garbage\r\n\r\n")) })
	f("half a header", func(c net.Conn) { read(c); _, _ = c.Write([]byte("HTTP/1.1 204 No")) })
}

func TestProof(t *testing.T) {
	var got http.Header
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header }))
	defer srv.Close()
	file := filepath.Join(t.TempDir(), "secret")
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	send := func(e exporters.Endpoint, want string) {
		t.Helper()
		if err := post(t, client(t, e), srv.URL); err != nil {
			t.Fatal(err)
		}
		if a := got.Get("Authorization"); a != want {
			t.Errorf("Authorization: %q; want %q", a, want)
		}
	}
	put("first\n")
	e := exporters.Endpoint{TokenFile: file, Headers: map[string]string{"X-Scope-OrgID": "site"}}
	c := client(t, e)
	if err := post(t, c, srv.URL); err != nil || got.Get("Authorization") != "Bearer first" || got.Get("X-Scope-OrgID") != "site" {
		t.Errorf("%v %v; want the token and the header", err, got)
	}
	put("second\n")
	if err := post(t, c, srv.URL); err != nil || got.Get("Authorization") != "Bearer second" {
		t.Errorf("%v %v; want the new token", err, got)
	}
	send(exporters.Endpoint{User: "ada", PasswordFile: file}, "Basic YWRhOnNlY29uZA==")
	send(exporters.Endpoint{}, "")
	for _, bad := range []string{"", "two\nlines"} {
		put(bad)
		if err := post(t, c, srv.URL); !errors.Is(err, outbox.ErrUnready) {
			t.Errorf("a token file with %q: %v; want ErrUnready", bad, err)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := post(t, c, srv.URL); !errors.Is(err, outbox.ErrUnready) {
		t.Errorf("no token file: %v; want ErrUnready", err)
	}
}

func TestTokenDoesNotTravelFurther(t *testing.T) {
	reached := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer other.Close()
	srv := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer srv.Close()
	if err := post(t, client(t, exporters.Endpoint{}), srv.URL); err == nil || reached {
		t.Errorf("followed a redirect: %v, %v", err, reached)
	}
}

func TestTrust(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	srv.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	srv.Config.ErrorLog = nil
	srv.StartTLS()
	defer srv.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := post(t, client(t, exporters.Endpoint{CAFile: ca}), srv.URL); err != nil {
		t.Errorf("with its authority: %v", err)
	}
	if err := post(t, client(t, exporters.Endpoint{CAFile: ca, ServerName: "another.example.org"}), srv.URL); err == nil {
		t.Error("a certificate of another name was taken")
	}
	if err := post(t, client(t, exporters.Endpoint{}), srv.URL); err == nil {
		t.Error("an unknown authority was trusted")
	}
	for _, e := range []exporters.Endpoint{{CAFile: "none.pem"}, {CertFile: "none.pem"}, {CAFile: "endpoint_test.go"}} {
		if _, err := e.Client("Bearer", time.Now); err == nil {
			t.Errorf("%+v: a client was made", e)
		}
	}
}
