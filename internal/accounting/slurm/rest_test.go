package slurm

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wattledger/wattledger/internal/accounting"
)

// TestFaults: what slurmrestd answers is put into words, and a refusal is told
// from an outage. Nothing that failed looks like a list without jobs.
func TestFaults(t *testing.T) {
	files := fixture(t, "slurm-22.05")
	f := func(name string, answer http.HandlerFunc, kind error, want ...string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			fk := &fake{files: files, instead: func(w http.ResponseWriter, r *http.Request) bool {
				if unversioned(r.URL.Path) == "/slurmdb/jobs" {
					answer(w, r)
					return true
				}
				return false
			}}
			s := &Source{Rest: fk.start(t, NewAuth("w", file(t, "secret"), nil, clock))}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if name == "hangs" {
				ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
				defer cancel()
			}
			a, err := s.Jobs(ctx, from, to)
			if kind == nil && len(want) == 0 {
				if err != nil || len(a.Jobs) != 0 {
					t.Errorf("%d jobs, %v; want none and no error", len(a.Jobs), err)
				}
				return
			}
			if err == nil || kind != nil && !errors.Is(err, kind) {
				t.Fatalf("err = %v; want %v", err, kind)
			}
			for _, other := range []error{accounting.ErrRefused, accounting.ErrUnreachable} {
				if !errors.Is(kind, other) && errors.Is(err, other) {
					t.Errorf("%v is %v too", err, other)
				}
			}
			for _, w := range want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("err = %v; want it to say %q", err, w)
				}
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("err = %v shows the token", err)
			}
		})
	}
	say := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	f("bad token, in a good answer", say(200, files["bad-token.json"]), accounting.ErrRefused, "error 1007", "renew the one in /")
	f("bad token, HTTP 500", say(500, files["bad-token-live.json"]), accounting.ErrRefused, "error -1", "it says the same where slurmctld is down")
	f("no token", say(401, "Authentication failure"), accounting.ErrRefused, "HTTP 401", "Authentication failure")
	f("no database", say(200, files["no-database.json"]), accounting.ErrUnreachable, "Failed connecting to slurmdbd", "error 7000")
	f("nothing found", say(200, files["nothing.json"]), nil)
	f("null", say(200, `{"jobs": null, "errors": []}`), nil)
	f("another error", say(200, `{"errors":[{"error_number":9000,"error":"Query empty","source":"start_time"}]}`), nil, "Query empty, error 9000, from start_time")
	f("a proxy", say(502, "<html>bad gateway</html>"), accounting.ErrUnreachable, "HTTP 502")
	f("no JSON", say(200, "hello"), nil, "not what is expected")
	f("no list", say(200, `{"meta":{}}`), nil, `it has no "jobs"`)
	f("another list", say(200, `{"jobs":{"a":1}}`), nil, "is no list")
	f("breaks off", say(200, files["jobs.json"][:5000]), accounting.ErrUnreachable, "broke off")
	f("sent elsewhere", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
	}, nil, "HTTP 302")
	f("hangs", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, accounting.ErrUnreachable, "deadline exceeded")
}

// TestNegotiation: a version that is gone is asked for anew; none that is known
// is said in words.
func TestNegotiation(t *testing.T) {
	fk := &fake{files: fixture(t, "slurm-22.05")}
	s := &Source{Rest: fk.start(t, Auth{})}
	if _, err := s.Jobs(t.Context(), from, to); err != nil {
		t.Fatal(err)
	}
	fk.files = fixture(t, "slurm-24.05") // Slurm was upgraded
	fk.instead = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "v0.0.38") {
			http.Error(w, "Unable find requested URL", http.StatusNotFound)
			return true
		}
		return false
	}
	if _, err := s.Jobs(t.Context(), from, to); err == nil || !strings.Contains(err.Error(), "asking anew") {
		t.Errorf("err = %v", err)
	}
	if a, err := s.Jobs(t.Context(), from, to); err != nil || len(a.Jobs) == 0 || !strings.Contains(fk.last(t, "/slurmdb/jobs").URL.Path, "0.0.41") {
		t.Errorf("%d jobs, %v", len(a.Jobs), err)
	}
	fk = &fake{files: map[string]string{"openapi.json": `{"paths":{"/slurmdb/v0.0.37/jobs":{},"/slurmdb/v0.0.99/jobs/":{},"/slurm/v0.0.41/jobs/":{}}}`}}
	s = &Source{Rest: fk.start(t, Auth{})}
	if _, err := s.Jobs(t.Context(), from, to); err == nil || !strings.Contains(err.Error(), "in the versions 0.0.[37 99] and none of 0.0.38") {
		t.Errorf("err = %v", err)
	}
	for _, bad := range []string{"", "slurm:6820", "ftp://slurm", "http://"} {
		if _, err := NewRest(bad, Auth{}); err == nil {
			t.Errorf("%q was taken for an address", bad)
		}
	}
}

// TestSocket: the unix socket, without a token (rest_auth/local).
func TestSocket(t *testing.T) {
	fk := &fake{files: fixture(t, "slurm-22.05")}
	srv := httptest.NewUnstartedServer(fk)
	path := filepath.Join(t.TempDir(), "s")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_ = srv.Listener.Close()
	srv.Listener = l
	srv.Start()
	defer srv.Close()
	rest, err := NewRest("unix:"+path, Auth{})
	if err != nil {
		t.Fatal(err)
	}
	a, err := (&Source{Rest: rest}).Jobs(t.Context(), from, to)
	if err != nil || len(a.Jobs) != 11 {
		t.Errorf("%d jobs, %v; want 11", len(a.Jobs), err)
	}
	if h := fk.last(t, "/slurmdb/jobs").Header; h.Get("X-SLURM-USER-TOKEN") != "" || h.Get("X-SLURM-USER-NAME") != "" {
		t.Errorf("headers = %v", h)
	}
}

// jwt makes a token that ends at a time.
func jwt(end time.Time) string {
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(`{"alg":"HS256"}`)) + "." + enc(fmt.Appendf(nil, `{"exp":%d,"sun":"w"}`, end.Unix())) + ".sig"
}

// TestTokens: a file is read with every request, a command asked again when its
// token ends or is refused.
func TestTokens(t *testing.T) {
	req := func() *http.Request { return httptest.NewRequest(http.MethodGet, "/", http.NoBody) }
	path := file(t, "SLURM_JWT=one\n")
	a := NewAuth("", path, nil, clock)
	for _, want := range []string{"one", "two"} {
		r := req()
		if err := a.sign(t.Context(), r); err != nil || r.Header.Get("X-SLURM-USER-TOKEN") != want || r.Header.Values("X-SLURM-USER-NAME") != nil {
			t.Errorf("%v, %v; want %s", r.Header, err, want)
		}
		if err := os.WriteFile(path, []byte("two"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range []string{"", "a b\n", "SLURM_JWT=\n"} {
		if err := NewAuth("", file(t, bad), nil, clock).sign(t.Context(), req()); !errors.Is(err, errNoToken) || !errors.Is(err, accounting.ErrRefused) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if err := NewAuth("", path+".absent", nil, clock).sign(t.Context(), req()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}

	at := now
	count := filepath.Join(t.TempDir(), "count")
	cmd := script(t, "echo x >> "+count, "echo SLURM_JWT="+jwt(now.Add(10*time.Minute)))
	c := NewAuth("w", "", []string{cmd}, func() time.Time { return at })
	asked := func(want int) {
		t.Helper()
		if err := c.sign(t.Context(), req()); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(count)
		if err != nil || strings.Count(string(b), "x") != want {
			t.Errorf("asked %d times, %v; want %d", strings.Count(string(b), "x"), err, want)
		}
	}
	asked(1)
	asked(1)
	at = at.Add(9*time.Minute + time.Second)
	asked(2)
	asked(3) // what it prints ends within the minute
	at = now
	asked(3)
	if text := c.mend(); strings.Contains(text, jwt(now.Add(10*time.Minute))) || !strings.Contains(text, cmd) {
		t.Errorf("mend = %s", text)
	}
	asked(4)
	if text := NewAuth("", file(t, jwt(now.Add(-time.Hour))), nil, clock).mend(); !strings.Contains(text, "it expired at 2026-") {
		t.Errorf("mend = %s", text)
	}
	fails := NewAuth("w", "", []string{script(t, "echo no munge >&2; exit 3")}, clock)
	if err := fails.sign(t.Context(), req()); err == nil || !strings.Contains(err.Error(), "exit status 3: no munge") {
		t.Errorf("err = %v", err)
	}
}
