package wire

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/window"
)

// Hash is the hash of what a window says about energy: span, catalogue, ranges
// with their readings and stamps, jobs, postings, absences, holdings, flags.
// Telemetry and events are not in it, so a window thinned on the way is still
// the same window. It depends on the order within the lists.
func Hash(w *window.Window) uint64 {
	b := append(make([]byte, 0, 1024), "wattledger/window/1"...)
	var id uint64
	if w.Catalogue != nil {
		id = w.Catalogue.ID
	}
	b = binary.BigEndian.AppendUint64(b, id)
	b = signed(b, w.StartMS, w.EndMS)
	b = append(b, bit(w.Bridge)|bit(w.Final)<<1)
	b = count(b, len(w.Ranges))
	for i := range w.Ranges {
		b = hashRange(b, w, &w.Ranges[i])
	}
	b = count(b, len(w.Jobs))
	for i := range w.Jobs {
		j := &w.Jobs[i]
		b = appendString(appendString(appendString(b, j.ID), j.Project), j.User)
		b = signed(b, int64(j.Restart), j.SubmitMS, j.StartMS, j.EndMS)
	}
	b = count(b, len(w.Postings))
	for _, p := range w.Postings {
		b = append(b, byte(p.Class), byte(p.Use), byte(p.Grade))
		b = signed(b, int64(p.Job), int64(p.Energy), p.DeviceMS)
	}
	b = count(b, len(w.Absences))
	for _, a := range w.Absences {
		b = signed(append(b, byte(a.Class)), a.DeviceMS)
	}
	b = count(b, len(w.Holdings))
	for _, h := range w.Holdings {
		b = count(signed(b, int64(h.Job)), len(h.Devices))
		for _, d := range h.Devices {
			b = signed(appendString(b, d.Device), int64(d.Weight))
		}
	}
	return xxhash.Sum64(b)
}

func hashRange(b []byte, w *window.Window, r *window.Range) []byte {
	b = signed(b, int64(r.Meter), r.FromMS, r.ToMS)
	for _, uj := range []energy.Microjoules{r.From, r.To, rawOf(w, r)} {
		b = binary.AppendUvarint(b, uint64(uj))
	}
	return append(b, bit(r.Estimated))
}

// rawOf is the raw reading of a range, 0 where it has none.
func rawOf(w *window.Window, r *window.Range) energy.Microjoules {
	if integrated(w.Catalogue, r.Meter) {
		return 0
	}
	return r.Raw
}

func integrated(c *window.Catalogue, meter int) bool {
	return c != nil && meter >= 0 && meter < len(c.Meters) && c.Meters[meter].Integrated
}

func signed(b []byte, values ...int64) []byte {
	for _, v := range values {
		b = binary.AppendVarint(b, v)
	}
	return b
}

func count(b []byte, n int) []byte { return binary.AppendUvarint(b, uint64(n)) }
