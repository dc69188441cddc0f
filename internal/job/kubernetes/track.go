package kubernetes

import (
	"context"
	"slices"

	"go.uber.org/zap"

	"github.com/wattledger/wattledger/internal/job"
)

// pod is one life of a pod, as far as it is known. Times are Unix ns.
type pod struct {
	key  string
	uid  string
	h    *holding
	spec job.Spec

	first   int64 // first listed
	after   int64 // last list without it, 0 if there was none
	gone    int64 // first list without it since, 0: it is listed
	empty   int64 // since when its control group has nobody, 0: it has, or had none yet
	lived   bool  // its control group has had somebody
	revived bool  // it has somebody again after it was over
	restart uint32
	begin   int64 // when it began
	ended   int64 // when it ended, once it is over
	begun   bool  // the agent knows
	over    bool  // ended, yet still listed
	foreign bool  // begun before this source: what it holds is not known yet
	changed bool  // it holds other things than when it began
}

// note brings what is followed up to a list.
func (s *Source) note(ctx context.Context, now int64, list []podResources) {
	if s.read.replicas == nil && slices.ContainsFunc(list, s.cut) {
		s.replicas(ctx)
	}
	listed := make(map[string]bool, len(s.held))
	skipped := false
	for i := range list {
		p := &list[i]
		if !named(p) {
			s.m.skipped.WithLabelValues("malformed").Inc()
			skipped = true
			continue
		}
		h := s.read.read(p)
		if !h.any() {
			continue
		}
		k := key(p.namespace, p.name)
		listed[k] = true
		if s.held[k] == nil && len(s.held) >= maxPods {
			s.m.skipped.WithLabelValues("too_many").Inc()
			skipped = true
			continue
		}
		s.listed(now, k, h)
	}
	if skipped && !s.skipping {
		s.log.Error("pods are not followed: they have no proper name, or too many hold devices; their energy has no owner",
			zap.Int("pods", len(list)), zap.Int("followed", len(s.held)), zap.Int("most", maxPods))
	}
	s.skipping = skipped
	for k, p := range s.held {
		if listed[k] {
			continue
		}
		if p.over {
			delete(s.held, k)
		} else if p.gone == 0 {
			p.gone = now
		}
	}
}

// cut tells whether a pod holds a part of a MIG device that is cut in time.
func (s *Source) cut(p podResources) bool {
	for _, c := range p.containers {
		for _, ds := range c.devices {
			for _, id := range ds.ids {
				if d, o := s.read.dialects.of(ds.resource, id); o == placed && d.shared && d.slice() {
					return true
				}
			}
		}
	}
	return false
}

// listed takes note of a pod that is listed.
func (s *Source) listed(now int64, k string, h *holding) {
	p := s.held[k]
	if p == nil {
		p = &pod{key: k, h: h, first: now, after: s.last}
		s.held[k] = p
		if n := len(h.unplaced); n > 0 {
			s.m.notPlaced.Add(float64(n))
			s.log.Warn("a pod holds GPUs by ids of no known form: GPUs that nobody holds are unknown while it runs",
				zap.String("pod", k), zap.Strings("ids", h.unplaced))
		}
	}
	switch {
	case p.foreign:
		p.h, p.foreign = h, false
	case !p.begun:
		p.h = h // admission takes its containers one after another
	case !p.h.equal(h):
		p.h, p.changed = h, true
	}
	p.gone = 0
}

// facts asks /pods, if anything is open that it could answer.
func (s *Source) facts(ctx context.Context, now int64) map[string]fact {
	if s.pods == nil || len(s.held) == 0 {
		return nil
	}
	fresh := func(since int64) bool { return since != 0 && now-since < int64(refreshEvery) }
	open := now-s.fetched >= int64(refreshEvery) || now < s.fetched
	for _, p := range s.held {
		open = open || !p.over && (!p.begun || fresh(p.gone) || fresh(p.empty))
	}
	if !open {
		return nil
	}
	s.fetched = now
	facts, err := s.pods.fetch(ctx, func(k string) bool { return s.held[k] != nil })
	if err != nil {
		s.m.metadata.WithLabelValues("failed").Inc()
		if !s.noPods && ctx.Err() == nil {
			s.log.Warn("pods begin without UID and labels", zap.Error(err))
		}
		s.noPods = true
		return nil
	}
	if s.noPods {
		s.log.Info("the kubelet gives its pods again")
	}
	s.noPods = false
	s.m.metadata.WithLabelValues("ok").Inc()
	return facts
}
