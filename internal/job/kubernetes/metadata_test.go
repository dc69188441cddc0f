package kubernetes_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/job/kubernetes"
	"github.com/wattledger/wattledger/internal/window"
)

// TestRecreated: a pod of a StatefulSet is another job each time.
func TestRecreated(t *testing.T) {
	n := open(t).metadata()
	n.page = page(item("db-0", uidA, "Running", 0, -1))
	n.list(pod("db-0", "nvidia.com/gpu", gpuA)).poll(40)
	n.page = page(item("db-0", uidB, "Running", 39, -1)) // within a second
	n.poll(30)
	n.want("two jobs", "begin a/db-0/"+uidA+" 0.0s", "end a/db-0/"+uidA+" 39.5s", "begin a/db-0/"+uidB+" 39.5s")
	want := job.Spec{
		ID: "a/db-0/" + uidB, SubmitMS: start.Add(38 * time.Second).UnixMilli(), Project: "a", User: "a/trainer", Partition: "kubernetes",
		GPUs: []window.Share{{Device: gpuA, Weight: whole}},
	}
	if d := cmp.Diff(want, n.spec()); d != "" {
		t.Error(d)
	}
	// over, and listed by an old kubelet for as long as the pod is there
	n.page = page(item("db-0", uidB, "Failed", 39, 41))
	n.poll(60).want("over", "end a/db-0/"+uidB+" 41.5s")
	// its device goes to another
	n.page = page(item("db-0", uidB, "Failed", 39, 41), item("next", "c0ffee00", "Running", 130, -1))
	n.list(pod("db-0", "nvidia.com/gpu", gpuA), pod("next", "nvidia.com/gpu", gpuA)).poll(1)
	n.want("next", "begin a/next/c0ffee00 130.0s")
	// an agent that starts now does not begin what is over
	n.renew()
	n.poll(5).want("a new agent", "begin a/next/c0ffee00 130.5s")
}

// TestProjects: by label or annotation; what cannot name a project names none.
func TestProjects(t *testing.T) {
	f := func(what, page, project string, change func(*kubernetes.Options)) {
		t.Helper()
		n := open(t).metadata(change)
		n.page = page
		n.list(pod("p", "nvidia.com/gpu", gpuA)).poll(1)
		if got := n.spec().Project; got != project {
			t.Errorf("%s: project %q; want %q", what, got, project)
		}
	}
	label := func(o *kubernetes.Options) { o.ProjectLabel = "project" }
	note := func(o *kubernetes.Options) { o.ProjectAnnotation = "example.org/grant" }
	plain := page(item("q", uidB, "Running", 0, -1), item("p", uidA, "Running", 0, -1))
	with := func(old, repl string) string { return strings.ReplaceAll(plain, old, repl) }
	f("namespace", plain, "a", func(*kubernetes.Options) {})
	f("label", plain, "EUHPC_A01", label)
	f("annotation", plain, `GR "1"`, note)
	f("no such label", with(`"project"`, `"projekt"`), "a", label)
	f("empty", with("EUHPC_A01", ""), "", label)
	f("control characters", with("EUHPC_A01", `a\nb`), "", label)
	f("300 characters", with("EUHPC_A01", strings.Repeat("x", 300)), "", label)
	f("huge", with(`GR \"1\"`, strings.Repeat("x", 1<<20)), "", note)
	f("a huge label that is not asked for", with(`"app":"x"`, `"app":"`+strings.Repeat("x", 1<<20)+`"`), "EUHPC_A01", label)
	f("fields of other types elsewhere", with(`"kind":"PodList"`, `"kind":{"a":[1,2,{"b":null}]}`), "EUHPC_A01", label)
}

// TestMetadataThatDoesNotCome: a pod waits a little, then begins where it began.
func TestMetadataThatDoesNotCome(t *testing.T) {
	f := func(what string, code int, page string) {
		t.Helper()
		n := open(t).metadata(func(o *kubernetes.Options) { o.ProjectLabel = "project" })
		n.code, n.page = code, page
		n.list(pod("p", "nvidia.com/gpu", gpuA)).poll(2)
		n.want(what)
		n.poll(1).want(what, "begin a/p 0.0s")
		if n.spec().Project != "a" {
			t.Errorf("%s: %+v", what, n.spec())
		}
	}
	f("not allowed", http.StatusForbidden, "")
	f("moved", http.StatusFound, page(item("p", uidA, "Running", 0, -1)))
	f("nothing", http.StatusOK, "")
	f("no JSON", http.StatusOK, "<html>")
	f("no list", http.StatusOK, `{"items":{"a":1}}`)
	f("another shape", http.StatusOK, `{"items":[{"metadata":[]}]}`)
	f("torn", http.StatusOK, page(item("p", uidA, "Running", 0, -1))[:200])
	f("no such pod", http.StatusOK, page())
	f("null", http.StatusOK, `{"items":null}`)

	// one that is over before has begun all the same
	n := open(t).metadata()
	n.code = http.StatusServiceUnavailable
	n.poll(40).list(pod("p", "nvidia.com/gpu", gpuA)).poll(2).list().poll(2)
	n.want("both edges", "begin a/p 40.0s", "end a/p 42.0s")
	n.list(pod("q", "nvidia.com/gpu", gpuA)).poll(6)
	n.list(pod("q", "nvidia.com/gpu", gpuA), pod("late", "nvidia.com/gpu", gpuB)).poll(2)
	n.list(pod("late", "nvidia.com/gpu", gpuB)).poll(1)
	n.want("in the order in which they happened", "begin a/q 44.0s", "begin a/late 50.0s", "end a/q 52.0s")
}

// TestToken: the token is sent, and read anew each time.
func TestToken(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	write := func(s string) {
		if err := os.WriteFile(token, []byte(s+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	n := open(t)
	var seen []string
	n.metadata(func(o *kubernetes.Options) {
		o.TokenFile = token
		o.KubeletURL = serveTLS(t, &o.CAFile, func(w http.ResponseWriter, r *http.Request) {
			seen = append(seen, r.Header.Get("Authorization"))
			_, _ = w.Write([]byte(page()))
		})
	})
	write("one")
	n.list(pod("p", "nvidia.com/gpu", gpuA)).poll(1)
	write("two")
	n.poll(1)
	if d := cmp.Diff([]string{"Bearer one", "Bearer two"}, seen); d != "" {
		t.Error(d)
	}
	n.opt.CAFile, n.opt.Registerer = token, nil
	if _, err := kubernetes.New(n.opt); err == nil || !strings.Contains(err.Error(), "holds no certificate") {
		t.Errorf("err = %v", err)
	}
}

// TestHandover: a device changes hands between two lists: by the newcomer's
// start the one before has ended, and they share no time.
func TestHandover(t *testing.T) {
	n := open(t).metadata()
	n.page = page(item("one", uidA, "Running", 0, -1))
	n.list(pod("one", "nvidia.com/gpu", gpuA)).poll(40)
	n.page = page(item("two", uidB, "Running", 39, -1))
	n.list(pod("two", "nvidia.com/gpu", gpuA)).poll(1)
	n.want("one instant", "begin a/one/"+uidA+" 0.0s", "end a/one/"+uidA+" 39.5s", "begin a/two/"+uidB+" 39.5s")
}
