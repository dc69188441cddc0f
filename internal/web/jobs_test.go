package web_test

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/report"
	"github.com/wattledger/wattledger/internal/report/reporttest"
	"github.com/wattledger/wattledger/internal/window"
)

// TestJobThatNobodyMetered is told from one that nobody knows.
func TestJobThatNobodyMetered(t *testing.T) {
	l := reporttest.Demo()
	l.Stated = append(l.Stated, l.Silent...)
	l.Runs = append(l.Runs, ledger.JobBooks{Cluster: "leonardo", Job: l.Silent[0].Job}) // noted, nothing more
	f := func(id, want, not string) {
		t.Helper()
		w := get(t, l, "/api/v1/job/"+id)
		if body := w.Body.String(); w.Code != 404 || !strings.Contains(body, want) || strings.Contains(body, not) {
			t.Errorf("%s: %d %s; want %q and not %q", id, w.Code, body, want, not)
		}
	}
	f("71009", "the scheduler of leonardo knows it (NODE_FAIL)", "nothing else")
	f("99", "no energy was ever booked", "scheduler")
}

// TestListIsOfMeteredJobs: those that only the scheduler told of take nobody's
// place in it.
func TestListIsOfMeteredJobs(t *testing.T) {
	l := reporttest.Demo()
	noted := make([]ledger.JobBooks, 10)
	for i := range noted {
		noted[i] = ledger.JobBooks{Cluster: "leonardo", Job: window.Job{ID: "n" + strconv.Itoa(i), StartMS: 1}}
	}
	l.Runs = append(noted, l.Runs...)
	f := func(limit, want int, truncated bool) {
		t.Helper()
		var doc report.Jobs
		if err := json.Unmarshal(get(t, l, "/api/v1/jobs?limit="+strconv.Itoa(limit)).Body.Bytes(), &doc); err != nil {
			t.Fatal(err)
		}
		if len(doc.Jobs) != want || doc.Truncated != truncated {
			t.Errorf("limit %d: %d jobs, truncated %v; want %d, %v", limit, len(doc.Jobs), doc.Truncated, want, truncated)
		}
	}
	f(3, 3, true)
	f(4, 4, false)
	f(100, 4, false)
}

// askedNodes counts how often the list of all nodes was asked for.
type askedNodes struct {
	*reporttest.Ledger
	nodes int
}

func (l *askedNodes) Nodes(ctx context.Context) ([]ledger.NodeStatus, error) {
	l.nodes++
	return l.Ledger.Nodes(ctx)
}

// TestSilentNodesOfARunningJob: the list of nodes is as long as the fleet, and is
// asked for only while a job runs.
func TestSilentNodesOfARunningJob(t *testing.T) {
	l := &askedNodes{Ledger: reporttest.Demo()}
	if w := get(t, l, "/api/v1/job/71001"); w.Code != 200 || l.nodes != 0 {
		t.Errorf("a job that ended: %d, nodes were asked for %d times", w.Code, l.nodes)
	}
	l.Known[1].LastMS -= 12 * 60_000
	if body := get(t, l, "/api/v1/job/71003").Body.String(); !strings.Contains(body, "node lrdn0002 sent nothing for 12 min") || l.nodes != 1 {
		t.Errorf("a job that runs: asked %d times\n%s", l.nodes, body)
	}
}

// TestLargestOfTooManyJobs: where not all could be looked at, the list says so.
func TestLargestOfTooManyJobs(t *testing.T) {
	f := func(jobs, wantSearched int) {
		t.Helper()
		l := reporttest.Demo()
		l.Runs = nil
		for i := range jobs {
			b := ledger.JobBooks{Cluster: "leonardo", Job: window.Job{ID: strconv.Itoa(i), StartMS: int64(jobs - i), EndMS: int64(jobs)}}
			b.Amounts.Post(window.Posting{Energy: energy.Millijoules(i + 1)})
			l.Runs = append(l.Runs, b)
		}
		var doc report.Jobs
		if err := json.Unmarshal(get(t, l, "/api/v1/jobs?sort=energy&limit=2").Body.Bytes(), &doc); err != nil {
			t.Fatal(err)
		}
		if doc.Searched != wantSearched || !doc.Truncated || len(doc.Jobs) != 2 || doc.Jobs[0].Energy <= doc.Jobs[1].Energy {
			t.Errorf("of %d jobs: searched %d, truncated %v, %d jobs; want searched %d", jobs, doc.Searched, doc.Truncated, len(doc.Jobs), wantSearched)
		}
	}
	f(20_000, 0)
	f(20_001, 20_000)
}
