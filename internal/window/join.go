package window

import "github.com/wattledger/wattledger/internal/energy"

// Join makes one window of two that follow each other: ranges join, postings
// add, the holdings are those at the end. ok is false where that would lose or
// blur something: another catalogue or slot, a gap between them, a range that
// does not join. Neither argument is changed.
func Join(a, b *Window) (joined *Window, ok bool) {
	if a.Catalogue.ID != b.Catalogue.ID || a.EndMS != b.StartMS || Slot(a.StartMS) != Slot(b.EndMS-1) ||
		a.Final || a.Bridge != b.Bridge {
		return nil, false
	}
	w := &Window{
		Catalogue: a.Catalogue, StartMS: a.StartMS, EndMS: b.EndMS, Bridge: a.Bridge, Final: b.Final,
		Events: append(append([]Event{}, a.Events...), b.Events...),
	}
	if w.Ranges, ok = joinRanges(a.Ranges, b.Ranges); !ok {
		return nil, false
	}
	n := joiner{w: w, index: map[Job]int{}, post: map[Posting]int{}}
	n.add(a)
	n.add(b)
	n.holdings(b)
	for _, e := range [][]Series{a.Telemetry, b.Telemetry} {
		w.Telemetry = append(w.Telemetry, e...)
	}
	return w, true
}

func joinRanges(a, b []Range) ([]Range, bool) {
	out := append([]Range{}, a...)
	for _, r := range b {
		i := 0
		for i < len(out) && out[i].Meter != r.Meter {
			i++
		}
		if i == len(out) {
			out = append(out, r)
			continue
		}
		if out[i].To != r.From {
			return nil, false
		}
		out[i].To, out[i].ToMS, out[i].Raw, out[i].Estimated = r.To, r.ToMS, r.Raw, r.Estimated
	}
	return out, true
}

type joiner struct {
	w      *Window
	index  map[Job]int     // by the key: id, restart, submit
	post   map[Posting]int // by job, class, use and grade
	absent [energy.NumClasses]int
}

func (n *joiner) job(j Job) int {
	k := Job{ID: j.ID, Restart: j.Restart, SubmitMS: j.SubmitMS}
	i, seen := n.index[k]
	if !seen {
		i = len(n.w.Jobs)
		n.index[k] = i
		n.w.Jobs = append(n.w.Jobs, j)
	}
	have := &n.w.Jobs[i]
	have.StartMS = min(have.StartMS, j.StartMS)
	have.EndMS = max(have.EndMS, j.EndMS)
	if have.Project == "" {
		have.Project = j.Project
	}
	if have.User == "" {
		have.User = j.User
	}
	return i
}

func (n *joiner) add(w *Window) {
	for _, j := range w.Jobs {
		n.job(j)
	}
	for _, p := range w.Postings {
		if p.Job >= 0 {
			p.Job = n.job(w.Jobs[p.Job])
		}
		k := Posting{Job: p.Job, Class: p.Class, Use: p.Use, Grade: p.Grade}
		i, seen := n.post[k]
		if !seen {
			n.post[k] = len(n.w.Postings)
			n.w.Postings = append(n.w.Postings, p)
			continue
		}
		n.w.Postings[i].Energy += p.Energy
		n.w.Postings[i].DeviceMS += p.DeviceMS
	}
	for _, a := range w.Absences {
		if i := n.absent[a.Class]; i > 0 {
			n.w.Absences[i-1].DeviceMS += a.DeviceMS
			continue
		}
		n.w.Absences = append(n.w.Absences, a)
		n.absent[a.Class] = len(n.w.Absences)
	}
}

func (n *joiner) holdings(b *Window) {
	for _, h := range b.Holdings {
		n.w.Holdings = append(n.w.Holdings, Holding{Job: n.job(b.Jobs[h.Job]), Devices: h.Devices})
	}
}
