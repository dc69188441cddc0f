package wire_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
)

var update = flag.Bool("update", false, "rewrite testdata from what the code says now")

func head() wire.Head {
	return wire.Head{
		Node: ledger.Node{Cluster: "leonardo", Name: "lrdn0001"}, Incarnation: 0x1234567890abcdef,
		Session: "0123456789abcdef0123456789abcdef", NowMS: 1_790_000_010_123,
	}
}

// body is a request of one fragment.
func body(t testing.TB, catalogues []*window.Catalogue, windows ...*window.Window) []byte {
	t.Helper()
	b, err := wire.AppendHead(nil, head())
	if err != nil {
		t.Fatal(err)
	}
	f, err := wire.EncodeFragment(catalogues, windows)
	if err != nil {
		t.Fatal(err)
	}
	return append(b, f...)
}

func TestRoundTrip(t *testing.T) {
	for seed := range uint64(2000) {
		r := arbitrary{rand.New(rand.NewPCG(seed, 1))}
		c1, c2 := r.catalogue(), r.catalogue()
		in := []*window.Window{r.window(c1), r.window(c2), r.window(c1)}
		b, err := wire.DecodeBatch(body(t, []*window.Catalogue{c1, c2}, in...), nil)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if d := cmp.Diff(in, b.Windows); d != "" {
			t.Fatalf("seed %d: windows differ (-want +got):\n%s", seed, d)
		}
		if b.Head != head() {
			t.Fatalf("head = %+v; want %+v", b.Head, head())
		}
		for i, w := range in {
			if got, want := wire.Hash(b.Windows[i]), wire.Hash(w); got != want {
				t.Fatalf("seed %d: hash of window %d = %x; want %x", seed, i, got, want)
			}
			again, err := wire.DecodeFragment(b.Raw[i], func(uint64) *window.Catalogue { return w.Catalogue })
			if err != nil || cmp.Diff(again.Windows[0], w) != "" {
				t.Fatalf("seed %d: Raw[%d] does not decode to its window: %v", seed, i, err)
			}
		}
	}
}

func TestConcatenatedFragmentsAreABatch(t *testing.T) {
	w := node()
	b := body(t, []*window.Catalogue{w.Catalogue}, w)
	second, err := wire.EncodeFragment([]*window.Catalogue{w.Catalogue}, []*window.Window{w, w})
	if err != nil {
		t.Fatal(err)
	}
	got, err := wire.DecodeBatch(append(b, second...), nil)
	if err != nil || len(got.Windows) != 3 || len(got.Catalogues) != 1 {
		t.Fatalf("got %+v, %v; want 3 windows, 1 catalogue", got, err)
	}
	p, err := wire.SplitFragment(second)
	if err != nil || len(p.Windows) != 2 || len(p.Catalogues) != 1 || p.Catalogues[0].ID != w.Catalogue.ID {
		t.Fatalf("parts = %+v, %v; want 2 windows, 1 catalogue", p, err)
	}
}

func TestUnknownCatalogues(t *testing.T) {
	w := node()
	_, err := wire.DecodeBatch(body(t, nil, w, w), func(uint64) *window.Catalogue { return nil })
	unknown, ok := errors.AsType[*wire.UnknownError](err)
	if !ok || len(unknown.IDs) != 1 || unknown.IDs[0] != w.Catalogue.ID {
		t.Fatalf("err = %v; want catalogue %x once", err, w.Catalogue.ID)
	}
	if _, err := wire.DecodeBatch(body(t, nil, w), func(uint64) *window.Catalogue { return w.Catalogue }); err != nil {
		t.Fatal(err)
	}
}

func TestHashCovers(t *testing.T) {
	base := wire.Hash(node())
	changes := map[string]func(w *window.Window){
		"start":        func(w *window.Window) { w.StartMS-- },
		"end":          func(w *window.Window) { w.EndMS++ },
		"catalogue":    func(w *window.Window) { w.Catalogue.ID++ },
		"range":        func(w *window.Window) { w.Ranges[3].To++ },
		"range from":   func(w *window.Window) { w.Ranges[3].From-- },
		"raw":          func(w *window.Window) { w.Ranges[3].Raw-- },
		"stamp":        func(w *window.Window) { w.Ranges[3].ToMS++ },
		"estimated":    func(w *window.Window) { w.Ranges[3].Estimated = true },
		"no range":     func(w *window.Window) { w.Ranges = w.Ranges[1:] },
		"job":          func(w *window.Window) { w.Jobs[0].Project = "other" },
		"job end":      func(w *window.Window) { w.Jobs[0].EndMS++ },
		"energy":       func(w *window.Window) { w.Postings[0].Energy++ },
		"use":          func(w *window.Window) { w.Postings[0].Use = energy.Held },
		"grade":        func(w *window.Window) { w.Postings[0].Grade = energy.Bridged },
		"owner":        func(w *window.Window) { w.Postings[0].Job = -1 },
		"device time":  func(w *window.Window) { w.Postings[0].DeviceMS++ },
		"absence":      func(w *window.Window) { w.Absences = []window.Absence{{}} },
		"holding":      func(w *window.Window) { w.Holdings[0].Devices[0].Weight-- },
		"bridge":       func(w *window.Window) { w.Bridge = true },
		"final":        func(w *window.Window) { w.Final = true },
		"job restarts": func(w *window.Window) { w.Jobs[0].Restart++ },
	}
	for name, change := range changes {
		w := node()
		change(w)
		if wire.Hash(w) == base {
			t.Errorf("%s: the hash is the same", name)
		}
	}
	w := node()
	w.Telemetry, w.Events = nil, []window.Event{{Kind: "gap"}}
	if wire.Hash(w) != base {
		t.Error("telemetry or events change the hash")
	}
}

func TestGolden(t *testing.T) {
	w := node()
	got := hex.EncodeToString(body(t, []*window.Catalogue{w.Catalogue}, w))
	got = strings.Join(chunks(got, 96), "\n") + "\n"
	const golden = "testdata/batch.hex"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || got != string(want) {
		t.Errorf("the wire format has changed (%s, -update rewrites; agents in the field will not): %v\n%s", golden, err, got)
	}
	raw, err := hex.DecodeString(strings.ReplaceAll(string(want), "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	b, err := wire.DecodeBatch(raw, nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(w, b.Windows[0]); d != "" {
		t.Errorf("golden bytes decode to something else:\n%s", d)
	}
	if h := wire.Hash(w); h != goldenHash || w.Catalogue.ID != goldenCatalogue {
		t.Errorf("hash %#x, catalogue %#x; want %#x, %#x: ledgers hold the old ones", h, w.Catalogue.ID, uint64(goldenHash), uint64(goldenCatalogue))
	}
}

func chunks(s string, n int) (out []string) {
	for ; len(s) > n; s = s[n:] {
		out = append(out, s[:n])
	}
	return append(out, s)
}

func TestRefused(t *testing.T) {
	w := node()
	good := body(t, []*window.Catalogue{w.Catalogue}, w)
	f := func(name string, b []byte, is error, text string) {
		t.Helper()
		_, err := wire.DecodeBatch(b, nil)
		if !errors.Is(err, is) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: err = %v; want %v with %q", name, err, is, text)
		}
	}
	for n := range len(good) - 1 { // cut anywhere: an error or (between fields) less
		if b, err := wire.DecodeBatch(good[:n], nil); err == nil && len(b.Windows) > 0 {
			t.Fatalf("cut to %d of %d bytes: decoded %d windows", n, len(good), len(b.Windows))
		}
	}
	id := protowire.AppendFixed64([]byte{0x09}, w.Catalogue.ID)
	f("empty", nil, wire.ErrVersion, "unknown version 0")
	f("version 2", append([]byte{0x08, 2}, good[2:]...), wire.ErrVersion, "unknown version 2")
	f("not protobuf", []byte("GET / HTTP/1.1"), wire.ErrMalformed, "field")
	f("body", make([]byte, wire.MaxBody+1), wire.ErrTooLarge, "4194305 bytes")
	f("no node", []byte{0x08, 1, 0x12, 1, 'c'}, wire.ErrMalformed, "cluster or node is empty")
	f("control character", append([]byte{0x08, 1, 0x12, 1, 'c', 0x1a, 1, '\n'}, good...)[:8], wire.ErrMalformed, "control character")
	f("windows", append(bytes.Clone(good), bytes.Repeat([]byte{0x5a, 0}, wire.MaxWindows)...), wire.ErrTooLarge, "8193 windows")
	f("jobs", append(bytes.Clone(good), protowire.AppendBytes([]byte{0x5a}, append(id, field(5, nil, wire.MaxJobs+1)...))...), wire.ErrTooLarge, "4097 jobs")
	f("meters", append(bytes.Clone(good), protowire.AppendBytes([]byte{0x52}, field(3, nil, window.MaxMeters+1))...), wire.ErrTooLarge, "1025 meters")
	f("type", append(bytes.Clone(good), 0x58, 1), wire.ErrMalformed, "field 11 is of wire type")
	other := bytes.Replace(good, []byte("boot-1f"), []byte("boot-2f"), 1)
	f("catalogue", other, wire.ErrMalformed, "its content gives")
}

// field is so many fields with the message inner.
func field(num protowire.Number, inner []byte, times int) []byte {
	return bytes.Repeat(protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), inner), times)
}
