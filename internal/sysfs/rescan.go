package sysfs

import "time"

// Rescan says when to look again which devices there are: each minute, and soon
// after something went wrong. The zero value is due at once.
type Rescan struct {
	last time.Time
	ran  bool
}

const (
	rescanEvery  = time.Minute
	rescanBroken = 10 * time.Second
)

// Due tells whether to look now, and takes it that this is done. A clock that
// was set back is a reason too.
func (r *Rescan) Due(now time.Time, broken bool) bool {
	every := rescanEvery
	if broken {
		every = rescanBroken
	}
	since := now.Sub(r.last)
	if r.ran && since >= 0 && since < every {
		return false
	}
	r.last, r.ran = now, true
	return true
}
