//go:build bench

package bench_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"

	"github.com/wattledger/wattledger/internal/fleet/site"
	"github.com/wattledger/wattledger/internal/intake"
	"github.com/wattledger/wattledger/internal/intake/intaketest"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/series"
)

// recording is what the store of series takes of a load, as remote writes of one
// node and window each: length, samples, message packed by snappy.
type recording struct {
	file    string
	samples int64
	writes  int64
}

// noBooks is an empty ledger to start counters from.
type noBooks struct{}

func (noBooks) Totals(context.Context) ([]ledger.ProjectTotal, error) { return nil, nil }
func (noBooks) Nodes(context.Context) ([]ledger.NodeStatus, error)    { return nil, nil }
func (noBooks) Books(context.Context, string, int64, int64, int64) (ledger.Books, error) {
	return ledger.Books{}, nil
}

// outlet writes down what the store keeps: by its own rules, so that all get the
// same samples of the same series.
type outlet struct {
	rec *recording
	w   *bufio.Writer
	err error
	of  *recorded // the series that is being gathered
	msg prompb.WriteRequest
	raw []byte
	zip []byte
	n   int64
}

type recorded struct {
	node   string
	labels []prompb.Label
}

func (o *outlet) Series(l labels.Labels) any {
	r := &recorded{node: l.Get("node")}
	l.Range(func(l labels.Label) { r.labels = append(r.labels, prompb.Label{Name: l.Name, Value: l.Value}) })
	return r
}

func (o *outlet) Take(list []series.Handed) {
	for _, h := range list {
		of := h.Of.(*recorded)
		switch {
		case o.of == nil || of.node != o.of.node:
			o.flush()
			fallthrough
		case of != o.of:
			o.msg.Timeseries = append(o.msg.Timeseries, prompb.TimeSeries{Labels: of.labels})
			o.of = of
		}
		ts := &o.msg.Timeseries[len(o.msg.Timeseries)-1]
		ts.Samples = append(ts.Samples, prompb.Sample{Timestamp: h.MS, Value: h.V})
		o.n++
	}
	o.flush()
}

func (o *outlet) flush() {
	if o.n == 0 || o.err != nil {
		return
	}
	size := o.msg.Size()
	if cap(o.raw) < size {
		o.raw = make([]byte, size)
	}
	n, err := o.msg.MarshalToSizedBuffer(o.raw[:size])
	if err != nil {
		o.err = err
		return
	}
	o.zip = snappy.Encode(o.zip[:cap(o.zip)], o.raw[:n])
	var head [8]byte
	binary.LittleEndian.PutUint32(head[:], uint32(len(o.zip)))
	binary.LittleEndian.PutUint32(head[4:], uint32(o.n))
	_, _ = o.w.Write(head[:])
	if _, err := o.w.Write(o.zip); err != nil {
		o.err = err
	}
	o.rec.samples += o.n
	o.rec.writes++
	o.n, o.of, o.msg.Timeseries = 0, nil, o.msg.Timeseries[:0]
}

// record makes the load once, against an intake and a store in this process,
// and keeps what the store took.
func record(b *testing.B, o site.Options) *recording {
	b.Helper()
	dir := b.TempDir()
	rec := &recording{file: dir + "/writes"}
	f, err := os.Create(rec.file)
	if err != nil {
		b.Fatal(err)
	}
	out := &outlet{rec: rec, w: bufio.NewWriterSize(f, 1<<20)}
	store, err := series.New(b.Context(), series.Options{
		Dir: dir + "/series", Ledger: noBooks{}, Outlet: out, Now: time.Now, QueueBytes: 4 << 30, Every: 50 * time.Millisecond,
	})
	if err != nil {
		b.Fatal(err)
	}
	in, err := intake.New(intake.Options{Ledger: intaketest.New(), Now: time.Now, Booked: store.Booked, CommitEvery: 20 * time.Millisecond})
	if err != nil {
		b.Fatal(err)
	}
	mux := http.NewServeMux()
	in.Register(mux)
	srv := httptest.NewServer(mux)
	booking, stopBooking := context.WithCancel(b.Context())
	storing, stopStoring := context.WithCancel(b.Context())
	booked, stored := make(chan error, 1), make(chan error, 1)
	go func() { booked <- in.Run(booking) }()
	go func() { stored <- store.Run(storing) }()
	for store.Ready() != nil {
		time.Sleep(time.Millisecond)
	}
	o.URL = srv.URL
	s, err := site.New(o)
	if err == nil {
		err = s.Run(b.Context())
	}
	if err != nil {
		b.Fatal(err)
	}
	srv.Close()
	stopBooking()
	if err := <-booked; err != nil {
		b.Fatal(err)
	}
	stopStoring()
	if err := <-stored; err != nil {
		b.Fatal(err)
	}
	if err := out.w.Flush(); err != nil || out.err != nil {
		b.Fatal(err, out.err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	return rec
}
