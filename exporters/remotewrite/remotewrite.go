// Package remotewrite sends series by Prometheus' remote write protocol, version
// 1.0 (https://prometheus.io/docs/specs/prw/remote_write_spec/), to whatever
// takes it: Prometheus, VictoriaMetrics, Mimir, Thanos.
//
// A batch is encoded once and buffered on disk as snappy-compressed pieces of a
// WriteRequest; a request is made of the pieces that wait, in their order.
// Package outbox says what happens when the receiver is away, slow or wrong.
//
// The protocol wants the samples of a series in the order of time. A receiver
// without a window for late samples refuses them; they are counted as refused.
package remotewrite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/klauspost/compress/s2"

	"github.com/wattledger/wattledger/exporters"
	"github.com/wattledger/wattledger/internal/outbox"
)

// Kind is the value of the label exporter of the metrics.
const Kind = "remote_write"

// Options of an [Exporter].
type Options struct {
	Name     string             // tells receivers apart
	Endpoint exporters.Endpoint // URL with its path, like https://mimir/api/v1/push
	Labels   map[string]string  // added to each series that does not have them
	Only     []string           // patterns of the names that are sent; none for all
	Buffer   outbox.Options     // Send is set here
}

// Exporter is an [exporters.Sink].
type Exporter struct {
	name   string
	url    string
	client *http.Client
	box    *outbox.Box
	only   exporters.Only
	labels []exporters.Label
}

// New opens the buffer of an exporter.
func New(o Options) (*Exporter, error) {
	if o.Buffer.Now == nil {
		return nil, errors.New("cannot open an exporter without a clock")
	}
	e := &Exporter{name: o.Name, url: o.Endpoint.URL}
	for name, value := range o.Labels {
		e.labels = append(e.labels, exporters.Label{Name: name, Value: value})
	}
	var err error
	if e.only, err = exporters.NewOnly(o.Only); err != nil {
		return nil, fmt.Errorf("cannot open the exporter %s: %w", o.Name, err)
	}
	if e.client, err = o.Endpoint.Client("Bearer", o.Buffer.Now); err != nil {
		return nil, err
	}
	o.Buffer.Send = e.send
	if e.box, err = exporters.OpenBox(Kind, o.Name, o.Buffer); err != nil {
		return nil, err
	}
	return e, nil
}

// Name tells receivers apart.
func (e *Exporter) Name() string { return e.name }

// Write buffers a batch.
func (e *Exporter) Write(b exporters.Batch) error {
	c := coder{only: e.only, extra: e.labels}
	c.batch(b)
	e.box.Unfit(c.unfit)
	var errs []error
	for _, p := range c.pieces {
		errs = append(errs, e.box.Append(p.packed, p.values))
	}
	return errors.Join(errs...)
}

// Run delivers until ctx ends.
func (e *Exporter) Run(ctx context.Context) { e.box.Run(ctx) }

// Close closes the buffer. Run must have ended.
func (e *Exporter) Close() error {
	e.client.CloseIdleConnections()
	return e.box.Close()
}

// send posts pieces as one request.
func (e *Exporter) send(ctx context.Context, pieces [][]byte) error {
	body := pieces[0]
	if len(pieces) > 1 {
		// A message whose fields all repeat is the concatenation of its parts.
		var whole []byte
		for _, p := range pieces {
			plain, err := s2.Decode(nil, p)
			if err != nil {
				return fmt.Errorf("cannot unpack what was buffered: %w", &outbox.Answer{Code: http.StatusBadRequest, Text: err.Error()})
			}
			whole = append(whole, plain...)
		}
		body = s2.EncodeSnappy(nil, whole)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	resp, err := e.client.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
