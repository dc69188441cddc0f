package remotewrite

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/prompb"

	"github.com/wattledger/wattledger/exporters"
)

// pieceValues is how many samples a piece holds.
const pieceValues = 2000

// nameLabel holds the name of a series.
const nameLabel = "__name__"

// piece is a part of a WriteRequest, compressed.
type piece struct {
	packed []byte
	values int
}

// coder turns batches into pieces.
type coder struct {
	only  exporters.Only
	extra []exporters.Label

	pieces []piece
	unfit  int // samples that the format cannot hold

	open   []byte // the piece that is begun, not compressed
	values int    // in it

	// Kept from series to series, because a fleet has a million.
	labels  []prompb.Label
	samples []prompb.Sample
}

func (c *coder) batch(b exporters.Batch) {
	for _, s := range b.Series {
		if len(s.Points) == 0 || !c.only.Has(s.Name) {
			continue
		}
		if !c.label(s) {
			c.unfit += len(s.Points)
			continue
		}
		c.series(s.Points)
	}
	c.pack()
}

// series adds points to the series of labels, in as many pieces as they take.
func (c *coder) series(points []exporters.Point) {
	if !slices.IsSortedFunc(points, earlier) {
		points = slices.Clone(points)
		slices.SortStableFunc(points, earlier)
	}
	for len(points) > 0 {
		n := min(len(points), pieceValues-c.values)
		c.samples = c.samples[:0]
		for _, p := range points[:n] {
			c.samples = append(c.samples, prompb.Sample{Timestamp: p.MS, Value: p.V})
		}
		c.add(prompb.TimeSeries{Labels: c.labels, Samples: c.samples})
		points = points[n:]
		if c.values += n; c.values == pieceValues {
			c.pack()
		}
	}
}

// timeSeries is the tag of WriteRequest.timeseries: field 1, with a length.
const timeSeries = 1<<3 | 2

// add appends what WriteRequest.Marshal would write of one series.
func (c *coder) add(ts prompb.TimeSeries) {
	size := ts.Size()
	c.open = append(c.open, timeSeries)
	c.open = binary.AppendUvarint(c.open, uint64(size))
	from := len(c.open)
	c.open = append(c.open, make([]byte, size)...)
	if _, err := ts.MarshalToSizedBuffer(c.open[from:]); err != nil {
		panic(fmt.Sprintf("BUG: a series does not fit its own size: %v", err))
	}
}

func earlier(a, b exporters.Point) int {
	switch {
	case a.MS < b.MS:
		return -1
	case a.MS > b.MS:
		return 1
	}
	return 0
}

// pack ends the open piece.
func (c *coder) pack() {
	if c.values > 0 {
		c.pieces = append(c.pieces, piece{packed: s2.EncodeSnappy(nil, c.open), values: c.values})
		c.open, c.values = c.open[:0], 0
	}
}

// label sets the labels to those of a series, sorted, with its name. Empty
// values say the same as no label, and are left out. A series without a name, or
// with a label twice, is no series.
func (c *coder) label(s exporters.Series) bool {
	out := append(c.labels[:0], prompb.Label{Name: nameLabel, Value: s.Name})
	for _, l := range s.Labels {
		if l.Value != "" {
			out = append(out, prompb.Label{Name: l.Name, Value: strings.ToValidUTF8(l.Value, "\uFFFD")})
		}
	}
	for _, l := range c.extra {
		if l.Value != "" && !slices.ContainsFunc(out, func(o prompb.Label) bool { return o.Name == l.Name }) {
			out = append(out, prompb.Label{Name: l.Name, Value: l.Value})
		}
	}
	slices.SortFunc(out, func(a, b prompb.Label) int { return strings.Compare(a.Name, b.Name) })
	c.labels = out
	for i, l := range out {
		if l.Name == "" || l.Value == "" || i > 0 && out[i-1].Name == l.Name {
			return false
		}
	}
	return true
}
