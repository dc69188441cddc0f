// Package influxdb sends series to InfluxDB with its v2 client: to InfluxDB 2
// and 3, to 1.8 (a bucket is then database/retention-policy, the token
// user:password), and to VictoriaMetrics, which takes /api/v2/write too.
//
// docs/influxdb.md is the schema: a measurement for each scope (wattledger_node,
// wattledger_gpu, wattledger_project ...), a tag for each label, a field for the
// rest of the name. What has the same tags and time is one point.
//
// A batch is encoded once and buffered on disk as compressed line protocol; a
// request is made of the pieces that wait, in their order. Package outbox says
// what happens when the receiver is away, slow or wrong.
package influxdb

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/influxdata/influxdb-client-go/v2/api"
	influxhttp "github.com/influxdata/influxdb-client-go/v2/api/http"
	"github.com/influxdata/influxdb-client-go/v2/api/write"
	"github.com/klauspost/compress/s2"

	"github.com/wattledger/wattledger/exporters"
	"github.com/wattledger/wattledger/internal/outbox"
)

// Kind is the value of the label exporter of the metrics.
const Kind = "influxdb"

// Options of an [Exporter].
type Options struct {
	Name     string             // tells receivers apart
	Endpoint exporters.Endpoint // URL of the server, like https://influx:8086
	Org      string             // of InfluxDB 2; "" for the others
	Bucket   string             // database/retention-policy in InfluxDB 1.8
	Labels   map[string]string  // tags that are added to each point that does not have them
	Only     []string           // patterns of the names that are sent; none for all
	Buffer   outbox.Options     // Send is set here
}

// Exporter is an [exporters.Sink].
type Exporter struct {
	name   string
	client *http.Client
	api    api.WriteAPIBlocking
	box    *outbox.Box
	only   exporters.Only
	labels map[string]string
}

// New opens the buffer of an exporter.
func New(o Options) (*Exporter, error) {
	if o.Buffer.Now == nil {
		return nil, errors.New("cannot open an exporter without a clock")
	}
	if u, err := url.Parse(o.Endpoint.URL); err != nil || u.Host == "" {
		return nil, fmt.Errorf("cannot open the exporter %s: %q is not the address of a server", o.Name, o.Endpoint.URL)
	}
	e := &Exporter{name: o.Name, labels: o.Labels}
	var err error
	if e.only, err = exporters.NewOnly(o.Only); err != nil {
		return nil, fmt.Errorf("cannot open the exporter %s: %w", o.Name, err)
	}
	if e.client, err = o.Endpoint.Client("Token", o.Buffer.Now); err != nil {
		return nil, err
	}
	// The client's own buffering, retrying and authorisation stay unused: they
	// forget with the process, and a token may change.
	service := influxhttp.NewService(strings.TrimSuffix(o.Endpoint.URL, "/")+"/", "", influxhttp.DefaultOptions().SetHTTPClient(e.client))
	e.api = api.NewWriteAPIBlocking(o.Org, o.Bucket, service, write.DefaultOptions().SetPrecision(time.Millisecond))
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
	c := newCoder(e.only, e.labels)
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
	var lines []byte
	for _, p := range pieces {
		plain, err := s2.Decode(nil, p)
		if err != nil {
			return fmt.Errorf("cannot unpack what was buffered: %w", &outbox.Answer{Code: http.StatusBadRequest, Text: err.Error()})
		}
		lines = append(lines, plain...)
	}
	return e.api.WriteRecord(ctx, string(lines))
}
