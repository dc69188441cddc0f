package intake_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wattledger/wattledger/internal/intake"
	"github.com/wattledger/wattledger/internal/intake/intaketest"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
)

// nodesPerRun agents send at the same time, each over its kept connection.
const nodesPerRun = 64

// BenchmarkIntake is one request of one window per operation, over kept HTTP/1.1
// connections, with a ledger in memory. cpu-us/op is the process's CPU time,
// two system calls a request of the client's included.
func BenchmarkIntake(b *testing.B) { benchmarkIntake(b, intaketest.New()) }

func benchmarkIntake(b *testing.B, led ledger.Ledger) {
	in, err := intake.New(intake.Options{Ledger: led, CommitEvery: 10 * time.Millisecond, CommitWindows: nodesPerRun, Now: time.Now})
	if err != nil {
		b.Fatal(err)
	}
	mux := http.NewServeMux()
	in.Register(mux)
	srv := httptest.NewServer(mux)
	defer srv.Close()
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	go func() { _ = in.Run(ctx) }()
	each := b.N/nodesPerRun + 1
	bodies := make([][][]byte, nodesPerRun)
	_, ws := intaketest.Windows(each, 4)
	for i := range ws {
		telemetry(ws[i])
	}
	for i := range bodies {
		n := ledger.Node{Cluster: "c", Name: fmt.Sprintf("n%d", i)}
		o, _, err := led.Open(b.Context(), ledger.OpenRequest{Node: n, Nonce: "n", Session: "s"})
		if err != nil {
			b.Fatal(err)
		}
		for k, w := range ws {
			var cats []*window.Catalogue
			if k == 0 {
				cats = append(cats, w.Catalogue)
			}
			bodies[i] = append(bodies[i], batch(b, head(n.Name, o.Incarnation), cats, w))
		}
	}
	runtime.GC()
	before := cpu()
	b.ResetTimer()
	var wg sync.WaitGroup
	for i := range bodies {
		wg.Go(func() { exchange(b, srv.Listener.Addr().String(), bodies[i]) })
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64((cpu()-before).Microseconds())/float64(each*nodesPerRun), "cpu-us/op")
}

// exchange sends bodies over one kept connection with the least of a client, so
// that the time is the server's.
func exchange(b *testing.B, addr string, bodies [][]byte) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		b.Error(err)
		return
	}
	defer func() { _ = conn.Close() }()
	var out []byte
	in := make([]byte, 4096)
	for _, body := range bodies {
		out = fmt.Appendf(out[:0], "POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", wire.PathWindows, wire.ContentType, len(body))
		if _, err := conn.Write(append(out, body...)); err != nil {
			b.Error(err)
			return
		}
		n, err := conn.Read(in) // an answer is one segment
		if err != nil || !bytes.HasPrefix(in[:n], []byte("HTTP/1.1 200")) {
			b.Errorf("%v: %s", err, in[:n])
			return
		}
	}
}

func telemetry(w *window.Window) {
	for m := range 4 {
		s := window.Series{Meter: m, Name: "power_watts", StartMS: w.StartMS, StepMS: 1000}
		for k := range 10 {
			s.Milli = append(s.Milli, int64(400_000+k*777))
		}
		w.Telemetry = append(w.Telemetry, s)
	}
}

// cpu is the CPU time of this process.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkHTTPAlone is the floor under BenchmarkIntake: the same requests to a
// handler that reads and answers, and nothing else.
func BenchmarkHTTPAlone(b *testing.B) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", wire.ContentType)
		_, _ = w.Write([]byte("0123456789"))
	}))
	defer srv.Close()
	_, ws := intaketest.Windows(1, 4)
	telemetry(ws[0])
	body := batch(b, head("n", 1), []*window.Catalogue{ws[0].Catalogue}, ws[0])
	bodies := make([][]byte, b.N/nodesPerRun+1)
	for i := range bodies {
		bodies[i] = body
	}
	before := cpu()
	b.ResetTimer()
	var wg sync.WaitGroup
	for range nodesPerRun {
		wg.Go(func() { exchange(b, srv.Listener.Addr().String(), bodies) })
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64((cpu()-before).Microseconds())/float64(len(bodies)*nodesPerRun), "cpu-us/op")
}
