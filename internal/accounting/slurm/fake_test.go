package slurm

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
)

// now is some time after what the fixtures hold.
var now = time.Unix(1795340000, 0)

func clock() time.Time { return now }

// fixture gives the files of an archive.
func fixture(t *testing.T, name string) map[string]string {
	t.Helper()
	a, err := txtar.ParseFile(filepath.Join("testdata", name+".txtar"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, f := range a.Files {
		out[f.Name] = string(f.Data)
	}
	return out
}

// fake is a slurmrestd that answers from files.
type fake struct {
	files map[string]string
	// instead answers before the files do; false: it does not.
	instead func(w http.ResponseWriter, r *http.Request) bool

	mu    sync.Mutex
	asked []*http.Request
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.asked = append(f.asked, r)
	f.mu.Unlock()
	if f.instead != nil && f.instead(w, r) {
		return
	}
	name := map[string]string{
		"/slurmdb/jobs": "jobs.json", "/slurm/jobs": "live.json", "/slurmdb/accounts": "accounts.json", "/slurmdb/associations": "associations.json",
	}[unversioned(r.URL.Path)]
	if r.URL.Path == "/openapi/v3" {
		name = "openapi.json"
	}
	text, ok := f.files[name]
	if !ok {
		http.Error(w, "Unable find requested URL", http.StatusNotFound)
		return
	}
	_, _ = w.Write([]byte(text))
}

// unversioned takes the version out of a path that the fixture offers.
func unversioned(path string) string {
	m := versioned.FindStringSubmatch(path)
	if m == nil {
		return ""
	}
	return "/" + m[1] + "/" + m[3]
}

// last is the last request to a path.
func (f *fake) last(t *testing.T, path string) *http.Request {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range slices.Backward(f.asked) {
		if unversioned(r.URL.Path) == path {
			return r
		}
	}
	t.Fatalf("nobody asked for %s", path)
	return nil
}

// start serves it and gives a client.
func (f *fake) start(t *testing.T, auth Auth) *Rest {
	t.Helper()
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	r, err := NewRest(s.URL, auth)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// script makes a command.
func script(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "command")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+strings.Join(lines, "\n")+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// file makes a file.
func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
