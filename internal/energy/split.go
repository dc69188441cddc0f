package energy

import "math/bits"

// Split divides total over weights so that the parts add up to it exactly: each
// part is floor(total x weight / sum), and the millijoules left over go, one
// each, to the largest remainders; equal remainders are served in index order.
// A negative total is split by its magnitude. The parts are appended to out.
// If all weights are zero the parts are zero and ok is false: the caller must
// say who owns the total.
//
// The sum of the weights must fit 63 bits; weights are microjoules of a window
// or nanoseconds of it, far below.
func Split(out []Millijoules, total Millijoules, weights []uint64) (parts []Millijoules, ok bool) {
	var sum uint64
	for _, w := range weights {
		sum += w
	}
	start := len(out)
	if sum == 0 {
		for range weights {
			out = append(out, 0)
		}
		return out, total == 0
	}
	mag, neg := uint64(total), total < 0
	if neg {
		mag = uint64(-total)
	}
	left := mag
	rems := make([]uint64, len(weights))
	for i, w := range weights {
		hi, lo := bits.Mul64(mag, w)
		q, r := bits.Div64(hi, lo, sum) // w <= sum, so hi < sum
		rems[i] = r
		left -= q
		out = append(out, Millijoules(q))
	}
	if left > 0 { // fewer than weights with a remainder: each gets at most one
		serve(out[start:], rems, int(left))
	}
	if neg {
		for i := start; i < len(out); i++ {
			out[i] = -out[i]
		}
	}
	return out, true
}

// serve gives one each to the n largest remainders.
func serve(parts []Millijoules, rems []uint64, n int) {
	var room [16]uint64
	least := nthLargest(append(room[:0], rems...), n)
	for _, r := range rems {
		if r > least {
			n--
		}
	}
	for i, r := range rems { // n is left for those that equal the least
		switch {
		case r > least:
			parts[i]++
		case r == least && n > 0:
			parts[i]++
			n--
		}
	}
}

// nthLargest finds the value that n-1 others are not below, 1 <= n <= len(v), by
// quickselect: hundreds of jobs may share a device, and a split is made for each
// piece of it. It puts the values into another order.
func nthLargest(v []uint64, n int) uint64 {
	lo, hi, k := 0, len(v)-1, n-1
	for lo < hi {
		pivot, i, j := v[lo+(hi-lo)/2], lo, hi
		for i <= j {
			for v[i] > pivot {
				i++
			}
			for v[j] < pivot {
				j--
			}
			if i <= j {
				v[i], v[j] = v[j], v[i]
				i, j = i+1, j-1
			}
		}
		switch {
		case k <= j:
			hi = j
		case k >= i:
			lo = i
		default:
			return v[k]
		}
	}
	return v[k]
}
