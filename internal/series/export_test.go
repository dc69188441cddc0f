package series

import "github.com/prometheus/prometheus/storage"

// Through lets what is stored go through f; call it before Run.
func (s *Store) Through(f func(storage.Appendable) storage.Appendable) { s.through = f }

// Stripes is over how many maps the head would spread its series.
func (s *Store) Stripes() int { return s.stripes() }

// MapChunks lets chunks that are full go to their file, as the storage does each
// minute of the clock on the wall.
func (s *Store) MapChunks() {
	if db := s.db.Load(); db != nil {
		db.ForceHeadMMap()
	}
}
