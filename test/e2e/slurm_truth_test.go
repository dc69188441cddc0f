//go:build e2e

package e2e_test

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// held is what a run of a job held on one node, as the hooks saw it.
type held struct {
	node       int
	from, to   time.Time
	gpus       []string
	cpus       int
	account    string
	hookMillis int
}

// runs reads what the hooks noted, by job id and restart.
func (s *slurmSite) runs() map[string][]held {
	s.Helper()
	files, err := filepath.Glob(filepath.Join(s.confs[0], "node*.begin.*"))
	if err != nil {
		s.Fatal(err)
	}
	out := map[string][]held{}
	for _, f := range files {
		part := strings.Split(filepath.Base(f), ".") // node, begin, id, restart
		b := words(s, f)
		ends, err := filepath.Glob(filepath.Join(s.confs[0], part[0]+".end."+part[2]+".*")) // an epilog may not know the restart count
		if err != nil {
			s.Fatal(err)
		}
		var e []string
		for _, name := range ends {
			if w := words(s, name); w[0] > b[0] && (e == nil || w[0] < e[0]) {
				e = w
			}
		}
		if e == nil {
			s.Errorf("no epilog ran after the prolog of %v", part)
			continue
		}
		stamp := func(v string) time.Time {
			ns, err := strconv.ParseInt(v, 10, 64)
			if err != nil {
				s.Fatal(err)
			}
			return time.Unix(0, ns)
		}
		h := held{from: stamp(b[0]), to: stamp(e[0]), account: b[3]}
		if at, ok := s.gone[part[0]+"/"+part[2]]; ok {
			h.to = at
		}
		h.node, _ = strconv.Atoi(strings.TrimPrefix(part[0], "node"))
		h.hookMillis, _ = strconv.Atoi(b[4])
		h.cpus = cpusOn(b[2], h.node)
		if b[1] != "-" {
			for id := range strings.SplitSeq(b[1], ",") {
				h.gpus = append(h.gpus, "gpu"+id)
			}
		}
		key := part[2] + "/" + part[3] // as the prolog knows it
		out[key] = append(out[key], h)
	}
	return out
}

// followCgroups notes when jobs' cgroups go, until what it gives is called. A job
// whose epilog tells nobody ends with its cgroup, which Slurm removes when it comes
// to it: on a busy machine a second after the epilog.
func (s *slurmSite) followCgroups() (stop func()) {
	s.Helper()
	done, finished := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(finished)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		seen := map[string]bool{}
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			found, _ := filepath.Glob("/sys/fs/cgroup/freezer/slurm_node*/uid_*/job_*") // the pattern is well formed
			now, there := time.Now(), map[string]bool{}
			for _, dir := range found {
				part := strings.Split(strings.TrimPrefix(dir, "/sys/fs/cgroup/freezer/slurm_"), "/")
				there[part[0]+"/"+strings.TrimPrefix(part[2], "job_")] = true
			}
			for job := range seen {
				if !there[job] {
					s.gone[job] = now
				}
			}
			seen = there
		}
	}()
	return func() {
		s.Helper()
		close(done)
		<-finished
		if len(s.gone) == 0 {
			s.Fatal("no job's cgroup went: without one nobody knows when it ended")
		}
	}
}

// cpusOn reads SLURM_JOB_CPUS_PER_NODE: "2", "2(x2)" or "1,2", by node; a job
// on one node has one count.
func cpusOn(counts string, node int) int {
	list := strings.Split(counts, ",")
	count, _, _ := strings.Cut(list[min(node-1, len(list)-1)], "(")
	n, _ := strconv.Atoi(count)
	return n
}

func words(t testing.TB, file string) []string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(b))
}

// truth is what a run drew, and what its edges may cost: of each GPU one update
// of its counter, which is 100 ms, and the few ms the hook does not know. A GPU
// that several hold, by shards, is shared evenly: the prolog does not say how
// many shards a job has.
func (s *slurmSite) truth(hs []held, all map[string][]held) (joules, edges float64) {
	s.Helper()
	for _, h := range hs {
		for _, gpu := range h.gpus {
			cuts := []time.Time{h.from, h.to}
			var others []held
			for _, run := range all {
				for _, o := range run {
					if o.node == h.node && slices.Contains(o.gpus, gpu) && o.from.Before(h.to) && h.from.Before(o.to) {
						others = append(others, o) // h itself among them
						cuts = append(cuts, o.from, o.to)
					}
				}
			}
			cuts = slices.DeleteFunc(cuts, func(at time.Time) bool { return at.Before(h.from) || at.After(h.to) })
			slices.SortFunc(cuts, time.Time.Compare)
			for i := 1; i < len(cuts); i++ {
				from, to := cuts[i-1], cuts[i]
				if !from.Before(to) {
					continue
				}
				holders := 0
				for _, o := range others {
					if !o.from.After(from) && !o.to.Before(to) {
						holders++
					}
				}
				joules += s.nodes[h.node-1].drew(s.T, from, to)[gpu] / float64(holders)
				edges += 2 * 0.12 * 450
				s.shared += holders - 1
			}
		}
		drawn := s.nodes[h.node-1].drew(s.T, h.from, h.to)
		for name, j := range drawn {
			switch {
			case strings.HasPrefix(name, "package"), strings.HasPrefix(name, "dram"):
				joules += j * float64(h.cpus) / labCPUs
				edges += 2 * 0.03 * 200
			}
		}
	}
	return joules, edges
}
