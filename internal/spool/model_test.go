package spool_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand"
	"strings"
	"testing"

	"github.com/wattledger/wattledger/internal/spool"
)

// TestAgainstAModel does random things to a spool and to a slice. What merging
// may change is compared by its essence.
func TestAgainstAModel(t *testing.T) {
	for seed := int64(1); seed <= 30; seed++ {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) { playModel(t, seed) })
	}
}

type model struct {
	t     *testing.T
	w     *world
	s     *spool.Spool
	r     *rand.Rand
	n     int
	kept  []string // numbers not committed
	claim []string // essence of each claimed record
	last  spool.Seq
}

func playModel(t *testing.T, seed int64) {
	m := &model{t: t, r: rand.New(rand.NewSource(seed))}
	m.w = newWorld(t, func(o *spool.Options) {
		o.MaxBytes, o.Merge = 4000+m.r.Int63n(20000), merge
	})
	m.s = m.w.open()
	for range 600 {
		switch k := m.r.Intn(100); {
		case k < 70:
			m.append()
		case k < 80:
			m.next()
		case k < 84:
			m.s.Release()
			m.claim = nil
		case k < 92:
			m.commit()
		case k < 96:
			m.s, m.claim = m.w.reopen(m.s), nil
		case k < 97:
			must(t, m.s.Compact())
		default:
			m.rewrite()
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	for _, e := range m.w.events {
		if e.Kind != spool.Merged && e.Kind != spool.OverLimit && e.Kind != spool.Full {
			t.Errorf("seed %d: event %+v", seed, e)
		}
	}
	m.s.Release()
	if got := essence(contents(t, m.s)); got != strings.Join(m.kept, ",") {
		t.Errorf("seed %d: %.80q; want %.80q", seed, got, strings.Join(m.kept, ","))
	}
}

func (m *model) append() {
	m.n++
	_, err := m.s.Append([]byte(fmt.Sprintf("%d#%s", m.n, strings.Repeat("x", m.r.Intn(200)))))
	if errors.Is(err, spool.ErrFull) {
		return
	}
	must(m.t, err)
	m.kept = append(m.kept, fmt.Sprint(m.n))
}

func (m *model) next() {
	_, last, got, err := m.s.Next(m.r.Intn(2000), m.r.Intn(30))
	if len(m.kept) == 0 {
		if !errors.Is(err, spool.ErrEmpty) {
			m.t.Errorf("Next: %v; want ErrEmpty", err)
		}
		return
	}
	must(m.t, err)
	claim := make([]string, 0, len(got))
	for _, b := range got {
		claim = append(claim, string(b))
	}
	if !strings.HasPrefix(strings.Join(m.kept, ",")+",", essence(claim)+",") {
		m.t.Errorf("Next returned %.60q; want a beginning of %.60q", essence(claim), strings.Join(m.kept, ","))
	}
	for i := range min(len(m.claim), len(claim)) {
		if m.claim[i] != claim[i] {
			m.t.Errorf("claimed record %d was %.40q and is %.40q", i, m.claim[i], claim[i])
		}
	}
	if len(claim) > len(m.claim) {
		m.claim, m.last = claim, last
	}
}

func (m *model) commit() {
	if len(m.claim) == 0 {
		return
	}
	must(m.t, m.s.Commit(m.last))
	m.kept = m.kept[strings.Count(essence(m.claim), ",")+1:]
	m.claim = nil
}

func (m *model) rewrite() {
	err := m.s.Rewrite(func(records [][]byte) ([][]byte, error) {
		if len(records) == 0 {
			return nil, nil
		}
		return merge(records, m.r.Intn(2))
	})
	if len(m.claim) > 0 {
		if !errors.Is(err, spool.ErrInFlight) {
			m.t.Errorf("Rewrite with a claim: %v", err)
		}
		return
	}
	must(m.t, err)
}

var benchDir = flag.String("bench-dir", "", "directory of the benchmarks (default a temporary one)")

func BenchmarkAppend(b *testing.B) {
	for _, noSync := range []bool{false, true} {
		b.Run(fmt.Sprintf("sync=%v", !noSync), func(b *testing.B) {
			dir := *benchDir
			if dir == "" {
				dir = b.TempDir()
			}
			s, err := spool.Open(spool.Options{Dir: dir, NoSync: noSync, MaxBytes: 1 << 30, SegmentBytes: 1 << 20})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			record := make([]byte, 400)
			b.ReportAllocs()
			b.SetBytes(int64(len(record)))
			for b.Loop() {
				seq, err := s.Append(record)
				if err != nil {
					b.Fatal(err)
				}
				if seq%1000 == 0 {
					if err := s.Commit(seq); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
