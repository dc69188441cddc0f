package hook_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/job/hook"
)

// server is a socket that takes everything, and what it was asked.
type server struct {
	path    string
	l       net.Listener
	mu      sync.Mutex
	asked   []hook.Request
	refused []uint32
}

func serve(t *testing.T, allow ...uint32) *server {
	t.Helper()
	s := &server{path: filepath.Join(t.TempDir(), "job.sock")}
	var err error
	if s.l, err = hook.Listen(s.path, ""); err != nil {
		t.Fatal(err)
	}
	h := &hook.Server{
		Allow: allow,
		Handle: func(_ context.Context, r hook.Request) hook.Answer {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.asked = append(s.asked, r)
			return hook.Answer{OK: true, Message: r.Op + " " + r.Job.ID}
		},
		Refused: func(uid uint32, _ string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.refused = append(s.refused, uid)
		},
	}
	done := make(chan error, 1)
	go func() { done <- h.Serve(context.Background(), s.l) }()
	t.Cleanup(func() {
		s.l.Close()
		if err := <-done; err != nil {
			t.Errorf("Serve ended with %v, want nil after Close", err)
		}
	})
	return s
}

// own is the user who runs the tests; root may always speak.
func own() uint32 { return uint32(os.Getuid()) }

func TestAskAndAnswer(t *testing.T) {
	s := serve(t, own())
	st, err := os.Stat(s.path)
	if err != nil || st.Mode().Perm() != 0o660 {
		t.Errorf("the socket has mode %v, %v; want 0660", st.Mode(), err)
	}
	r := hook.Request{Op: "begin", Job: job.Spec{ID: "71001", Project: "P", CPUs: 32}}
	a, err := hook.Ask(s.path, r)
	if err != nil || !a.OK || a.Message != "begin 71001" {
		t.Errorf("the answer is %+v, %v", a, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.asked) != 1 || s.asked[0].Job.Project != "P" || s.asked[0].Job.CPUs != 32 {
		t.Errorf("asked was %+v", s.asked)
	}
}

func TestNobodyThere(t *testing.T) {
	_, err := hook.Ask(filepath.Join(t.TempDir(), "none.sock"), hook.Request{Op: "end"})
	if err == nil || !strings.Contains(err.Error(), "is wattledger-agent running") {
		t.Errorf("the error is %v; want a hint", err)
	}
}

func TestBadRequests(t *testing.T) {
	s := serve(t, own())
	f := func(what, request, want string) {
		t.Helper()
		c, err := net.Dial("unix", s.path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, request) // the server may hang up half-way through
		if err := c.(*net.UnixConn).CloseWrite(); err != nil {
			t.Logf("%s: %v", what, err)
		}
		b, _ := io.ReadAll(c)
		var a hook.Answer
		if err := json.Unmarshal(b, &a); err != nil || a.OK || !strings.Contains(a.Message, want) {
			t.Errorf("%s: the answer is %q, want %q in it", what, b, want)
		}
	}
	f("nothing", "", "must be one line of JSON")
	f("no end of line", `{"op":"begin","job":{"id":"1"}}`, "must be one line of JSON")
	f("not JSON", "begin 71001\n", "cannot understand the request")
	f("another word", `{"op":"kill","job":{"id":"1"}}`+"\n", `cannot do "kill"`)
	f("a negative number", `{"op":"begin","job":{"id":"1","cpus":-1}}`+"\n", "cannot understand")
	f("too long", `{"op":"begin","job":{"id":"`+strings.Repeat("x", 64<<10-27)+`"}}`, "at most 65536 bytes")
	if a, err := hook.Ask(s.path, hook.Request{Op: "end", Job: job.Spec{ID: "1"}}); err != nil || !a.OK {
		t.Errorf("after bad requests a good one gets %+v, %v", a, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.asked) != 1 {
		t.Errorf("%d requests came through, want the good one alone", len(s.asked))
	}
}

// Clients that say nothing keep nobody waiting.
func TestSlowClients(t *testing.T) {
	s := serve(t, own())
	for range 30 {
		c, err := net.Dial("unix", s.path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, `{"op":`); err != nil {
			t.Fatal(err)
		}
	}
	if a, err := hook.Ask(s.path, hook.Request{Op: "end", Job: job.Spec{ID: "1"}}); err != nil || !a.OK {
		t.Errorf("beside slow clients: %+v, %v", a, err)
	}
}

func TestListen(t *testing.T) {
	s := serve(t, own())
	if _, err := hook.Listen(s.path, ""); err == nil || !strings.Contains(err.Error(), "another agent answers there") {
		t.Errorf("a live socket was taken over: %v", err)
	}
	if a, err := hook.Ask(s.path, hook.Request{Op: "end"}); err != nil || !a.OK {
		t.Errorf("the live socket is gone: %+v, %v", a, err)
	}

	stale := filepath.Join(t.TempDir(), "stale.sock")
	l, err := net.Listen("unix", stale)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	l, err = hook.Listen(stale, "no-such-group-"+strconv.Itoa(os.Getpid()))
	if err != nil {
		t.Fatalf("the socket of a dead agent was not replaced: %v", err)
	}
	l.Close()

	precious := filepath.Join(t.TempDir(), "notes.txt")
	if err := os.WriteFile(precious, []byte("not a socket"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := hook.Listen(precious, ""); err == nil {
		l.Close()
		t.Error("a file that is no socket was replaced")
	}
	if b, err := os.ReadFile(precious); err != nil || string(b) != "not a socket" {
		t.Errorf("the file is %q, %v", b, err)
	}
}

const asUser = "WATTLEDGER_TEST_ASK_AS"

// TestPeerCredentials asks from a process of another user. DESIGN section 6,
// promise 8: no user can change another's bill.
func TestPeerCredentials(t *testing.T) {
	if path := os.Getenv(asUser); path != "" { // the other process
		if err := syscall.Setresuid(65534, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		a, err := hook.Ask(path, hook.Request{Op: "end", Job: job.Spec{ID: "1"}})
		fmt.Printf("ANSWER %v %v %v\n", a.OK, err, a.Message) //nolint:forbidigo // the parent reads it
		return
	}
	if os.Getuid() != 0 {
		t.Skip("another user's process can be made only by root")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f := func(s *server, want string) {
		t.Helper()
		for dir := filepath.Dir(s.path); dir != os.TempDir() && len(dir) > 1; dir = filepath.Dir(dir) {
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command(exe, "-test.run=^TestPeerCredentials$", "-test.v")
		cmd.Env = append(os.Environ(), asUser+"="+s.path)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%v, %s\nwant %q", err, out, want)
		}
	}
	stranger := serve(t)
	f(stranger, "ANSWER false")
	// the group may open the socket; the kernel still says who asks
	if err := os.Chmod(stranger.path, 0o666); err != nil {
		t.Fatal(err)
	}
	f(stranger, "ANSWER false <nil> user id 65534 may not begin or end jobs")
	stranger.mu.Lock()
	if len(stranger.asked) != 0 || len(stranger.refused) == 0 || stranger.refused[0] != 65534 {
		t.Errorf("asked %+v, refused %v", stranger.asked, stranger.refused)
	}
	stranger.mu.Unlock()
	listed := serve(t, 65534)
	if err := os.Chmod(listed.path, 0o666); err != nil {
		t.Fatal(err)
	}
	f(listed, "ANSWER true <nil> end 1")
}

func TestParseGPUs(t *testing.T) {
	f := func(list, want string) {
		t.Helper()
		s, err := hook.ParseGPUs(list)
		got := fmt.Sprint(s)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) || (want == "[]" && s != nil) {
			t.Errorf("ParseGPUs(%q) = %s, want %s", list, got, want)
		}
	}
	f("", "[]")
	f("0,1", "[{gpu0 1000000} {gpu1 1000000}]")
	f(" 3 , 07", "[{gpu3 1000000} {gpu7 1000000}]")
	f("0:50%,1:12.5%", "[{gpu0 500000} {gpu1 125000}]")
	f("0:14.2857%", "[{gpu0 142857}]")
	f("0:100%", "[{gpu0 1000000}]")
	f("0:0.0001%", "[{gpu0 1}]")
	f("minor:2,index:0:12.5%", "[{minor:2 1000000} {index:0 125000}]")
	f("pci:0000:c1:00.0,MIG-12ab:50%", "[{pci:0000:c1:00.0 1000000} {MIG-12ab 500000}]")
	f("minor:", `cannot read "minor:"`)
	f("minor:2,minor:2", "named twice")
	f("MIG-", `cannot read "MIG-"`)
	f("0:0%", "not a share above 0%")
	f("0:100.0001%", "up to 100%")
	f("0:14.28571%", "at most four decimals")
	f("0:50", "percentage")
	f("0:-5%", "not a share")
	f("0:%", "not a share")
	f("0:5e1%", "not a share")
	f("0,0", "named twice")
	f("0,", `cannot read "" in the GPU list`)
	f("-1", `cannot read "-1"`)
	f("0-3", `cannot read "0-3"`)
	f("99999", `cannot read "99999"`)
}

func TestParseCPUs(t *testing.T) {
	f := func(list string, want uint32, wantErr string) {
		t.Helper()
		n, err := hook.ParseCPUs(list)
		if n != want || (err == nil) != (wantErr == "") || (err != nil && !strings.Contains(err.Error(), wantErr)) {
			t.Errorf("ParseCPUs(%q) = %d, %v; want %d, %q", list, n, err, want, wantErr)
		}
	}
	f("", 0, "")
	f("0", 1, "")
	f("0-31,64-95", 64, "")
	f(" 0-3 , 8 ", 5, "")
	f("0,0-1", 2, "") // a CPU named twice is one CPU
	f("0-3,2-5", 6, "")
	f("3-0", 0, "number or a span")
	f("0-", 0, "number or a span")
	f("x", 0, "number or a span")
	f("-1", 0, "number or a span")
	f("0-99999999", 0, "number or a span")
}

func TestDeadlineOfAClient(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the deadline of the socket")
	}
	s := serve(t, own())
	c, err := net.Dial("unix", s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); err != nil { // the server hangs up by itself
		t.Errorf("read %q, %v; want the server to hang up", b, err)
	}
}
