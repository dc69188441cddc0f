package sender_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/wattledger/wattledger/internal/intake"
	"github.com/wattledger/wattledger/internal/intake/intaketest"
	"github.com/wattledger/wattledger/internal/sender"
)

// cutter is a proxy that cuts every connection after a random number of bytes,
// in either direction.
type cutter struct {
	net.Listener
	to   string
	mu   sync.Mutex
	rng  *rand.Rand
	cuts int
}

func (c *cutter) serve() {
	for {
		in, err := c.Accept()
		if err != nil {
			return
		}
		go c.relay(in)
	}
}

func (c *cutter) relay(in net.Conn) {
	defer func() { _ = in.Close() }()
	out, err := net.Dial("tcp", c.to)
	if err != nil {
		return
	}
	defer func() { _ = out.Close() }()
	c.mu.Lock()
	up, down := c.rng.Int64N(8000), c.rng.Int64N(1000)
	c.cuts++
	c.mu.Unlock()
	done := make(chan struct{}, 2)
	copyUpTo := func(dst, src net.Conn, n int64) { _, _ = io.CopyN(dst, src, n); done <- struct{}{} }
	go copyUpTo(out, in, up)
	go copyUpTo(in, out, down)
	<-done // either ends both
}

// TestCutConnections: whatever byte a connection is cut at, every window is
// booked once in the end.
func TestCutConnections(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			led := intaketest.New()
			in, err := intake.New(intake.Options{Ledger: led, CommitEvery: time.Millisecond, Now: time.Now})
			if err != nil {
				t.Fatal(err)
			}
			mux := http.NewServeMux()
			in.Register(mux)
			srv := httptest.NewServer(mux)
			defer srv.Close()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() { _ = in.Run(ctx) }()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = l.Close() }()
			proxy := &cutter{Listener: l, to: srv.Listener.Addr().String(), rng: rand.New(rand.NewPCG(seed, 3))}
			go proxy.serve()

			const n = 600
			sp := fill(t, n)
			o := options(sp, nil)
			o.Client, o.URL, o.MaxRecords = nil, "http://"+l.Addr().String(), 8
			x, err := sender.New(o)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- x.Run(ctx) }()
			deadline := time.Now().Add(20 * time.Second)
			for i := 0; sp.Len() > 0 && time.Now().Before(deadline); i++ {
				short, stop := context.WithTimeout(ctx, 2*time.Millisecond)
				_ = x.Flush(short) // ends pauses
				stop()
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			windows, most, mj := led.Booked(node())
			if sp.Len() != 0 || windows != n || most != 1 || mj != n*2*4_000_000 {
				t.Errorf("%d left, %d windows booked, one of them %d times, %d mJ; want 0, %d, 1, %d", sp.Len(), windows, most, mj, n, n*2*4_000_000)
			}
			proxy.mu.Lock()
			defer proxy.mu.Unlock()
			if proxy.cuts < 20 {
				t.Errorf("only %d connections were needed: nothing was cut", proxy.cuts)
			}
			t.Logf("%d connections cut, %d commits", proxy.cuts, len(led.Commits()))
		})
	}
}
