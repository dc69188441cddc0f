package wire_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
	"github.com/wattledger/wattledger/internal/wire/wirepb"
)

// TestNumbersOutOfRange: numbers that only a foreign or broken sender writes.
func TestNumbersOutOfRange(t *testing.T) {
	c := node().Catalogue
	f := func(text string, change func(p *wirepb.Window)) {
		t.Helper()
		p := &wirepb.Window{
			Catalogue: c.ID, StartMs: 1_790_000_000_000, LengthMs: 10_000,
			Ranges:   &wirepb.Ranges{FromUj: []uint64{5}, LengthUj: []uint64{5}},
			Postings: &wirepb.Postings{Kind: []uint32{0}, Mj: []int64{1}},
		}
		change(p)
		b, err := (&wirepb.Fragment{Windows: []*wirepb.Window{p}}).MarshalVT()
		if err != nil {
			t.Fatal(err)
		}
		_, err = wire.DecodeFragment(b, func(uint64) *window.Catalogue { return c })
		if !errors.Is(err, wire.ErrMalformed) && !errors.Is(err, wire.ErrTooLarge) || !strings.Contains(err.Error(), text) {
			t.Errorf("err = %v; want %q", err, text)
		}
	}
	const top = 1<<64 - 1
	f("overflows", func(p *wirepb.Window) { p.Ranges.FromUj[0] = top })
	f("more than to_uj", func(p *wirepb.Window) { p.Ranges.RawBackUj = []uint64{11} })
	f("more than to_uj", func(p *wirepb.Window) { p.Ranges.Meter, p.Ranges.Wraps = []uint32{5}, []uint64{top} })
	f("ranges[0]: malformed message: meter 9", func(p *wirepb.Window) { p.Ranges.Meter = []uint32{9} })
	f("length_uj has 2 entries for 1 ranges", func(p *wirepb.Window) { p.Ranges.LengthUj = []uint64{1, 2} })
	f("estimated 1", func(p *wirepb.Window) { p.Ranges.Estimated = []uint32{1} })
	f("from_offset_ms", func(p *wirepb.Window) { p.Ranges.FromOffsetMs = []int64{-1 << 63} })
	f("to_offset_ms", func(p *wirepb.Window) { p.Ranges.ToOffsetMs = []int64{1<<63 - 1} })
	f("start_ms", func(p *wirepb.Window) { p.StartMs = -1 })
	f("start_ms", func(p *wirepb.Window) { p.StartMs = 1<<63 - 1 })
	f("postings[0].job 0", func(p *wirepb.Window) { p.Postings.Job = []uint32{1} })
	f("unknown class, use or grade", func(p *wirepb.Window) { p.Postings.Kind[0] = 7 })
	f("unknown class, use or grade", func(p *wirepb.Window) { p.Postings.Kind[0] = 1 << 31 })
	f("device_ms 18446744073709551615", func(p *wirepb.Window) { p.Postings.DeviceMs = []uint64{top} })
	f("0 jobs, 1 kinds, 2 mj", func(p *wirepb.Window) { p.Postings.Mj = []int64{1, 2} })
	f("absences[0]", func(p *wirepb.Window) { p.Absences = []*wirepb.Absence{{Class: 5}} })
	f("holdings[0].job 0", func(p *wirepb.Window) { p.Holdings = []*wirepb.Holding{{}} })
	f("at_offset_ms", func(p *wirepb.Window) { p.Events = []*wirepb.Event{{AtOffsetMs: -1 << 62}} })
	f("values for 1 series of 4294967295 points", func(p *wirepb.Window) {
		p.Telemetry = []*wirepb.SeriesGroup{{Meter: []uint32{0}, Name: []uint32{1}, Points: 1<<32 - 1}}
	})
	f("meter 9", func(p *wirepb.Window) {
		p.Telemetry = []*wirepb.SeriesGroup{{Meter: []uint32{10}, Name: []uint32{1}}}
	})
	f("jobs[0]", func(p *wirepb.Window) { p.Jobs = []*wirepb.Job{{Id: "a\x00b"}} })
}
