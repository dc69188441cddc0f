//go:build e2e

package e2e_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	slurmlab "github.com/wattledger/wattledger/test/slurm-lab"
)

const labCPUs = 16 // of each node, as Slurm and the agents are told

// slurmSite is a Slurm cluster of two nodes. Each node's agent reads an emulated
// node whose truth is known.
type slurmSite struct {
	*testing.T
	all   *testing.T // lives as long as the site
	lab   *slurmlab.Lab
	agg   *aggregator
	nodes []*machine // agents outside the lab's namespaces, on its nodes' sockets and cgroups
	confs []string
	// shared counts spans of GPUs that more than one run held.
	shared int
	// gone is when the cgroup of a job went from a node ("node1/45"), of jobs whose
	// hooks tell nobody.
	gone map[string]time.Time
}

// labHook is a hook that notes when it ran, and runs ours between.
func labHook(dir, word, script string) string {
	return fmt.Sprintf(`#!/bin/bash
b=$(/bin/date +%%s%%N)
[ -e %[1]s/quiet ] || /bin/sh %[3]s
e=$(/bin/date +%%s%%N)
echo "$(( (b+e)/2 )) ${SLURM_JOB_GPUS:--} $SLURM_JOB_CPUS_PER_NODE $SLURM_JOB_ACCOUNT $(( (e-b)/1000000 ))" \
  >%[1]s/$(/bin/hostname).%[2]s.$SLURM_JOB_ID.${SLURM_JOB_RESTART_COUNT:-0}.$b
exit 0
`, dir, word, script)
}

func newSlurmSite(t *testing.T) *slurmSite {
	t.Helper()
	stamps, err := os.MkdirTemp("", "slurm-stamps-") //nolint:usetesting // root's hooks write here from other namespaces
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() { // else they tell what happened
			_ = os.RemoveAll(stamps)
		}
	})
	hooks, err := filepath.Abs("../../packaging/slurm")
	if err != nil {
		t.Fatal(err)
	}
	s := &slurmSite{T: t, all: t, gone: map[string]time.Time{}}
	s.lab = slurmlab.Start(t, slurmlab.Options{
		Nodes: 2, GPUs: 4, Cgroup: "v1", Net: "10.213.21",
		Own: []string{"/etc/wattledger", "/run/wattledger", "/var/lib/wattledger-edges"},
		Env: []string{"LAB_SHARDS=4"},
		Hooks: map[string]string{
			"prolog.sh": labHook(stamps, "begin", filepath.Join(hooks, "prolog")),
			"epilog.sh": labHook(stamps, "end", filepath.Join(hooks, "epilog")),
		},
	})
	s.confs = []string{stamps}
	s.agg = s.aggregator()
	for n := 1; n <= 2; n++ {
		s.nodes = append(s.nodes, s.node(n))
	}
	return s
}

// command makes a program that runs one of Slurm's commands in the lab.
func (s *slurmSite) command(name string) string {
	s.Helper()
	dir := filepath.Join(s.lab.Dir, "commands")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		s.Fatal(err)
	}
	script, err := filepath.Abs("../slurm-lab/slurm-lab.sh")
	if err != nil {
		s.Fatal(err)
	}
	file := filepath.Join(dir, name)
	text := fmt.Sprintf("#!/bin/sh\nexec %s exec %s %s \"$@\"\n", script, s.lab.Dir, name)
	if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
		s.Fatal(err)
	}
	return file
}

func (s *slurmSite) aggregator() *aggregator {
	s.Helper()
	return startConfigured(s, s.TempDir(), fmt.Sprintf("clusters:\n  - name: lab\n    accounting:\n      sacct: %s\n      sacctmgr: %s\n      every: 5s\n",
		s.command("sacct"), s.command("sacctmgr")))
}

// node starts the emulator of node n and the agent on it.
func (s *slurmSite) node(n int) *machine {
	s.Helper()
	m := &machine{name: "leonardo", root: s.TempDir(), url: s.agg.url()}
	start(s, nil, "wattledger-fleet", "emulate", "--machine", "leonardo", "--root", m.root, "--seed", strconv.Itoa(10+n))
	eventually(s, "the emulated node is ready", func() bool { _, err := os.Stat(m.config()); return err == nil })
	b, err := os.ReadFile(m.config())
	if err != nil {
		s.Fatal(err)
	}
	var text strings.Builder
	for line := range strings.Lines(string(b)) {
		switch key, _, _ := strings.Cut(line, ":"); key {
		case "node_cpus", "socket", "node", "cluster":
		default:
			text.WriteString(line)
		}
	}
	fmt.Fprintf(&text, "cluster: lab\nnode: node%d\nnode_cpus: %d\nsocket: %s\n", n, labCPUs, s.lab.Own(n, "/run/wattledger/agent.sock"))
	fmt.Fprintf(&text, "jobs:\n  slurm:\n    hook_dir: %s\n    cgroup_root: /sys/fs/cgroup\n    node: node%d\n    scontrol: %s\n",
		s.lab.Own(n, "/var/lib/wattledger-edges"), n, s.command("scontrol"))
	if err := os.WriteFile(m.config(), []byte(text.String()), 0o644); err != nil {
		s.Fatal(err)
	}
	hook := s.lab.Own(n, "/etc/wattledger/slurm-hook.conf")
	if err := os.WriteFile(hook, []byte("agent="+bin(s, "wattledger-agent")+"\n"), 0o644); err != nil {
		s.Fatal(err)
	}
	if err := os.Chmod(s.lab.Own(n, "/var/lib/wattledger-edges"), 0o700); err != nil {
		s.Fatal(err)
	}
	s.startAgent(m)
	return m
}

func (s *slurmSite) startAgent(m *machine) {
	s.Helper()
	m.agent = start(s.all, nil, "wattledger-agent", "--config", m.config(), "--aggregator", m.url)
	eventually(s, "the agent meters", func() bool {
		return strings.Contains(m.agent.out.String(), `"metering"`) || strings.Contains(m.agent.out.String(), "metering")
	})
}

// line is a job of `wattledger jobs`.
type line struct {
	ID        string `json:"job_id"`
	Restart   int    `json:"restart"`
	Project   string `json:"project"`
	User      string `json:"user"`
	Energy    string `json:"energy_mj"`
	Scheduler *struct {
		State string `json:"state"`
		Name  string `json:"name"`
	} `json:"scheduler"`
}

func (s *slurmSite) jobs() map[string]line {
	s.Helper()
	out, code := cli(s, s.agg.url(), "jobs", "--cluster", "lab", "--limit", "1000", "--format", "json")
	if code != 0 {
		s.Fatalf("wattledger jobs: exit %d: %s", code, out)
	}
	var list struct {
		Jobs []line `json:"jobs"`
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		s.Fatal(err)
	}
	by := map[string]line{}
	for _, l := range list.Jobs {
		by[l.ID+"/"+strconv.Itoa(l.Restart)] = l
	}
	return by
}

// meets holds every run that the hooks saw against the books.
func (s *slurmSite) meets(runs map[string][]held, share float64) (worst string) {
	s.Helper()
	books := s.jobs()
	all := s.runs()
	type sums struct{ got, want, edges float64 }
	projects := map[string]*sums{}
	most := 0.0
	for _, key := range slices.Sorted(maps.Keys(runs)) {
		want, edges := s.truth(runs[key], all)
		l, ok := books[key]
		if !ok {
			s.Errorf("job %s is not in the books (%v)", key, slices.Sorted(maps.Keys(books)))
			continue
		}
		got := float64(mj(s, l.Energy)) / 1000
		if l.Project != runs[key][0].account {
			s.Errorf("job %s is of project %q, its account is %q", key, l.Project, runs[key][0].account)
		}
		near(s.T, "job "+key, got, want, share, edges)
		if off := math.Abs(got-want) / want; off > most {
			most, worst = off, fmt.Sprintf("job %s: %.1f J booked, %.1f J drawn (%.2f %%)", key, got, want, 100*off)
		}
		if projects[l.Project] == nil {
			projects[l.Project] = &sums{}
		}
		p := projects[l.Project]
		p.got, p.want, p.edges = p.got+got, p.want+want, p.edges+edges
	}
	for name, p := range projects {
		near(s.T, "project "+name, p.got, p.want, share, p.edges)
	}
	s.Logf("%d runs, the one furthest off is %s", len(runs), worst)
	return worst
}

// TestSlurm: forty jobs of three accounts on a real Slurm, with prolog and
// epilog, and then with neither, and with no agent.
func TestSlurm(t *testing.T) {
	t.Parallel()
	s := newSlurmSite(t)
	s.fortyJobs()
	s.lab.Idle(4 * time.Minute)
	full := s.runs()
	settle := func() { time.Sleep(14 * time.Second) } // a window, its grace, a poll of the accounting
	settle()
	s.Run("forty jobs", func(t *testing.T) {
		s := s.in(t)
		if len(full) < 40 {
			t.Errorf("only %d runs: %v", len(full), slices.Sorted(maps.Keys(full)))
		}
		s.meets(full, 0.005)
		if s.shared == 0 {
			t.Error("no GPU was shared: the test proves less than it says")
		}
		s.listEqualsSacct()
		for key, hs := range full {
			for _, h := range hs {
				if h.hookMillis > 1000 {
					t.Errorf("the prolog of %s took %d ms", key, h.hookMillis)
				}
			}
		}
	})

	s.Run("without prolog", func(t *testing.T) {
		s := s.in(t)
		quiet := filepath.Join(s.confs[0], "quiet")
		if err := os.WriteFile(quiet, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(quiet)
		followed := s.followCgroups()
		for i, user := range []string{"alice", "bob", "carol", "alice", "bob"} {
			s.lab.Submit(user, "--gres=gpu:"+strconv.Itoa(1+i%2), "-n", "2", "--wrap", "sleep 15")
		}
		s.lab.Idle(2 * time.Minute)
		settle()
		followed()
		s.meets(s.since(full), 0.02)
	})

	known := s.runs()
	s.Run("agent stopped across a prolog", func(t *testing.T) {
		s := s.in(t)
		m := s.nodes[0]
		if code := m.agent.stop(t); code != 0 {
			t.Errorf("the agent ended with %d", code)
		}
		s.lab.Submit("bob", "-w", "node1", "--gres=gpu:2", "-n", "4", "--wrap", "sleep 30")
		s.lab.Submit("carol", "-w", "node1", "--gres=gpu:1", "-n", "2", "--wrap", "sleep 3")
		eventually(t, "the short job has ended", func() bool {
			return !strings.Contains(s.lab.Exec("squeue", "-h", "-u", "carol"), "carol")
		})
		s.startAgent(m)
		s.lab.Idle(2 * time.Minute)
		settle()
		// what the counters counted while nobody looked is spread by what is known
		// of the time before and after
		s.meets(s.since(known), 0.10)
	})

	s.closesAll()
}

// in is the site in a subtest.
func (s *slurmSite) in(t *testing.T) *slurmSite {
	c := *s
	c.T = t
	return &c
}

// since are the runs that were not known then.
func (s *slurmSite) since(known map[string][]held) map[string][]held {
	s.Helper()
	out := s.runs()
	maps.DeleteFunc(out, func(key string, _ []held) bool { _, old := known[key]; return old })
	if len(out) == 0 {
		s.Fatal("no job ran")
	}
	return out
}

// fortyJobs submits them, and does to some what happens to jobs.
func (s *slurmSite) fortyJobs() {
	s.Helper()
	sub := s.lab.Submit
	sub("alice", "-a", "0-9", "--gres=gpu:1", "-n", "2", "-J", "sweep", "--wrap", "sleep 5")
	sub("bob", "-a", "1-8", "-n", "3", "-J", "cpu-only", "--wrap", "sleep 4")
	sub("carol", "--gres=gpu:2", "-J", "two-seconds", "--wrap", "sleep 2")
	sub("alice", "-N2", "--gres=gpu:2", "--ntasks-per-node=2", "-J", "both", "--wrap", "srun sleep 8")
	for i, user := range []string{"alice", "bob", "carol"} { // four shards are a GPU
		sub(user, "--gres=shard:"+strconv.Itoa(1+i%2), "-n", "1", "-J", "shards", "--wrap", "sleep "+strconv.Itoa(6+2*i))
	}
	requeued := sub("carol", "--requeue", "--gres=gpu:1", "-n", "2", "-J", "requeued", "--wrap", "sleep 8")
	suspended := sub("alice", "--gres=gpu:1", "-n", "2", "-J", "suspended", "--wrap", "sleep 12")
	cancelled := sub("bob", "--gres=gpu:2", "-n", "2", "-J", "cancelled", "--wrap", "sleep 300")
	never := sub("bob", "--begin=now+2hours", "-J", "never", "--wrap", "sleep 1")
	for i := range 16 {
		user := []string{"alice", "bob", "carol"}[i%3]
		sub(user, "--gres=gpu:1", "-n", "1", "-J", "small", "--wrap", "sleep "+strconv.Itoa(2+i%3))
	}
	running := func(id string) {
		eventually(s, "job "+id+" runs", func() bool { return s.lab.States()[id] == "RUNNING" })
	}
	running(requeued)
	time.Sleep(2 * time.Second)
	s.lab.Exec("scontrol", "requeue", requeued)
	running(suspended)
	s.lab.Exec("scontrol", "suspend", suspended)
	time.Sleep(3 * time.Second)
	s.lab.Exec("scontrol", "resume", suspended)
	running(cancelled)
	time.Sleep(2 * time.Second)
	s.lab.Exec("scancel", cancelled, never)
	eventually(s, "the requeued job waits", func() bool { return s.lab.States()[requeued] == "PENDING" })
	s.lab.Exec("scontrol", "update", "jobid="+requeued, "StartTime=now")
	sub("carol", "-N1", "--exclusive", "--gres=gpu:4", "-n", "16", "-J", "exclusive", "--wrap", "sleep 6")
}

// listEqualsSacct: the books hold the runs that Slurm's accounting holds, with
// their states.
func (s *slurmSite) listEqualsSacct() {
	s.Helper()
	want := map[string][]string{}
	for row := range strings.Lines(s.lab.Exec("sacct", "-D", "-a", "-X", "-n", "-P", "-S", "now-1hour", "-o", "jobidraw,state,start,account,jobname")) {
		f := strings.Split(strings.TrimSpace(row), "|")
		if len(f) == 5 && f[2] != "Unknown" && f[2] != "None" {
			state, _, _ := strings.Cut(f[1], " ")
			want[f[0]] = append(want[f[0]], state+" "+f[3]+" "+f[4])
		}
	}
	var odd []string
	defer func() {
		for _, o := range odd {
			s.Log(o)
		}
	}()
	eventually(s, "the accounting is read", func() bool {
		got := map[string][]string{}
		for _, l := range s.jobs() {
			if l.Scheduler == nil {
				odd = []string{fmt.Sprintf("the books have a run that no accounting told of: %+v", l)}
				return false
			}
			state, _, _ := strings.Cut(l.Scheduler.State, " ")
			got[l.ID] = append(got[l.ID], state+" "+l.Project+" "+l.Scheduler.Name)
		}
		for _, m := range []map[string][]string{got, want} {
			for id := range m {
				slices.Sort(m[id])
			}
		}
		equal := maps.EqualFunc(got, want, slices.Equal)
		if odd = nil; !equal {
			for id := range want {
				if !slices.Equal(got[id], want[id]) {
					odd = append(odd, fmt.Sprintf("%s: books %v, sacct %v", id, got[id], want[id]))
				}
			}
			for id := range got {
				if want[id] == nil {
					odd = append(odd, fmt.Sprintf("%s: books %v, sacct nothing", id, got[id]))
				}
			}
		}
		return equal
	})
}

// closesAll: jobs, projects, idle and system add up to the meters.
func (s *slurmSite) closesAll() {
	s.Helper()
	for _, m := range s.nodes {
		if code := m.agent.stop(s); code != 0 {
			s.Errorf("an agent ended with %d", code)
		}
	}
	r, raw := reportOf(s, s.agg.url(), time.Now().UTC().Format("2006-01"), "lab")
	r.closed(s)
	audited(s, s.agg.url(), "lab")
	sum := int64(0)
	for _, v := range r.Uses {
		sum += int64(mj(s, v))
	}
	if metered := int64(mj(s, r.Totals.Metered)); sum != metered {
		s.Errorf("uses add up to %d mJ, the meters counted %d: %s", sum, metered, raw)
	}
	byProject := map[string]int64{}
	for _, l := range s.jobs() {
		byProject[l.Project] += int64(mj(s, l.Energy))
	}
	for _, p := range r.Projects {
		if got := byProject[p.Project]; got != int64(mj(s, p.Energy)) {
			s.Errorf("the jobs of %s add up to %d mJ, its line says %s", p.Project, got, p.Energy)
		}
	}
}
