package emulate

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Fault is one line of a scenario.
type Fault struct {
	From, To time.Time // [From, To); Forever for a fault that stays
	Kind     string    // lost, hang, vanish, startup ...
	GPU      int       // minor of /dev/nvidiaN, the N of meter gpuN; -1 for all or none
	Meter    string    // of a counter in a tree
	File     string    // pattern below ROOT
	Name     string    // of a call, a symbol; the text of "is"
	Code     uint32    // NVML return, Xid, process id, recovery action
	Field    int       // NVML field
	Slices   []Slice   // of a MIG layout
	Minors   []int     // of all GPUs, by NVML's index
	Line     int
}

// Slice is one MIG device: a GPU instance with one compute instance.
type Slice struct {
	Slot   int // index among the MIG devices of its GPU
	Size   int // seventh parts of the multiprocessors
	Memory int // MiB
}

// Forever ends a fault that never ends.
func Forever() time.Time { return time.UnixMilli(math.MaxInt64 / 4) }

// active tells whether the fault is there at an instant.
func (f *Fault) active(at time.Time) bool { return !at.Before(f.From) && at.Before(f.To) }

// ParseScenario reads a scenario; name is that of its file, start the instant
// that its times count from. A line is one fault, # begins a comment:
//
//	[at 20s [for 10s]] gpu 3 lost          falls off the bus (15, Xid 79); comes back after a new nvmlInit, its counter at 0
//	                   gpu 3 reset         counter at 0; with "for", calls give 16 meanwhile and old handles die
//	                   gpu 3 hang          calls do not return before the end (needs "for")
//	                   gpu 3 blank|backwards|stuck|absurd
//	                   gpu 3 xid 31 | recovery 1
//	                   gpu 3 process 4711 [sm 60]   it holds the GPU, and keeps 60 % of it busy
//	                   driver_reload       2 s unless "for": nvmlInit gives 9, handles die, counters at 0
//	                   version_mismatch    everything gives 18
//	                   call nvmlDeviceGetPowerUsage returns 999 [gpu 3]
//	                   field 191 returns 3 [gpu 3]
//	                   mig gpu 0 1g.10gb 2g.20gb@3 3g.40gb
//	                   meter package0 reset|blank|backwards|stuck|absurd|zero
//	                   file sys/class/hwmon/hwmon1/device/power1_average vanish|empty|garbage|stuck|permission|eio|is TEXT
//	                   startup             the Cray controller starts anew, its counters at 0
//	                   freshness stuck     the Cray controller stops scanning
//	missing_symbol nvmlDeviceGetMemoryInfo_v2
//	minors 2 0 3 1         of the device files, in the order of NVML
//
// A GPU's number is that of its meter and of its /dev/nvidiaN, which is not NVML's
// index. Without "at" a fault is there from the start, without "for" it stays. A meter
// fault is one of the files that show the meter. Plain files cannot do it all:
// "permission" takes the mode away, which root does not notice; "eio" is a link
// to /proc/self/mem, which gives EIO to who follows links out of the tree; a file
// that vanishes is emptied first, for readers that keep it open.
func ParseScenario(name string, r io.Reader, m string, start time.Time) ([]Fault, error) {
	plan, err := machineOf(m)
	if err != nil {
		return nil, err
	}
	var out []Fault
	var errs []error
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.Fields(text)
		if len(words) == 0 {
			continue
		}
		f, err := parseLine(plan, words, start)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %w", name, n, err))
			continue
		}
		f.Line = n
		out = append(out, f)
	}
	if err := lines.Err(); err != nil {
		errs = append(errs, fmt.Errorf("cannot read %s: %w", name, err))
	}
	return out, errors.Join(errs...)
}

// when reads "at D for D" and gives the words after it.
func when(f *Fault, words []string, start time.Time) ([]string, error) {
	f.From, f.To = start, Forever()
	for i, key := range []string{"at", "for"} {
		if len(words) == 0 || words[0] != key {
			break
		}
		if len(words) < 2 {
			return nil, fmt.Errorf("%s what time? a duration such as 20s", key)
		}
		d, err := time.ParseDuration(words[1])
		if err != nil || d < 0 || (i == 1 && d == 0) {
			return nil, fmt.Errorf("%s: %q is not a duration such as 20s", key, words[1])
		}
		if i == 0 {
			f.From = start.Add(d)
		} else {
			f.To = f.From.Add(d)
		}
		words = words[2:]
	}
	if len(words) == 0 {
		return nil, errors.New("what happens is missing")
	}
	return words, nil
}

func parseLine(m *machine, words []string, start time.Time) (Fault, error) {
	f := Fault{GPU: -1}
	words, err := when(&f, words, start)
	if err != nil {
		return f, err
	}
	verb, rest := words[0], words[1:]
	nvml := []string{"gpu", "driver_reload", "version_mismatch", "call", "field", "missing_symbol", "minors", "mig"}
	cray := []string{"startup", "freshness"}
	if slices.Contains(nvml, verb) && m.gpus == 0 {
		return f, fmt.Errorf("%s: a %s node has no NVML; name a meter or a file", verb, m.name)
	}
	if slices.Contains(cray, verb) && !m.cray {
		return f, fmt.Errorf("%s: a %s node has no pm_counters", verb, m.name)
	}
	f.Kind = verb
	switch verb {
	case "gpu":
		return f, f.ofGPU(m, rest)
	case "driver_reload":
		if f.endless() {
			f.To = f.From.Add(2 * time.Second)
		}
		return f, done(rest)
	case "version_mismatch":
		return f, done(rest)
	case "startup":
		f.To = f.From
		return f, done(rest)
	case "freshness":
		if len(rest) != 1 || rest[0] != "stuck" {
			return f, errors.New("freshness: stuck is all it can be")
		}
		return f, nil
	case "missing_symbol":
		if !f.From.Equal(start) || !f.endless() {
			return f, errors.New("missing_symbol: a library lacks it from the start and for ever")
		}
		return f, f.symbol(rest, 1)
	case "minors":
		return f, f.order(m, rest, f.From.Equal(start))
	case "call", "field":
		return f, f.answer(m, rest)
	case "mig":
		return f, f.layout(m, rest)
	case "meter":
		return f, f.ofMeter(m, rest)
	case "file":
		return f, f.ofFile(rest)
	}
	return f, fmt.Errorf("%q is not gpu, driver_reload, version_mismatch, call, field, missing_symbol, minors, mig, meter, file, startup or freshness", verb)
}

func (f *Fault) endless() bool { return f.To.Equal(Forever()) }

func done(rest []string) error {
	if len(rest) > 0 {
		return fmt.Errorf("%q is too much", strings.Join(rest, " "))
	}
	return nil
}

// number reads a whole number up to most.
func number(words []string, i int, what string, most uint64) (uint64, error) {
	if i >= len(words) {
		return 0, fmt.Errorf("%s is missing", what)
	}
	n, err := strconv.ParseUint(words[i], 10, 64)
	if err != nil || n > most {
		return 0, fmt.Errorf("%s: %q is not a number from 0 to %d", what, words[i], most)
	}
	return n, nil
}

func (f *Fault) ofGPU(m *machine, rest []string) error {
	n, err := number(rest, 0, "gpu", uint64(m.gpus-1))
	if err != nil {
		return err
	}
	if len(rest) < 2 {
		return errors.New("what happens to the GPU is missing")
	}
	f.GPU, f.Kind = int(n), rest[1]
	used := 2
	switch f.Kind {
	case "hang":
		if f.endless() {
			return errors.New("hang: say for how long")
		}
	case "xid", "recovery", "process":
		code, err := number(rest, 2, f.Kind, math.MaxUint32)
		if err != nil {
			return err
		}
		f.Code, used = uint32(code), 3
		if f.Kind == "process" && len(rest) > 3 && rest[3] == "sm" {
			sm, err := number(rest, 4, "sm", 100)
			if err != nil {
				return err
			}
			f.Name, used = strconv.FormatUint(sm, 10), 5
		}
	case "reset":
		if f.endless() {
			f.To = f.From
		}
	case "lost", "blank", "backwards", "stuck", "absurd":
	default:
		return fmt.Errorf("%q is not lost, reset, hang, blank, backwards, stuck, absurd, xid, recovery or process", f.Kind)
	}
	return done(rest[used:])
}

// order: minors N N ...
func (f *Fault) order(m *machine, rest []string, atStart bool) error {
	if !atStart || !f.endless() {
		return errors.New("minors: device files have them from the start and for ever")
	}
	for i := range rest {
		n, err := number(rest, i, "minors", uint64(m.gpus-1))
		if err != nil {
			return err
		}
		if slices.Contains(f.Minors, int(n)) {
			return fmt.Errorf("minors: %d is there twice", n)
		}
		f.Minors = append(f.Minors, int(n))
	}
	if len(f.Minors) != m.gpus {
		return fmt.Errorf("minors: %d of them for %d GPUs", len(f.Minors), m.gpus)
	}
	return nil
}

var symbolName = regexp.MustCompile(`^nvml[A-Z][A-Za-z0-9_]{2,58}$`)

func (f *Fault) symbol(words []string, n int) error {
	if len(words) < n || !symbolName.MatchString(words[0]) {
		return errors.New("the name of an NVML function is missing")
	}
	f.Name = words[0]
	return done(words[n:])
}

// answer: call NAME returns CODE [gpu N]; field N returns CODE [gpu N].
func (f *Fault) answer(m *machine, rest []string) error {
	if len(rest) < 3 || rest[1] != "returns" {
		return fmt.Errorf("%s WHAT returns CODE [gpu N]", f.Kind)
	}
	code, err := number(rest, 2, "returns", math.MaxUint16)
	if err != nil {
		return err
	}
	f.Code = uint32(code)
	if len(rest) > 3 {
		if rest[3] != "gpu" {
			return fmt.Errorf("%q is not gpu", rest[3])
		}
		n, err := number(rest, 4, "gpu", uint64(m.gpus-1))
		if err != nil {
			return err
		}
		f.GPU = int(n)
		if err := done(rest[5:]); err != nil {
			return err
		}
	}
	if f.Kind == "call" {
		return f.symbol(rest[:1], 1)
	}
	n, err := number(rest, 0, "field", 1000)
	f.Field = int(n)
	return err
}

var sliceName = regexp.MustCompile(`^([12347])g(?:\.([0-9]{1,3})gb)?(?:@([0-6]))?$`)

// layout: mig gpu N SLICE...
func (f *Fault) layout(m *machine, rest []string) error {
	if len(rest) < 3 || rest[0] != "gpu" {
		return errors.New("mig gpu N and its slices, such as 1g.10gb 2g.20gb@3 3g.40gb")
	}
	n, err := number(rest, 1, "gpu", uint64(m.gpus-1))
	if err != nil {
		return err
	}
	if !f.endless() {
		return errors.New("mig: a layout stays until the next; leave out \"for\"")
	}
	f.GPU = int(n)
	eighths := map[int]int{1: 1, 2: 2, 3: 4, 4: 4, 7: 8} // of the memory
	at, sum := 0, 0
	taken := map[int]bool{}
	for _, word := range rest[2:] {
		g := sliceName.FindStringSubmatch(word)
		if g == nil {
			return fmt.Errorf("%q is not a slice such as 1g.10gb or 2g.20gb@3", word)
		}
		size := int(g[1][0] - '0')
		s := Slice{Slot: at, Size: size, Memory: profileOf(m.profile).memory / 8 * eighths[size]}
		if g[2] != "" {
			gb, _ := strconv.Atoi(g[2])
			s.Memory = gb * 1_000_000_000 >> 20 // as it is sold
		}
		if g[3] != "" {
			s.Slot = int(g[3][0] - '0')
		}
		if s.Slot > 6 || taken[s.Slot] {
			return fmt.Errorf("%s: index %d is taken or too high", word, s.Slot)
		}
		taken[s.Slot] = true
		at, sum = s.Slot+size, sum+size
		f.Slices = append(f.Slices, s)
	}
	if sum > 7 {
		return fmt.Errorf("the slices are %d sevenths of a GPU", sum)
	}
	return nil
}

func (f *Fault) ofMeter(m *machine, rest []string) error {
	if len(rest) != 2 {
		return errors.New("meter NAME reset|blank|backwards|stuck|absurd|zero")
	}
	f.Meter, f.Kind = rest[0], rest[1]
	if !m.has(f.Meter) {
		return fmt.Errorf("a %s node has no meter %s", m.name, f.Meter)
	}
	if m.gpus > 0 && strings.HasPrefix(f.Meter, "gpu") {
		return fmt.Errorf("%s is in no tree; write gpu %s %s", f.Meter, f.Meter[3:], f.Kind)
	}
	switch f.Kind {
	case "reset":
		f.To = f.From
	case "blank", "backwards", "stuck", "absurd", "zero":
	default:
		return fmt.Errorf("%q is not reset, blank, backwards, stuck, absurd or zero", f.Kind)
	}
	return nil
}

func (f *Fault) ofFile(rest []string) error {
	if len(rest) < 2 {
		return errors.New("file PATTERN vanish|empty|garbage|stuck|permission|eio|is TEXT")
	}
	f.File, f.Kind = rest[0], rest[1]
	if strings.HasPrefix(f.File, "/") || slices.Contains(strings.Split(f.File, "/"), "..") {
		return fmt.Errorf("%s: a path below the root, such as sys/class/hwmon/hwmon1/name", f.File)
	}
	switch f.Kind {
	case "is":
		f.Name = strings.Join(rest[2:], " ")
		return nil
	case "vanish", "empty", "garbage", "stuck", "permission", "eio":
		return done(rest[2:])
	}
	return fmt.Errorf("%q is not vanish, empty, garbage, stuck, permission, eio or is", f.Kind)
}
