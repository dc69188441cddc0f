package spool

import "fmt"

// Kind says what happened to a spool.
type Kind int

// What a person must know of.
const (
	// TornTail: an unfinished record at the end was cut off. Its Append has not
	// returned: nothing is lost.
	TornTail Kind = iota + 1
	// Damaged: a segment was damaged. It was moved aside, its intact records are kept.
	Damaged
	// Missing: records between two segments are gone without a trace.
	Missing
	// MarkUnreadable: the mark of what is committed is damaged; booked records
	// may be sent again.
	MarkUnreadable
	// Merged: old records were made smaller to stay within the limit.
	Merged
	// MergeFailed: records could not be made smaller. They are kept as they are.
	MergeFailed
	// OverLimit: nothing more can be gained by merging; the spool grows over MaxBytes.
	OverLimit
	// Full: the spool has reached twice MaxBytes and refuses records.
	Full
)

// String returns the kind in words.
func (k Kind) String() string {
	switch k {
	case TornTail:
		return "torn tail cut"
	case Damaged:
		return "damaged segment moved aside"
	case Missing:
		return "records missing"
	case MarkUnreadable:
		return "commit mark unreadable"
	case Merged:
		return "old records merged"
	case MergeFailed:
		return "merging failed"
	case OverLimit:
		return "over its limit"
	case Full:
		return "full"
	default:
		return fmt.Sprintf("kind %d", int(k))
	}
}

// Event is something that happened to a spool and that a person must know.
// Fields that say nothing about a kind are zero.
type Event struct {
	Kind Kind
	File string // the segment, or where it was moved to
	// Records is how many records are kept (Damaged) or were made smaller (Merged).
	Records int
	// Lost is how many records are gone, at the least (Damaged, Missing).
	Lost int
	// Bytes is what was cut or is unreadable (TornTail, Damaged), gained (Merged)
	// or in use (OverLimit, Full).
	Bytes int64
	Err   error // why (MergeFailed, MarkUnreadable)
}
