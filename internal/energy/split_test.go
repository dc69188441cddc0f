package energy_test

import (
	"encoding/binary"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/wattledger/wattledger/internal/energy"
)

func TestSplit(t *testing.T) {
	f := func(what string, total energy.Millijoules, weights []uint64, want ...energy.Millijoules) {
		t.Helper()
		got, ok := energy.Split(nil, total, weights)
		if !slices.Equal(got, want) || !ok {
			t.Errorf("%s: Split(%d, %v) = %v, %v; want %v", what, total, weights, got, ok, want)
		}
	}
	f("two half shares of 300 W", 300, []uint64{500_000, 500_000}, 150, 150)
	f("the odd one to the first of equals", 301, []uint64{1, 1}, 151, 150)
	f("the odd one to the larger remainder", 10, []uint64{1, 2}, 3, 7)
	f("thirds", 100, []uint64{1, 1, 1}, 34, 33, 33)
	f("two left over", 101, []uint64{1, 1, 1}, 34, 34, 33)
	f("a weight of zero gets nothing", 7, []uint64{0, 3, 0}, 0, 7, 0)
	f("less than a millijoule each", 2, []uint64{5, 5, 5}, 1, 1, 0)
	f("negative, by its magnitude", -10, []uint64{1, 2}, -3, -7)
	f("nothing", 0, []uint64{4, 5}, 0, 0)
	f("largest total", math.MaxInt64, []uint64{1}, math.MaxInt64)
	f("smallest total", math.MinInt64, []uint64{1}, math.MinInt64)
	f("smallest total, halves", math.MinInt64, []uint64{1, 1}, math.MinInt64/2, math.MinInt64/2)
	f("largest weights", 1_000_003, []uint64{1 << 62, 1<<62 - 1}, 500_002, 500_001)
	f("nothing for nobody", 0, nil)
	f("nothing for weights of zero", 0, []uint64{0, 0}, 0, 0)
}

func TestSplitOfZeroWeightsSaysSo(t *testing.T) {
	got, ok := energy.Split(nil, 5, []uint64{0, 0})
	if ok || !slices.Equal(got, []energy.Millijoules{0, 0}) {
		t.Errorf("Split of 5 mJ over no weight = %v, %v; want zeros and false", got, ok)
	}
	if got, ok := energy.Split(nil, -5, nil); ok || len(got) != 0 {
		t.Errorf("Split over nobody = %v, %v; want false", got, ok)
	}
}

func TestSplitAppends(t *testing.T) {
	out := []energy.Millijoules{42}
	out, _ = energy.Split(out, -7, []uint64{1, 1})
	if !slices.Equal(out, []energy.Millijoules{42, -4, -3}) {
		t.Errorf("the parts are %v; what was there must stay", out)
	}
}

// Hundreds of jobs share a device: the spare millijoules go where a look for the
// largest remainder at a time would put them.
func TestSplitOverMany(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		weights := make([]uint64, 1+r.IntN(700))
		var sum uint64
		for i := range weights {
			weights[i] = uint64(r.IntN(1 + r.IntN(50))) // many are equal
			sum += weights[i]
		}
		if sum == 0 {
			continue
		}
		total := uint64(r.IntN(100_000))
		want, rems, left := make([]energy.Millijoules, len(weights)), make([]uint64, len(weights)), total
		for i, w := range weights {
			want[i], rems[i] = energy.Millijoules(total*w/sum), total*w%sum
			left -= total * w / sum
		}
		for ; left > 0; left-- {
			best := 0
			for i := range rems {
				if rems[i] > rems[best] {
					best = i
				}
			}
			want[best], rems[best] = want[best]+1, 0
		}
		if got, ok := energy.Split(nil, energy.Millijoules(total), weights); !ok || !slices.Equal(got, want) {
			t.Fatalf("Split(%d, %v) = %v; want %v", total, weights, got, want)
		}
	}
}

// FuzzSplit: the parts add up, each is within one of its exact share, and the
// spare millijoules went to the largest remainders, the first of equals first.
func FuzzSplit(f *testing.F) {
	f.Add(int64(301), []byte{1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0})
	f.Add(int64(math.MinInt64), []byte{255, 255, 255, 255, 255, 255, 255, 3, 9})
	f.Fuzz(func(t *testing.T, total int64, raw []byte) {
		var weights []uint64
		var sum uint64
		for len(raw) >= 8 && len(weights) < 12 {
			w := binary.LittleEndian.Uint64(raw)
			w >>= w & 63
			w >>= 4 // twelve of them stay below 2^63
			weights, sum, raw = append(weights, w), sum+w, raw[8:]
		}
		parts, ok := energy.Split(nil, energy.Millijoules(total), weights)
		if len(parts) != len(weights) || ok != (sum > 0 || total == 0) {
			t.Fatalf("Split(%d, %v) = %v, %v", total, weights, parts, ok)
		}
		if sum == 0 {
			return
		}
		var got energy.Millijoules
		type remainder struct {
			r       *big.Int
			rounded bool
		}
		rems := make([]remainder, len(parts))
		for i, p := range parts {
			got += p
			if p != 0 && (p < 0) != (total < 0) {
				t.Fatalf("Split(%d, %v) = %v: part %d has the other sign", total, weights, parts, i)
			}
			exact := new(big.Int).Mul(new(big.Int).Abs(big.NewInt(total)), new(big.Int).SetUint64(weights[i]))
			q, r := exact.QuoRem(exact, new(big.Int).SetUint64(sum), new(big.Int))
			over := new(big.Int).Sub(new(big.Int).Abs(big.NewInt(int64(p))), q)
			if !over.IsInt64() || over.Int64() < 0 || over.Int64() > 1 || (over.Int64() == 1 && r.Sign() == 0) {
				t.Fatalf("Split(%d, %v) = %v: part %d is not its exact share rounded down or up", total, weights, parts, i)
			}
			rems[i] = remainder{r, over.Int64() == 1}
		}
		if got != energy.Millijoules(total) {
			t.Fatalf("Split(%d, %v) = %v, together %d", total, weights, parts, got)
		}
		for i, a := range rems {
			for j, b := range rems {
				if a.rounded && !b.rounded && (a.r.Cmp(b.r) < 0 || (a.r.Cmp(b.r) == 0 && j < i)) {
					t.Fatalf("Split(%d, %v) = %v: part %d was rounded up before part %d", total, weights, parts, i, j)
				}
			}
		}
	})
}
