package redfish_test

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/collector/redfish"
	"github.com/wattledger/wattledger/internal/energy"
)

const (
	user     = "reader"
	password = "not-a-default"
)

// bmc serves a recorded tree over TLS to one account, by session or by Basic.
type bmc struct {
	t      *testing.T
	server *httptest.Server
	conns  atomic.Int32 // ever opened

	mu       sync.Mutex
	tree     map[string]string
	status   map[string]int           // instead of what is in the tree
	delay    map[string]time.Duration // before the answer
	all      time.Duration            // before any answer
	moved    map[string]string        // redirections
	sessions map[string]bool
	logins   int
	seen     []string // requests, "METHOD path"
}

func serve(t *testing.T, name string) *bmc {
	t.Helper()
	a, err := txtar.ParseFile(filepath.Join("testdata", name+".txtar"))
	if err != nil {
		t.Fatal(err)
	}
	b := &bmc{
		t: t, tree: map[string]string{}, status: map[string]int{}, delay: map[string]time.Duration{},
		moved: map[string]string{}, sessions: map[string]bool{},
	}
	for _, f := range a.Files {
		b.tree["/"+f.Name] = string(f.Data)
	}
	b.start("127.0.0.1:0")
	t.Cleanup(func() { b.server.Close() })
	return b
}

// start listens; a controller that comes back has the address it had.
func (b *bmc) start(address string) {
	b.t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		b.t.Fatal(err)
	}
	b.server = &httptest.Server{Listener: l, Config: &http.Server{Handler: b, ConnState: func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			b.conns.Add(1)
		}
	}}}
	b.server.StartTLS()
}

func (b *bmc) restart() {
	b.t.Helper()
	address := b.server.Listener.Addr().String()
	b.mu.Lock()
	b.sessions = map[string]bool{}
	b.mu.Unlock()
	b.start(address)
}

func (b *bmc) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	at := strings.TrimSuffix(r.URL.RequestURI(), "/")
	b.mu.Lock()
	b.seen = append(b.seen, r.Method+" "+at)
	wait := b.all + b.delay[at]
	status, body, moved := b.status[at], b.tree[at], b.moved[at]
	allowed := b.allowed(r)
	b.mu.Unlock()
	select {
	case <-time.After(wait):
	case <-r.Context().Done():
		panic(http.ErrAbortHandler) // an empty answer could still reach the client
	}
	switch {
	case r.Method == http.MethodPost && at == "/redfish/v1/SessionService/Sessions":
		b.login(w, r)
	case at != "/redfish/v1" && !allowed:
		http.Error(w, `{"error":{"code":"Base.1.0.NoValidSession","message":"There is no valid session"}}`, http.StatusUnauthorized)
	case r.Method == http.MethodDelete:
		b.mu.Lock()
		delete(b.sessions, r.Header.Get("X-Auth-Token"))
		b.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	case status != 0:
		http.Error(w, "<html>the controller's own page</html>", status)
	case moved != "":
		http.Redirect(w, r, moved, http.StatusTemporaryRedirect)
	case body == "":
		http.NotFound(w, r)
	default:
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(body))
	}
}

func (b *bmc) allowed(r *http.Request) bool {
	u, p, ok := r.BasicAuth()
	return ok && u == user && p == password || b.sessions[r.Header.Get("X-Auth-Token")]
}

func (b *bmc) login(w http.ResponseWriter, r *http.Request) {
	var text [256]byte
	n, _ := r.Body.Read(text[:])
	if string(text[:n]) != fmt.Sprintf(`{"UserName":%q,"Password":%q}`, user, password) {
		http.Error(w, "{}", http.StatusUnauthorized)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.logins++
	token := fmt.Sprintf("token-%d", b.logins)
	b.sessions[token] = true
	w.Header().Set("X-Auth-Token", token)
	w.Header().Set("Location", fmt.Sprintf("/redfish/v1/SessionService/Sessions/%d", b.logins))
	w.WriteHeader(http.StatusCreated)
}

// with changes the controller under its lock.
func (b *bmc) with(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

// edit replaces a piece of one resource.
func (b *bmc) edit(at, was, is string) {
	b.t.Helper()
	b.with(func() {
		if !strings.Contains(b.tree[at], was) {
			b.t.Fatalf("%s has no %q:\n%s", at, was, b.tree[at])
		}
		b.tree[at] = strings.Replace(b.tree[at], was, is, 1)
	})
}

// requests gives those since the last call.
func (b *bmc) requests() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.seen
	b.seen = nil
	return out
}

func (b *bmc) open() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.sessions)
}

// site is a source of a controller and a clock that the test sets forward.
type site struct {
	*redfish.Source
	t     *testing.T
	ahead atomic.Int64
}

func (b *bmc) site(change func(*redfish.Options)) *site {
	b.t.Helper()
	s := &site{t: b.t}
	ca := filepath.Join(b.t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.server.Certificate().Raw})
	if err := errors.Join(os.WriteFile(ca, text, 0o600), os.WriteFile(ca+".password", []byte(password+"\n"), 0o600)); err != nil {
		b.t.Fatal(err)
	}
	o := redfish.Options{
		URL: b.server.URL, User: user, PasswordFile: ca + ".password", CAFile: ca, Timeout: 2 * time.Second,
		Now: func() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) },
	}
	if change != nil {
		change(&o)
	}
	var err error
	if s.Source, err = redfish.New(o); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = s.Close() })
	return s
}

// next lets the next poll come, be it after the longest wait.
func (s *site) next() (map[string]collector.Reading, error) {
	s.t.Helper()
	s.ahead.Add(int64(6 * time.Minute))
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	readings, err := s.Read(ctx)
	out := map[string]collector.Reading{}
	for _, r := range readings {
		if _, twice := out[r.Scope.Name]; twice {
			s.t.Errorf("two readings of %s", r.Scope.Name)
		}
		out[r.Scope.Name] = r
	}
	return out, err
}

// well takes a poll that must have no error.
func (s *site) well() map[string]collector.Reading {
	s.t.Helper()
	r, err := s.next()
	if err != nil || len(r) == 0 {
		s.t.Fatalf("%d readings, error %v; want some and none", len(r), err)
	}
	return r
}

// devices gives "name: error" for each DeviceError, sorted; anything else fails.
func (s *site) devices(err error) []string {
	s.t.Helper()
	if err == nil {
		return nil
	}
	list := []error{err}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		list = many.Unwrap()
	}
	var out []string
	for _, e := range list {
		if _, ok := e.(interface{ Unwrap() []error }); ok {
			out = append(out, s.devices(e)...)
			continue
		}
		var de *collector.DeviceError
		if !errors.As(e, &de) {
			s.t.Errorf("%v (%T) is no DeviceError", e, e)
			continue
		}
		out = append(out, de.Device+": "+de.Err.Error())
	}
	slices.Sort(out)
	return out
}

func watts(w float64) energy.Microwatts { return energy.Microwatts(w * 1e6) }
