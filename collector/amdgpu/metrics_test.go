package amdgpu

import (
	"encoding/binary"
	"errors"
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/wattledger/wattledger/internal/energy"
)

// blob is a table whose fields are all ones, as the driver fills it, but for
// what is set. Offsets are written down here a second time, from the facts and
// not from the code.
type blob []byte

func newBlob(size int, format, content byte) blob {
	b := make(blob, size)
	for i := range b {
		b[i] = 0xff
	}
	binary.LittleEndian.PutUint16(b, uint16(size))
	b[2], b[3] = format, content
	return b
}

func (b blob) u16(at int, v uint16) blob { binary.LittleEndian.PutUint16(b[at:], v); return b }
func (b blob) u64(at int, v uint64) blob { binary.LittleEndian.PutUint64(b[at:], v); return b }

// golden has, in every layout, 301 W, 37 %, 2^16 J + 1 step, and both clocks.
func golden() map[string]blob {
	const count = 1<<32 + 1
	return map[string]blob{
		"1.1":            newBlob(96, 1, 1).u16(22, 301).u16(16, 37).u64(24, count).u64(32, 5e9),
		"1.2":            newBlob(104, 1, 2).u16(22, 301).u16(16, 37).u64(24, count).u64(32, 5e9).u64(96, 77),
		"1.3":            newBlob(120, 1, 3).u16(22, 301).u16(16, 37).u64(24, count).u64(32, 5e9).u64(96, 77),
		"1.4":            newBlob(288, 1, 4).u16(10, 301).u16(12, 37).u64(24, count).u64(32, 5e9).u64(232, 77),
		"1.5":            newBlob(360, 1, 5).u16(10, 301).u16(12, 37).u64(88, count).u64(96, 5e9).u64(304, 77),
		"1.6 (May 2024)": newBlob(384, 1, 6).u16(10, 301).u16(12, 37).u64(88, count).u64(96, 5e9).u64(328, 77),
		"1.6":            newBlob(1664, 1, 6).u16(10, 301).u16(12, 37).u64(16, count).u64(24, 5e9).u64(256, 77),
		"1.7":            newBlob(2208, 1, 7).u16(10, 301).u16(12, 37).u64(24, count).u64(32, 5e9).u64(288, 77),
		"1.8":            newBlob(3872, 1, 8).u16(10, 301).u16(12, 37).u64(24, count).u64(32, 5e9).u64(288, 77),
	}
}

func TestGoldenTables(t *testing.T) {
	for name, b := range golden() {
		l, err := layoutOf(b)
		if err != nil || l.name != name {
			t.Errorf("%s: layout %+v, %v", name, l, err)
			continue
		}
		m, err := l.decode(b)
		want := metrics{counter: 65536*energy.Joule + 15, counted: true, power: 301 * energy.Watt, powered: true, busy: 37, busyKnown: true, clock: 5e9, firmware: 77}
		if name == "1.1" {
			want.firmware = 0
		}
		if err != nil || m != want {
			t.Errorf("%s: %+v, %v\nwant %+v", name, m, err, want)
		}
		for _, n := range []int{4, len(b) - 1} {
			if m, err := l.decode(b[:n]); err == nil || !strings.Contains(err.Error(), "cut off") || m.counted {
				t.Errorf("%s cut to %d bytes: %+v, %v", name, n, m, err)
			}
		}
		if m, err := l.decode(newBlob(len(b), b[2], b[3])); err != nil || m != (metrics{}) {
			t.Errorf("%s of all ones: %+v, %v", name, m, err)
		}
	}
	if len(golden()) != len(layouts()) {
		t.Errorf("%d layouts, %d tables", len(layouts()), len(golden()))
	}
}

func TestTablesThatAreRefused(t *testing.T) {
	f := func(b blob, want string) {
		t.Helper()
		l, err := layoutOf(b)
		if l != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("layout %+v, %v; want %q", l, err, want)
		}
		if len(b) >= 4 && !errors.Is(err, errRefused) {
			t.Errorf("%v is no refusal", err)
		}
	}
	f(nil, "cut off")
	f(blob{96, 0, 1}, "cut off")
	f(newBlob(96, 1, 0), "gpu_metrics 1.0 of 96 bytes")
	f(newBlob(96, 1, 3), "gpu_metrics 1.3 of 96 bytes")
	f(newBlob(121, 1, 3), "1.3 of 121")
	f(newBlob(360, 1, 6), "1.6 of 360") // neither of the two
	f(newBlob(1664, 1, 5), "1.5 of 1664")
	f(newBlob(64, 1, 9), "1.9 is a list of attributes")
	f(newBlob(120, 2, 3), "counts no energy")
	f(newBlob(264, 3, 0), "counts no energy")
	f(newBlob(120, 4, 3), "4.3 of 120")
}

// TestMicrojoules: exact, in integers, for every count there can be.
func TestMicrojoules(t *testing.T) {
	f := func(count uint64) {
		t.Helper()
		want := new(big.Int).Mul(new(big.Int).SetUint64(count), big.NewInt(1_000_000))
		want.Rsh(want, 16)
		got, ok := microjoules(count)
		fits := want.IsUint64() && want.Uint64() <= uint64(energy.MaxOdometer)
		if ok != fits || ok && uint64(got) != want.Uint64() {
			t.Errorf("%d counts are %d uJ, %v; want %s", count, got, ok, want)
		}
	}
	for _, c := range []uint64{0, 1, 2, 65535, 65536, 65537, 1 << 40, 604462909807314587, 604462909807314588, math.MaxUint64} {
		f(c)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		f(r.Uint64() >> r.IntN(64))
	}
}
