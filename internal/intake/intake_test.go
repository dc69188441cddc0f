package intake_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/wattledger/wattledger/internal/intake"
	"github.com/wattledger/wattledger/internal/intake/intaketest"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
)

func TestWindowsAreBookedAndAnswered(t *testing.T) {
	b := newBench(t, nil)
	o := b.open("n1")
	c, ws := intaketest.Windows(4, 2)
	h := head("n1", o.Incarnation)
	f := func(what string, body []byte, code int, statuses ...ledger.Status) wire.Response {
		t.Helper()
		got, r := b.send(body)
		if got != code || len(r.Results) != len(statuses) {
			t.Fatalf("%s: %d with %v; want %d with %v", what, got, r.Results, code, statuses)
		}
		for i, s := range statuses {
			if r.Results[i].Status != s {
				t.Fatalf("%s: result %d is %v; want %v", what, i, r.Results[i].Status, s)
			}
		}
		if r.NowMS == 0 {
			t.Fatalf("%s: no clock in the answer", what)
		}
		return r
	}
	if r := f("no catalogue", batch(t, h, nil, ws[0]), http.StatusFailedDependency); len(r.Unknown) != 1 || r.Unknown[0] != c.ID {
		t.Errorf("unknown = %x; want %x", r.Unknown, c.ID)
	}
	f("first two", batch(t, h, []*window.Catalogue{c}, ws[:2]...), http.StatusOK, ledger.Booked, ledger.Booked)
	lookups := b.led.Lookups()
	f("again, and the next", batch(t, h, nil, ws[1], ws[2]), http.StatusOK, ledger.Duplicate, ledger.Booked)
	if b.led.Lookups() != lookups {
		t.Error("the ledger was asked for a catalogue that was just booked")
	}
	other := *ws[1]
	other.Bridge = true
	f("conflict", batch(t, h, nil, &other, ws[3]), http.StatusConflict, ledger.Conflict)
	apart := *ws[3]
	apart.StartMS += 60_000
	apart.EndMS += 60_000
	apart.Ranges = append([]window.Range(nil), ws[3].Ranges...)
	apart.Ranges[0].From++
	if r := f("apart", batch(t, h, nil, ws[2], &apart, ws[3]), http.StatusConflict, ledger.Duplicate, ledger.Apart); len(r.Results[1].Ends) == 0 {
		t.Error("apart, but the ledger's ends are not told")
	}
	f("empty", batch(t, h, nil), http.StatusOK)
	f("fenced", batch(t, head("n1", o.Incarnation+1), nil, ws[3]), http.StatusGone, ledger.Fenced)
	b.led.Forget(h.Node)
	f("reopen", batch(t, h, nil, ws[3]), http.StatusPreconditionRequired, ledger.Reopen)
	b.led.Answer(ledger.Result{Status: ledger.Quarantined, Reason: "unbalanced"})
	if r := f("quarantined", batch(t, h, nil, ws[3]), http.StatusOK, ledger.Quarantined); r.Results[0].Reason != "unbalanced" {
		t.Errorf("reason = %q", r.Results[0].Reason)
	}
	if got := b.metric(intake.MetricWindows, "quarantined"); got != 1 {
		t.Errorf("quarantined windows = %v; want 1", got)
	}
}

func TestBadBodies(t *testing.T) {
	b := newBench(t, nil)
	o := b.open("n1")
	c, ws := intaketest.Windows(1, 2)
	good := batch(t, head("n1", o.Incarnation), []*window.Catalogue{c}, ws...)
	bomb := packed(t, make([]byte, 64<<20))
	if len(bomb) > 64<<10 {
		t.Fatalf("the bomb has %d bytes", len(bomb))
	}
	f := func(what string, body []byte, code int, reason, text string, headers ...string) {
		t.Helper()
		resp, out := b.post(wire.PathWindows, body, headers...)
		if resp.StatusCode != code || resp.Header.Get(wire.HeaderReason) != reason || !strings.Contains(string(out), text) {
			t.Errorf("%s: %d %q %q; want %d %q %q", what, resp.StatusCode, resp.Header.Get(wire.HeaderReason), out, code, reason, text)
		}
		if strings.Count(string(out), "\n") != 1 {
			t.Errorf("%s: the reason is not one line: %q", what, out)
		}
	}
	f("garbage", []byte("hello"), 400, wire.ReasonMalformed, "malformed message")
	f("truncated", good[:len(good)-3], 400, wire.ReasonMalformed, "field 11")
	f("version", append([]byte{8, 7}, good[2:]...), 400, wire.ReasonVersion, "unknown version 7")
	f("no version", nil, 400, wire.ReasonVersion, "unknown version 0")
	f("oversized", make([]byte, wire.MaxBody+1), 413, wire.ReasonTooLarge, "4194305 bytes")
	f("bomb", bomb, 413, wire.ReasonTooLarge, "unpacks to more", "Content-Encoding", "zstd")
	f("not zstd", good, 400, wire.ReasonEncoding, "cannot unpack", "Content-Encoding", "zstd")
	f("truncated zstd", packed(t, good)[:40], 400, wire.ReasonEncoding, "cannot unpack", "Content-Encoding", "zstd")
	f("gzip", good, 415, wire.ReasonEncoding, `"gzip" is not zstd`, "Content-Encoding", "gzip")
	f("json", good, 415, wire.ReasonEncoding, "content type", "Content-Type", "application/json")
	f("bad packed", packed(t, []byte("hello")), 400, wire.ReasonMalformed, "malformed", "Content-Encoding", "zstd")
	if code, _ := b.send(packed(t, good), "Content-Encoding", "zstd"); code != http.StatusOK {
		t.Errorf("a good body after all that: %d", code)
	}
	if got := b.metric(intake.MetricDecodeErrors, wire.ReasonTooLarge); got != 2 {
		t.Errorf("too large = %v; want 2", got)
	}
	resp, err := http.Get(b.srv.URL + wire.PathWindows)
	if err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET: %v, %v", resp, err)
	}
	_ = resp.Body.Close()
}

// TestChunkedBodyIsBounded: without a length, too.
func TestChunkedBodyIsBounded(t *testing.T) {
	b := newBench(t, nil)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.srv.URL+wire.PathWindows,
		struct{ *bytes.Reader }{bytes.NewReader(make([]byte, wire.MaxBody+1))})
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = -1
	req.Header.Set("Content-Type", wire.ContentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("code %d; want 413", resp.StatusCode)
	}
}

func TestGroupCommitCoalesces(t *testing.T) {
	b := newBench(t, func(o *intake.Options) { o.CommitEvery = 200 * time.Millisecond })
	const nodes = 20
	bodies := make([][]byte, nodes)
	for i := range bodies {
		name := fmt.Sprintf("n%d", i)
		c, ws := intaketest.Windows(3, 1)
		bodies[i] = batch(t, head(name, b.open(name).Incarnation), []*window.Catalogue{c}, ws...)
	}
	var wg sync.WaitGroup
	for _, body := range bodies {
		wg.Go(func() {
			if code, r := b.send(body); code != http.StatusOK || len(r.Results) != 3 {
				t.Errorf("%d, %d results", code, len(r.Results))
			}
		})
	}
	wg.Wait()
	commits := b.led.Commits()
	if len(commits) > 3 {
		t.Errorf("%d commits for %d requests within a moment: %v", len(commits), nodes, commits)
	}
	for i := range nodes {
		if n, most, _ := b.led.Booked(ledger.Node{Cluster: "c", Name: fmt.Sprintf("n%d", i)}); n != 3 || most != 1 {
			t.Errorf("node %d: %d windows, one of them %d times", i, n, most)
		}
	}
	if q := b.metric(intake.MetricQueue); q != 0 {
		t.Errorf("queue = %v when nothing waits", q)
	}
}

// TestEachRequestGetsItsOwnResults out of a commit they share.
func TestEachRequestGetsItsOwnResults(t *testing.T) {
	b := newBench(t, func(o *intake.Options) { o.CommitEvery = 200 * time.Millisecond })
	c, ws := intaketest.Windows(2, 1)
	var wg sync.WaitGroup
	for i := range 6 {
		name := fmt.Sprintf("n%d", i)
		o := b.open(name)
		want := http.StatusOK
		if i%2 == 1 {
			o.Incarnation++
			want = http.StatusGone
		}
		body := batch(t, head(name, o.Incarnation), []*window.Catalogue{c}, ws...)
		wg.Go(func() {
			if code, _ := b.send(body); code != want {
				t.Errorf("%s: %d; want %d", name, code, want)
			}
		})
	}
	wg.Wait()
	if n := len(b.led.Commits()); n > 2 {
		t.Errorf("%d commits; want one for all", n)
	}
}

func TestManyWindowsDoNotWait(t *testing.T) {
	b := newBench(t, func(o *intake.Options) { o.CommitEvery, o.CommitWindows = time.Hour, 4 })
	c, ws := intaketest.Windows(4, 1)
	if code, _ := b.send(batch(t, head("n1", b.open("n1").Incarnation), []*window.Catalogue{c}, ws...)); code != http.StatusOK {
		t.Errorf("code %d", code)
	}
}

func TestLedgerErrorAcknowledgesNothing(t *testing.T) {
	b := newBench(t, nil)
	h := head("n1", b.open("n1").Incarnation)
	c, ws := intaketest.Windows(2, 1)
	body := batch(t, h, []*window.Catalogue{c}, ws...)
	b.led.Fail(-1)
	resp, out := b.post(wire.PathWindows, body)
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || !strings.Contains(string(out), "disk full") {
		t.Errorf("%d %q", resp.StatusCode, out)
	}
	if n, _, _ := b.led.Booked(h.Node); n != 0 {
		t.Errorf("%d windows booked", n)
	}
	b.led.Fail(0)
	if code, _ := b.send(body); code != http.StatusOK {
		t.Errorf("after the failure: %d", code)
	}
	if got := b.metric(intake.MetricCommitErrors); got < 1 {
		t.Error("the failure was not counted")
	}
}

// TestPoisonStopsOnlyItself: one request that the ledger cannot digest does not
// keep others out of the books.
func TestPoisonStopsOnlyItself(t *testing.T) {
	b := newBench(t, func(o *intake.Options) { o.CommitEvery = 100 * time.Millisecond })
	b.led.Poison(func(s ledger.Submission) bool { return s.Node.Name == "n3" })
	var wg sync.WaitGroup
	for i := range 8 {
		name := fmt.Sprintf("n%d", i)
		c, ws := intaketest.Windows(1, 1)
		body := batch(t, head(name, b.open(name).Incarnation), []*window.Catalogue{c}, ws...)
		want := map[bool]int{true: http.StatusServiceUnavailable, false: http.StatusOK}[i == 3]
		wg.Go(func() {
			if code, _ := b.send(body); code != want {
				t.Errorf("%s: %d; want %d", name, code, want)
			}
		})
	}
	wg.Wait()
}

func TestFullQueueAsksToComeAgain(t *testing.T) {
	b := newBench(t, func(o *intake.Options) {
		o.CommitEvery, o.QueueWindows, o.Patience = time.Hour, 2, 300*time.Millisecond
	})
	h := head("n1", b.open("n1").Incarnation)
	c, ws := intaketest.Windows(4, 1)
	var wg sync.WaitGroup
	wg.Go(func() { // waits until its patience ends
		if code, _ := b.send(batch(t, h, []*window.Catalogue{c}, ws[:2]...)); code != http.StatusServiceUnavailable {
			t.Errorf("a commit that does not come: %d", code)
		}
	})
	for b.metric(intake.MetricQueue) == 0 {
		time.Sleep(time.Millisecond)
	}
	resp, out := b.post(wire.PathWindows, batch(t, h, []*window.Catalogue{c}, ws[2:]...))
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") != "1" || !strings.Contains(string(out), "too many windows wait") {
		t.Errorf("%d %q", resp.StatusCode, out)
	}
	wg.Wait()
}

func TestOpenIsFencedAndFails(t *testing.T) {
	b := newBench(t, nil)
	if o := b.open("n1"); o.Incarnation == 0 {
		t.Error("no incarnation")
	}
	req, err := wire.EncodeOpenRequest(ledger.OpenRequest{Node: ledger.Node{Cluster: "c", Name: "n1"}, Incarnation: 77, Nonce: "n", Session: "s"})
	if err != nil {
		t.Fatal(err)
	}
	if resp, _ := b.post(wire.PathOpen, req); resp.StatusCode != http.StatusGone || resp.Header.Get(wire.HeaderReason) != wire.ReasonFenced {
		t.Errorf("fenced: %d", resp.StatusCode)
	}
	b.led.Fail(-1)
	if resp, _ := b.post(wire.PathOpen, req); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("ledger error: %d", resp.StatusCode)
	}
	if resp, _ := b.post(wire.PathOpen, []byte{8, 1}); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("empty: %d", resp.StatusCode)
	}
}

func TestBooksAsMetrics(t *testing.T) {
	led := intaketest.New()
	if _, _, err := led.Open(t.Context(), ledger.OpenRequest{Node: ledger.Node{Cluster: "c", Name: "n"}, Nonce: "x", Session: "s"}); err != nil {
		t.Fatal(err)
	}
	books := intake.NewBooks(led, nil)
	want := `
# HELP wattledger_project_energy_joules_total Energy booked to a project; to nobody where project is empty.
# TYPE wattledger_project_energy_joules_total counter
wattledger_project_energy_joules_total{cluster="c",project="p"} 1.5
# HELP wattledger_nodes Nodes that are in the books and have not left them.
# TYPE wattledger_nodes gauge
wattledger_nodes{cluster="c"} 1
`
	if err := testutil.CollectAndCompare(books, strings.NewReader(want), intake.MetricProjectEnergy, intake.MetricNodes); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.CollectAndLint(books); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	led.SetTotal(-500) // a job was assigned elsewhere: the counter must not look started anew
	if err := testutil.CollectAndCompare(books, strings.NewReader(want), intake.MetricProjectEnergy, intake.MetricNodes); err != nil {
		t.Error(err)
	}
	led.SetTotal(500)
	want = strings.Replace(want, "} 1.5", "} 2", 1)
	if err := testutil.CollectAndCompare(books, strings.NewReader(want), intake.MetricProjectEnergy, intake.MetricNodes); err != nil {
		t.Error(err)
	}
	led.Fail(-1)
	if err := testutil.CollectAndCompare(books, strings.NewReader(""), intake.MetricProjectEnergy); err != nil && !errors.Is(err, intaketest.ErrFailed) {
		t.Error(err)
	}
}
