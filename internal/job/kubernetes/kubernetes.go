// Package kubernetes learns from the kubelet which pod holds which GPUs and CPUs
// of this node, and tells the agent its begins and ends as those of jobs.
//
// Who holds what comes from the pod-resources API v1 over its Unix socket
// (kubernetes.io, "Monitoring device plugin resources"), asked each second: the
// API has no watch. It knows no UID, no label and no time; those come from the
// kubelet's own /pods where the configuration names it, the UID also from the
// names of the pods' folders of logs. That a pod is over is seen in the list, and
// in its control group where its UID is known. An answer that does not come ends
// nothing.
package kubernetes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/sysfs"
)

// Partition marks the jobs that are pods.
const Partition = "kubernetes"

const witness = "kubernetes"

// Spans of patience.
const (
	// askFor bounds one question to the kubelet.
	askFor = 2 * time.Second
	// settleFor is how long after a connection was made a pod that is not listed
	// may merely not be listed yet: a kubelet that starts knows its pods late.
	settleFor = 30 * time.Second
	// nameFor is how long a pod waits for its UID and project before it begins
	// without. The begin itself is placed when it happened, as long as its window
	// is not booked, which is about three seconds.
	nameFor = 2 * time.Second
	// deadFor is how long a pod that is still listed must have had no process:
	// a sandbox that is made anew has none for a moment.
	deadFor = 3 * time.Second
	// refreshEvery is how often /pods is asked when nothing has changed; kubelets
	// before 1.34 list pods that are over.
	refreshEvery = 30 * time.Second
)

// Options of the source.
type Options struct {
	Socket string        // of pod-resources, /var/lib/kubelet/pod-resources/kubelet.sock
	Every  time.Duration // between questions; 1 s

	// A job's project is the value of one of these, else the pod's namespace.
	ProjectLabel, ProjectAnnotation string

	// KubeletURL is the kubelet's own server, "" for none: https://NODE:10250 with
	// a token, or http://127.0.0.1:10255.
	KubeletURL, TokenFile, CAFile string

	PodLogs string      // folder of the pods' logs, /var/log/pods; "": not looked at
	Sys     *sysfs.Root // control groups of the host; nil: not looked at
	Tell    func(ctx context.Context, e job.Edge) job.Answer
	Running func() []job.Allocation // what the agent holds open at the start; nil: nothing

	Now        func() time.Time
	Log        *zap.Logger           // nil: discard
	Registerer prometheus.Registerer // nil: metrics go nowhere
}

// Source follows the pods of one node. One goroutine uses it.
type Source struct {
	opt     Options
	log     *zap.Logger
	kubelet *caller
	pods    *pods // nil: not to be had
	cgroups *Cgroups
	read    reader
	m       *metrics

	held     map[string]*pod // by key
	adopted  bool            // the agent's open jobs are in held
	dials    int64           // connections when the list last came
	settled  int64           // when a pod that is not listed is over, Unix ns
	last     int64           // when the list last came, 0: not since it failed
	fetched  int64           // when /pods was last asked
	down     bool            // the outage has been told of
	noPods   bool            // the same of /pods
	skipping bool            // the same of pods that are not followed
}

// New makes a source. It does not need a kubelet that runs.
func New(o Options) (*Source, error) {
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	s := &Source{
		opt: o, log: cmp.Or(o.Log, zap.NewNop()), kubelet: newCaller(o.Socket), m: m,
		read: reader{dialects: newDialects()}, held: map[string]*pod{},
	}
	if o.Sys != nil {
		s.cgroups = NewCgroups(nil, o.Sys)
	}
	if o.KubeletURL != "" {
		if s.pods, err = newPods(o); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Run asks until ctx ends.
func (s *Source) Run(ctx context.Context) error {
	defer s.kubelet.close()
	t := time.NewTicker(s.opt.Every)
	defer t.Stop()
	for {
		_ = s.Poll(ctx) // logged
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// Poll asks once and tells the agent what has changed since. The error is also
// logged, once for each outage.
func (s *Source) Poll(ctx context.Context) error {
	now := s.opt.Now().UnixNano()
	actx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	list, err := s.list(actx)
	if err != nil {
		return s.lost(ctx, err)
	}
	s.found(now)
	s.note(actx, now, list)
	facts := s.facts(ctx, now)
	s.tell(ctx, now, s.edges(now, facts))
	s.m.pods.Set(float64(s.holders()))
	s.last = now
	return nil
}

// holders is how many pods the agent holds open.
func (s *Source) holders() (n int) {
	for _, p := range s.held {
		if p.begun && !p.over {
			n++
		}
	}
	return n
}

// list asks who holds what.
func (s *Source) list(ctx context.Context) ([]podResources, error) {
	b, err := s.kubelet.call(ctx, "List")
	if err != nil {
		return nil, err
	}
	return decodeList(b)
}

// lost takes note of an answer that did not come.
func (s *Source) lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil // we are stopping
	}
	s.m.polls.WithLabelValues("failed").Inc()
	s.last = 0
	hint := "is the kubelet running?"
	switch {
	case errors.Is(err, os.ErrNotExist):
		hint = "is this where the kubelet has it (jobs.kubernetes.socket)?"
	case errors.Is(err, os.ErrPermission):
		hint = "the agent must run as root, or in a pod with this folder mounted"
	}
	err = fmt.Errorf("cannot ask the kubelet on %s which pods hold what: %w (%s)", s.opt.Socket, err, hint)
	if !s.down {
		s.log.Warn("pods keep what they held until the kubelet answers again", zap.Error(err), zap.Int("pods", len(s.held)))
	}
	s.down = true
	return err
}

// found takes note of an answer: a new connection may be to a new kubelet.
func (s *Source) found(now int64) {
	s.m.polls.WithLabelValues("ok").Inc()
	s.m.last.Set(float64(now) / 1e9)
	if s.down {
		s.log.Info("the kubelet answers again")
	}
	s.down = false
	if dials := s.kubelet.dials.Load(); dials != s.dials {
		s.dials, s.settled, s.read.replicas = dials, now+int64(settleFor), nil
	}
	s.settled = min(s.settled, now+int64(settleFor)) // the clock was put back
	if !s.adopted {
		s.adopt()
	}
}

// adopt takes over the pods that the agent holds open since before it started.
func (s *Source) adopt() {
	s.adopted = true
	if s.opt.Running == nil {
		return
	}
	for _, a := range s.opt.Running() {
		if !a.Open() || a.Partition != Partition {
			continue
		}
		k, uid := splitID(a.ID)
		s.held[k] = &pod{key: k, uid: uid, spec: a.Spec, first: a.From, begin: a.From, begun: true, foreign: true}
	}
}

// replicas asks into how many parts MIG devices are cut in time. Where the
// kubelet does not say, those that are listed are all.
func (s *Source) replicas(ctx context.Context) {
	s.read.replicas = map[string]int{}
	b, err := s.kubelet.call(ctx, "GetAllocatableResources")
	if err != nil {
		return
	}
	all, err := decodeAllocatable(b)
	if err != nil {
		return
	}
	seen := map[string]bool{}
	for _, ds := range all {
		for _, id := range ds.ids {
			d, o := s.read.dialects.of(ds.resource, id)
			if o == placed && d.shared && d.slice() && !seen[id] && len(seen) < 1<<16 {
				seen[id] = true
				s.read.replicas[d.ref]++
			}
		}
	}
}

// tell delivers edges in the order in which they happened.
func (s *Source) tell(ctx context.Context, now int64, edges []job.Edge) {
	for _, e := range edges {
		// what is told at once is metered at once; what waited behind others is not
		if late := s.opt.Now().UnixNano() - now; e.AtNS == now && late >= 0 && late < int64(100*time.Millisecond) {
			e.AtNS = 0
		}
		result := "kept"
		if a := s.opt.Tell(ctx, e); !a.OK {
			result = "refused"
			s.log.Warn("the agent did not take the edge of a pod", zap.String("op", e.Op), zap.String("job", e.Job.ID), zap.String("reason", a.Message))
		}
		s.m.edges.WithLabelValues(e.Op, result).Inc()
	}
}
