package influxdb

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/influxdata/influxdb-client-go/v2/api/write"
	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/model/value"

	"github.com/wattledger/wattledger/exporters"
)

// prefix begins the name of everything of ours; a series of no known scope goes
// to the measurement of this name.
const prefix = "wattledger"

// scopes are what has a measurement of its own.
func scopes() []string { return []string{"node", "gpu", "meter", "project", "job", "cluster"} }

// place gives the measurement and the field of a series.
func place(series string) (measurement, field string) {
	rest, ok := strings.CutPrefix(series, prefix+"_")
	if !ok {
		return prefix, series
	}
	scope, field, ok := strings.Cut(rest, "_")
	if ok && field != "" && slices.Contains(scopes(), scope) {
		return prefix + "_" + scope, field
	}
	return prefix, rest
}

// pieceValues is about how many fields a piece holds.
const pieceValues = 2000

// latest is the last time whose nanoseconds fit in 64 bits, in milliseconds.
const latest = math.MaxInt64 / int64(time.Millisecond)

// piece is some lines, compressed.
type piece struct {
	packed []byte
	values int
}

// row is what becomes one line: a measurement with its tags at a time.
type row struct {
	ms  int64
	put *write.Point
}

// coder turns batches into pieces.
type coder struct {
	only  exporters.Only
	extra map[string]string

	pieces []piece
	unfit  int // samples that the format cannot hold

	rows  []*row
	known map[key]*row
}

// key tells rows apart.
type key struct {
	of string
	ms int64
}

func newCoder(only exporters.Only, extra map[string]string) *coder {
	return &coder{only: only, extra: extra, known: map[key]*row{}}
}

func (c *coder) batch(b exporters.Batch) {
	for _, s := range b.Series {
		if len(s.Points) == 0 || !c.only.Has(s.Name) {
			continue
		}
		tags, ok := c.tags(s.Labels)
		if !ok || !sayable(s.Name) {
			c.unfit += len(s.Points)
			continue
		}
		c.series(s, tags)
	}
	// The points of one set of tags stay in the order of time.
	slices.SortStableFunc(c.rows, func(a, b *row) int { return cmp.Compare(a.ms, b.ms) })
	c.pack()
}

// series adds a field to the row of each of its points.
func (c *coder) series(s exporters.Series, tags []exporters.Label) {
	measurement, field := place(s.Name)
	of := identity(measurement, tags)
	for _, p := range s.Points {
		if value.IsStaleNaN(p.V) {
			continue // says that the series ends here; no point says the same
		}
		if math.IsNaN(p.V) || math.IsInf(p.V, 0) || p.MS > latest || p.MS < -latest {
			c.unfit++
			continue
		}
		k := key{of: of, ms: p.MS}
		r := c.known[k]
		if r == nil {
			r = &row{ms: p.MS, put: write.NewPointWithMeasurement(measurement).SetTime(time.UnixMilli(p.MS))}
			for _, t := range tags {
				r.put.AddTag(t.Name, t.Value)
			}
			c.known[k] = r
			c.rows = append(c.rows, r)
		}
		r.put.AddField(field, p.V)
	}
}

func identity(measurement string, tags []exporters.Label) string {
	var b strings.Builder
	b.WriteString(measurement)
	for _, t := range tags {
		b.WriteByte(0)
		b.WriteString(t.Name)
		b.WriteByte(1)
		b.WriteString(t.Value)
	}
	return b.String()
}

// tags gives labels sorted, with those that are added to all. Empty values are
// left out. A label that is there twice, or that the format cannot say, makes a
// series unfit.
func (c *coder) tags(labels []exporters.Label) ([]exporters.Label, bool) {
	all := maps.Clone(c.extra)
	if all == nil {
		all = map[string]string{}
	}
	seen := map[string]bool{}
	for _, l := range labels {
		if l.Name == "" || seen[l.Name] || !sayable(l.Name) || !sayable(l.Value) {
			return nil, false
		}
		seen[l.Name] = true
		if l.Value != "" {
			all[l.Name] = l.Value
		}
	}
	var out []exporters.Label
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, exporters.Label{Name: name, Value: all[name]})
	}
	return out, true
}

// sayable tells whether a name or value can stand in a line: line protocol has
// no way to write a line break, and a backslash at the end swallows what follows.
func sayable(s string) bool {
	return !strings.HasSuffix(s, `\`) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// pack turns rows into pieces.
func (c *coder) pack() {
	var lines strings.Builder
	values := 0
	for i, r := range c.rows {
		line(&lines, r.put)
		values += len(r.put.FieldList())
		if values >= pieceValues || i == len(c.rows)-1 {
			c.pieces = append(c.pieces, piece{packed: s2.EncodeSnappy(nil, []byte(lines.String())), values: values})
			lines.Reset()
			values = 0
		}
	}
}

// line writes a point. The client writes a comma behind the measurement even
// where no tag follows.
func line(to *strings.Builder, p *write.Point) {
	if len(p.TagList()) > 0 {
		write.PointToLineProtocolBuffer(p, to, time.Millisecond)
		return
	}
	to.WriteString(strings.Replace(write.PointToLineProtocol(p, time.Millisecond), ", ", " ", 1))
}
