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
	// left < number of weights with a remainder: each gets at most one.
	for ; left > 0; left-- {
		best := -1
		for i, r := range rems {
			if r > 0 && (best < 0 || r > rems[best]) {
				best = i
			}
		}
		rems[best] = 0
		out[start+best]++
	}
	if neg {
		for i := start; i < len(out); i++ {
			out[i] = -out[i]
		}
	}
	return out, true
}
