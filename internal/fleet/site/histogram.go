package site

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// histogram of durations in microseconds, eight buckets to a doubling.
type histogram struct {
	count  atomic.Int64
	bucket [40 * 8]atomic.Int64
}

func (h *histogram) add(d time.Duration) {
	us := uint64(max(1, d.Microseconds()))
	octave := bits.Len64(us) - 1
	eighth := int(us<<3>>octave) & 7
	h.bucket[min(octave*8+eighth, len(h.bucket)-1)].Add(1)
	h.count.Add(1)
}

// forget empties it, but for what is added meanwhile.
func (h *histogram) forget() {
	for i := range h.bucket {
		h.count.Add(-h.bucket[i].Swap(0))
	}
}

// quantile gives the upper edge of the bucket that holds it.
func (h *histogram) quantile(q float64) time.Duration {
	left := int64(math.Ceil(q * float64(h.count.Load())))
	if left == 0 {
		return 0
	}
	for i := range h.bucket {
		if left -= h.bucket[i].Load(); left <= 0 {
			octave, eighth := i/8, i%8
			return time.Duration((uint64(9+eighth)<<octave)>>3) * time.Microsecond
		}
	}
	return 0
}
