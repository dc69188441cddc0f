// Package mapping reads the job mapping folder of dcgm-exporter (its README,
// "HPC job mapping"), so that a site whose prolog writes one needs no other
// hook: a file for each GPU, named by the GPU's index, or GPU.INSTANCE for a MIG
// device, that lists the ids of the jobs that hold it, one a line. Such a file
// says nothing of projects, CPUs and users: the aggregator learns those from the
// workload manager.
package mapping

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"

	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/window"
)

// witness is what edges are told as.
const witness = "file"

const (
	maxFile = 64 << 10
	maxJobs = 4096 // on one node
	rescan  = time.Second
	// quiet is how long a folder must have been at rest: a prolog writes the
	// files of a job's GPUs one after another.
	quiet = 200 * time.Millisecond
	// patient is the longest that a folder that never rests is waited for.
	patient = 2 * time.Second
)

var fileName = regexp.MustCompile(`^[0-9]{1,4}(\.[0-9]{1,4})?$`)

// Folder is a job mapping folder.
type Folder struct {
	Dir    string
	Handle func(ctx context.Context, e job.Edge) job.Answer
	// Running are the jobs that the agent holds at the start. Those that it
	// learnt from files and that no file names any more ended while it was away.
	Running []job.Allocation
	Now     func() time.Time
	Log     *zap.Logger
}

// holding is what a job holds, as the files say.
type holding struct {
	refs []string // sorted
	at   int64    // stamp of the youngest file that names it, Unix ns
}

// state of a run over the folder.
type state struct {
	Folder
	told  map[string]holding
	seen  string    // what the last look showed
	since time.Time // when that changed
	first time.Time // when what is not told yet began to change; zero: all is told
	said  string
}

// Run follows the folder until ctx ends. One that is not there holds nothing.
func (f Folder) Run(ctx context.Context) {
	s := f.start()
	watch, events := follow(f.Dir, s.Log)
	if watch != nil {
		defer watch.Close()
	}
	tick := time.NewTicker(rescan)
	defer tick.Stop()
	soon := time.NewTimer(0)
	defer soon.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-events:
		case <-tick.C:
			if watch != nil {
				_ = watch.Add(f.Dir) // it may have been made only now; known ones stay
			}
		case <-soon.C:
		}
		if s.look(ctx) {
			soon.Reset(quiet / 2)
		}
	}
}

func follow(dir string, log *zap.Logger) (*fsnotify.Watcher, <-chan fsnotify.Event) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		log.Warn("no inotify: the job mapping folder is looked at once a second", zap.Error(err))
		return nil, nil
	}
	if err := w.Add(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("the job mapping folder cannot be followed: it is looked at once a second", zap.Error(err))
	}
	return w, w.Events
}

func (f Folder) start() *state {
	if f.Log == nil {
		f.Log = zap.NewNop()
	}
	s := &state{Folder: f, told: map[string]holding{}}
	for _, a := range f.Running {
		if fromFiles(a.Spec) {
			s.told[a.ID] = holding{}
		}
	}
	return s
}

// fromFiles tells whether a job may have been learnt from such files: they say
// nothing but GPUs.
func fromFiles(s job.Spec) bool {
	return s.Teller == witness && s.Project == "" && s.User == "" && s.CPUs == 0 && !s.Exclusive && !s.Found && len(s.GPUs)+len(s.Unplaced) > 0
}

// look reads the folder; what has been the same for a moment is told. It tells
// whether something still moves.
func (s *state) look(ctx context.Context) (again bool) {
	now := s.Now()
	jobs, err := read(s.Dir)
	s.complain(err)
	if err != nil && !errors.Is(err, errFile) {
		return false // nothing is known: nobody ends
	}
	if picture := draw(jobs); picture != s.seen || s.since.IsZero() {
		s.seen, s.since = picture, now
		if s.first.IsZero() {
			s.first = now
		}
	}
	if s.first.IsZero() {
		return false
	}
	if now.Sub(s.since) < quiet && now.Sub(s.first) < patient {
		return true
	}
	if s.tell(ctx, jobs, now) {
		s.first = time.Time{}
		return false
	}
	return true
}

// tell hands over what changed; false: the agent could not take all of it.
func (s *state) tell(ctx context.Context, jobs map[string]holding, now time.Time) bool {
	done := true
	ended := map[string]int64{} // that hold other GPUs now
	for _, id := range slices.Sorted(maps.Keys(s.told)) {
		if h, ok := jobs[id]; ok && (s.told[id].refs == nil || slices.Equal(h.refs, s.told[id].refs)) {
			s.told[id] = h
			continue
		}
		at := s.since
		if at.After(now) {
			at = now
		}
		if !s.hand(ctx, job.Edge{Op: "end", Witness: witness, AtNS: at.UnixNano(), Job: job.Spec{ID: id}}) {
			done = false
			continue
		}
		delete(s.told, id)
		ended[id] = at.UnixNano()
	}
	for _, id := range slices.Sorted(maps.Keys(jobs)) {
		if _, known := s.told[id]; known {
			continue
		}
		h := jobs[id]
		spec := job.Spec{ID: id}
		for _, ref := range h.refs {
			spec.GPUs = append(spec.GPUs, window.Share{Device: ref, Weight: job.Whole})
		}
		if !s.hand(ctx, job.Edge{Op: "begin", Witness: witness, AtNS: max(min(h.at, now.UnixNano()), ended[id]), Job: spec}) {
			done = false
			continue
		}
		s.told[id] = h
	}
	return done
}

func (s *state) hand(ctx context.Context, e job.Edge) bool {
	a := s.Handle(ctx, e)
	if !a.OK && !a.Again {
		s.Log.Warn("the agent refused what a job mapping file says", zap.String("job", e.Job.ID), zap.String("op", e.Op), zap.String("answer", a.Message))
	}
	return !a.Again
}

func (s *state) complain(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != s.said && text != "" {
		s.Log.Warn("the job mapping folder cannot be read in full", zap.Error(err))
	}
	s.said = text
}

// errFile says that one file could not be read; the others count.
var errFile = errors.New("a file of it cannot be read")

// read gives the jobs that the files name. A folder that is not there has none.
func read(dir string) (map[string]holding, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot list the job mapping folder: %w", err)
	}
	jobs := map[string]holding{}
	var errs []error
	for _, e := range entries {
		if !fileName.MatchString(e.Name()) || e.IsDir() {
			continue
		}
		if err := readFile(jobs, dir, e.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("%w: %w", errFile, err))
		}
	}
	if len(jobs) > maxJobs {
		return nil, fmt.Errorf("cannot use the job mapping folder %s: it names %d jobs, at most %d", dir, len(jobs), maxJobs)
	}
	for id, h := range jobs {
		slices.Sort(h.refs)
		h.refs = slices.Compact(h.refs)
		jobs[id] = h
	}
	return jobs, errors.Join(errs...)
}

func readFile(jobs map[string]holding, dir, name string) error {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%s is no file", f.Name())
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return err
	}
	if len(b) > maxFile {
		return fmt.Errorf("%s has more than %d bytes", f.Name(), maxFile)
	}
	for line := range strings.Lines(string(b)) {
		if id := strings.TrimSpace(line); id != "" {
			h := jobs[id]
			h.refs = append(h.refs, refOf(name))
			h.at = max(h.at, st.ModTime().UnixNano())
			jobs[id] = h
		}
	}
	return nil
}

// refOf names a device as a collector.Locator knows it: DCGM counts GPUs in
// their vendor's order, and so does index:; index:0/1 is instance 1 of GPU 0.
func refOf(file string) string {
	return "index:" + strings.Replace(file, ".", "/", 1)
}

// draw is a picture of what the files say.
func draw(jobs map[string]holding) string {
	ids := slices.SortedFunc(maps.Keys(jobs), cmp.Compare[string])
	var b strings.Builder
	for _, id := range ids {
		fmt.Fprintf(&b, "%q %s\n", id, strings.Join(jobs[id].refs, " "))
	}
	return b.String()
}
