package slurm

import (
	"context"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
)

// Run follows the tree until ctx ends. Events of the kernel (inotify) make the
// edges exact; the look each second finds what no event told. Where inotify is
// not to be had, that alone remains. Where slurmd has made nothing so far, the
// kernel tells when it does, and there is a look every absentEvery.
func (w *Watcher) Run(ctx context.Context) {
	defer w.wg.Wait()
	if w.opt.Ask != nil {
		w.wg.Go(func() { w.answerAsks(ctx) })
	}
	f := newFollower(w.opt.Log)
	defer f.close()
	tick := time.NewTimer(w.untilSecond())
	defer tick.Stop()
	soon := time.NewTimer(0) // the first look
	defer soon.Stop()
	waiting := true
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-f.events:
			if !ok {
				f.events = nil
				continue
			}
			f.saw(e)
			w.stir()
			if !waiting { // what comes in one go is one look
				waiting = true
				soon.Reset(pause)
			}
			continue
		case _, ok := <-f.errors: // events were lost: nobody knows which
			if !ok {
				f.errors = nil
				continue
			}
			w.stir()
		case <-w.kick:
		case <-tick.C:
			tick.Reset(w.untilSecond())
		case <-soon.C:
			waiting = false
		}
		w.scan(ctx)
		added, all := f.follow(w.folders())
		w.follows(all, added)
		if added && !waiting {
			waiting = true // what came before a folder was watched
			soon.Reset(pause)
		}
	}
}

// untilSecond: the look each second is on the second, when the agent reads its
// meters. To wake the process once more would cost as much again.
func (w *Watcher) untilSecond() time.Duration {
	now := w.opt.Now()
	return now.Truncate(rescan).Add(rescan).Sub(now)
}

func (w *Watcher) folders() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append(slices.Clip(w.parents), w.rest.above...)
}

// follower has the kernel tell of changes in folders. With a nil channel it
// tells nothing.
type follower struct {
	watch   *fsnotify.Watcher
	events  <-chan fsnotify.Event
	errors  <-chan error
	watched map[string]bool
	log     *zap.Logger
	failed  bool
}

func newFollower(log *zap.Logger) *follower {
	f := &follower{watched: map[string]bool{}, log: log}
	watch, err := fsnotify.NewWatcher()
	if err != nil {
		log.Warn("no inotify: cgroups are looked at once a second", zap.Error(err))
		return f
	}
	f.watch, f.events, f.errors = watch, watch.Events, watch.Errors
	return f
}

func (f *follower) close() {
	if f.watch != nil {
		f.watch.Close()
	}
}

// saw notes that a folder that was watched has gone.
func (f *follower) saw(e fsnotify.Event) {
	if e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename) {
		delete(f.watched, e.Name)
	}
}

// follow watches the folders that are not watched yet, and tells whether there
// were any, and whether all of them are watched now. Those that went are no
// longer watched by themselves.
func (f *follower) follow(folders []string) (added, all bool) {
	if f.watch == nil {
		return false, false
	}
	all = true
	for _, dir := range folders {
		if f.watched[dir] {
			continue
		}
		if err := f.watch.Add(dir); err != nil {
			if !f.failed {
				f.failed = true
				f.log.Warn("a cgroup cannot be followed: it is looked at once a second", zap.String("cgroup", dir), zap.Error(err))
			}
			all = false
			continue
		}
		f.watched[dir] = true
		added = true
	}
	return added, all
}
