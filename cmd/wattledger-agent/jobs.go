package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/user"
	"strconv"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/job/hook"
	"github.com/wattledger/wattledger/internal/job/kubernetes"
	"github.com/wattledger/wattledger/internal/job/mapping"
	"github.com/wattledger/wattledger/internal/job/slurm"
	"github.com/wattledger/wattledger/internal/sysfs"
)

const (
	keptEvery  = 2 * time.Second // between two looks for kept edges
	askSlurm   = 5 * time.Second // a question to Slurm may take so long
	slurmConf  = "SLURM_CONF="
	isoSeconds = "SLURM_TIME_FORMAT=standard"
)

// witnesses are those on the node who tell the agent of jobs besides whoever
// speaks to its socket.
type witnesses struct {
	d *daemon
	// Handle is what everybody else must tell through.
	handle  func(context.Context, job.Edge) job.Answer
	watcher *slurm.Watcher     // nil: cgroups are not followed
	running []job.Allocation   // what the agent held before its loop ran
	pods    *kubernetes.Source // nil: this node has none
}

// newWitnesses takes the edges that were kept while no agent ran, then sees what
// is held. It is called before the agent's loop runs.
func newWitnesses(d *daemon) (w *witnesses, err error) {
	w = &witnesses{d: d, handle: d.core.Handle}
	w.takeKept()
	w.running = d.core.Running()
	w.followSlurm()
	if k := d.cfg.Jobs.Kubernetes; k.Enabled {
		w.pods, err = kubernetes.New(kubernetes.Options{
			Socket: k.Socket, Every: k.Every, ProjectLabel: k.ProjectLabel, ProjectAnnotation: k.ProjectAnnotation,
			KubeletURL: k.KubeletURL, TokenFile: k.TokenFile, CAFile: k.CAFile, PodLogs: k.PodLogs, Sys: sysfs.Open(d.cfg.Sysfs),
			Running: func() []job.Allocation { return w.running }, Tell: w.handle, Now: now, Log: d.log, Registerer: d.reg,
		})
		if err != nil {
			return nil, fmt.Errorf("cannot follow the pods of this node: %w", err)
		}
	}
	return w, nil
}

// takeKept takes the edges that were kept while no agent ran.
func (w *witnesses) takeKept() {
	if w.d.cfg.Jobs.Slurm.HookDir == "" {
		return
	}
	take := func(_ context.Context, e job.Edge) job.Answer { return w.d.core.Take(e) }
	if err := w.deliver(context.Background(), take); err != nil && !errors.Is(err, fs.ErrPermission) {
		w.d.log.Warn("kept edges cannot be taken", zap.Error(err))
	}
}

// followSlurm makes the watcher of slurmd's cgroups; all edges go by it.
func (w *witnesses) followSlurm() {
	d := w.d
	c := d.cfg.Jobs.Slurm
	if !c.Cgroup {
		return
	}
	opt := slurm.Options{
		Tree: slurm.Tree{Root: c.CgroupRoot, Node: c.Node}, Procfs: d.cfg.Procfs,
		Handle: d.core.Handle, Running: w.running, UserName: userName, Now: now, Log: d.log,
	}
	if c.Scontrol != "" {
		s := slurm.Scontrol{Path: c.Scontrol, Node: c.Node, Timeout: askSlurm, Env: []string{isoSeconds}, GPUIDs: c.GPUIDs}
		if c.Conf != "" {
			s.Env = append(s.Env, slurmConf+c.Conf)
		}
		opt.Ask = s.Job
	}
	w.watcher = slurm.NewWatcher(opt)
	w.handle = w.watcher.Through(d.core.Handle)
}

// run follows them until ctx ends.
func (w *witnesses) run(ctx context.Context, g *errgroup.Group) {
	if w.watcher != nil {
		g.Go(func() error { w.watcher.Run(ctx); return nil })
	}
	if w.d.cfg.Jobs.Slurm.HookDir != "" {
		g.Go(func() error { w.deliverOften(ctx); return nil })
	}
	if dir := w.d.cfg.Jobs.MappingDir; dir != "" {
		f := mapping.Folder{Dir: dir, Handle: w.handle, Running: w.running, Now: now, Log: w.d.log}
		g.Go(func() error { f.Run(ctx); return nil })
	}
	if w.pods != nil {
		g.Go(func() error { return w.pods.Run(ctx) })
	}
}

func (w *witnesses) deliverOften(ctx context.Context) {
	// on the second, when the meters are read: to wake up once more costs as much
	onSecond := func() time.Duration { return time.Until(now().Truncate(keptEvery).Add(keptEvery)) }
	tick := time.NewTimer(onSecond())
	defer tick.Stop()
	for said := ""; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			tick.Reset(onSecond())
		}
		err := w.deliver(ctx, w.handle)
		if errors.Is(err, fs.ErrPermission) { // root hands them over: wattledger-edges.service
			w.d.log.Debug("kept edges are not this user's to read", zap.Error(err))
			return
		}
		if err == nil {
			said = ""
		} else if said != err.Error() {
			said = err.Error()
			w.d.log.Warn("kept edges cannot be taken", zap.Error(err))
		}
	}
}

func (w *witnesses) deliver(ctx context.Context, handle func(context.Context, job.Edge) job.Answer) error {
	p := hook.Pending{
		Dir: w.d.cfg.Jobs.Slurm.HookDir, Clock: clockNow, Handle: handle,
		Event: func(kind, detail string) { w.d.log.Warn(detail, zap.String("kind", kind)) },
	}
	n, err := p.Deliver(ctx)
	if n > 0 {
		w.d.log.Info("edges that had to wait were taken", zap.Int("edges", n))
	}
	return err
}

// userName asks the system for a user's name.
func userName(uid uint32) string {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return ""
	}
	return u.Username
}
