package energy_test

import (
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/wattledger/wattledger/internal/energy"
)

// area2 is twice the area under the line from p to q over [0, whole], up to
// part, in uW x ns: exact.
func area2(p, q energy.Microwatts, whole, part int64) *big.Rat {
	// 2*p*part + (q-p)*part^2/whole
	a := new(big.Rat).SetInt(new(big.Int).Mul(new(big.Int).SetUint64(2*uint64(p)), big.NewInt(part)))
	d := new(big.Int).Sub(new(big.Int).SetUint64(uint64(q)), new(big.Int).SetUint64(uint64(p)))
	d.Mul(d, big.NewInt(part)).Mul(d, big.NewInt(part))
	return a.Add(a, new(big.Rat).SetFrac(d, big.NewInt(whole)))
}

// microjoules rounds down.
func microjoules(units *big.Rat) energy.Microjoules {
	u := new(big.Rat).Quo(units, new(big.Rat).SetInt64(2_000_000_000))
	return energy.Microjoules(new(big.Int).Quo(u.Num(), u.Denom()).Uint64())
}

// exactly drives an integral and compares the odometer, and the line cut at any
// place, with rational arithmetic.
func exactly(t *testing.T, r *rand.Rand, readings int) {
	t.Helper()
	var in energy.Integral
	sum := new(big.Rat)
	at, power := int64(r.Uint64N(1<<40)), energy.Microwatts(0)
	if in.Begun() {
		t.Fatal("the zero value has had a reading")
	}
	if _, ok := in.Next(at, power); ok || !in.Begun() {
		t.Fatal("the first reading has a line that led to it")
	}
	for range readings {
		step := 1 + int64(r.Uint64N(1<<uint(r.IntN(41))))
		next := energy.Microwatts(r.Uint64N(1 << uint(r.IntN(44))))
		line, ok := in.Next(at+step, next)
		if !ok {
			t.Fatalf("a reading %d ns later was not taken", step)
		}
		before, last := microjoules(sum), microjoules(sum)
		cut := int64(0)
		for range 4 {
			cut += int64(r.Uint64N(uint64(step-cut) + 1))
			want := microjoules(new(big.Rat).Add(sum, area2(power, next, step, cut)))
			got := line.At(at + cut)
			// the rest below half a uW x ns is cut off, so the line may be 1 uJ short where it is all but there
			if got > want || want-got > 1 || (want != got && cut < step && !almost(sum, area2(power, next, step, cut))) {
				t.Fatalf("line of %d to %d uW over %d ns at %d: %d uJ, want %d", power, next, step, cut, got, want)
			}
			if got < last {
				t.Fatalf("line of %d to %d uW over %d ns goes back from %d to %d uJ", power, next, step, last, got)
			}
			last = got
		}
		if got := line.At(at - 5); got != before {
			t.Fatalf("before the line: %d, want %d", got, before)
		}
		sum.Add(sum, area2(power, next, step, step))
		if got, want := in.Odometer(), microjoules(sum); got != want || line.At(at+step) != want || line.At(at+step+9) != want || last > want {
			t.Fatalf("odometer %d, end of the line %d, want %d", got, line.At(at+step), want)
		}
		at, power = at+step, next
		if a, p := in.Last(); a != at || p != power {
			t.Fatalf("last reading (%d, %d), want (%d, %d)", a, p, at, power)
		}
	}
}

// almost: the exact sum lies within half a uW x ns above a whole microjoule.
func almost(sum, part *big.Rat) bool {
	s := new(big.Rat).Add(sum, part)
	floor := new(big.Rat).SetInt(new(big.Int).SetUint64(uint64(microjoules(s))))
	floor.Mul(floor, new(big.Rat).SetInt64(2_000_000_000))
	return s.Sub(s, floor).Cmp(new(big.Rat).SetInt64(1)) < 0
}

func TestIntegralIsExact(t *testing.T) {
	const seed = 5
	r := rand.New(rand.NewPCG(seed, 1))
	for range 300 {
		exactly(t, r, 20)
	}
}

func FuzzIntegral(f *testing.F) {
	f.Add(uint64(1), uint64(2))
	f.Fuzz(func(t *testing.T, a, b uint64) { exactly(t, rand.New(rand.NewPCG(a, b)), 4) })
}

// EAR, slurm scrapes: many small steps are worth the same as few long ones.
func TestIntegralOfSmallSteps(t *testing.T) {
	var in energy.Integral
	for ns := int64(0); ns <= 1_000_000; ns++ {
		in.Add(ns, 333*energy.Watt)
	}
	if got := in.Odometer(); got != 333_000 {
		t.Errorf("333 W over a millisecond in steps of 1 ns are %d uJ, want 333000", got)
	}
}

func TestIntegralSkipsAndResumes(t *testing.T) {
	var in energy.Integral
	in.Add(0, 100*energy.Watt)
	in.Add(1e9, 100*energy.Watt)
	if in.Add(1e9, 500*energy.Watt) || in.Add(5e8, 500*energy.Watt) {
		t.Error("a reading that is not later was taken")
	}
	in.Skip(100e9, 300*energy.Watt)
	if got := in.Odometer(); got != 100*energy.Joule {
		t.Errorf("a gap that was skipped changed the odometer to %d", got)
	}
	in.Add(101e9, 300*energy.Watt)
	if got := in.Odometer(); got != 400*energy.Joule {
		t.Errorf("after the gap: %d uJ, want 400 J", got)
	}
	in.Shift(-50e9)
	if !in.Add(52e9, 300*energy.Watt) || in.Odometer() != 700*energy.Joule {
		t.Errorf("after a step of the clock: %d uJ, want 700 J", in.Odometer())
	}
	var re energy.Integral
	re.Resume(in.Odometer(), 52e9, 300*energy.Watt)
	if at, p := re.Last(); !re.Begun() || at != 52e9 || p != 300*energy.Watt {
		t.Error("a resumed integral has had its last reading")
	}
	if re.Add(53e9, 100*energy.Watt); re.Odometer() != 900*energy.Joule {
		t.Errorf("after resuming: %d uJ, want 900 J", re.Odometer())
	}
}
