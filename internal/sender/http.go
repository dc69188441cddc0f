package sender

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/wattledger/wattledger/internal/wire"
)

// reply is what came back. code 0: nothing did.
type reply struct {
	code   int
	body   []byte
	proto  bool   // body is a message of ours
	reason string // why the aggregator itself refused, "" if it was somebody on the way
	after  time.Duration
	err    error
}

// maxReply bounds what is read of an answer.
const maxReply = 8 << 20

// compressFrom is the size from which a body is compressed: one window is not.
const compressFrom = 4 << 10

// post sends a body. packed says whether it may be compressed.
func (s *Sender) post(ctx context.Context, path string, body []byte) reply {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	encoding := ""
	if len(body) > compressFrom && !s.plain {
		if packed, err := s.compress(body); err == nil {
			body, encoding = packed, "zstd"
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(s.opts.URL, "/")+path, bytes.NewReader(body))
	if err != nil {
		return reply{err: err}
	}
	req.Header.Set("Content-Type", wire.ContentType)
	if encoding != "" {
		req.Header.Set("Content-Encoding", encoding)
	}
	if t := s.opts.Token(); t != "" {
		req.Header.Set("Authorization", "Bearer "+t)
	}
	s.metrics.bytes.Add(float64(len(body)))
	resp, err := s.client.Do(req)
	if err != nil {
		return reply{err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	r := reply{code: resp.StatusCode, reason: resp.Header.Get(wire.HeaderReason)}
	if secs, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && secs > 0 {
		r.after = min(time.Duration(secs), longest) * time.Second
		if secs > int(longest/time.Second) {
			r.after = longest
		}
	}
	t, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	r.proto = t == wire.ContentType
	if r.body, r.err = io.ReadAll(io.LimitReader(resp.Body, maxReply)); r.err != nil {
		return reply{err: r.err} // cut off: as if nothing had come
	}
	if !r.proto {
		r.err = fmt.Errorf("%s: %.200s", resp.Status, bytes.TrimSpace(r.body))
	}
	return r
}

func (s *Sender) compress(body []byte) ([]byte, error) {
	if s.pack == nil {
		enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true),
			zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(256<<10))
		if err != nil {
			return nil, err
		}
		s.pack = enc
	}
	return s.pack.EncodeAll(body, nil), nil
}

// stamp notes the aggregator's clock.
func (s *Sender) stamp(nowMS int64) {
	if nowMS <= 0 {
		return
	}
	d := time.UnixMilli(nowMS).Sub(s.opts.Now())
	s.offset.Store(&d)
}

// why is the error of a reply that was not a success.
func (r reply) why() error {
	if r.err != nil {
		return r.err
	}
	if r.code == 0 {
		return errors.New("no answer")
	}
	return fmt.Errorf("%d %s", r.code, http.StatusText(r.code))
}
