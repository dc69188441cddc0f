//go:build peers

package peers_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/wattledger/wattledger/exporters"
	"github.com/wattledger/wattledger/exporters/influxdb"
	"github.com/wattledger/wattledger/exporters/remotewrite"
	"github.com/wattledger/wattledger/internal/outbox"
	"github.com/wattledger/wattledger/test/peers"
)

// The tests of exporters run them in a process of their own, which can be
// killed. It is this very program; the variable holds what it is to do.
const exporterJob = "WATTLEDGER_TEST_EXPORTER"

// job is what an exporter's process does: it writes the batches [From, To), a
// line to its output for each, then waits until all is delivered and says so.
type job struct {
	Kind, URL, Dir, Token string
	Base                  int64 // time of batch 0 in milliseconds
	From, To              int
	Milliwatts            bool // no value is finer
}

const (
	seconds = 400 // batches of a stream, one for each second of the data
	nodes   = 10
)

func TestMain(m *testing.M) {
	if text := os.Getenv(exporterJob); text != "" {
		if err := export(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func export(text string) error {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	e, pending, err := j.open()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan struct{})
	go func() { defer close(done); e.Run(ctx) }()
	for i := j.From; i < j.To; i++ {
		if err := e.Write(j.batch(i)); err != nil {
			return err
		}
		fmt.Println(i)
		time.Sleep(3 * time.Millisecond) // a stream, not a heap
	}
	for pending() > 0 {
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	<-done
	return e.Close()
}

func (j job) open() (exporters.Sink, func() uint64, error) {
	reg := newGauges()
	buffer := outbox.Options{
		Dir: j.Dir, Now: time.Now, Registerer: reg, MaxValues: 200,
		Linger: 20 * time.Millisecond, Longest: 200 * time.Millisecond, Timeout: 2 * time.Second,
	}
	end := exporters.Endpoint{URL: j.URL, TokenFile: j.Token}
	var e exporters.Sink
	var err error
	if j.Kind == influxdb.Kind {
		e, err = influxdb.New(influxdb.Options{Name: "test", Endpoint: end, Bucket: "books/autogen", Buffer: buffer})
	} else {
		e, err = remotewrite.New(remotewrite.Options{Name: "test", Endpoint: end, Buffer: buffer})
	}
	return e, reg.pending, err
}

// batch is what the fleet did in one second.
func (j job) batch(i int) exporters.Batch {
	var b exporters.Batch
	for n := range nodes {
		labels := []exporters.Label{{Name: "cluster", Value: "test"}, {Name: "node", Value: fmt.Sprintf("n%d", n)}}
		p := exporters.Point{MS: j.Base + int64(i)*1000, V: j.value(n, i)}
		b.Series = append(b.Series, exporters.Series{Name: "wattledger_node_power_watts", Labels: labels, Points: []exporters.Point{p}})
	}
	return b
}

// value needs all digits of a float, or is a number of milliwatts.
func (j job) value(node, i int) float64 {
	v := math.Sqrt(float64(1+node)) * 1e6 / float64(i+3)
	if j.Milliwatts {
		return math.Round(v*1000) / 1000
	}
	return v
}

// sent is what must come out, by node.
func (j job) sent() map[string][]peers.Point {
	out := map[string][]peers.Point{}
	for n := range nodes {
		name := fmt.Sprintf("n%d", n)
		for i := range seconds {
			out[name] = append(out[name], peers.Point{MS: j.Base + int64(i)*1000, V: j.value(n, i)})
		}
	}
	return out
}

// start runs an exporter's process. The channel tells which batches it has
// written, and is closed when it ends.
func (j job) start(t *testing.T) (*exec.Cmd, <-chan int) {
	t.Helper()
	text, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), exporterJob+"="+string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	wrote := make(chan int, seconds)
	go func() {
		defer close(wrote)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if n, err := strconv.Atoi(lines.Text()); err == nil {
				wrote <- n
			}
		}
	}()
	return cmd, wrote
}

// until waits for a batch, or for the end, and gives the last one that was written.
func until(t *testing.T, wrote <-chan int, n int) int {
	t.Helper()
	last, late := -1, time.After(2*time.Minute)
	for last < n {
		select {
		case i, ok := <-wrote:
			if !ok {
				return last
			}
			last = i
		case <-late:
			t.Fatalf("the exporter has written %d batches in two minutes; want %d", last, n)
		}
	}
	return last
}

// stream sends the whole stream to a server. The exporter is killed twice, the
// server once while it runs and once frozen before; then all that was sent must
// be there, with the very values.
func (j job) stream(t *testing.T, server *peers.Peer, got func() map[string][]peers.Point) {
	t.Helper()
	j.Dir, j.To = filepath.Join(t.TempDir(), "buffer"), seconds
	j.Base = time.Now().Add(-time.Hour).Truncate(time.Second).UnixMilli()
	kill := func(cmd *exec.Cmd, wrote <-chan int, at int) int {
		last := until(t, wrote, at)
		if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		last = max(last, until(t, wrote, seconds))
		_ = cmd.Wait()
		return last
	}
	cmd, wrote := j.start(t)
	until(t, wrote, 50)
	server.Kill(t) // in mid-stream
	j.From = kill(cmd, wrote, 100) + 1
	server.Restart(t)
	cmd, wrote = j.start(t)
	until(t, wrote, 150)
	server.Freeze(t) // takes connections and answers nothing
	j.From = kill(cmd, wrote, 200) + 1
	server.Kill(t)
	cmd, wrote = j.start(t)
	until(t, wrote, 250)
	server.Restart(t)
	until(t, wrote, 330)
	server.Kill(t)
	server.Restart(t)
	if last := until(t, wrote, seconds); last != seconds-1 {
		t.Fatalf("the exporter ended after batch %d", last)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("the exporter: %v", err)
	}
	if diff := gocmp.Diff(j.sent(), got()); diff != "" {
		t.Errorf("what the server has, -want +got:\n%s", diff)
	}
}

// byNode sorts what a server has, each instant and value once.
func byNode(in []peers.Series) map[string][]peers.Point {
	out := map[string][]peers.Point{}
	for _, s := range in {
		out[s.Labels["node"]] = append(out[s.Labels["node"]], s.Points...)
	}
	for node, points := range out {
		slices.SortFunc(points, func(a, b peers.Point) int {
			return cmp.Or(cmp.Compare(a.MS, b.MS), cmp.Compare(a.V, b.V))
		})
		out[node] = slices.Compact(points)
	}
	return out
}

func TestRemoteWriteToPrometheus(t *testing.T) {
	for name, window := range map[string]string{"in order alone": "", "with a window for late samples": "2h"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := peers.Prometheus(t, peers.PrometheusOptions{OutOfOrder: window})
			job{Kind: remotewrite.Kind, URL: p.URL + "/api/v1/write"}.stream(t, p, func() map[string][]peers.Point {
				return byNode(p.Query(t, "wattledger_node_power_watts[2h]", time.Now()))
			})
		})
	}
}

// TestVictoriaMetricsTakesBoth: it stores decimals, and rounds what has more
// than about 12 digits in a block of mixed magnitudes.
func TestVictoriaMetricsTakesBoth(t *testing.T) {
	for kind, path := range map[string]string{remotewrite.Kind: "/api/v1/write", influxdb.Kind: ""} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			vm := peers.VictoriaMetrics(t)
			job{Kind: kind, URL: vm.URL + path, Milliwatts: true}.stream(t, vm, func() map[string][]peers.Point {
				return byNode(vm.Export(t, "wattledger_node_power_watts", time.Now().Add(-2*time.Hour), time.Now()))
			})
		})
	}
}

func TestInfluxDBTakesItsPoints(t *testing.T) {
	t.Parallel()
	db := peers.InfluxDB(t, peers.InfluxOptions{Database: "books", User: "ada", Password: "lovelace"})
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("ada:lovelace\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	job{Kind: influxdb.Kind, URL: db.URL, Token: token}.stream(t, db, func() map[string][]peers.Point {
		return powerOf(t, db)
	})
}

// powerOf reads the field power_watts of every node from an InfluxDB.
func powerOf(t *testing.T, db *peers.Peer) map[string][]peers.Point {
	t.Helper()
	var answer struct {
		Results []struct {
			Series []struct {
				Tags   map[string]string
				Values [][2]json.Number
			}
		}
	}
	b := db.Influx(t, url.Values{
		"db": {"books"}, "epoch": {"ms"}, "u": {"ada"}, "p": {"lovelace"},
		"q": {"SELECT power_watts FROM wattledger_node GROUP BY node, cluster"},
	})
	if err := json.Unmarshal(b, &answer); err != nil {
		t.Fatal(err)
	}
	out := map[string][]peers.Point{}
	for _, r := range answer.Results {
		for _, s := range r.Series {
			if s.Tags["cluster"] != "test" {
				t.Errorf("tags: %v", s.Tags)
			}
			for _, v := range s.Values {
				ms, err1 := v[0].Int64()
				f, err2 := v[1].Float64()
				if err1 != nil || err2 != nil {
					t.Fatalf("%v is no point", v)
				}
				out[s.Tags["node"]] = append(out[s.Tags["node"]], peers.Point{MS: ms, V: f})
			}
		}
	}
	return out
}

// TestWrongPasswordLosesNothing: the points wait until somebody mends the file.
func TestWrongPasswordLosesNothing(t *testing.T) {
	t.Parallel()
	db := peers.InfluxDB(t, peers.InfluxOptions{Database: "books", User: "ada", Password: "lovelace"})
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("ada:babbage\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	j := job{
		Kind: influxdb.Kind, URL: db.URL, Token: token, Dir: filepath.Join(t.TempDir(), "buffer"),
		Base: time.Now().Add(-time.Hour).Truncate(time.Second).UnixMilli(), To: seconds,
	}
	cmd, wrote := j.start(t)
	if until(t, wrote, seconds-1); len(powerOf(t, db)) != 0 {
		t.Fatal("points came with a wrong password")
	}
	if err := os.WriteFile(token, []byte("ada:lovelace\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, wrote, seconds)
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(j.sent(), powerOf(t, db)); diff != "" {
		t.Errorf("what the server has, -want +got:\n%s", diff)
	}
}

// TestNamesThatVictoriaMetricsSees: its names of InfluxDB's points are those of
// the series, so that dashboards work with either.
func TestNamesThatVictoriaMetricsSees(t *testing.T) {
	vm := peers.VictoriaMetrics(t)
	j := job{Kind: influxdb.Kind, URL: vm.URL, Dir: filepath.Join(t.TempDir(), "buffer"), Base: 1_700_000_000_000, To: 1}
	cmd, _ := j.start(t)
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	got := vm.Export(t, `{__name__!=""}`, time.Unix(1_699_999_000, 0), time.Unix(1_700_001_000, 0))
	if len(got) != nodes {
		t.Fatalf("%d series; want %d: %v", len(got), nodes, got)
	}
	for _, s := range got {
		want := map[string]string{"__name__": "wattledger_node_power_watts", "cluster": "test", "node": s.Labels["node"]}
		if diff := gocmp.Diff(want, s.Labels); diff != "" || !strings.HasPrefix(s.Labels["node"], "n") {
			t.Errorf("labels, -want +got:\n%s", diff)
		}
	}
}
