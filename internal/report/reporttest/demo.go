package reporttest

import (
	"fmt"
	"strings"
	"time"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

// Now is the time in tests: 22 November 2026, before noon.
func Now() time.Time { return time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC) }

// The month of the demonstration: October 2026 in Europe/Rome, 745 hours.
const (
	demoFrom = 1790805600000 // 2026-09-30T22:00:00Z
	demoTo   = 1793487600000 // 2026-10-31T23:00:00Z
	kwh      = 3_600_000_000 // mJ
)

// Evil is a project name made to break what shows it.
const Evil = `=HYPERLINK("http://x","<script>alert('x')</script>")` + "\x1b[2J,\n\u202e"

// Demo is a cluster named leonardo with a month of books that close, with jobs,
// nodes and events.
func Demo() *Ledger {
	b := ledger.Books{FromMS: demoFrom, ToMS: demoTo, MissingMS: 45_000_000, Policies: []string{"allocation/v1"}}
	project := func(name string, busy, held energy.Millijoules, hours int64, jobs int) {
		b.Projects = append(b.Projects, ledger.Project{Name: name, Amounts: Amounts(busy, held, hours), Jobs: jobs})
	}
	project(ledger.Unassigned, 1_204*kwh+7, 88*kwh, 3_912, 41)
	project("EUHPC_A01_001", 402_118*kwh+1_234_567, 21_906*kwh, 1_020_400, 1_822)
	project("EUHPC_B22_047", 298_550*kwh+5, 6_012*kwh, 731_000, 904)
	project("EUHPC_R03_112", 101_777*kwh, 52_310*kwh+999, 402_110, 12_455)
	project("ICT25_MHPC", 40_912*kwh+1, 1_118*kwh, 98_221, 77)
	project("IscrB_"+strings.Repeat("turbulence-", 26)+"long", 12_044*kwh, 4_402*kwh, 44_007, 312)
	project("cin_staff", 803*kwh+55, 2_991*kwh, 9_412, 3_001)
	project("project & \"sons\" <b>", 3*kwh, 1_800_000, 12, 2)
	nobody(&b.Nobody)
	for i := range b.Projects {
		b.Metered += b.Projects[i].Amounts.Total()
	}
	b.Metered += b.Nobody.Total()
	return &Ledger{
		ByMonth: map[string]map[int64]ledger.Books{"leonardo": {demoFrom: b}},
		Runs:    demoJobs(), Known: demoNodes(), Stated: demoFacts(), Silent: demoSilent(),
		Seen: []ledger.EventRow{{
			Node:  ledger.Node{Cluster: "leonardo", Name: "lrdn0002"},
			Event: window.Event{AtMS: demoFrom + 5_000_000, Kind: "reset", Meter: "gpu1", Detail: "driver was loaded anew"},
		}},
	}
}

func nobody(a *ledger.Amounts) {
	post := func(c energy.Class, u energy.Use, g energy.Grade, mj energy.Millijoules, hours int64) {
		a.Post(window.Posting{Class: c, Use: u, Grade: g, Energy: mj, DeviceMS: hours * 3_600_000})
	}
	post(energy.GPU, energy.Idle, energy.Counter, 61_200*kwh+3, 240_118)
	post(energy.CPU, energy.Idle, energy.Sampled, 9_901*kwh, 0)
	post(energy.Other, energy.System, energy.Sampled, 18_077*kwh+1_000, 0)
	post(energy.Memory, energy.Idle, energy.Counter, 4_010*kwh, 0)
	post(energy.Other, energy.Unknown, energy.Bridged, 311*kwh+42, 0)
}

func demoJobs() []ledger.JobBooks {
	run := func(id string, restart uint32, project, user string, start, hours int64) ledger.JobBooks {
		from := int64(demoFrom) + start*3_600_000
		j := ledger.JobBooks{Cluster: "leonardo", Job: window.Job{
			ID: id, Restart: restart, Project: project, User: user,
			SubmitMS: demoFrom, StartMS: from, EndMS: from + hours*3_600_000,
		}}
		for n := range int64(2) {
			a := Amounts(energy.Millijoules((2+n)*kwh*hours), energy.Millijoules(n*kwh/4), 4*hours)
			j.Nodes = append(j.Nodes, ledger.NodeAmounts{Node: fmt.Sprintf("lrdn%04d", 2-n), Amounts: a})
			j.Amounts.Add(&a)
		}
		return j
	}
	running := run("71003", 0, "EUHPC_B22_047", "u002", 700, 0)
	running.Job.EndMS, running.Job.SubmitMS = 0, 0
	return []ledger.JobBooks{
		run("71001", 0, "EUHPC_A01_001", "u001", 10, 3),
		run("71001", 1, "EUHPC_A01_001", "u001", 20, 24),
		run("71002", 0, "", "u003", 5, 2),
		running,
	}
}

// demoFacts are what the workload manager says of both runs of 71001.
func demoFacts() []ledger.JobFacts {
	run := func(restart uint32, state string, start, hours int64, claim int64) ledger.JobFacts {
		from := int64(demoFrom) + start*3_600_000
		return ledger.JobFacts{
			Cluster: "leonardo", Job: window.Job{
				ID: "71001", Restart: restart, Project: "EUHPC_A01_001", User: "u001",
				SubmitMS: demoFrom, StartMS: from, EndMS: from + hours*3_600_000,
			},
			Name: "gpt3-175b", Partition: "boost_usr_prod", QOS: "normal", State: state,
			Requested: "cpu=64,mem=988G,node=2,gres/gpu=8", Allocated: "cpu=64,mem=988G,node=2,gres/gpu=8",
			CPUs: 64, GPUs: 8, Nodes: []string{"lrdn0001", "lrdn0002"}, ClaimedJoules: claim, SeenMS: demoTo,
		}
	}
	return []ledger.JobFacts{run(0, "NODE_FAIL", 10, 3, -1), run(1, "COMPLETED", 20, 24, 424_800_000)}
}

// demoSilent is a job that no node told of.
func demoSilent() []ledger.JobFacts {
	from := Now().UnixMilli() - 20*3_600_000
	return []ledger.JobFacts{{
		Cluster: "leonardo", Job: window.Job{
			ID: "71009", Project: "EUHPC_B22_047", User: "u002", SubmitMS: from - 60_000, StartMS: from, EndMS: from + 90*60_000,
		},
		Name: "restart test", State: "NODE_FAIL", Nodes: []string{"lrdn0003", "lrdn0004"}, ClaimedJoules: -1, SeenMS: from,
	}}
}

func demoNodes() []ledger.NodeStatus {
	now := Now().UnixMilli()
	at := func(name string, ago time.Duration) ledger.NodeStatus {
		return ledger.NodeStatus{
			Node: ledger.Node{Cluster: "leonardo", Name: name}, Incarnation: 1, LastMS: now - ago.Milliseconds(),
		}
	}
	return []ledger.NodeStatus{at("lrdn0001", 12*time.Second), at("lrdn0002", 8*time.Second), at("lrdn0003", 26*time.Hour)}
}

// TwoClusters is Demo with a second, small cluster, lumi, whose month is UTC and
// whose books are open: some energy is not booked yet.
func TwoClusters() *Ledger {
	l := Demo()
	from := time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)
	b := ledger.Books{
		FromMS: from.UnixMilli(), ToMS: from.AddDate(0, 1, 0).UnixMilli(), Unbooked: kwh * 3 / 2,
		Projects: []ledger.Project{{Name: "project_465000001", Amounts: Amounts(900*kwh, 12*kwh, 4_000), Jobs: 9}},
	}
	b.Metered = b.Projects[0].Amounts.Total() + b.Unbooked
	l.ByMonth["lumi"] = map[int64]ledger.Books{b.FromMS: b}
	return l
}
