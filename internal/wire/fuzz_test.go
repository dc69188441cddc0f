package wire_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
)

// FuzzDecodeBatch: whatever comes in, no panic; what decodes can be encoded and
// decodes to the same again; an error is of a kind that intake knows.
func FuzzDecodeBatch(f *testing.F) {
	w := node()
	f.Add(body(f, []*window.Catalogue{w.Catalogue}, w))
	f.Add(body(f, nil, w, w))
	f.Add([]byte{0x08, 1, 0x12, 1, 'c', 0x1a, 1, 'n'})
	known := func(id uint64) *window.Catalogue {
		if id == w.Catalogue.ID {
			return w.Catalogue
		}
		return nil
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, how := range []wire.Telemetry{wire.Packed, wire.Dropped} {
			if p, err := wire.SplitBatch(in); err == nil {
				p.Telemetry = how
				_, _ = p.Decode(known)
			}
		}
		b, err := wire.DecodeBatch(in, known)
		if err != nil {
			_, unknown := errors.AsType[*wire.UnknownError](err)
			if !unknown && !errors.Is(err, wire.ErrMalformed) && !errors.Is(err, wire.ErrTooLarge) && !errors.Is(err, wire.ErrVersion) {
				t.Fatalf("error of no kind: %v", err)
			}
			return
		}
		for _, x := range b.Windows {
			_ = window.Check(x)
			_ = wire.Hash(x)
		}
		again, err := wire.EncodeFragment(b.Catalogues, b.Windows)
		if err != nil {
			t.Fatalf("decoded, but cannot be encoded: %v", err)
		}
		c, err := wire.DecodeFragment(again, known)
		if err != nil {
			t.Fatalf("encoded again, but does not decode: %v", err)
		}
		if d := cmp.Diff(b.Windows, c.Windows); d != "" {
			t.Fatalf("windows differ:\n%s", d)
		}
		third, err := wire.EncodeFragment(c.Catalogues, c.Windows)
		if err != nil || !bytes.Equal(again, third) {
			t.Fatalf("encoding is not stable: %v", err)
		}
	})
}

// FuzzAnswers: the agent's side does not panic either.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte{})
	f.Fuzz(func(_ *testing.T, in []byte) {
		_, _, _ = wire.DecodeOpening(in)
		_, _ = wire.DecodeResponse(in)
		_, _ = wire.DecodeOpenRequest(in)
		_, _ = wire.SplitFragment(in)
	})
}

// TestDamagedBytes flips bytes of a good request: an error or something that can
// be encoded, never a panic and never a window without its catalogue.
func TestDamagedBytes(t *testing.T) {
	w := node()
	good := body(t, []*window.Catalogue{w.Catalogue}, w)
	r := rand.New(rand.NewPCG(1, 2))
	decoded := 0
	for range 20_000 {
		b := bytes.Clone(good)
		for range 1 + r.IntN(3) {
			b[r.IntN(len(b))] = byte(r.Uint32())
		}
		got, err := wire.DecodeBatch(b, func(uint64) *window.Catalogue { return nil })
		if err != nil {
			continue
		}
		for _, x := range got.Windows {
			_ = window.Check(x)
		}
		if _, err := wire.EncodeFragment(got.Catalogues, got.Windows); err != nil {
			t.Fatalf("decoded, but cannot be encoded: %v", err)
		}
		decoded++
	}
	if decoded == 0 {
		t.Error("no damaged request was decoded: the test looks at errors alone")
	}
}
