package emulate

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

//go:embed nvml/*.c nvml/*.h
var sources embed.FS

// soname is what the emulated library is called.
const soname = "libnvidia-ml.so.1"

// id is a seeded identity in the form of a UUID.
func id(words ...any) string {
	b := hash(words...)
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

func hash(words ...any) []byte {
	h := sha256.Sum256(fmt.Append(nil, words...))
	return h[:]
}

// board is a GPU as NVML and /proc/driver/nvidia name it.
type board struct {
	uuid, pci, serial string
	minor             int
}

// boards gives the GPUs in the order of NVML, which is that of their PCI
// addresses. A GPU's number everywhere else, in scenarios and in the names of
// meters, is the minor of its /dev/nvidiaN, as for Slurm; on machines with one PCI
// bus the minors run the other way, so that nobody takes one for the other; a
// scenario may have them in any order.
func (m *machine) boards(seed uint64) []board {
	out := make([]board, m.gpus)
	for i := range out {
		out[i] = board{
			uuid: "GPU-" + id(m.name, seed, "gpu", i), pci: fmt.Sprintf("%08X:%02X:00.0", 0, 0x1b+0x20*i),
			serial: fmt.Sprintf("16501%02d%06d", i, seed%1_000_000), minor: m.gpus - 1 - i,
		}
		if m.grace > 0 { // a PCI domain each
			out[i].minor = i
			out[i].pci = fmt.Sprintf("%08X:01:00.0", 9+0x10*i)
		}
		if m.minors != nil {
			out[i].minor = m.minors[i]
		}
	}
	return out
}

// nvmlText is what the library reads beside the trace.
func (m *machine) nvmlText(seed uint64, faults []Fault) []byte {
	var b bytes.Buffer
	p := profileOf(m.profile)
	fmt.Fprintf(&b, "name %s\n", p.name)
	fmt.Fprintf(&b, "profile %s %s %s %d %d %d %d %d %d %d %d %d %d %d %x %d\n", m.profile, p.driver, p.nvml,
		p.average, p.module, p.scoped, p.tlim, p.architecture, p.major, p.limit*1000, p.least*1000, p.most*1000,
		p.memory, p.multiprocessors, p.device, seed)
	index := map[int]int{-1: -1} // by minor
	for i, g := range m.boards(seed) {
		index[g.minor] = i
		counter, module := fmt.Sprintf("gpu%d", g.minor), "-"
		if m.grace > 0 {
			counter = fmt.Sprintf("module%d", g.minor)
			module = counter
		}
		fmt.Fprintf(&b, "gpu %s %s %s %d %s gpu%d util%d %s\n", g.uuid, g.pci, g.serial, g.minor, counter, g.minor, g.minor, module)
	}
	fault := func(from, to time.Time, kind string, gpu int, code uint32, name string) {
		fmt.Fprintf(&b, "fault %d %d %s %d %d %s\n", from.UnixMilli(), to.UnixMilli(), kind, index[gpu], code, name)
	}
	for _, f := range faults {
		switch f.Kind {
		case "driver_reload":
			fault(f.From, f.To, "reload", -1, 0, "-")
		case "version_mismatch":
			fault(f.From, f.To, "mismatch", -1, 0, "-")
		case "call":
			fault(f.From, f.To, "call", f.GPU, f.Code, f.Name)
		case "field":
			fault(f.From, f.To, "field", f.GPU, uint32(f.Field)<<16|f.Code, "-")
		case "process":
			fault(f.From, f.To, "process", f.GPU, f.Code, cmp.Or(f.Name, "-"))
		case "mig":
			f.writeLayout(&b, index[f.GPU], seed, p.slice)
		case "reset":
			if f.GPU >= 0 && f.To.After(f.From) {
				fault(f.From, f.To, "reset", f.GPU, 0, "-")
			}
		default:
			if f.GPU >= 0 {
				fault(f.From, f.To, f.Kind, f.GPU, f.Code, "-")
			}
		}
		if f.Kind == "lost" {
			fault(f.From, f.To, "xid", f.GPU, 79, "-")
		}
		if at, ok := f.restart(); ok && f.Meter == "" {
			fault(at, Forever(), "restart", f.GPU, 0, "-")
		}
	}
	return b.Bytes()
}

// restart is when the fault sets counters to 0.
func (f *Fault) restart() (time.Time, bool) {
	switch f.Kind {
	case "lost", "reset", "driver_reload":
		return f.To, !f.endless()
	case "startup":
		return f.From, true
	}
	return time.Time{}, false
}

func (f *Fault) writeLayout(b *bytes.Buffer, index int, seed uint64, multiprocessors int) {
	fmt.Fprintf(b, "mig %d %d", f.From.UnixMilli(), index)
	first := map[int]int{1: 7, 2: 3, 3: 1, 4: 1, 7: 0} // instance ids by size, as the driver numbers them
	for _, s := range f.Slices {
		fmt.Fprintf(b, " %d:%d:0:%d:%d:%d:%d:MIG-%s", s.Slot, first[s.Size], s.Size, s.Size, s.Memory, s.Size*multiprocessors,
			id(seed, "mig", f.GPU, f.From.UnixMilli(), s.Slot))
		first[s.Size]++
	}
	b.WriteByte('\n')
}

// compile makes the library in dir, without the symbols that the scenario
// misses.
func compile(ctx context.Context, compiler, dir string, faults []Fault) error {
	source := filepath.Join(dir, "source")
	if err := os.CopyFS(source, sources); err != nil {
		return fmt.Errorf("cannot unpack the source of the library: %w", err)
	}
	files, err := filepath.Glob(filepath.Join(source, "nvml", "*.c"))
	if err != nil {
		return err
	}
	if compiler == "" {
		compiler = "cc"
	}
	made := filepath.Join(dir, soname)
	args := []string{"-std=gnu11", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-pthread", "-Wl,-soname," + soname, "-o", made + ".new"}
	for _, f := range faults {
		if f.Kind != "missing_symbol" {
			continue
		}
		if !strings.Contains(sourceText(), " "+f.Name+"(") {
			return fmt.Errorf("missing_symbol %s: the emulated library has no such function anyway", f.Name)
		}
		args = append(args, "-D"+f.Name+"=absent_"+f.Name)
	}
	out, err := exec.CommandContext(ctx, compiler, append(append(args, files...), "-ldl")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("cannot compile the emulated NVML with %s (a C compiler is needed, Debian: apt-get install gcc libc6-dev): %w\n%s", compiler, err, out)
	}
	return os.Rename(made+".new", made)
}

func sourceText() string {
	var b strings.Builder
	entries, _ := sources.ReadDir("nvml")
	for _, e := range entries {
		text, _ := sources.ReadFile("nvml/" + e.Name())
		b.Write(text)
	}
	return b.String()
}
