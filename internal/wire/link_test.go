package wire_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
)

func ends() []ledger.End {
	return []ledger.End{
		{Meter: "gpu0", Epoch: "boot-1", UJ: 1 << 62, Raw: 7, AtMS: 1_790_000_000_000, Modulus: 1 << 40, Root: true},
		{Meter: "node", Epoch: "boot-1", UJ: 5, Estimated: true},
	}
}

func TestOpenRoundTrip(t *testing.T) {
	in := ledger.OpenRequest{Node: head().Node, Incarnation: 1<<64 - 1, Nonce: "n", Session: "s", NowMS: 1_790_000_000_000}
	b, err := wire.EncodeOpenRequest(in)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := wire.DecodeOpenRequest(b); err != nil || got != in {
		t.Errorf("got %+v, %v; want %+v", got, err, in)
	}
	b[1] = 9
	if _, err := wire.DecodeOpenRequest(b); !errors.Is(err, wire.ErrVersion) {
		t.Errorf("version 9: %v", err)
	}
	o := ledger.Opening{
		Incarnation: 1<<64 - 5, Ends: ends(), Jobs: []window.Job{{ID: "71001", StartMS: 1_790_000_000_000}},
		Holdings: []window.Holding{{Devices: []window.Share{{Device: "gpu0", Weight: 1_000_000}, {Device: "cpu", Weight: 500}}}},
		LastMS:   1_790_000_010_000,
	}
	if b, err = wire.EncodeOpening(o, 42); err != nil {
		t.Fatal(err)
	}
	got, now, err := wire.DecodeOpening(b)
	if d := cmp.Diff(o, got); d != "" || now != 42 || err != nil {
		t.Errorf("now %d, %v, opening differs:\n%s", now, err, d)
	}
}

func TestResponseRoundTrip(t *testing.T) {
	in := wire.Response{
		Results: []ledger.Result{{}, {Status: ledger.Quarantined, Reason: "unbalanced"}, {Status: ledger.Apart, Ends: ends()}},
		Unknown: []uint64{1, 1 << 63}, NowMS: 1_790_000_000_000,
	}
	b, err := wire.EncodeResponse(in)
	if err != nil {
		t.Fatal(err)
	}
	got, err := wire.DecodeResponse(b)
	if d := cmp.Diff(in, got); d != "" || err != nil {
		t.Errorf("%v, response differs:\n%s", err, d)
	}
	b, err = wire.EncodeResponse(wire.Response{Results: []ledger.Result{{Status: 99}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wire.DecodeResponse(b); !errors.Is(err, wire.ErrMalformed) {
		t.Errorf("unknown status: %v", err)
	}
}
