package series

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/wattledger/wattledger/internal/series/sums"
)

// mostSummed bounds the references that are kept of series that are summed.
const mostSummed = 200_000

// sumSeries is where a series of the sums is stored.
type sumSeries struct {
	ref    storage.SeriesRef
	labels labels.Labels
	out    any // of the outlet
}

// emit stores the steps that are complete. What was taken from the sums is kept
// until it is stored; only then is the state written that says so.
func (s *Store) emit(db storage.Appendable) error {
	for more := true; more; {
		if len(s.pending) == 0 {
			s.pending, more = s.sums.Advance(s.o.Now().UnixMilli(), s.pending[:0])
		}
		if len(s.pending) == 0 {
			break
		}
		if err := s.appendSums(db); err != nil {
			return err
		}
		s.pending, s.unsaved = s.pending[:0], true
	}
	if s.unsaved {
		st := s.sums.Standings()
		s.stood.Store(&st)
		s.save()
	}
	return nil
}

func (s *Store) appendSums(db storage.Appendable) error {
	x := s.writer(db)
	for i := range s.pending {
		x.sum(&s.pending[i])
	}
	x.handOut()
	if err := x.app.Commit(); err != nil { // and is rolled back
		return err
	}
	x.count()
	return nil
}

// sum appends one sample of the sums.
func (x *writer) sum(p *sums.Sample) {
	to := x.store.summed[p.Key]
	if to == nil {
		if len(x.store.summed) >= mostSummed {
			clear(x.store.summed)
		}
		to = &sumSeries{labels: labelsOf(&p.Key)}
		to.out = x.store.begin(to.labels)
		x.store.summed[p.Key] = to
	}
	ref, err := x.app.Append(to.ref, to.labels, p.AtMS, p.Value)
	switch {
	case x.took(err):
		to.ref = ref
		x.hand(to.out, p.AtMS, p.Value)
	case unknownRef(err):
		x.refuse(refusedInvalid, 1)
	}
}

func labelsOf(k *sums.Key) labels.Labels {
	pairs := []string{model.MetricNameLabel, k.Metric, "cluster", valid(k.Cluster)}
	for _, l := range [][2]string{{"project", k.Project}, {"job", k.Job}, {"class", k.Class}, {"use", k.Use}} {
		if l[1] != "" {
			pairs = append(pairs, l[0], valid(l[1]))
		}
	}
	return labels.FromStrings(pairs...)
}

// took counts a sample that was stored or refused; false for one that was not
// stored.
func (x *writer) took(err error) bool {
	switch {
	case err == nil:
		x.stored++
		return true
	case unknownRef(err):
	case errors.Is(err, storage.ErrDuplicateSampleForTimestamp):
		x.refuse(refusedDuplicate, 1)
	case errors.Is(err, storage.ErrTooOldSample), errors.Is(err, storage.ErrOutOfBounds), errors.Is(err, storage.ErrOutOfOrderSample):
		x.refuse(refusedOld, 1)
	default:
		x.refuse(refusedInvalid, 1)
	}
	return false
}

// unknownRef tells that a reference is not known any more, or that the labels
// cannot be stored.
func unknownRef(err error) bool { return errors.Is(err, tsdb.ErrInvalidSample) }

// save writes what the sums have emitted. Without it the next start compares
// more of the books.
func (s *Store) save() {
	b, err := s.sums.State()
	if err == nil {
		err = replace(filepath.Join(s.o.Dir, stateFile), b)
	}
	if err != nil {
		s.failed(failedState, "the state of the series cannot be written; it is tried again", err)
		return
	}
	s.unsaved = false
}

// replace writes a file anew: whole, or not at all.
func replace(path string, b []byte) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, b, 0o640); err != nil {
		return fmt.Errorf("cannot write: %w", err)
	}
	return os.Rename(tmp, path)
}
