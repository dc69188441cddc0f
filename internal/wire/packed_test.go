package wire_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
	"github.com/wattledger/wattledger/internal/wire/wirepb"
)

func later(tb testing.TB, how wire.Telemetry, b []byte, known func(uint64) *window.Catalogue) []*window.Window {
	tb.Helper()
	p, err := wire.SplitFragment(b)
	if err != nil {
		tb.Fatal(err)
	}
	p.Telemetry = how
	out, err := p.Decode(known)
	if err != nil {
		tb.Fatal(err)
	}
	return out.Windows
}

// unpacked is a window with its telemetry unpacked.
func unpacked(tb testing.TB, u *wire.Unpacker, w *window.Window) *window.Window {
	tb.Helper()
	if w.Telemetry != nil {
		tb.Error("it is unpacked already")
	}
	if err := u.Unpack(w); err != nil {
		tb.Fatal(err)
	}
	out := *w
	out.Packed = nil
	if len(out.Telemetry) == 0 {
		out.Telemetry = nil
	}
	return &out
}

// TestUnpackedLater: telemetry that is unpacked later is the same, window after
// window with one Unpacker, wherever it lies in the message; the rest of the
// window is the same with and without it.
func TestUnpackedLater(t *testing.T) {
	var u wire.Unpacker
	for seed := range uint64(500) {
		r := arbitrary{rand.New(rand.NewPCG(seed, 7))}
		c := r.catalogue()
		known := func(uint64) *window.Catalogue { return c }
		want := r.window(c)
		b, err := wire.EncodeFragment(nil, []*window.Window{want})
		if err != nil {
			t.Fatal(err)
		}
		for name, b := range map[string][]byte{"as encoded": b, "shuffled": shuffled(t, r, b)} {
			if d := cmp.Diff(want, unpacked(t, &u, later(t, wire.Packed, b, known)[0])); d != "" {
				t.Fatalf("seed %d, %s: (-want +got):\n%s", seed, name, d)
			}
			bare := *want
			bare.Telemetry = nil
			if d := cmp.Diff(&bare, later(t, wire.Dropped, b, known)[0]); d != "" {
				t.Fatalf("seed %d, %s, dropped: (-want +got):\n%s", seed, name, d)
			}
		}
	}
}

// shuffled moves the fields of a window about; those of one number stay in order.
func shuffled(tb testing.TB, r arbitrary, fragment []byte) []byte {
	tb.Helper()
	p, err := wire.SplitFragment(fragment)
	if err != nil {
		tb.Fatal(err)
	}
	_, _, n := protowire.ConsumeTag(p.Windows[0])
	message, _ := protowire.ConsumeBytes(p.Windows[0][n:])
	fields := map[protowire.Number][][]byte{}
	var order []protowire.Number
	for len(message) > 0 {
		num, typ, n := protowire.ConsumeTag(message)
		n += protowire.ConsumeFieldValue(num, typ, message[n:])
		fields[num] = append(fields[num], message[:n])
		order = append(order, num)
		message = message[n:]
	}
	r.Shuffle(len(order), func(i, k int) { order[i], order[k] = order[k], order[i] })
	var out []byte
	for _, num := range order {
		out = append(out, fields[num][0]...)
		fields[num] = fields[num][1:]
	}
	window := protowire.AppendBytes(append([]byte(nil), p.Windows[0][:1]...), out)
	return window
}

// TestBrokenTelemetryCostsItself: the window decodes, its telemetry does not.
func TestBrokenTelemetryCostsItself(t *testing.T) {
	c := node().Catalogue
	var u wire.Unpacker
	for name, g := range map[string][]*wirepb.SeriesGroup{
		"points":   {{Meter: []uint32{0}, Name: []uint32{1}, Points: 1<<32 - 1}},
		"meter":    {{Meter: []uint32{0}, Name: []uint32{1}}, {Meter: []uint32{10}, Name: []uint32{1}}},
		"no names": {{Meter: []uint32{0, 0}, Name: []uint32{0, 0}, Names: []string{"a"}}},
		"series":   {{Meter: make([]uint32, wire.MaxSeries), Name: []uint32{1}}, {Meter: make([]uint32, 1), Name: []uint32{1}}},
	} {
		p := &wirepb.Window{Catalogue: c.ID, StartMs: 1_790_000_000_000, LengthMs: 10_000, Telemetry: g}
		b, err := (&wirepb.Fragment{Windows: []*wirepb.Window{p}}).MarshalVT()
		if err != nil {
			t.Fatal(err)
		}
		w := later(t, wire.Packed, b, func(uint64) *window.Catalogue { return c })[0]
		if err := u.Unpack(w); !errors.Is(err, wire.ErrMalformed) || w.Telemetry != nil {
			t.Errorf("%s: %v, %d series", name, err, len(w.Telemetry))
		}
	}
	for _, packed := range [][]byte{{0x08, 1}, {0x7a, 5, 1}, {0x7a}, {0x7a, 1, 0x0a}} {
		if err := u.Unpack(&window.Window{Catalogue: c, Packed: packed}); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("% x: %v", packed, err)
		}
	}
}

// TestTornMessage: telemetry in several places of a message that ends in the
// middle of a field is refused as any other.
func TestTornMessage(t *testing.T) {
	c := node().Catalogue
	for _, tail := range [][]byte{{0x08}, {0x0a, 5}, {0x80}, {0x00}, {0x7a, 9}} {
		message := protowire.AppendFixed64(protowire.AppendTag(nil, 1, protowire.Fixed64Type), c.ID)
		for range 2 {
			message = append(message, 0x7a, 0)                                                          // telemetry
			message = protowire.AppendVarint(protowire.AppendTag(message, 30, protowire.VarintType), 1) // of a later version
		}
		f := protowire.AppendBytes(protowire.AppendTag(nil, 11, protowire.BytesType), append(message, tail...))
		for _, how := range []wire.Telemetry{wire.Unpacked, wire.Packed, wire.Dropped} {
			p, err := wire.SplitFragment(f)
			if err != nil {
				t.Fatal(err)
			}
			p.Telemetry = how
			if _, err = p.Decode(func(uint64) *window.Catalogue { return c }); !errors.Is(err, wire.ErrMalformed) {
				t.Errorf("% x, %d: %v", tail, how, err)
			}
		}
	}
}

// TestPackedDoesNotKeepTheBody: of many windows in a body each keeps its own part.
func TestPackedDoesNotKeepTheBody(t *testing.T) {
	w := node()
	b, err := wire.EncodeFragment(nil, []*window.Window{w, w, w})
	if err != nil {
		t.Fatal(err)
	}
	ws := later(t, wire.Packed, b, func(uint64) *window.Catalogue { return w.Catalogue })
	want := bytes.Clone(ws[1].Packed)
	clear(b)
	if !bytes.Equal(ws[1].Packed, want) {
		t.Error("a part of a large body refers to it")
	}
}

// FuzzUnpack: any bytes where telemetry should be: no panic, errors of a kind.
func FuzzUnpack(f *testing.F) {
	w := node()
	b, err := wire.EncodeFragment(nil, []*window.Window{w})
	if err != nil {
		f.Fatal(err)
	}
	known := func(uint64) *window.Catalogue { return w.Catalogue }
	f.Add(later(f, wire.Packed, b, known)[0].Packed)
	var u wire.Unpacker
	f.Fuzz(func(t *testing.T, packed []byte) {
		w := &window.Window{Catalogue: w.Catalogue, StartMS: w.StartMS, EndMS: w.EndMS, Packed: packed}
		if err := u.Unpack(w); err != nil && !errors.Is(err, wire.ErrMalformed) && !errors.Is(err, wire.ErrTooLarge) {
			t.Fatalf("error of no kind: %v", err)
		}
	})
}

func BenchmarkUnpack(b *testing.B) {
	w := node()
	f, err := wire.EncodeFragment(nil, []*window.Window{w})
	if err != nil {
		b.Fatal(err)
	}
	packed := later(b, wire.Packed, f, func(uint64) *window.Catalogue { return w.Catalogue })[0]
	var u wire.Unpacker
	b.ReportAllocs()
	for b.Loop() {
		if err := u.Unpack(packed); err != nil {
			b.Fatal(err)
		}
	}
}
