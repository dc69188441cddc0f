package cray

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/sysfs"
)

// gauge is one counter and the power beside it, kept open.
type gauge struct {
	file   string
	scope  collector.Scope
	whole  bool // the node's
	energy *sysfs.File
	power  *sysfs.File // nil where there is none
}

// find lists the folder; meters that are known stay open.
func (s *Source) find() error {
	names, err := s.sys.Entries(folder)
	if err != nil {
		return fmt.Errorf("cannot look for pm_counters: %w", err)
	}
	has := func(name string) bool { return slices.Contains(names, name) }
	known := map[string]*gauge{}
	for _, m := range s.meters {
		known[m.file] = m
	}
	s.meters = nil
	for _, name := range names {
		scope, ok := scopeOf(name, has)
		if !ok {
			continue
		}
		m := known[name]
		if m == nil {
			m = &gauge{file: name, scope: scope, whole: name == "energy", energy: s.sys.File(folder + "/" + name)}
		}
		m.scope = scope
		if power := strings.TrimSuffix(name, "energy") + "power"; m.power == nil && has(power) {
			m.power = s.sys.File(folder + "/" + power)
		}
		delete(known, name)
		s.meters = append(s.meters, m)
	}
	// one that has gone stays, as an error, until it is back
	for name, m := range known {
		if scope, ok := scopeOf(name, has); ok {
			m.scope = scope
			s.meters = append(s.meters, m)
		}
	}
	slices.SortFunc(s.meters, func(a, b *gauge) int { return strings.Compare(a.file, b.file) })
	s.freshness = s.control(s.freshness, "freshness", has)
	s.generation = s.control(s.generation, "generation", has)
	s.cap = s.control(s.cap, "power_cap", has)
	if s.startup == nil && (s.epoch == "" || has("startup")) {
		s.startup = s.sys.File(folder + "/startup") // its absence is an event
	}
	for _, m := range s.gaps() {
		s.journal.State(s.now(), "missing_meter", m.Meter, m.Why)
	}
	return nil
}

func (s *Source) control(f *sysfs.File, name string, has func(string) bool) *sysfs.File {
	if f == nil && has(name) {
		return s.sys.File(folder + "/" + name)
	}
	return f
}

// gaps are accelerators that the numbering has and the folder has not.
func (s *Source) gaps() []collector.Missing {
	var seen []uint64
	for _, m := range s.meters {
		if n, ok := numberIn(m.file, "accel"); ok {
			seen = append(seen, n)
		}
	}
	var out []collector.Missing
	if len(seen) == 0 {
		return nil
	}
	for n := range min(slices.Max(seen), 64) {
		if !slices.Contains(seen, n) {
			file := s.sys.Full(folder + "/accel" + strconv.FormatUint(n, 10) + "_energy")
			out = append(out, collector.Missing{Meter: "gpu" + strconv.FormatUint(n, 10), Why: file + " is missing while accelerators with higher numbers are there"})
		}
	}
	return out
}

// scopeOf says what an energy file meters. Limits are well above any such
// device: what they stop is a counter that jumps.
func scopeOf(file string, has func(string) bool) (collector.Scope, bool) {
	sc := collector.Scope{Kind: collector.Counter, Parent: "node", Resolution: energy.Joule, Device: "pm_counters/" + file}
	if !has("energy") {
		sc.Parent = ""
	}
	if n, ok := numberIn(file, "accel"); ok {
		sc.Name, sc.Class, sc.Limit = "gpu"+strconv.FormatUint(n, 10), energy.GPU, 2500*energy.Watt
		return sc, true
	}
	if n, ok := numberIn(file, "cpu"); ok {
		sc.Name, sc.Class, sc.Limit = "package"+strconv.FormatUint(n, 10), energy.CPU, 1500*energy.Watt
		return sc, true
	}
	switch file {
	case "energy":
		sc.Name, sc.Parent, sc.Class, sc.Rest, sc.Limit = "node", "", energy.Node, energy.Other, 30_000*energy.Watt
	case "cpu_energy":
		if has("cpu0_energy") {
			return sc, false // the sum of those
		}
		sc.Name, sc.Class, sc.Limit = "package0", energy.CPU, 1500*energy.Watt
	case "memory_energy":
		sc.Name, sc.Class, sc.Limit = "dram0", energy.Memory, 1500*energy.Watt
	default:
		return sc, false
	}
	return sc, true
}

// numberIn is N of <kind>N_energy.
func numberIn(file, kind string) (uint64, bool) {
	rest, ok := strings.CutPrefix(file, kind)
	if !ok {
		return 0, false
	}
	digits, ok := strings.CutSuffix(rest, "_energy")
	if !ok {
		return 0, false
	}
	n, ok := sysfs.ParseUint([]byte(digits))
	return n, ok && n < 1000
}

// line is "<value> J <time> us".
type line struct {
	value uint64
	at    uint64 // us since 1970
}

// lineOf reads a file of one line in that unit.
func lineOf(f *sysfs.File, unit byte) (line, error) {
	b, err := f.Bytes()
	if err != nil {
		return line{}, err
	}
	l, ok := parse(b, unit)
	if !ok {
		return line{}, f.Fault(b, "line '<number> "+string(unit)+" <time> us'")
	}
	return l, nil
}

func parse(b []byte, unit byte) (l line, ok bool) {
	value, b := word(b)
	u, b := word(b)
	at, b := word(b)
	us, b := word(b)
	if len(u) != 1 || u[0] != unit || string(us) != "us" || len(bytes.TrimSpace(b)) > 0 {
		return line{}, false
	}
	if l.value, ok = sysfs.ParseUint(value); !ok {
		return line{}, false
	}
	l.at, ok = sysfs.ParseUint(at)
	return l, ok && l.at > 0 && l.at < 1<<53
}

// leading is the number that a control file begins with ("0 W", "400").
func leading(b []byte) (uint64, bool) {
	w, _ := word(b)
	return sysfs.ParseUint(w)
}

func word(b []byte) (w, rest []byte) {
	b = bytes.TrimLeft(b, " \t\n")
	i := bytes.IndexAny(b, " \t\n")
	if i < 0 {
		return b, nil
	}
	return b[:i], b[i:]
}
