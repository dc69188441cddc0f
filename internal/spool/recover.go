package spool

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// Open opens the spool in a directory, which it makes if absent, and takes its
// lock: a second Open fails and names the process that may hold it. A torn tail
// is cut, damaged segments are moved aside with every intact record kept; both
// are reported. Open fails only where the file system does.
func Open(o Options) (*Spool, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	if err := o.FS.MkdirAll(o.Dir); err != nil {
		return nil, fmt.Errorf("cannot make spool directory %s: %w", o.Dir, err)
	}
	s := &Spool{opts: o, next: 1, wake: make(chan struct{})}
	lock, err := o.FS.Lock(s.path(lockName))
	if err != nil {
		return nil, fmt.Errorf("cannot open spool %s: %w", o.Dir, err)
	}
	s.lock = lock
	if err := s.load(); err != nil {
		s.seal()
		return nil, errors.Join(fmt.Errorf("cannot open spool %s: %w", o.Dir, err), lock.Close())
	}
	return s, nil
}

// found is a segment as read from disk.
type found struct {
	*segment
	parsed
}

// hollow says that nothing in the segment is intact.
func (f found) hollow() bool { return !f.headerOK && len(f.segment.recs) == 0 }

// load brings memory in line with the directory.
func (s *Spool) load() error {
	if err := s.readMark(); err != nil {
		return err
	}
	all, err := s.scan()
	if err != nil {
		return err
	}
	live := s.settle(all)
	s.next = s.committed + 1
	for _, g := range live {
		s.segs = append(s.segs, g.segment)
		s.next = max(s.next, g.end()+1)
	}
	for i, g := range live {
		if err := s.adopt(g, live[i+1:]); err != nil {
			return err
		}
	}
	_ = s.tidy() // tried again at the next commit
	s.freeze()
	return nil
}

// scan reads all segments, in the order of their first number and generation,
// and deletes what was never finished.
func (s *Spool) scan() ([]found, error) {
	names, err := s.opts.FS.ReadDir(s.opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("cannot list files: %w", err)
	}
	var all []found
	for _, name := range names {
		base, isTmp := strings.CutSuffix(name, temporarySuffix)
		first, gen, ok := parseName(base)
		if isTmp && (ok || base == markName) {
			_ = s.opts.FS.Remove(s.path(name)) // overwritten when it is needed again
		}
		if isTmp || !ok {
			continue
		}
		data, err := s.readFile(name)
		if err != nil {
			return nil, err
		}
		p := parse(data, first, gen)
		g := &segment{name: name, first: first, last: p.last, gen: gen, recs: p.recs, size: int64(len(data))}
		if !p.headerOK && gen > 0 && len(p.recs) > 0 {
			g.last = p.recs[len(p.recs)-1].seq // merged records end where their range does
		}
		all = append(all, found{segment: g, parsed: p})
	}
	slices.SortFunc(all, func(a, b found) int {
		return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.gen, b.gen))
	})
	return all, nil
}

// settle returns the segments that count. The void ones are handed to what
// replaces them, for deletion.
func (s *Spool) settle(all []found) []found {
	var live []found
	for _, g := range all {
		i := slices.IndexFunc(all, func(by found) bool {
			if by.hollow() || g.hollow() { // says nothing, so what it was to replace stands
				return g.hollow() && !by.hollow() && by.first == g.first
			}
			return by.gen > g.gen && by.first <= g.first && g.first <= max(by.first, by.segment.last)
		})
		switch {
		case i < 0:
			live = append(live, g)
		case g.damaged:
			s.moveAside(g.name)
		default:
			all[i].voids = append(all[i].voids, g.name)
		}
	}
	for i := range live[:max(0, len(live)-1)] { // a number that the next segment begins with was given back
		g := live[i].segment
		g.recs = g.recs[:g.after(live[i+1].first-1)]
	}
	return live
}

// adopt judges the tail of a segment, repairs it if it is damaged, and goes on
// writing to it if it is the last and sound.
func (s *Spool) adopt(g found, later []found) error {
	ordinary := g.headerOK && g.segment.last == 0
	gap := 0 // numbers up to the next segment that nothing stands for
	if len(later) > 0 {
		gap = int(later[0].first - min(later[0].first, g.end()+1))
	}
	damaged, lost := g.damaged, g.lost
	torn := g.tail && ordinary && !damaged && len(later) == 0 && g.tailShort
	switch {
	case !g.tail || torn:
	case ordinary && len(later) > 0 && gap == 0: // of an Append that has failed
	default:
		damaged = true
		if len(later) == 0 || gap == 0 {
			lost++
		}
	}
	if damaged {
		data, err := s.readFile(g.name)
		if err != nil {
			return err
		}
		s.repair(g.segment, max(g.end()+Seq(gap), g.first), Event{Lost: lost + gap, Bytes: g.badBytes}, data)
		return nil
	}
	if gap > 0 && later[0].first > s.committed+1 {
		s.opts.Report(Event{Kind: Missing, File: later[0].name, Lost: min(gap, int(later[0].first-s.committed-1))})
	}
	if len(later) > 0 || !ordinary || g.good >= s.opts.SegmentBytes && !torn {
		return nil
	}
	f, err := s.opts.FS.OpenFile(s.path(g.name), os.O_RDWR)
	if err != nil {
		return fmt.Errorf("cannot open %s: %w", g.name, err)
	}
	s.active = f
	if !torn {
		return nil
	}
	s.opts.Report(Event{Kind: TornTail, File: g.name, Bytes: g.badBytes})
	err = f.Truncate(g.good)
	if err == nil && !s.opts.NoSync {
		err = f.Sync()
	}
	if err != nil {
		s.seal() // the next segment makes the tail void
		return nil
	}
	g.size = g.good
	return nil
}

// repair writes the intact records of a damaged segment to a new one that
// supersedes all numbers up to end, and moves the damaged file aside. If the disk
// does not allow that the damaged file stays, and its intact records are read
// from there. e says what is wrong, data is what could be read of the file.
func (s *Spool) repair(g *segment, end Seq, e Event, data []byte) {
	if s.active != nil && g == s.segs[len(s.segs)-1] {
		s.seal()
	}
	intact := g.recs
	e.Kind, e.File, e.Records = Damaged, g.name, len(intact)
	fresh := &segment{first: g.first, last: end, gen: g.gen + 1, voids: g.voids}
	e.Err = s.build(fresh, func(w *segmentWriter) error {
		for _, r := range intact {
			if err := w.add(r.seq, data[r.off:r.off+r.n]); err != nil {
				return err
			}
		}
		return nil
	})
	if e.Err == nil {
		e.Err = s.publish(fresh)
	}
	if e.Err == nil {
		damaged := g.name
		*g = *fresh
		e.File, e.Err = s.rename(damaged)
	}
	s.opts.Report(e)
}

// moveAside keeps a damaged file that is void already.
func (s *Spool) moveAside(name string) {
	to, err := s.rename(name)
	s.opts.Report(Event{Kind: Damaged, File: to, Err: err})
}

// rename gives a damaged file a name of its own and returns it.
func (s *Spool) rename(name string) (string, error) {
	names, err := s.opts.FS.ReadDir(s.opts.Dir)
	if err != nil {
		return name, fmt.Errorf("cannot move %s aside: %w", name, err)
	}
	to := ""
	for n := 1; to == "" || slices.Contains(names, to); n++ {
		to = fmt.Sprintf("%s.damaged-%d", name, n)
	}
	err = s.opts.FS.Rename(s.path(name), s.path(to))
	if errors.Is(err, fs.ErrNotExist) {
		return name, nil // the file itself was gone
	}
	if err != nil {
		return name, fmt.Errorf("cannot move %s aside: %w", name, err)
	}
	return to, s.syncDir()
}

// freeze remembers how far a claim can have reached when the process died.
func (s *Spool) freeze() {
	room := s.opts.ClaimBytes
	for _, g := range s.segs {
		for _, e := range g.recs[g.after(s.committed):] {
			if s.frozen != 0 && int64(e.n) > room {
				return
			}
			room -= int64(e.n)
			s.frozen = e.seq
		}
	}
}
