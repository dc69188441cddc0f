//go:build bench

package bench_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/golang/snappy"
)

// delays are times of acknowledgements.
type delays struct {
	mu  sync.Mutex
	all []time.Duration
}

func (d *delays) add(x time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = append(d.all, x)
}

func (d *delays) quantile(q float64) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.all) == 0 {
		return 0
	}
	slices.Sort(d.all)
	return d.all[min(len(d.all)-1, int(q*float64(len(d.all))))]
}

// senders of remote writes work at the same time, as a sender's shards do.
const senders = 4

// write is a request: raw messages of some nodes, one after the other, are one
// message.
type write struct {
	raw     []byte
	samples int64
}

// feed sends a recording by remote write, so many nodes a request, until it ends
// or the time is over. warm is called once, when the first warmWrites are taken.
func feed(b *testing.B, rec *recording, url string, nodes int, warmWrites int64, warm func(), within time.Duration) (samples int64, acks *delays) {
	b.Helper()
	f, err := os.Open(rec.file)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	acks = &delays{}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: senders}, Timeout: time.Minute}
	var queue chan write
	var wg sync.WaitGroup
	open := func() {
		queue = make(chan write, senders)
		for range senders {
			wg.Go(func() {
				var zip []byte
				for w := range queue {
					zip = snappy.Encode(zip[:cap(zip)], w.raw)
					begin := time.Now()
					if err := post(client, url, zip); err != nil {
						b.Error(err)
					}
					acks.add(time.Since(begin))
				}
			})
		}
	}
	drain := func() {
		close(queue)
		wg.Wait()
	}
	open()
	in := bufio.NewReaderSize(f, 1<<20)
	end := time.Now().Add(within)
	var done int64
	for time.Now().Before(end) && !b.Failed() {
		w, n, err := readWrite(in, nodes)
		if n > 0 {
			queue <- w
			samples += w.samples
		}
		if before := done; before < warmWrites && before+int64(n) >= warmWrites {
			drain()
			warm()
			open()
			samples, acks.all = 0, nil
			end = time.Now().Add(within)
		}
		done += int64(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	drain()
	return samples, acks
}

func readWrite(in *bufio.Reader, nodes int) (w write, n int, err error) {
	var head [8]byte
	var zip []byte
	for ; n < nodes; n++ {
		if _, err = io.ReadFull(in, head[:]); err != nil {
			return w, n, err
		}
		size := int(binary.LittleEndian.Uint32(head[:]))
		if cap(zip) < size {
			zip = make([]byte, size)
		}
		if _, err = io.ReadFull(in, zip[:size]); err != nil {
			return w, n, err
		}
		raw, err := snappy.Decode(nil, zip[:size])
		if err != nil {
			return w, n, err
		}
		w.raw = append(w.raw, raw...)
		w.samples += int64(binary.LittleEndian.Uint32(head[4:]))
	}
	return w, n, nil
}

func post(client *http.Client, url string, body []byte) error {
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s: %s: %.300s", url, resp.Status, text)
	}
	return nil
}
