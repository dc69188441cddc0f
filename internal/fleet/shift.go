package fleet

import "time"

// ShiftLastMonth is how far a recording of [from, to] is moved so that it lies
// wholly within the month (UTC) before now's. It is a whole number of days, so
// times of day stay, and the same for every now within a month: the recording
// begins on the 10th, or on the 1st where it would not fit from the 10th on. One
// longer than the month begins on the 1st and runs over its end.
func ShiftLastMonth(now, from, to time.Time) time.Duration {
	now, from = now.UTC(), from.UTC()
	next := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	day := time.Date(from.Year(), from.Month(), from.Day(), 0, 0, 0, 0, time.UTC)
	shift := next.AddDate(0, -1, 9).Sub(day)
	if to.Add(shift).Before(next) {
		return shift
	}
	return next.AddDate(0, -1, 0).Sub(day)
}

// ShiftNow is how far a recording is moved so that its instant at becomes now,
// in whole milliseconds. Give its first instant to replay it live, its last to
// replay it faster than it happened without reaching into the future.
func ShiftNow(now, at time.Time) time.Duration { return now.Sub(at).Truncate(time.Millisecond) }
