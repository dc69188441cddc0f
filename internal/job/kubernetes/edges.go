package kubernetes

import (
	"cmp"
	"os"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/wattledger/wattledger/internal/job"
)

// edges decides who has begun and who is over.
func (s *Source) edges(now int64, facts map[string]fact) []job.Edge {
	var turn turn
	for _, k := range sortedKeys(s.held) {
		f, known := facts[k]
		p := s.held[k]
		s.settle(now, p, f, known, &turn)
		if !p.over {
			continue
		}
		if p.gone != 0 {
			delete(s.held, k)
		} else if next := s.next(now, p, f, known); next != nil {
			s.held[k] = next
			s.settle(now, next, f, known, &turn)
		}
	}
	s.evict(&turn)
	return s.order(now, &turn)
}

// turn is what one list has changed.
type turn struct{ begun, ended []*pod }

// settle takes one pod further.
func (s *Source) settle(now int64, p *pod, f fact, known bool, t *turn) {
	if p.over {
		return
	}
	s.identify(p, f, known)
	if !p.begun && known && f.uid == p.uid && f.before(cmp.Or(p.after, p.first)) {
		p.over = true // it was over before it could be seen
		return
	}
	if p.ended, p.over = s.end(now, p, f, known); p.over {
		t.ended = append(t.ended, p)
	}
	if !p.begun && (p.over || s.ready(now, p, known)) {
		s.name(p, f, known)
		t.begun = append(t.begun, p)
	}
}

// identify looks for a pod's UID.
func (s *Source) identify(p *pod, f fact, known bool) {
	if p.uid == "" && known && !f.younger(p) {
		p.uid = f.uid
	}
	if p.uid == "" && !p.begun {
		p.uid = s.uidByLogs(p.h)
	}
}

// before tells whether a pod was over by a time. Stamps are cut to seconds.
func (f *fact) before(at int64) bool {
	return f.over && f.finished != 0 && f.finished+int64(time.Second) <= at
}

// younger tells whether the facts are of a pod that was made after this one
// began.
func (f *fact) younger(p *pod) bool {
	return p.begun && f.created > p.begin+int64(time.Second)
}

func sortedKeys(m map[string]*pod) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// end tells whether a pod is over, and since when.
func (s *Source) end(now int64, p *pod, f fact, known bool) (int64, bool) {
	s.look(now, p)
	least := p.after
	if p.begun {
		least = p.begin
	}
	same := known && f.uid != "" && f.uid == p.uid
	switch {
	case same && f.over:
		return within(f.finished, least, cmp.Or(p.gone, now)), true
	case known && !same && f.uid != "" && (p.uid != "" || f.younger(p)): // another of its name
		return within(f.started, least, now), true
	case p.gone != 0 && p.empty != 0 && (p.lived || now >= s.settled):
		return p.empty, true
	case p.empty != 0 && (now-p.empty >= int64(deadFor) || s.successor(p) != ""):
		return p.empty, true
	case p.gone == 0 || p.lived: // listed, or somebody is still in there
		return 0, false
	case same && f.finished != 0:
		return within(f.finished, least, p.gone), now >= s.settled
	}
	return p.gone, now >= s.settled
}

// look brings what the control group says up to date.
func (s *Source) look(now int64, p *pod) {
	if s.cgroups == nil || p.uid == "" {
		return
	}
	switch s.cgroups.life(p.uid) {
	case alive:
		p.revived = p.over && p.empty != 0
		p.lived, p.empty = true, 0
	case dead:
		if (p.lived || p.gone != 0) && p.empty == 0 {
			p.empty = now
		}
	case unsaid:
	}
}

// within puts a stamp of the kubelet, which is cut to whole seconds, between the
// lists that show and do not show what it is about. Half a second is what is cut
// off on average.
func within(stamp, least, most int64) int64 {
	if stamp == 0 {
		return most
	}
	return max(min(stamp+int64(500*time.Millisecond), most), min(least, most))
}

// next is the pod that is listed under the name of one that is over, if it is
// another, or the same that lives after all.
func (s *Source) next(now int64, p *pod, f fact, known bool) *pod {
	next := &pod{key: p.key, uid: s.successor(p), h: p.h, first: now, after: p.ended}
	if known && f.uid != "" && !f.over {
		next.uid = f.uid
	}
	if s.look(now, p); p.revived && next.uid == "" {
		next.uid = p.uid
	}
	if next.uid == "" || next.uid == p.uid && !p.revived {
		return nil
	}
	if next.uid == p.uid {
		next.restart, next.after = p.spec.Restart+1, now
	}
	return next
}

// successor is the UID of a living pod of the same name, by the folders of logs.
func (s *Source) successor(p *pod) string {
	if p.h == nil || p.uid == "" {
		return ""
	}
	if uid := s.uidByLogs(p.h); uid != p.uid {
		return uid
	}
	return ""
}

// uidByLogs reads the UID from the name of the pod's folder of logs,
// NAMESPACE_NAME_UID, which the kubelet makes. Folders of earlier pods of the
// name may lie beside it, so it must have a living control group.
func (s *Source) uidByLogs(h *holding) string {
	if s.opt.PodLogs == "" || s.cgroups == nil {
		return ""
	}
	entries, err := os.ReadDir(s.opt.PodLogs)
	if err != nil {
		return ""
	}
	for _, e := range entries {
		uid, ok := strings.CutPrefix(e.Name(), h.namespace+"_"+h.name+"_")
		if ok && isUID(uid) && s.cgroups.life(uid) == alive {
			return uid
		}
	}
	return ""
}

// ready tells whether a pod's name in the books can be made up. It may wait a
// little for its UID and project.
func (s *Source) ready(now int64, p *pod, known bool) bool {
	if known || now-p.first >= int64(nameFor) || now < p.first {
		return true
	}
	if s.pods != nil {
		return false
	}
	return p.uid != "" || s.opt.PodLogs == "" || s.cgroups == nil || !s.cgroups.there()
}

// name makes a pod's job, and says when it began.
func (s *Source) name(p *pod, f fact, known bool) {
	p.begin = p.first
	if known && f.started != 0 {
		p.begin = within(f.started, p.after, p.first)
	}
	h := p.h
	p.spec = job.Spec{
		ID: jobID(p.key, p.uid), Restart: p.restart, SubmitMS: p.first / 1e6, Project: h.namespace, User: h.namespace, Partition: Partition,
		GPUs: h.gpus, Unplaced: h.unplaced, CPUs: h.cpus, MemoryBytes: h.memory,
	}
	if !known {
		return
	}
	if f.created != 0 {
		p.spec.SubmitMS = f.created / 1e6
	}
	if user := h.namespace + "/" + f.account; f.account != "" && plain(user) {
		p.spec.User = user
	}
	if !f.labelled {
		return
	}
	p.spec.Project = f.project
	if !plain(f.project) || strings.TrimSpace(f.project) == "" {
		p.spec.Project = "" // rather nobody's than another's
		s.m.badProject.Inc()
		s.log.Warn("a pod's label cannot name a project: it has none", zap.String("pod", p.key), zap.Int("bytes", len(f.project)))
	}
}

// evict ends those whose device a newcomer has that only one can hold: kubelets
// before 1.34 list pods that are over, and hand their devices out again.
func (s *Source) evict(t *turn) {
	if len(t.begun) == 0 {
		return
	}
	taken := map[string]int64{} // since when
	for _, p := range t.begun {
		for _, ref := range p.h.sole {
			taken[ref] = p.begin
		}
	}
	since := func(p *pod) int64 {
		if p.h == nil {
			return 0
		}
		for _, ref := range p.h.sole {
			if at := taken[ref]; at > p.begin {
				return at
			}
		}
		return 0
	}
	for _, p := range t.ended {
		if at := since(p); at != 0 {
			p.ended = min(p.ended, at)
		}
	}
	for _, k := range sortedKeys(s.held) {
		p := s.held[k]
		if p.over || !p.begun {
			continue
		}
		if p.ended = since(p); p.ended != 0 {
			p.over = true
			t.ended = append(t.ended, p)
			if p.gone != 0 {
				delete(s.held, k)
			}
		}
	}
}

// order makes the edges: by time, ends before begins where that is the same; a
// pod's own begin comes first.
func (s *Source) order(now int64, t *turn) []job.Edge {
	var own, ends, others []job.Edge
	edge := func(op string, spec job.Spec, at int64) job.Edge {
		return job.Edge{Op: op, Job: spec, AtNS: at, Witness: witness}
	}
	for _, p := range t.begun {
		p.begun, p.changed = true, false
		if p.over {
			own = append(own, edge("begin", p.spec, p.begin))
		} else {
			others = append(others, edge("begin", p.spec, p.begin))
		}
	}
	for _, p := range t.ended {
		ends = append(ends, edge("end", job.Spec{ID: p.spec.ID, Restart: p.spec.Restart}, max(p.ended, p.begin)))
	}
	for _, k := range sortedKeys(s.held) {
		if p := s.held[k]; p.changed && p.begun && !p.over { // the agent ends the run before
			p.changed = false
			p.spec.Restart++
			p.spec.GPUs, p.spec.Unplaced, p.spec.CPUs, p.spec.MemoryBytes = p.h.gpus, p.h.unplaced, p.h.cpus, p.h.memory
			others = append(others, edge("begin", p.spec, now))
		}
	}
	out := slices.Concat(own, ends, others)
	slices.SortStableFunc(out, func(a, b job.Edge) int { return cmp.Compare(a.AtNS, b.AtNS) })
	return out
}
