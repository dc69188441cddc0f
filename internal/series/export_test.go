package series

import "github.com/prometheus/prometheus/storage"

// Through lets what is stored go through f; call it before Run.
func (s *Store) Through(f func(storage.Appendable) storage.Appendable) { s.through = f }
