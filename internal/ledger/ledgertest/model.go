package ledgertest

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

// model is the books as simply as they can be kept: what is booked of each
// odometer, byte for byte the windows, and sums of postings.
type model struct {
	ends     map[string]energy.Microjoules
	holes    map[string]energy.Microjoules // "odometer from" -> to
	seen     map[uint64]bool
	spoilt   map[uint64]bool
	projects map[string]*ledger.Amounts
	nobody   ledger.Amounts
	metered  energy.Millijoules
	unbooked energy.Millijoules
}

func newModel() *model {
	return &model{
		ends: map[string]energy.Microjoules{}, holes: map[string]energy.Microjoules{},
		seen: map[uint64]bool{}, spoilt: map[uint64]bool{}, projects: map[string]*ledger.Amounts{},
	}
}

func (m *model) book(s ledger.Submission) ledger.Status {
	w := s.Window
	if m.seen[s.Hash] {
		return ledger.Duplicate
	}
	joins, inside, hole := true, true, true
	for _, r := range w.Ranges {
		odo := odometer(s, r)
		end, known := m.ends[odo]
		joins = joins && (!known || end == r.From)
		inside = inside && known && r.To <= end
		hole = hole && m.holes[place(odo, r.From)] == r.To
	}
	sound := window.Check(w) == nil
	switch {
	case joins && sound:
		for _, r := range w.Ranges {
			m.ends[odometer(s, r)] = r.To
		}
		m.post(s)
		m.metered += w.Metered()
		return ledger.Booked
	case joins:
		for _, r := range w.Ranges {
			odo := odometer(s, r)
			m.ends[odo], m.holes[place(odo, r.From)] = r.To, r.To
		}
		m.spoilt[s.Hash] = true
		m.metered += w.Metered()
		m.unbooked += w.Metered()
		return ledger.Quarantined
	case hole && sound:
		for _, r := range w.Ranges {
			delete(m.holes, place(odometer(s, r), r.From))
		}
		m.post(s)
		m.unbooked -= w.Metered()
		return ledger.Booked
	case hole:
		return ledger.Quarantined
	case m.spoilt[s.Hash]:
		return ledger.Duplicate
	case inside:
		return ledger.Conflict
	}
	return ledger.Apart
}

func odometer(s ledger.Submission, r window.Range) string {
	m := s.Window.Catalogue.Meters[r.Meter]
	return s.Node.Name + " " + m.Name + " " + m.Epoch
}

func place(odo string, from energy.Microjoules) string { return fmt.Sprint(odo, " ", from) }

func (m *model) post(s ledger.Submission) {
	m.seen[s.Hash] = true
	for _, p := range s.Window.Postings {
		if p.Job < 0 {
			m.nobody.Post(p)
			continue
		}
		name := s.Window.Jobs[p.Job].Project
		if m.projects[name] == nil {
			m.projects[name] = &ledger.Amounts{}
		}
		m.projects[name].Post(p)
	}
}

// player makes one node's life hard.
type player struct {
	a    *Agent
	sent []ledger.Submission
	boot int
}

// offer gives the next submissions of a node: mostly honest ones.
func (p *player) offer(r *rand.Rand) []ledger.Submission {
	a := p.a
	honest := func() ledger.Submission {
		if r.IntN(4) == 0 {
			a.Jobs = nil
			for i := range r.IntN(3) {
				id := fmt.Sprint(i, r.IntN(5))
				a.Jobs = append(a.Jobs, window.Job{ID: id, Project: "P" + id, StartMS: Start})
			}
		}
		if r.IntN(6) == 0 {
			a.At += r.Int64N(2 * window.SlotMS)
		}
		if rest := (window.Slot(a.At)+1)*window.SlotMS - a.At; rest < step {
			a.At += rest
		}
		s := a.Submit(a.Next(step))
		p.sent = append(p.sent, s)
		return s
	}
	old := func() ledger.Submission { return p.sent[r.IntN(len(p.sent))] }
	if len(p.sent) == 0 {
		return []ledger.Submission{honest()}
	}
	switch r.IntN(14) {
	case 0: // sent again
		return []ledger.Submission{old(), old()}
	case 1: // out of order
		s1, s2, s3 := honest(), honest(), honest()
		return []ledger.Submission{s2, s1, s3}
	case 2: // spoilt, what is sound coming now and then later
		s := honest()
		return []ledger.Submission{a.Submit(spoil(s.Window)), honest()}
	case 3: // two nodes with one name
		w := Copy(old().Window)
		w.Jobs = append(w.Jobs, window.Job{ID: "clone"})
		return []ledger.Submission{a.Submit(w)}
	case 4: // a reboot
		p.boot++
		a.Boot(fmt.Sprintf("%s-%d", a.Node.Name, p.boot), r.IntN(2) == 0)
		return []ledger.Submission{honest()}
	case 5: // a part of a window
		w := Copy(old().Window)
		w.Ranges[0].From += 5000
		return []ledger.Submission{a.Submit(w)}
	case 6: // a merged window that reaches beyond what is booked
		s := old()
		w := Copy(s.Window)
		for i := range w.Ranges {
			w.Ranges[i].To += 1 << 40
		}
		return []ledger.Submission{a.Submit(w)}
	}
	return []ledger.Submission{honest(), honest(), honest()}
}

// back makes an agent go on from where the ledger stands, as agents do when they
// are told that a window is apart.
func (p *player) back(ends []ledger.End) {
	for i, m := range p.a.Catalogue.Meters {
		for _, e := range ends {
			if e.Meter == m.Name && e.Epoch == m.Epoch {
				p.a.UJ[i] = e.UJ
			}
		}
	}
}

func testModel(t *testing.T, open Opener) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) { runModel(t, open, seed) })
	}
}

func runModel(t *testing.T, open Opener, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 99))
	dir := t.TempDir()
	l := open(t, dir)
	defer func() { _ = l.Close() }()
	m := newModel()
	var players []*player
	for i := range 3 {
		a := NewAgent(cluster, fmt.Sprint("node", i), seed*10+uint64(i))
		a.Open(t, l)
		players = append(players, &player{a: a})
	}
	seen := map[ledger.Status]int{}
	for range 250 {
		var subs []ledger.Submission
		var whose []*player
		for _, p := range players {
			for _, s := range p.offer(r) {
				subs, whose = append(subs, s), append(whose, p)
			}
		}
		refused := map[*player]ledger.Status{}
		for i, got := range Book(t, l, subs...) {
			p := whose[i]
			want, stopped := refused[p]
			if !stopped {
				want = m.book(subs[i])
			}
			if got.Status != want {
				t.Fatalf("window %d of %s became %s (%s); want %s", i, p.a.Node.Name, got.Status, got.Reason, want)
			}
			if want > ledger.Quarantined {
				refused[p] = want
			}
			if seen[want]++; want == ledger.Apart {
				p.back(got.Ends)
			}
		}
		switch r.IntN(25) {
		case 0:
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l = open(t, dir)
		case 1:
			repost(t, l, m)
		}
	}
	for _, s := range []ledger.Status{ledger.Booked, ledger.Duplicate, ledger.Quarantined, ledger.Conflict, ledger.Apart} {
		if seen[s] < 10 {
			t.Errorf("%d windows were %s: the test does not test it", seen[s], s)
		}
	}
	m.compare(t, l)
}

// repost books all that is in quarantine, as unknown.
func repost(t *testing.T, l ledger.Ledger, m *model) {
	t.Helper()
	for _, e := range entriesOf(t, l) {
		if e.Settled {
			continue
		}
		res, err := l.Repost(bg(), e.ID, true)
		if err != nil || res.Status != ledger.Booked {
			t.Fatalf("Repost(%d) = %+v, %v", e.ID, res, err)
		}
		m.unbooked -= e.Energy
		m.unknown(e)
	}
}

// unknown notes what a re-posted entry adds to nobody: the model knows how much,
// not in which class.
func (m *model) unknown(e ledger.QuarantineEntry) {
	m.nobody.Energy[energy.Node][energy.Unknown] += e.Energy
	m.holes = map[string]energy.Microjoules{}
}

func (m *model) compare(t *testing.T, l ledger.Ledger) {
	t.Helper()
	b := month(t, l)
	if b.Metered != m.metered || b.Unbooked != m.unbooked || booked(b) != m.metered-m.unbooked {
		t.Errorf("metered %s, unbooked %s, booked %s; want %s, %s, %s", b.Metered, b.Unbooked, booked(b), m.metered, m.unbooked, m.metered-m.unbooked)
	}
	for _, u := range []energy.Use{energy.Idle, energy.System, energy.Unknown} {
		if got, want := b.Nobody.Use(u), m.nobody.Use(u); got != want {
			t.Errorf("%s = %s; want %s", u, got, want)
		}
	}
	n := 0
	for name, want := range m.projects {
		if *want == (ledger.Amounts{}) {
			continue
		}
		if n++; project(b, name).Amounts != *want {
			t.Errorf("%s = %+v; want %+v", name, project(b, name).Amounts, *want)
		}
	}
	if len(b.Projects) != n {
		t.Errorf("%d projects; want %d", len(b.Projects), n)
	}
	res, err := l.Audit(bg(), cluster, Start, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range res.Findings {
		if f.Kind != "hole" && f.Kind != "quarantine" {
			t.Errorf("audit found %+v", f)
		}
	}
	if res.Metered != m.metered || res.Booked != m.metered-m.unbooked || res.Unbooked != m.unbooked {
		t.Errorf("audit = %s, %s, %s; want %s, %s", res.Metered, res.Booked, res.Unbooked, m.metered, m.unbooked)
	}
}
