package kept

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/http/httpguts"
)

const (
	// bufferSize holds a request's header and most bodies whole: one read of the
	// system then fetches both.
	bufferSize = 4096
	// drainAtMost of a body that its handler has not read is read and thrown away,
	// so that the answer is seen; of a longer one the connection is closed. It is
	// what net/http does.
	drainAtMost = 256 << 10
	// Where the server names no times.
	defaultIdle, defaultRead, defaultWrite = 5 * time.Minute, 30 * time.Second, time.Minute
)

// Conns are the connections that were taken over. The zero value is ready.
type Conns struct {
	Log *zap.Logger // nil for none

	mu      sync.Mutex
	all     map[*conn]struct{}
	closing bool
}

// Len is how many connections there are.
func (c *Conns) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.all)
}

// Handler serves with h, and takes over the connection of a request that was
// answered with 200. h must leave the request's header as it is, must not rely on the request's context ending when the
// client goes, on http.ResponseController, nor send its answer in parts: what it
// writes is sent when it returns.
func (c *Conns) Handler(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := answer{header: w.Header()}
		h.ServeHTTP(&a, r)
		a.setLength()
		w.WriteHeader(a.status())
		_, _ = w.Write(a.body) // who is gone will ask again
		srv, ok := r.Context().Value(http.ServerContextKey).(*http.Server)
		if ok && a.status() == http.StatusOK && r.ProtoAtLeast(1, 1) && plain(r) && whole(r.Body) {
			c.adopt(srv, w, r, h)
		}
	})
}

// whole tells that the handler has read a body to its end: what comes next is the
// next request.
func whole(body io.Reader) bool {
	n, err := body.Read(make([]byte, 1))
	return n == 0 && err == io.EOF
}

// adopt takes a connection over and serves it in a goroutine of its own; where that
// cannot be, net/http goes on with it.
func (c *Conns) adopt(srv *http.Server, w http.ResponseWriter, r *http.Request, h http.Handler) {
	if !c.mayAdopt() {
		return
	}
	control := http.NewResponseController(w)
	if control.Flush() != nil { // the answer is on its way: Hijack would forget it
		return
	}
	raw, rw, err := control.Hijack()
	if err != nil {
		return
	}
	k := &conn{
		conns: c, srv: srv, handler: h, raw: raw, from: r.RemoteAddr,
		line: []byte(r.Method + " " + r.RequestURI + " HTTP/1.1\r\n"),
	}
	k.in = bufio.NewReaderSize(k.source(rw.Reader), bufferSize)
	if !c.add(k) {
		_ = raw.Close()
		return
	}
	go k.serve()
}

func (c *Conns) mayAdopt() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.closing
}

func (c *Conns) add(k *conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return false
	}
	if c.all == nil {
		c.all = map[*conn]struct{}{}
	}
	c.all[k] = struct{}{}
	return true
}

func (c *Conns) remove(k *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.all, k)
}

// Shutdown closes the connections on which nothing is under way, waits for the
// others to be answered and until none is served any more, and takes no more. It is
// called after the server's own Shutdown, which does not know these connections.
// After ctx the rest is closed and ctx's error given.
func (c *Conns) Shutdown(ctx context.Context) error {
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		if c.closeIdle() == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			c.mu.Lock()
			defer c.mu.Unlock()
			for k := range c.all {
				_ = k.raw.Close()
			}
			return fmt.Errorf("%d requests are not answered yet: %w", len(c.all), ctx.Err())
		case <-time.After(wait):
		}
	}
}

// closeIdle tells how many are left, the idle ones among them, which end now.
func (c *Conns) closeIdle() (left int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closing = true
	for k := range c.all {
		if !k.busy.Load() {
			_ = k.raw.Close()
		}
	}
	return len(c.all)
}

// conn is one connection that was taken over.
type conn struct {
	conns   *Conns
	srv     *http.Server
	handler http.Handler
	raw     net.Conn
	in      *bufio.Reader
	line    []byte // the first line of its requests
	from    string
	busy    atomic.Bool // a request is under way
	until   time.Time   // the deadline that is set

	like  like          // the request before
	block bytes.Reader  // a request's header
	lines *bufio.Reader // on block
	out   []byte
	reply answer
}

// source is what is read from: first what net/http has read and not used.
func (k *conn) source(read *bufio.Reader) io.Reader {
	for {
		b, ok := k.raw.(*back)
		if !ok || b.in.Buffered() > 0 {
			break
		}
		k.raw = b.Conn // it was here before and has nothing left of then
	}
	n := read.Buffered()
	if n == 0 {
		return k.raw
	}
	b, _ := read.Peek(n)
	return io.MultiReader(bytes.NewReader(bytes.Clone(b)), k.raw)
}

// serve answers one request after the other.
func (k *conn) serve() {
	defer k.conns.remove(k)
	keep := false
	defer func() {
		if p := recover(); p != nil {
			keep = false
			if k.conns.Log != nil {
				k.conns.Log.Error("BUG: a handler panicked; its connection is closed", zap.Any("panic", p), zap.String("from", k.from), zap.Stack("stack"))
			}
		}
		if !keep {
			_ = k.raw.Close()
		}
	}()
	for {
		r, err := k.next()
		if errors.Is(err, errNotPlain) {
			keep = k.giveBack()
			return
		}
		if err != nil || !k.exchange(r) {
			return
		}
		k.busy.Store(false)
	}
}

// errNotPlain is what next says of a request that net/http is to answer.
var errNotPlain = errors.New("not a plain request")

// next waits for a request. Of one that is not plain nothing is taken.
func (k *conn) next() (*http.Request, error) {
	if err := k.patience(orElse(k.srv.IdleTimeout, defaultIdle)); err != nil {
		return nil, err
	}
	if err := k.first(); err != nil {
		return nil, err // it is gone, or idle for too long
	}
	k.busy.Store(true)
	b, _ := k.in.Peek(k.in.Buffered())
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 || !bytes.HasPrefix(b, k.line) {
		return nil, errNotPlain
	}
	end += 4
	if r := k.like.request(b[:end]); r != nil {
		_, _ = k.in.Discard(end)
		return r, nil
	}
	k.block.Reset(b[:end])
	if k.lines == nil {
		k.lines = bufio.NewReaderSize(&k.block, 1024)
	}
	k.lines.Reset(&k.block)
	r, err := http.ReadRequest(k.lines)
	if err != nil || !plain(r) || k.lines.Buffered()+k.block.Len() > 0 { // a header that ends before
		return nil, errNotPlain
	}
	r.RemoteAddr = k.from
	k.like.learn(b[:end], r)
	_, _ = k.in.Discard(end)
	return r, nil
}

// first waits for a request to begin, as net/http does: fewer than four bytes are
// none, and line breaks among them are those that old clients send after a body.
func (k *conn) first() error {
	b, err := k.in.Peek(4)
	if err != nil {
		return err
	}
	_, _ = k.in.Discard(len(b) - len(bytes.TrimLeft(b, "\r\n")))
	return nil
}

// plain tells whether a request has one host, a length and nothing that asks more
// of a server than an answer.
func plain(r *http.Request) bool {
	return r.ContentLength >= 0 && len(r.TransferEncoding) == 0 && len(r.Header["Content-Length"]) <= 1 &&
		r.Host != "" && httpguts.ValidHostHeader(r.Host) && r.Header["Expect"] == nil && r.Header["Upgrade"] == nil && keepsAlive(r.Header["Connection"]) && valid(r.Header)
}

// valid tells that a header has no name or value that net/http's server refuses
// though its parser takes it.
func valid(h http.Header) bool {
	for name, values := range h {
		if !httpguts.ValidHeaderFieldName(name) || slices.ContainsFunc(values, func(v string) bool { return !httpguts.ValidHeaderFieldValue(v) }) {
			return false
		}
	}
	return true
}

// keepsAlive tells that a header Connection says nothing that HTTP/1.1 does not
// mean without it.
func keepsAlive(values []string) bool {
	return len(values) == 0 || len(values) == 1 && strings.EqualFold(values[0], "keep-alive")
}

// clock is the time that deadlines of sockets and the header Date go by.
func clock() time.Time {
	return time.Now() //nolint:forbidigo // it books nothing
}

// patience moves the deadline of reading and writing, where less than three
// quarters of it are left: it needs no more precision than that.
func (k *conn) patience(d time.Duration) error {
	now := clock()
	if k.until.Sub(now) > d/4*3 {
		return nil
	}
	k.until = now.Add(d)
	return k.raw.SetDeadline(k.until)
}

// exchange answers a request; false where the connection cannot go on.
func (k *conn) exchange(r *http.Request) bool {
	body := &io.LimitedReader{R: k.in, N: r.ContentLength}
	if body.N > int64(k.in.Buffered()) { // it is still to come
		k.until = clock().Add(orElse(k.srv.ReadTimeout, defaultRead))
		if k.raw.SetDeadline(k.until) != nil {
			return false
		}
	}
	r.Body = requestBody{body}
	k.reply.reset()
	k.handler.ServeHTTP(&k.reply, r)
	last := body.N > drainAtMost || k.conns.isClosing()
	if !last {
		if _, err := io.Copy(io.Discard, body); err != nil || body.N > 0 {
			last = true // it has not come whole
		}
	}
	if k.patience(orElse(k.srv.WriteTimeout, defaultWrite)) != nil {
		return false
	}
	k.out = k.reply.append(k.out[:0], last)
	_, err := k.raw.Write(k.out)
	return err == nil && !last
}

func (c *Conns) isClosing() bool { return !c.mayAdopt() }

// requestBody ends with io.ErrUnexpectedEOF where the client stops in the middle.
type requestBody struct{ *io.LimitedReader }

func (b requestBody) Read(p []byte) (int, error) {
	n, err := b.LimitedReader.Read(p)
	if err == io.EOF && b.N > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (requestBody) Close() error { return nil }

func orElse(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

// giveBack lets net/http's server go on with the connection; false where it does
// not.
func (k *conn) giveBack() bool {
	if k.raw.SetDeadline(time.Time{}) != nil {
		return false
	}
	once := &listener{conn: &back{Conn: k.raw, in: k.in}}
	_ = k.srv.Serve(once) // returns when it has taken the connection, or is shutting down
	return once.conn == nil
}

// back is a connection of which some is read already.
type back struct {
	net.Conn
	in *bufio.Reader
}

func (b *back) Read(p []byte) (int, error) { return b.in.Read(p) }

// listener gives one connection.
type listener struct{ conn net.Conn }

func (l *listener) Accept() (net.Conn, error) {
	c := l.conn
	l.conn = nil
	if c == nil {
		return nil, io.EOF
	}
	return c, nil
}

func (*listener) Close() error   { return nil }
func (*listener) Addr() net.Addr { return &net.TCPAddr{} }
