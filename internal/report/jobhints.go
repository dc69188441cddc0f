package report

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
)

// Hint is something the owner of a job may want to know or to change. Kind is
// for programs and stays; Text is for people and may be worded anew.
type Hint struct {
	Kind string `json:"kind"`
	Text string `json:"text"`
}

// From where on a hint is worth a line. Shares are in hundredths.
const (
	idleFrom      = 10        // of the GPU time
	bridgedFrom   = 5         // of the energy
	claimFrom     = 10        // the scheduler's figure differs by as much
	unmeteredFrom = 2         // of the GPU time on a node
	silentFromMS  = 2 * 60000 // a node says something every 10 s
	lostFromMS    = 60_000    // of GPU time on a node
	suspendedMS   = 1000      // schedulers count in seconds
	namedNodes    = 3         // nodes with a line of their own
)

// slices of a GPU: device time then is less than GPUs times time.
var slicedGPU = regexp.MustCompile(`gres/(shard|mps)|gres/gpu:[^,=]*[0-9]g\.[0-9]`)

// jobView is a job while its hints are found.
type jobView struct {
	JobInput
	until booked
	books *ledger.JobBooks
	facts *ledger.JobFacts // nil where the workload manager said nothing
	job   *Job
}

// hints are those that apply, what can be changed first.
func (v *jobView) hints() []Hint {
	var out []Hint
	for _, h := range []struct {
		kind string
		find func(*jobView) []string
	}{
		{"gpus_idle", (*jobView).gpusIdle},
		{"suspended", (*jobView).suspended},
		{"earlier_runs", (*jobView).earlierRuns},
		{"run_missing", (*jobView).runsMissing},
		{"node_silent", (*jobView).nodesSilent},
		{"node_missing", (*jobView).nodesMissing},
		{"not_metered", (*jobView).notMetered},
		{"bridged", (*jobView).bridged},
		{"modelled", (*jobView).modelled},
		{"claim_differs", (*jobView).claimDiffers},
		{"unassigned", (*jobView).unassigned},
	} {
		for _, text := range h.find(v) {
			out = append(out, Hint{Kind: h.kind, Text: text})
		}
	}
	return out
}

func say(format string, args ...any) []string { return []string{fmt.Sprintf(format, args...)} }

// gpusIdle: held by the job, doing nothing. Whether that was one GPU all the
// time or all of them now and then the books do not say.
func (v *jobView) gpusIdle() []string {
	ms := &v.books.Amounts.DeviceMS[energy.GPU]
	all := ms[energy.Busy] + ms[energy.Held]
	if all <= 0 || ms[energy.Held]*100 < all*idleFrom {
		return nil
	}
	return say("its GPUs did nothing for %s of the time they were held (%s of %s GPU hours)",
		timeShare(ms[energy.Held], all), Hours(ms[energy.Held]), Hours(all))
}

func (v *jobView) suspended() []string {
	switch {
	case v.facts == nil || v.facts.SuspendedMS < suspendedMS:
		return nil
	case v.gpuMS(&v.books.Amounts) > 0:
		return say("suspended for %s while it kept its GPUs", span(v.facts.SuspendedMS))
	}
	return say("suspended for %s", span(v.facts.SuspendedMS))
}

// earlierRuns: what was spent before this run, which began anew.
func (v *jobView) earlierRuns() []string {
	s := v.job.Sum
	if s == nil || s.Energy <= v.job.Energy {
		return nil
	}
	others := s.Energy - v.job.Energy
	return say("it ran %d times: the other runs took %s kWh, %s of the sum", s.Count, others.KWh(), Percent(others, s.Energy))
}

// runsMissing: other runs of the job's user under this id that nobody metered.
func (v *jobView) runsMissing() []string {
	var out []string
	for i := range v.Runs {
		b := &v.Runs[i]
		if !Metered(b) && b.Job.StartMS != 0 && b.Job.EndMS > b.Job.StartMS && b.Job.User == v.books.Job.User {
			out = append(out, fmt.Sprintf("its run with restart count %d took %s, and the books hold nothing of it",
				b.Job.Restart, span(b.Job.EndMS-b.Job.StartMS)))
		}
	}
	return out
}

// nodesSilent: nodes that have sent nothing for a while, of a job that runs, or
// that have not sent all of one that ended.
func (v *jobView) nodesSilent() []string {
	until, words := v.NowMS, "node %s sent nothing for %s"
	if v.books.Job.EndMS != 0 {
		until, words = v.books.Job.EndMS, "node %s has sent nothing (yet) of the last %s"
	}
	var out []string
	for i := range v.books.Nodes {
		name := v.books.Nodes[i].Node
		last := v.until[ledger.Node{Cluster: v.books.Cluster, Name: name}]
		if last != 0 && until-last >= silentFromMS {
			out = append(out, fmt.Sprintf(words, name, span(until-max(last, v.books.Job.StartMS))))
		}
	}
	return firstNodes(out, "sent nothing for a while")
}

// nodesMissing: the workload manager gave it nodes that never told of it.
func (v *jobView) nodesMissing() []string {
	if v.facts == nil || v.NowMS-v.facts.Job.StartMS < silentFromMS {
		return nil // its first window may be on its way
	}
	var none []string
	for _, name := range v.facts.Nodes {
		if !slices.ContainsFunc(v.books.Nodes, func(n ledger.NodeAmounts) bool { return n.Node == name }) {
			none = append(none, fmt.Sprintf("node %s was the job's, and the books hold nothing of it there", name))
		}
	}
	return firstNodes(none, "have nothing of it in the books")
}

// firstNodes keeps a job on a thousand nodes to a few lines.
func firstNodes(text []string, rest string) []string {
	slices.Sort(text)
	if len(text) <= namedNodes {
		return text
	}
	return append(text[:namedNodes:namedNodes], fmt.Sprintf("%d more nodes %s", len(text)-namedNodes, rest))
}

// notMetered compares GPU time in the books with the GPUs the job was given;
// whole GPUs, as many on each node.
func (v *jobView) notMetered() []string {
	f := v.facts
	if f == nil || f.GPUs <= 0 || len(f.Nodes) == 0 || f.GPUs%len(f.Nodes) != 0 || slicedGPU.MatchString(f.Allocated) {
		return nil
	}
	perNode := int64(f.GPUs / len(f.Nodes))
	var out []string
	for i := range v.books.Nodes {
		n := &v.books.Nodes[i]
		ran := v.untilOn(n.Node) - v.books.Job.StartMS
		lost := ran - v.gpuMS(&n.Amounts)/perNode
		if lost >= lostFromMS && lost*100 >= ran*unmeteredFrom {
			out = append(out, fmt.Sprintf("node %s: for %s of %s its GPUs were not metered", n.Node, span(lost), span(ran)))
		}
	}
	return firstNodes(out, "were not metered all the time")
}

// untilOn is how far the job is in the books of a node.
func (v *jobView) untilOn(node string) int64 {
	if v.books.Job.EndMS != 0 {
		return v.books.Job.EndMS // a tail that is not there yet is not metered, too
	}
	if last := v.until[ledger.Node{Cluster: v.books.Cluster, Name: node}]; last != 0 {
		return min(v.NowMS, last)
	}
	return v.books.Job.StartMS // not known: nothing is claimed
}

func (v *jobView) bridged() []string {
	part := v.job.Grades.Bridged
	if !reaches(part, v.job.Energy, bridgedFrom) {
		return nil
	}
	return say("%s of its energy was placed by time, not by a reading at its edges", Percent(part, v.job.Energy))
}

func (v *jobView) modelled() []string {
	part := v.job.Grades.Modelled
	if part <= 0 {
		return nil
	}
	return say("%s of its energy is an assumption, nothing metered it", Percent(part, v.job.Energy))
}

// claimDiffers leaves claims of 0 J out: a scheduler without an energy plugin.
func (v *jobView) claimDiffers() []string {
	c := v.job.Claim
	if c == nil || c.Joules == 0 || v.job.End == nil || !reaches(max(c.Difference, -c.Difference), v.job.Energy, claimFrom) {
		return nil
	}
	return say("the scheduler's own figure is %s; it counts whole nodes and whole watts", claimWords(c, v.job.Energy))
}

func (v *jobView) unassigned() []string {
	if v.job.Project != ledger.Unassigned {
		return nil
	}
	return say("its project is not known yet; until then its energy stands under %s", ledger.Unassigned)
}

func (v *jobView) gpuMS(a *ledger.Amounts) int64 {
	return a.DeviceMS[energy.GPU][energy.Busy] + a.DeviceMS[energy.GPU][energy.Held]
}

// reaches tells whether a part is that many hundredths of the whole.
func reaches(part, whole energy.Millijoules, hundredths int64) bool {
	return whole > 0 && part > 0 && int64(part) >= int64(whole)/100*hundredths
}

// timeShare is Percent for times.
func timeShare(part, whole int64) string {
	return Percent(energy.Millijoules(part), energy.Millijoules(whole))
}

// span writes a length of time as people say it, cut down to the smaller of two
// units: 45 s, 12 min, 2 h 05 min, 3 d 4 h.
func span(ms int64) string {
	s := ms / 1000
	two := func(n int64, unit string, rest int64, format string) string {
		if rest == 0 {
			return fmt.Sprintf("%d %s", n, unit)
		}
		return strings.TrimSpace(fmt.Sprintf("%d %s "+format, n, unit, rest))
	}
	switch {
	case s < 10 && ms%1000 != 0:
		return fmt.Sprintf("%d.%d s", s, ms%1000/100)
	case s < 120:
		return fmt.Sprintf("%d s", s)
	case s < 7200:
		return fmt.Sprintf("%d min", s/60)
	case s < 48*3600:
		return two(s/3600, "h", s%3600/60, "%02d min")
	}
	return two(s/86400, "d", s%86400/3600, "%d h")
}
