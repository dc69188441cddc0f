package web_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the zones that binaries carry

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/report"
	"github.com/wattledger/wattledger/internal/report/reporttest"
	"github.com/wattledger/wattledger/internal/web"
	"github.com/wattledger/wattledger/internal/window"
)

var update = flag.Bool("update", false, "rewrite testdata from what the code says now")

func handler(t *testing.T, l ledger.Ledger) http.Handler {
	t.Helper()
	rome, err := report.ParseZone("Europe/Rome")
	if err != nil {
		t.Fatal(err)
	}
	return web.Handler(web.Deps{Ledger: l, Now: reporttest.Now, Zone: func(cluster string) *time.Location {
		if cluster == "leonardo" {
			return rome
		}
		return nil
	}})
}

func get(t *testing.T, l ledger.Ledger, target string) *httptest.ResponseRecorder {
	t.Helper()
	return do(t, l, httptest.NewRequest(http.MethodGet, target, nil))
}

func do(t *testing.T, l ledger.Ledger, r *http.Request) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	handler(t, l).ServeHTTP(w, r)
	return w
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := "testdata/" + name
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s (-update rewrites): %v; got:\n%s", name, err, got)
	}
}

func TestPageGolden(t *testing.T) {
	f := func(name string, l ledger.Ledger, target string) {
		t.Helper()
		w := get(t, l, target)
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "text/html; charset=utf-8" {
			t.Errorf("%s: %d %s", target, w.Code, w.Header().Get("Content-Type"))
		}
		golden(t, name, w.Body.Bytes())
	}
	f("page.html", reporttest.Demo(), "/")
	f("two_clusters.html", reporttest.TwoClusters(), "/?month=2026-10")
	f("running.html", reporttest.Demo(), "/?month=2026-11&timezone=UTC")
	f("empty.html", &reporttest.Ledger{}, "/")
	f("document.html", reporttest.Demo(), "/api/v1/report?format=html")
}

// TestPageIsWhole: nothing from elsewhere, no script, and a style the policy of
// the answer lets through.
func TestPageIsWhole(t *testing.T) {
	w := get(t, reporttest.TwoClusters(), "/")
	body := w.Body.String()
	style := regexp.MustCompile(`(?s)<style>(.*?)</style>`).FindStringSubmatch(body)
	if style == nil {
		t.Fatal("no style")
	}
	sum := sha256.Sum256([]byte(style[1]))
	if policy := w.Header().Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") ||
		!strings.Contains(policy, "style-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'") {
		t.Errorf("policy %q does not allow the page's own style, or allows more", policy)
	}
	for _, bad := range []string{"<script", "http://", "https://", "//cdn", "style=\"", "onclick", "@import", "url("} {
		if strings.Contains(body, bad) {
			t.Errorf("the page has %s", bad)
		}
	}
	for header, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
		"Cache-Control": "no-store", "Cross-Origin-Resource-Policy": "same-origin",
	} {
		if got := w.Header().Get(header); got != want {
			t.Errorf("%s: %q; want %q", header, got, want)
		}
	}
}

func TestPageStates(t *testing.T) {
	f := func(change func(*ledger.Books), want ...string) {
		t.Helper()
		l := reporttest.Demo()
		for from, b := range l.ByMonth["leonardo"] {
			change(&b)
			l.ByMonth["leonardo"][from] = b
		}
		body := get(t, l, "/").Body.String()
		for _, w := range want {
			if !strings.Contains(body, w) {
				t.Errorf("the page lacks %q", w)
			}
		}
	}
	gone := reporttest.Demo()
	for i := range gone.Known {
		gone.Known[i].Left = i > 0
	}
	if body := get(t, gone, "/").Body.String(); !strings.Contains(body, "1 node is reporting.") {
		t.Error("nodes that have left the books are missed")
	}
	f(func(*ledger.Books) {}, `class="badge closes">Books close<`, "2 of 3 nodes are reporting; lrdn0003 silent the longest, for 26 hours.")
	f(func(b *ledger.Books) { b.Metered++ }, `class="badge broken">Books do not close<`, "BOOKS DO NOT CLOSE by 1 mJ")
	f(func(b *ledger.Books) { b.Metered++; b.Unbooked++ }, `class="badge open">Books are open<`, "<b>&lt;1</b> kWh")
	f(func(b *ledger.Books) { b.Projects[1].Name = reporttest.Evil }, "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;")
	f(func(b *ledger.Books) { *b = ledger.Books{FromMS: b.FromMS, ToMS: b.ToMS} }, "Nothing was metered", "month=2026-11")
}

func TestPageErrors(t *testing.T) {
	f := func(target string, status int, words string) {
		t.Helper()
		w := get(t, reporttest.Demo(), target)
		if w.Code != status || !strings.Contains(w.Body.String(), words) || !strings.Contains(w.Body.String(), "That did not work") {
			t.Errorf("%s: %d; want %d with %q", target, w.Code, status, words)
		}
	}
	f("/?month=2026-13", 400, "like 2026-10")
	f("/?cluster=%3Cb%3E", 404, "&lt;b&gt;")
	f("/?timezone=Local", 400, "time zone")
}

func TestAPI(t *testing.T) {
	f := func(l ledger.Ledger, target string, status int, words ...string) {
		t.Helper()
		w := get(t, l, target)
		if w.Code != status {
			t.Errorf("%s: %d; want %d: %s", target, w.Code, status, w.Body)
		}
		for _, word := range words {
			if !strings.Contains(w.Body.String(), word) {
				t.Errorf("%s: %s\nlacks %q", target, w.Body, word)
			}
		}
		if status >= 400 {
			var e map[string]string
			if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e["error"] == "" {
				t.Errorf("%s: %s is not an error in JSON: %v", target, w.Body, err)
			}
		}
	}
	demo, two, none := reporttest.Demo, reporttest.TwoClusters, func() *reporttest.Ledger { return &reporttest.Ledger{} }
	f(demo(), "/api/v1/report", 200, `"month": "2026-10"`, `"hours": 745`, `"difference_mj": "0"`)
	f(demo(), "/api/v1/report?month=2026-11&timezone=UTC", 200, `"timezone": "UTC"`, `"hours": 720`)
	f(demo(), "/api/v1/report?project=EUHPC_B22_047", 200, `"project_filter": "EUHPC_B22_047"`)
	f(demo(), "/api/v1/report?project=nobody", 404, "EUHPC_A01_001")
	f(demo(), "/api/v1/report?format=csv", 200, "cluster,period_start", "\r\n")
	f(demo(), "/api/v1/report?format=table", 200, "Books close")
	f(demo(), "/api/v1/report?format=pdf", 400, "json, csv, table or html")
	f(demo(), "/api/v1/report?month=10-2026", 400, "like 2026-10")
	f(demo(), "/api/v1/report?timezone=Mars/Base", 400, "Europe/Rome")
	f(demo(), "/api/v1/report?cluster=lumi", 404, "there are: leonardo")
	f(demo(), "/api/v1/report?proejct=x", 400, "proejct", "project")
	f(demo(), "/api/v1/report?month=2026-10&month=2026-11", 400, "2 times")
	f(demo(), "/api/v1/report?month=%zz", 400, "query")
	f(two(), "/api/v1/report", 400, "name one: leonardo, lumi")
	f(two(), "/api/v1/report?cluster=lumi", 200, `"cluster": "lumi"`, `"timezone": "UTC"`)
	f(none(), "/api/v1/report", 404, "ledger is empty")
	f(none(), "/api/v1/report?cluster=x", 404, "ledger is empty")

	f(demo(), "/api/v1/job/71001", 200, `"restart": 1`, `"runs"`, "lrdn0001")
	f(two(), "/api/v1/job/71001", 200, `"cluster": "leonardo"`)
	f(demo(), "/api/v1/job/71003", 200, `"end": null`, `"submit": null`)
	f(demo(), "/api/v1/job/71002", 200, `"project": "(unassigned)"`)
	f(demo(), "/api/v1/job/9", 404, "9")
	f(demo(), "/api/v1/job/71001?cluster=lumi", 404, "there are: leonardo")
	f(demo(), "/api/v1/job/71001", 200, `"state": "COMPLETED"`, `"name": "gpt3-175b"`, `"difference_mj": "-8100000000"`, `"kind": "earlier_runs"`, `"kwh": "135.500"`)
	f(demo(), "/api/v1/job/71001?run=0", 200, `"state": "NODE_FAIL"`)
	f(demo(), "/api/v1/job/71001?run=7", 404, "has no run 7", "there are: 0, 1")
	f(demo(), "/api/v1/job/71001?run=-1", 400, "restart count")
	f(demo(), "/api/v1/job/71001?runs=1", 400, "runs", "run")
	f(demo(), "/api/v1/jobs?sort=energy&limit=1", 200, `"job_id": "71001"`, `"restart": 1`, `"truncated": true`, `"count": 1`)
	f(demo(), "/api/v1/jobs?sort=size", 400, "start or energy")
	f(demo(), "/api/v1/jobs?format=csv", 200, "cluster,job_id,restart,", "\r\nleonardo,71001,1,EUHPC_A01_001,u001,gpt3-175b,")
	f(demo(), "/api/v1/jobs?format=xlsx", 400, "json or csv")
	f(demo(), "/api/v1/jobs/unmetered", 200, `"wattledger.unmetered-jobs/v1"`, `"job_id": "71009"`, `"node_hours": "3.00"`)
	f(demo(), "/api/v1/jobs/unmetered?since=2026-11-22", 200, `"jobs": []`)
	f(demo(), "/api/v1/jobs/unmetered?project=EUHPC_A01_001", 200, `"jobs": []`)
	f(demo(), "/api/v1/jobs/unmetered?user=u001", 200, `"jobs": []`)
	f(demo(), "/api/v1/jobs/unmetered?cluster=lumi", 404, "there are: leonardo")
	f(demo(), "/api/v1/jobs/unmetered?since=2026-11-20&until=2026-11-19", 400, "ends before it begins")
	f(demo(), "/api/v1/jobs?project=EUHPC_A01_001&limit=1", 200, `"truncated": true`, `"restart": 1`)
	f(demo(), "/api/v1/jobs?user=u002", 200, `"truncated": false`, "71003")
	f(demo(), "/api/v1/jobs?limit=0", 400, "from 1 to 10000")
	f(demo(), "/api/v1/jobs?since=tuesday", 400, "since", "-24h")
	f(demo(), "/api/v1/audit", 200, `"closes": true`, `"slots": 2980`)
	f(two(), "/api/v1/audit", 200, `"closes": false`, `"unbooked_mj": "5400000000"`)
	f(two(), "/api/v1/audit?cluster=leonardo", 200, `"closes": true`)
	f(none(), "/api/v1/audit", 200, `"closes": true`, `"slots": 0`, `"findings": []`)
	f(demo(), "/api/v1/audit?from=2026-11-01&to=2026-10-01", 400, "ends before it begins")
	f(demo(), "/api/v1/nodes", 200, "lrdn0003", `"incarnation": "1"`)
	f(demo(), "/api/v1/nodes?cluster=x", 404)
	f(demo(), "/api/v1/events?from=2026-10-01", 200, "driver was loaded anew")
	f(demo(), "/api/v1/events", 200, `"events": []`)
	f(demo(), "/api/v1/events?from=2026-10-01&kind=reset&node=lrdn0002&cluster=leonardo", 200, "driver was loaded anew")
	f(demo(), "/api/v1/events?from=2026-10-01&kind=xid", 200, `"events": []`)
	f(demo(), "/api/v1/events?from=2026-10-01&node=lrdn0001", 200, `"events": []`)
	f(demo(), "/api/v1/events?from=2026-10-02&to=2026-10-01", 400, "ends before it begins")
	f(demo(), "/api/v1/events?nodes=lrdn0001", 400, "is not known here")
	f(two(), "/api/v1/clusters", 200, `"leonardo"`, `"Europe/Rome"`, `"UTC"`)
	f(demo(), "/api/v1/quarantine", 200, `"windows": []`)
	f(demo(), "/api/v1/nothing", 404, "there is no GET /api/v1/nothing")
}

func TestSpansAreAskedInWholeSlots(t *testing.T) {
	l := reporttest.Demo()
	if w := get(t, l, "/api/v1/audit?from=2026-10-01T00:07:00Z&to=2026-10-01T01:00:01Z"); w.Code != 200 {
		t.Fatal(w.Body)
	}
	from := time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	if l.AskedFromMS != from || l.AskedToMS != from+5*window.SlotMS {
		t.Errorf("audited from %d to %d; want five slots from %d", l.AskedFromMS, l.AskedToMS, from)
	}
	if get(t, l, "/api/v1/jobs?cluster=leonardo&since=2026-10-01"); l.AskedFilter.FromMS != from-2*3_600_000 {
		t.Errorf("jobs since %d; want midnight in the cluster's zone", l.AskedFilter.FromMS)
	}
}

func TestLedgerErrorsAreLoggedNotShown(t *testing.T) {
	core, logs := observer.New(zap.ErrorLevel)
	l := reporttest.Demo()
	l.Fails = errors.New("disk I/O error on /var/lib/secret")
	h := web.Handler(web.Deps{Ledger: l, Now: reporttest.Now, Log: zap.New(core)})
	paths := []string{"/", "/api/v1/report", "/api/v1/job/1", "/api/v1/jobs", "/api/v1/jobs/unmetered", "/api/v1/audit", "/api/v1/nodes", "/api/v1/events", "/api/v1/clusters", "/api/v1/quarantine"}
	for _, path := range paths {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != 500 || strings.Contains(w.Body.String(), "secret") || !strings.Contains(w.Body.String(), "log says why") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if logs.Len() != len(paths) {
		t.Errorf("%d lines of log for %d errors", logs.Len(), len(paths))
	}
}

func TestRepost(t *testing.T) {
	f := func(target, site string, answer ledger.Result, status int, words string) *reporttest.Ledger {
		t.Helper()
		l := reporttest.Demo()
		l.Apart = []ledger.QuarantineEntry{{ID: 7, Reason: "unbalanced"}, {ID: 8, Settled: true}}
		l.Reposted = answer
		r := httptest.NewRequest(http.MethodPost, target, nil)
		if site != "" {
			r.Header.Set("Sec-Fetch-Site", site)
		}
		w := do(t, l, r)
		if w.Code != status || !strings.Contains(w.Body.String(), words) {
			t.Errorf("%s: %d %s; want %d with %q", target, w.Code, w.Body, status, words)
		}
		return l
	}
	const path = "/api/v1/quarantine/"
	booked := ledger.Result{Status: ledger.Booked}
	if l := f(path+"7/repost?as=unknown", "", booked, 200, `"status": "booked"`); l.AskedRepost != 7 || !l.AskedUnknown {
		t.Errorf("posted again: %d as unknown %v; want 7, true", l.AskedRepost, l.AskedUnknown)
	}
	if l := f(path+"7/repost", "same-origin", booked, 200, "booked"); l.AskedUnknown {
		t.Error("posted as unknown unasked")
	}
	f(path+"7/repost", "", ledger.Result{Status: ledger.Quarantined, Reason: "still unbalanced"}, 409, "still unbalanced")
	f(path+"8/repost", "", booked, 409, "settled already")
	f(path+"9/repost", "", booked, 404, "no quarantined window 9")
	f(path+"x/repost", "", booked, 400, "not the number")
	f(path+"7/repost?as=idle", "", booked, 400, "unknown")
	if l := f(path+"7/repost", "cross-site", booked, 403, "cross-origin"); l.AskedRepost != 0 {
		t.Error("another site's page could post")
	}
}
