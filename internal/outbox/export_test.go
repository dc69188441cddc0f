package outbox

// Crash lets go of the folder as the death of the process does: nothing is
// written any more.
func (b *Box) Crash() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	if b.active != nil {
		_ = b.active.Close()
		b.active = nil
	}
	_ = b.closeFiles()
}

// BreakDisk closes the file that is written to under the box's feet.
func (b *Box) BreakDisk() {
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = b.active.Close()
}

// SegmentName is the name of the file that begins at a position.
func SegmentName(at uint64) string { return segmentName(at) }
