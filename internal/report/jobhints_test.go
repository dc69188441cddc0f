package report_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/report"
	"github.com/wattledger/wattledger/internal/window"
)

const hourMS = 3_600_000

// plainJob is one that there is nothing to say about, with its facts.
func plainJob() report.JobInput {
	b := runOf(0, "u", 100)
	return report.JobInput{
		Runs: []ledger.JobBooks{b}, NowMS: 200 * hourMS,
		Facts: []ledger.JobFacts{{
			Cluster: "c", Job: b.Job, State: "COMPLETED", Allocated: "gres/gpu=8", GPUs: 8, Nodes: []string{"n1", "n2"}, ClaimedJoules: -1,
		}},
	}
}

// running is plainJob an hour before its end.
func running(in *report.JobInput) {
	in.NowMS = 123 * hourMS
	in.Runs[0].Job.EndMS, in.Facts[0].Job.EndMS, in.Facts[0].State = 0, 0, "RUNNING"
	for _, n := range []string{"n1", "n2"} {
		in.Nodes = append(in.Nodes, ledger.NodeStatus{Node: ledger.Node{Cluster: "c", Name: n}, LastMS: in.NowMS - 8000})
	}
}

func TestHints(t *testing.T) {
	gpu := func(in *report.JobInput, node int, busy, held int64) {
		a := &in.Runs[0].Nodes[node].Amounts.DeviceMS[energy.GPU]
		sum := &in.Runs[0].Amounts.DeviceMS[energy.GPU]
		sum[energy.Busy] += busy - a[energy.Busy]
		sum[energy.Held] += held - a[energy.Held]
		a[energy.Busy], a[energy.Held] = busy, held
	}
	grade := func(g energy.Grade, percent energy.Millijoules) func(*report.JobInput) {
		return func(in *report.JobInput) {
			a := &in.Runs[0].Amounts
			a.Grades[g] = a.Total() / 100 * percent
			a.Grades[energy.Counter] -= a.Grades[g]
		}
	}
	fact := func(change func(*ledger.JobFacts)) func(*report.JobInput) {
		return func(in *report.JobInput) { change(&in.Facts[0]) }
	}
	claim := func(joules int64) func(*report.JobInput) {
		return fact(func(f *ledger.JobFacts) { f.ClaimedJoules = joules })
	}
	silent := func(ms int64) func(*report.JobInput) {
		return func(in *report.JobInput) { running(in); in.Nodes[1].LastMS = in.NowMS - ms }
	}
	earlier := func(user string) func(*report.JobInput) {
		return func(in *report.JobInput) {
			b := runOf(0, user, 50)
			in.Runs[0].Job.Restart, in.Facts[0].Job.Restart = 1, 1
			in.Runs = append(in.Runs, b)
		}
	}
	unmetered := func(user string, endHour int64) func(*report.JobInput) {
		return func(in *report.JobInput) {
			in.Runs = append(in.Runs, ledger.JobBooks{
				Cluster: "c", Job: window.Job{ID: "7", Restart: 3, User: user, StartMS: 50 * hourMS, EndMS: endHour * hourMS},
			})
		}
	}
	// Each kind has a case where it is said, and one beside it where it is not.
	seen := map[string][2]int{}
	f := func(kind, want string, changes ...func(*report.JobInput)) {
		t.Helper()
		in := plainJob()
		for _, change := range changes {
			change(&in)
		}
		j, ok := report.JobOf(in)
		if !ok {
			t.Fatal("no job")
		}
		var said []string
		for _, h := range j.Hints {
			if h.Kind == kind {
				said = append(said, h.Text)
			} else {
				t.Errorf("%s: beside it %s is said: %s", kind, h.Kind, h.Text)
			}
		}
		if got := strings.Join(said, "\n"); got != want {
			t.Errorf("%s: said\n%q\nwant\n%q", kind, got, want)
		}
		n := seen[kind]
		if want == "" {
			n[1]++
		} else {
			n[0]++
		}
		seen[kind] = n
	}
	f("gpus_idle", "its GPUs did nothing for 93.0 % of the time they were held (178.56 of 192.00 GPU hours)", func(in *report.JobInput) {
		for n := range 2 {
			gpu(in, n, 96*hourMS/100*7, 96*hourMS/100*93)
		}
	})
	f("gpus_idle", "", func(in *report.JobInput) { gpu(in, 0, 96*hourMS/100*91, 96*hourMS/100*9) })
	f("gpus_idle", "", func(in *report.JobInput) { // a job without GPUs
		gpu(in, 0, 0, 0)
		gpu(in, 1, 0, 0)
		in.Facts[0].GPUs = 0
	})
	f("suspended", "suspended for 2 h while it kept its GPUs", fact(func(f *ledger.JobFacts) { f.SuspendedMS = 2 * hourMS }))
	f("suspended", "suspended for 2 h 05 min", fact(func(f *ledger.JobFacts) { f.SuspendedMS = 125 * 60_000; f.GPUs = 0 }),
		func(in *report.JobInput) { gpu(in, 0, 0, 0); gpu(in, 1, 0, 0) })
	f("suspended", "", fact(func(f *ledger.JobFacts) { f.SuspendedMS = 0 }))
	f("earlier_runs", "it ran 2 times: the other runs took 100.000 kWh, 50.0 % of the sum", earlier("u"))
	f("earlier_runs", "", earlier("another"))
	f("node_silent", "node n2 sent nothing for 12 min", silent(12*60_000))
	f("node_silent", "", silent(119_000))
	f("node_silent", "", running)
	f("node_missing", "node n3 was the job's, and the books hold nothing of it there", fact(func(f *ledger.JobFacts) { f.Nodes, f.GPUs = []string{"n1", "n2", "n3"}, 12 }))
	f("node_missing", "node n3 was the job's, and the books hold nothing of it there\n"+
		"node n4 was the job's, and the books hold nothing of it there\n"+
		"node n5 was the job's, and the books hold nothing of it there\n"+
		"2 more nodes have nothing of it in the books", fact(func(f *ledger.JobFacts) {
		f.Nodes, f.GPUs = []string{"n1", "n2", "n7", "n4", "n5", "n6", "n3"}, 28
	}))
	f("node_missing", "", func(in *report.JobInput) { // it has only just begun
		running(in)
		in.NowMS = 100*hourMS + 60_000
		in.Nodes[0].LastMS, in.Nodes[1].LastMS = in.NowMS, in.NowMS
		for n := range 2 {
			gpu(in, n, 4*60_000, 0)
		}
		in.Facts[0].Nodes, in.Facts[0].GPUs = []string{"n1", "n2", "n3"}, 12
	})
	f("not_metered", "node n2: for 12 h of 24 h its GPUs were not metered", func(in *report.JobInput) { gpu(in, 1, 48*hourMS, 0) })
	f("not_metered", "", func(in *report.JobInput) { gpu(in, 1, 4*(24*hourMS-28*60_000), 0) })
	f("not_metered", "", fact(func(f *ledger.JobFacts) { f.Allocated = "gres/gpu:a100_1g.5gb=8" }),
		func(in *report.JobInput) { gpu(in, 0, 12*hourMS, 0); gpu(in, 1, 12*hourMS, 0) })
	f("not_metered", "", fact(func(f *ledger.JobFacts) { f.Allocated = "cpu=4,gres/shard=8" }), func(in *report.JobInput) { gpu(in, 0, 12*hourMS, 0) })
	f("run_missing", "its run with restart count 3 took 60 min, and the books hold nothing of it", unmetered("u", 51))
	f("run_missing", "", unmetered("another", 51))
	f("run_missing", "", unmetered("u", 50)) // cancelled before it began
	f("node_silent", "node n2 has sent nothing (yet) of the last 5 min", func(in *report.JobInput) {
		running(in)
		in.Runs[0].Job.EndMS = 123 * hourMS
		in.NowMS, in.Nodes[0].LastMS, in.Nodes[1].LastMS = 124*hourMS, 124*hourMS, 123*hourMS-5*60_000
	})
	f("node_silent", "", func(in *report.JobInput) {
		running(in)
		in.Runs[0].Job.EndMS = in.Nodes[1].LastMS + 10_000
	})
	f("bridged", "31.0 % of its energy was placed by time, not by a reading at its edges", grade(energy.Bridged, 31))
	f("bridged", "", grade(energy.Bridged, 4))
	f("modelled", "2.0 % of its energy is an assumption, nothing metered it", grade(energy.Modelled, 2))
	f("modelled", "", grade(energy.Sampled, 90))
	f("claim_differs", "the scheduler's own figure is 80.000 kWh, 20.0 % less than ours; it counts whole nodes and whole watts", claim(288_000_000))
	f("claim_differs", "the scheduler's own figure is 250.000 kWh, 150 % more than ours; it counts whole nodes and whole watts", claim(900_000_000))
	f("claim_differs", "", claim(340_000_000))
	f("claim_differs", "", claim(0))
	f("claim_differs", "", claim(288_000_000), running, func(in *report.JobInput) { gpu(in, 0, 92*hourMS, 0); gpu(in, 1, 92*hourMS, 0) })
	f("unassigned", "its project is not known yet; until then its energy stands under (unassigned)", func(in *report.JobInput) { in.Runs[0].Job.Project = "" })
	f("unassigned", "", func(in *report.JobInput) { in.Runs[0].Job.Project = "q" })
	f("none", "", func(in *report.JobInput) { in.Facts = nil })
	seen["none"] = [2]int{1, 1}
	for kind, n := range seen {
		if n[0] == 0 || n[1] == 0 {
			t.Errorf("%s is said in %d cases and not in %d; want some of both", kind, n[0], n[1])
		}
	}
}

// A job of a thousand nodes does not have a thousand hints.
func TestHintsOfAJobOnManyNodesAreFew(t *testing.T) {
	in := plainJob()
	running(&in)
	b := &in.Runs[0]
	for i := range 1000 {
		name := fmt.Sprintf("m%04d", i)
		b.Nodes = append(b.Nodes, ledger.NodeAmounts{Node: name, Amounts: b.Nodes[0].Amounts})
		in.Nodes = append(in.Nodes, ledger.NodeStatus{Node: ledger.Node{Cluster: "c", Name: name}, LastMS: in.NowMS - 600_000})
	}
	in.Facts = nil
	j, _ := report.JobOf(in)
	if len(j.Hints) != 4 || !slices.Contains(j.Hints, report.Hint{Kind: "node_silent", Text: "997 more nodes sent nothing for a while"}) {
		t.Errorf("%d hints: %+v; want three nodes and how many more", len(j.Hints), j.Hints)
	}
}
