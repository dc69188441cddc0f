package agent

import (
	"fmt"

	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
)

// What a merged record may hold, so that one request can still carry it.
const (
	mergedRecord = 6 << 10 // bytes, roughly
	mergedEvents = 20      // a window
)

// Merge makes spool records smaller in a long outage: windows of one slot are
// joined; from level 1 on telemetry is dropped, from level 2 on all but a few
// events. Energy, device time and evidence are kept whatever the level.
func Merge(records [][]byte, level int) ([][]byte, error) {
	var joined []*window.Window
	for _, rec := range records {
		f, err := wire.DecodeFragment(rec, nil)
		if err != nil {
			return nil, fmt.Errorf("cannot merge spooled windows: %w", err)
		}
		for _, w := range f.Windows {
			thin(w, level)
			if n := len(joined); n > 0 {
				if j, ok := window.Join(joined[n-1], w); ok {
					thin(j, level)
					joined[n-1] = j
					continue
				}
			}
			joined = append(joined, w)
		}
	}
	return encodeRecords(joined)
}

func thin(w *window.Window, level int) {
	if level >= 1 {
		w.Telemetry = nil
	}
	if level >= 2 && len(w.Events) > mergedEvents {
		w.Events = w.Events[:mergedEvents]
	}
}

// encodeRecords packs windows into records of a bounded size, each with the
// catalogues it needs.
func encodeRecords(ws []*window.Window) ([][]byte, error) {
	var out [][]byte
	for len(ws) > 0 {
		n, size := 0, 0
		for n < len(ws) && (n == 0 || size < mergedRecord) {
			size += 64 + 24*len(ws[n].Ranges) + 16*len(ws[n].Postings) + 64*len(ws[n].Jobs) + 40*len(ws[n].Telemetry)
			n++
		}
		rec, err := EncodeRecord(ws[:n])
		if err != nil {
			return nil, err
		}
		out, ws = append(out, rec), ws[n:]
	}
	return out, nil
}

// EncodeRecord is one spool record: windows with their catalogues.
func EncodeRecord(ws []*window.Window) ([]byte, error) {
	var cats []*window.Catalogue
	seen := map[uint64]bool{}
	for _, w := range ws {
		if !seen[w.Catalogue.ID] {
			seen[w.Catalogue.ID] = true
			cats = append(cats, w.Catalogue)
		}
	}
	b, err := wire.EncodeFragment(cats, ws)
	if err != nil {
		return nil, fmt.Errorf("cannot encode a window: %w", err)
	}
	return b, nil
}
