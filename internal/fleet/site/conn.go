package site

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/wattledger/wattledger/internal/wire"
)

// conn is one kept connection. net/http's client costs two goroutines and three
// times the CPU a request; agents have that to spare, thousands of them on one
// core have not.
type conn struct {
	host, base, token string
	tls               bool
	now               func() time.Time

	net  net.Conn
	in   *bufio.Reader
	head []byte
}

const (
	dialWithin   = 10 * time.Second
	answerWithin = time.Minute
	mostAnswer   = 16 << 20
)

// post sends a body and gives the answer. After an error the connection is
// closed; the next post makes another.
func (c *conn) post(ctx context.Context, path string, body []byte, zipped bool) (code int, answer []byte, err error) {
	if err := ctx.Err(); err != nil {
		return 0, nil, err
	}
	if c.net == nil {
		if err := c.dial(ctx); err != nil {
			return 0, nil, err
		}
	}
	code, answer, err = c.exchange(ctx, path, body, zipped)
	if err != nil {
		c.close()
	}
	return code, answer, err
}

func (c *conn) dial(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	host := c.host
	if _, _, err := net.SplitHostPort(host); err != nil {
		host = net.JoinHostPort(host, map[bool]string{false: "80", true: "443"}[c.tls])
	}
	if c.tls {
		d := &tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS12}}
		c.net, err = d.DialContext(ctx, "tcp", host)
	} else {
		c.net, err = (&net.Dialer{}).DialContext(ctx, "tcp", host)
	}
	if err != nil {
		c.net = nil
		return fmt.Errorf("cannot reach the aggregator: %w", err)
	}
	if c.in == nil {
		c.in = bufio.NewReaderSize(c.net, 2048)
	}
	c.in.Reset(c.net)
	return nil
}

func (c *conn) exchange(ctx context.Context, path string, body []byte, zipped bool) (int, []byte, error) {
	if err := c.net.SetDeadline(c.now().Add(answerWithin)); err != nil {
		return 0, nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.net.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	c.head = fmt.Appendf(c.head[:0], "POST %s%s HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n", c.base, path, c.host, wire.ContentType, len(body))
	if zipped {
		c.head = append(c.head, "Content-Encoding: zstd\r\n"...)
	}
	if c.token != "" {
		c.head = fmt.Appendf(c.head, "Authorization: Bearer %s\r\n", c.token)
	}
	c.head = append(c.head, "\r\n"...)
	out := net.Buffers{c.head, body}
	if _, err := out.WriteTo(c.net); err != nil {
		return 0, nil, err
	}
	r, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return 0, nil, err
	}
	answer, err := io.ReadAll(io.LimitReader(r.Body, mostAnswer))
	if err != nil {
		return 0, nil, err
	}
	if err := r.Body.Close(); err != nil {
		return 0, nil, err
	}
	if r.Close {
		c.close()
	}
	return r.StatusCode, answer, nil
}

func (c *conn) close() {
	if c.net != nil {
		_ = c.net.Close()
		c.net = nil
	}
}
