package intake

import "golang.org/x/sync/semaphore"

const (
	// smallBody is more than a body of live windows has; those of backlogs are
	// larger.
	smallBody = 64 << 10
	// leastBody is what the smallest body counts for.
	leastBody = 4096
)

// memory is a claim on what bodies may take.
type memory struct {
	of   *semaphore.Weighted // nil for none
	size int64
}

// claim takes memory for a body; of is nil if there is none. Small bodies have a
// part that backlogs do not get, and take of the rest as well.
func (in *Intake) claim(size int64) memory {
	size = max(size, leastBody)
	if size <= smallBody && in.small.TryAcquire(size) {
		return memory{in.small, size}
	}
	if in.large.TryAcquire(size) {
		return memory{in.large, size}
	}
	return memory{}
}

// resize makes the claim what a body has turned out to take; false if there is
// not so much.
func (m *memory) resize(size int64) bool {
	size = max(size, leastBody)
	if more := size - m.size; more > 0 && !m.of.TryAcquire(more) {
		return false
	} else if more < 0 {
		m.of.Release(-more)
	}
	m.size = size
	return true
}

func (m *memory) release() { m.of.Release(m.size) }
