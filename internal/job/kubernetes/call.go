package kubernetes

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"
)

// maxAnswer bounds an answer of the kubelet. A node of 10 000 pods answers with
// about 2 MB.
const maxAnswer = 16 << 20

// service is the name of the API, as its paths have it.
const service = "/v1.PodResourcesLister/"

// caller makes unary gRPC calls over a Unix socket: a POST over HTTP/2 without
// TLS, one message each way, the status in the trailer (gRPC over HTTP2,
// PROTOCOL-HTTP2.md). net/http speaks that. The gRPC library would add as much
// to every agent, of every site, as the agent itself takes; docs/kubernetes.md
// has the figures.
type caller struct {
	client *http.Client
	dials  atomic.Int64
}

func newCaller(socket string) *caller {
	c := &caller{}
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	dialer := net.Dialer{Timeout: time.Second}
	c.client = &http.Client{Transport: &http.Transport{
		Protocols:          protocols,
		DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, "unix", socket)
			if err == nil {
				c.dials.Add(1)
			}
			return conn, err
		},
	}}
	return c
}

// close lets go of the connection.
func (c *caller) close() { c.client.CloseIdleConnections() }

// call asks a method that has no parameters. The error is a *statusError where
// the kubelet answered with one.
func (c *caller) call(ctx context.Context, method string) ([]byte, error) {
	empty := bytes.NewReader(make([]byte, 5)) // not compressed, of no length
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost"+service+method, empty)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	resp, err := c.client.Do(req)
	if err != nil {
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err // its address is made up
		}
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("its answer broke off: %w", err)
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("its answer has more than %d bytes", maxAnswer)
	}
	if err := status(resp); err != nil {
		return nil, err
	}
	return message(body)
}

// message takes the one message out of a body.
func message(body []byte) ([]byte, error) {
	if len(body) < 5 || body[0] != 0 || uint64(binary.BigEndian.Uint32(body[1:5])) != uint64(len(body)-5) {
		return nil, fmt.Errorf("its answer of %d bytes is not one plain gRPC message", len(body))
	}
	return body[5:], nil
}

// statusError is a refusal by the server.
type statusError struct {
	code int
	text string
}

func (e *statusError) Error() string { return fmt.Sprintf("gRPC status %d: %s", e.code, e.text) }

// status reads the outcome: in the trailer, or in the header where there is no
// body.
func status(resp *http.Response) error {
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers HTTP %s: no gRPC server is there", resp.Status)
	}
	from := resp.Trailer
	if from.Get("Grpc-Status") == "" {
		from = resp.Header
	}
	code, err := strconv.Atoi(from.Get("Grpc-Status"))
	if err != nil {
		return fmt.Errorf("its answer ends with the gRPC status %q", from.Get("Grpc-Status"))
	}
	if code == 0 {
		return nil
	}
	text := from.Get("Grpc-Message")
	if plain, err := url.PathUnescape(text); err == nil {
		text = plain
	}
	return &statusError{code, fmt.Sprintf("%.200q", text)}
}
