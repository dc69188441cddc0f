package spool

// Next claims the oldest records that are not committed: at least one, at most
// maxRecords, and no more than maxBytes of payload (nor Options.ClaimBytes)
// unless the first alone is larger; a limit of 0 or less is none. It returns
// their first and last number. Claimed records stay as they are until Release
// or Commit; another Next claims from the same head again. ErrEmpty, ErrClosed.
func (s *Spool) Next(maxBytes int, maxRecords int) (first, last Seq, records [][]byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.open(); err != nil {
		return 0, 0, nil, err
	}
	err = s.mending(func() error {
		limit := s.opts.ClaimBytes
		if maxBytes > 0 {
			limit = min(limit, int64(maxBytes))
		}
		first, last, records, err = s.head(limit, maxRecords)
		return err
	})
	if err != nil {
		return 0, 0, nil, err
	}
	s.claimed = max(s.claimed, last)
	return first, last, records, nil
}

// head reads the oldest uncommitted records within the limits.
func (s *Spool) head(maxBytes int64, maxRecords int) (first, last Seq, records [][]byte, err error) {
	for _, g := range s.segs {
		from := g.after(s.committed)
		to, full := from, false
		for ; to < len(g.recs) && !full; to++ {
			taken := len(records) + to - from
			if taken > 0 && (int64(g.recs[to].n) > maxBytes || maxRecords > 0 && taken >= maxRecords) {
				full = true
				break
			}
			maxBytes -= int64(g.recs[to].n)
		}
		if to > from {
			got, err := s.read(g, from, to)
			if err != nil {
				return 0, 0, nil, err
			}
			if len(records) == 0 {
				first = g.recs[from].seq
			}
			records, last = append(records, got...), g.recs[to-1].seq
		}
		if full {
			break
		}
	}
	if len(records) == 0 {
		return 0, 0, nil, ErrEmpty
	}
	return first, last, records, nil
}

// Release says that the claimed records are known not to be booked: they, and
// what follows them, may be merged again. Without a claim it does nothing.
func (s *Spool) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.claimed != 0 {
		s.claimed, s.frozen = 0, 0
	}
}
