package kept_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wattledger/wattledger/internal/kept"
)

// site is a server with connections that are taken over, and beside it one with
// the same handlers on net/http alone.
type site struct {
	conns      *kept.Conns
	srv, plain *httptest.Server
	within     atomic.Int32 // requests that are being answered
	mayGo      chan struct{}
}

func newSite(tb testing.TB, secure bool, change ...func(*http.Server)) *site {
	tb.Helper()
	s := &site{conns: &kept.Conns{}, mayGo: make(chan struct{})}
	windows := http.HandlerFunc(s.windows)
	serve := func(h http.Handler) *httptest.Server {
		mux := http.NewServeMux()
		mux.Handle("POST /windows", h)
		mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
			n, _ := io.Copy(io.Discard, r.Body)
			_, _ = fmt.Fprintln(w, r.Method, r.URL, n)
		})
		srv := httptest.NewUnstartedServer(mux)
		srv.Config.ReadTimeout = time.Minute
		for _, f := range change {
			f(srv.Config)
		}
		if secure {
			srv.StartTLS()
		} else {
			srv.Start()
		}
		tb.Cleanup(srv.Close)
		return srv
	}
	s.srv, s.plain = serve(s.conns.Handler(windows)), serve(windows)
	tb.Cleanup(func() { // before the servers: httptest's cannot close while a connection is given back
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := s.conns.Shutdown(ctx); err != nil || s.conns.Len() != 0 {
			tb.Errorf("%d connections are left: %v", s.conns.Len(), err)
		}
	})
	return s
}

// windows answers with what it was given; a body that begins with a name does what
// it says.
func (s *site) windows(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") == "nobody" {
		http.Error(w, "not for nobody", http.StatusUnauthorized) // and the body stays unread
		return
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.within.Add(1)
	defer s.within.Add(-1)
	w.Header().Set("Content-Type", "text/plain")
	switch {
	case bytes.HasPrefix(b, []byte("wait")):
		<-s.mayGo
	case bytes.HasPrefix(b, []byte("panic")):
		panic(http.ErrAbortHandler)
	case bytes.HasPrefix(b, []byte("teapot")):
		w.WriteHeader(http.StatusTeapot)
	}
	if n := r.Header.Get("Content-Length"); n != "" && (n != fmt.Sprint(len(b)) || r.ContentLength != int64(len(b))) && strings.TrimLeft(n, "0") != fmt.Sprint(len(b)) {
		http.Error(w, fmt.Sprintf("a length of %s, %d, and a body of %d", n, r.ContentLength, len(b)), http.StatusInternalServerError)
		return
	}
	_, _ = fmt.Fprintf(w, "%d bytes of %s: %.40q\n", len(b), r.Header.Get("Authorization"), b)
}

func post(body string, more ...string) string {
	return fmt.Sprintf("POST /windows HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n%s\r\n%s", len(body), strings.Join(more, ""), body)
}

// length is a request whose header differs from another one's in its length alone,
// or pretends to.
func length(s string) string {
	return "POST /windows HTTP/1.1\r\nHost: a\r\nContent-Length: " + s + "\r\n\r\nabc"
}

func dial(tb testing.TB, srv *httptest.Server) net.Conn {
	tb.Helper()
	var c net.Conn
	var err error
	if srv.TLS != nil {
		c, err = tls.Dial("tcp", srv.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // its certificate is made up
	} else {
		c, err = net.Dial("tcp", srv.Listener.Addr().String())
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		tb.Fatal(err)
	}
	return c
}

// ask sends what is one request and reads one answer.
func ask(tb testing.TB, c net.Conn, in *bufio.Reader, request string) string {
	tb.Helper()
	if _, err := io.WriteString(c, request); err != nil {
		tb.Fatal(err)
	}
	return read(tb, in)
}

func read(tb testing.TB, in *bufio.Reader) string {
	tb.Helper()
	r, err := http.ReadResponse(in, nil)
	if err != nil {
		tb.Fatal(err)
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := http.ParseTime(r.Header.Get("Date")); err != nil {
		tb.Errorf("an answer without a date: %v", err)
	}
	return fmt.Sprint(r.StatusCode, " ", string(b))
}

// TestRequestsFollow: one after the other, several in one piece, one in many
// pieces, with a refusal between; all over one connection that was taken over.
func TestRequestsFollow(t *testing.T) {
	for _, secure := range []bool{false, true} {
		s := newSite(t, secure)
		c := dial(t, s.srv)
		in := bufio.NewReader(c)
		eq := func(got, want string) {
			t.Helper()
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		}
		eq(ask(t, c, in, post("one")), "200 3 bytes of : \"one\"\n")
		for s.conns.Len() != 1 {
			time.Sleep(time.Millisecond)
		}
		eq(ask(t, c, in, post("two", "Authorization: me\r\n")), "200 3 bytes of me: \"two\"\n")
		eq(ask(t, c, in, post("two", "Connection: Keep-Alive\r\n")), "200 3 bytes of : \"two\"\n")
		eq(ask(t, c, in, post("teapot")), "418 6 bytes of : \"teapot\"\n")
		eq(ask(t, c, in, post("unread", "Authorization: nobody\r\n")), "401 not for nobody\n")
		eq(ask(t, c, in, post("three")+post("four")+post("five")), "200 5 bytes of : \"three\"\n")
		eq(read(t, in), "200 4 bytes of : \"four\"\n")
		eq(read(t, in), "200 4 bytes of : \"five\"\n")
		long := strings.Repeat("long ", 40_000)
		eq(ask(t, c, in, post(long)), fmt.Sprintf("200 200000 bytes of : %.40q\n", long))
		request := post("a body in pieces")
		head := strings.Index(request, "\r\n\r\n") + 4
		_, _ = io.WriteString(c, request[:head+3])
		for s.conns.Len() != 1 {
			time.Sleep(time.Millisecond)
		}
		_, _ = io.WriteString(c, request[head+3:head+5])
		eq(ask(t, c, in, request[head+5:]), "200 16 bytes of : \"a body in pieces\"\n")
		if s.conns.Len() != 1 {
			t.Errorf("%d connections were kept, 1 expected", s.conns.Len())
		}
		_ = c.Close()
		for s.conns.Len() != 0 { // or the test runs out of time
			time.Sleep(time.Millisecond)
		}
	}
}

// TestOthersGoBack: what is not plain is answered by net/http as ever, and a
// plain one after that is taken over again.
func TestOthersGoBack(t *testing.T) {
	s := newSite(t, false)
	c := dial(t, s.srv)
	in := bufio.NewReader(c)
	for _, x := range []struct{ request, want string }{
		{"GET /other HTTP/1.1\r\nHost: a\r\n\r\n", "200 GET /other 0\n"},
		{"POST /windows HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "200 3 bytes of : \"abc\"\n"},
		{"POST /windows?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", "200 2 bytes of : \"hi\"\n"},
		{"GET /windows HTTP/1.1\r\nHost: a\r\n\r\n" + post("after"), "200 GET /windows 0\n"},
	} {
		for range 3 {
			if got := ask(t, c, in, post("plain")); got != "200 5 bytes of : \"plain\"\n" {
				t.Fatalf("before %.20q: %s", x.request, got)
			}
		}
		for s.conns.Len() != 1 {
			time.Sleep(time.Millisecond)
		}
		// not in one piece
		_, _ = io.WriteString(c, x.request[:9])
		if got := ask(t, c, in, x.request[9:]); got != x.want {
			t.Errorf("%.40q: %s", x.request, got)
		}
	}
	if got := read(t, in); got != "200 5 bytes of : \"after\"\n" {
		t.Error(got)
	}
	// Expect: the client waits to be asked on
	if _, err := io.WriteString(c, "POST /windows HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := in.ReadString('\n'); !strings.Contains(line, "100 Continue") {
		t.Fatal(line, err)
	}
	_, _ = in.ReadString('\n')
	if got := ask(t, c, in, "ok"); got != "200 2 bytes of : \"ok\"\n" {
		t.Error(got)
	}
	if got := ask(t, c, in, post("bye", "Connection: close\r\n")); got != "200 3 bytes of : \"bye\"\n" {
		t.Error(got)
	}
	if _, err := in.ReadByte(); err != io.EOF {
		t.Errorf("after Connection: close: %v", err)
	}
}

// TestOneCostsItself: a body that never ends its request, a panic and a huge body
// that nobody reads close their connection and no other.
func TestOneCostsItself(t *testing.T) {
	s := newSite(t, false)
	good := dial(t, s.srv)
	goodIn := bufio.NewReader(good)
	ask(t, good, goodIn, post("first"))
	for name, request := range map[string]string{
		"panic":     post("panic"),
		"half":      post("half a body")[:60],
		"much":      strings.Replace(post("", "Authorization: nobody\r\n"), "Length: 0", "Length: 9000000", 1),
		"cut short": "POST /windows HTTP/1.1\r\nHost",
	} {
		c := dial(t, s.srv)
		in := bufio.NewReader(c)
		ask(t, c, in, post("first"))
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		if name == "half" || name == "cut short" {
			_ = c.Close()
		} else if _, err := io.Copy(io.Discard, in); err != nil && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%s: %v", name, err) // or it waits until the deadline
		}
	}
	for s.conns.Len() != 1 {
		time.Sleep(time.Millisecond)
	}
	if got := ask(t, good, goodIn, post("last")); got != "200 4 bytes of : \"last\"\n" {
		t.Error(got)
	}
}

// TestShutdown: what is idle is closed, what is under way is answered.
func TestShutdown(t *testing.T) {
	s := newSite(t, false)
	idle, busy := dial(t, s.srv), dial(t, s.srv)
	idleIn, busyIn := bufio.NewReader(idle), bufio.NewReader(busy)
	ask(t, idle, idleIn, post("first"))
	ask(t, busy, busyIn, post("first"))
	if _, err := io.WriteString(busy, post("wait")); err != nil {
		t.Fatal(err)
	}
	for s.within.Load() != 1 {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.srv.Config.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.conns.Shutdown(t.Context()) }()
	if _, err := idleIn.ReadByte(); err == nil {
		t.Error("the idle connection stays")
	}
	select {
	case err := <-done:
		t.Fatalf("it is over (%v) while a request is under way", err)
	default:
	}
	close(s.mayGo)
	if got := read(t, busyIn); got != "200 4 bytes of : \"wait\"\n" {
		t.Error(got)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := busyIn.ReadByte(); err != io.EOF {
		t.Errorf("the busy connection stays: %v", err)
	}
	if err := s.conns.Shutdown(ctx); err != nil {
		t.Errorf("nothing is left: %v", err)
	}
}

// TestIdleForTooLong: the connection is closed.
func TestIdleForTooLong(t *testing.T) {
	s := newSite(t, false, func(srv *http.Server) { srv.IdleTimeout = 20 * time.Millisecond })
	c := dial(t, s.srv)
	in := bufio.NewReader(c)
	ask(t, c, in, post("first"))
	if _, err := in.ReadByte(); err != io.EOF {
		t.Error(err)
	}
}

// aside is what may differ: dates, and that net/http does not always say that it
// closes the connection of a body that has not come whole.
var aside = regexp.MustCompile(`\r\n(Date: [^\r]*|Connection: close)`)

// everything is all that a server says to what is sent after one plain request.
func everything(tb testing.TB, srv *httptest.Server, text []byte) string {
	tb.Helper()
	c := dial(tb, srv)
	in := bufio.NewReader(c)
	ask(tb, c, in, post("first"))
	if _, err := c.Write(text); err != nil {
		return "" // it had enough
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
	b, _ := io.ReadAll(in)
	return aside.ReplaceAllString(string(b), "")
}

// FuzzAsNetHTTP: any bytes after a plain request are answered as net/http alone
// answers them.
func FuzzAsNetHTTP(f *testing.F) {
	for _, text := range []string{
		post("one") + post("two"), post("x", "Connection: close\r\n") + post("y"), post("a", "Content-Length: 1\r\n"), post("a", "Content-Length: 7\r\n"),
		post("a", "Host: b\r\n"), post("a", "X: \x01\r\n"), post("a", "X Y: b\r\n"), post("a", "Transfer-Encoding: chunked\r\n"),
		"POST /windows HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", "POST /windows HTTP/1.0\r\nHost: a\r\nContent-Length: 1\r\n\r\nx" + post("b"),
		"\r\n" + post("a"), "POST /windows HTTP/1.1\nHost: a\nContent-Length: 1\n\nx", "GET / HTTP/1.1\r\nHost: a\r\n\r\n" + post("z"),
		post("unread", "Authorization: nobody\r\n") + post("b"), post("teapot") + "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", post("panic") + post("b"),
		"POST /windows HTTP/1.1\r\nHost: a\r\nContent-Length: 1\n\r\n\r\n0000",
		post("a") + length("+3") + length("003") + length("3"), post("a") + length("3x"), post("a") + length("-3"), post("a") + length(" 3"), post("a") + length(""),
		post("a") + length("3\r\nContent-Length: 4"), length("3\r\nContent-Length: 3") + length("2\r\nContent-Length: 3"), post("a") + length("99999999999999999999"),
		post("a") + length("3\r\n\r\nabcPOST"), length("3\r\nx-content-length: 3") + length("2\r\nx-content-length: 3"),
		post("abc")[:50], "0", "POST /windows HTTP/1.1\r\nHost:00\"0\r\n\r\n0", "POST /windows HTTP/1.1\r\n Host: a\r\n\r\n", post("a", "Connection: upgrade\r\nUpgrade: x\r\n"),
	} {
		f.Add([]byte(text))
	}
	s := newSite(f, false)
	close(s.mayGo)
	f.Fuzz(func(t *testing.T, text []byte) {
		want, got := everything(t, s.plain, text), everything(t, s.srv, text)
		if diff := cmp.Diff(inOrder(want), inOrder(got)); diff != "" {
			t.Errorf("%q:\n%s", text, diff)
		}
	})
}

// inOrder are the lines of answers; net/http writes some headers in an order of
// its own.
func inOrder(text string) []string {
	var out []string
	for head := range strings.SplitSeq(text, "HTTP/1.1 ") {
		lines := strings.Split(head, "\r\n")
		if len(lines) > 2 {
			slices.Sort(lines[1:])
		}
		out = append(out, lines...)
	}
	return out
}
