package nvml

import (
	"fmt"
	"math"
	"sync"
	"testing"
	"time"
)

// fakeLibrary is a driver with GPUs that draw constant power. Its clock is
// time.Now: the tests run in a bubble.
type fakeLibrary struct {
	t  *testing.T
	mu sync.Mutex

	gpus     []*fakeGPU
	initCode code
	inits    int
	opened   bool
	handles  int // generation
	xids     chan event
	noEvents bool
	babble   bool // there is always one more Xid
	waits    int
	inside   int // calls in flight, of all GPUs
	most     int // of them at once
}

// fakeGPU is one of them. What it answers can be changed under the lock.
type fakeGPU struct {
	lib      *fakeLibrary
	index    int
	minor    int
	uuid     string
	product  string
	volatile bool // no persistence mode

	watts, moduleWatts float64
	counterScope       uint32 // of field 83
	twoCounters        bool   // field 191 by scope
	since              time.Time
	base               float64 // J at since
	percent            uint32
	energyIs           *uint64 // instead of the counter, mJ
	fields             map[[2]uint32]field
	codes              map[string]code // by call; "" for all
	hang               map[string]time.Duration
	mig                []*Slice // nil for an empty slot
	migOn              bool
	processes          []process
	uses               []use
	asked              []uint64 // stamps that uses were asked since

	takes   time.Duration // each call for fields
	inside  int
	calls   map[string]int
	stale   int // calls with a handle of before
	doubled int // calls while another was inside
}

func newFake(t *testing.T, n int) *fakeLibrary {
	l := &fakeLibrary{t: t, xids: make(chan event, 8)}
	for i := range n {
		l.gpus = append(l.gpus, &fakeGPU{
			lib: l, index: i, minor: i, uuid: fmt.Sprintf("GPU-%04d", i), product: "NVIDIA H100 80GB HBM3",
			watts: 300, since: time.Now(), base: 1e6, percent: 50,
			fields: map[[2]uint32]field{}, codes: map[string]code{}, hang: map[string]time.Duration{}, calls: map[string]int{},
		})
	}
	return l
}

// source makes a Source on the fake; what it holds is closed with the test.
func (l *fakeLibrary) source(o Options) *Source {
	l.t.Helper()
	o.Now = time.Now
	if o.Procfs == "" {
		o.Procfs = l.t.TempDir()
	}
	o.load = func(string) (library, error) { return l, nil }
	s, err := New(o)
	if err != nil {
		l.t.Fatal(err)
	}
	return s
}

func (l *fakeLibrary) with(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

func (l *fakeLibrary) Init() code {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inits++
	if l.initCode == success {
		l.opened = true
		l.handles++
	}
	return l.initCode
}

func (l *fakeLibrary) Shutdown() code {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.opened = false
	for _, g := range l.gpus {
		if g.inside > 0 {
			g.doubled++
		}
	}
	return success
}

func (l *fakeLibrary) DriverVersion() (string, code) { return "565.57.01", success }
func (l *fakeLibrary) Count() (int, code)            { return len(l.gpus), success }

func (l *fakeLibrary) Device(i int) (device, code) { return l.handle(l.gpus[i]) }

func (l *fakeLibrary) DeviceAt(pci string) (device, code) {
	for _, g := range l.gpus {
		if g.pci() == pci {
			return l.handle(g)
		}
	}
	return nil, gpuNotFound
}

func (l *fakeLibrary) handle(g *fakeGPU) (device, code) {
	d := &fakeDevice{g: g}
	if c := d.enter("open"); c != success {
		return nil, c
	}
	d.g.lib.mu.Lock()
	defer d.g.lib.mu.Unlock()
	d.handles = l.handles
	return d, success
}

func (l *fakeLibrary) EventSet() (eventSet, code) {
	if l.noEvents {
		return nil, functionNotFound
	}
	return fakeEvents{l}, success
}

type fakeEvents struct{ l *fakeLibrary }

func (e fakeEvents) Register(d device) code { return d.(*fakeDevice).enter("register") }
func (e fakeEvents) Free() code             { return success }

func (e fakeEvents) Wait(ms uint32) (event, code) {
	babble := false
	e.l.with(func() { e.l.waits++; babble = e.l.babble })
	if babble {
		return event{}, success
	}
	if ms > 0 {
		e.l.t.Error("the library was asked to wait for events")
	}
	select {
	case x := <-e.l.xids:
		return x, success
	default:
		return event{}, timedOut
	}
}

func (g *fakeGPU) pci() string { return fmt.Sprintf("00000000:%02X:00.0", g.index+16) }

// mj is the counter of a scope: base and what was drawn since, in steps of 100 ms.
func (g *fakeGPU) mj(watts float64) uint64 {
	steps := math.Floor(time.Since(g.since).Seconds()*10 + 1e-6)
	return uint64((g.base + watts*steps/10) * 1000)
}

type fakeDevice struct {
	g       *fakeGPU
	handles int
}

// enter is the begin of every call: it may hang, and says what is answered.
func (d *fakeDevice) enter(name string) code {
	g, l := d.g, d.g.lib
	l.mu.Lock()
	defer l.mu.Unlock()
	g.calls[name]++
	g.calls[""]++
	if g.inside > 0 && name != "register" {
		g.doubled++
	}
	if d.handles != 0 && d.handles != l.handles {
		g.stale++
	}
	if h := g.hang[name]; h > 0 {
		delete(g.hang, name)
		d.last(h)
	}
	if name == "fields" && g.takes > 0 {
		d.last(g.takes)
	}
	if c := g.codes[""]; c != success {
		return c
	}
	return g.codes[name]
}

// last lets a call take that long; the lock is held.
func (d *fakeDevice) last(t time.Duration) {
	g, l := d.g, d.g.lib
	g.inside++
	l.inside++
	l.most = max(l.most, l.inside)
	l.mu.Unlock()
	time.Sleep(t)
	l.mu.Lock()
	g.inside--
	l.inside--
}

func (d *fakeDevice) Key() any              { return d.g }
func (d *fakeDevice) UUID() (string, code)  { return d.g.uuid, d.enter("uuid") }
func (d *fakeDevice) Name() (string, code)  { return d.g.product, d.enter("name") }
func (d *fakeDevice) Minor() (int, code)    { return d.g.minor, d.enter("minor") }
func (d *fakeDevice) PCI() (string, code)   { return d.g.pci(), d.enter("pci") }
func (d *fakeDevice) MIG() (bool, code)     { return d.g.migOn, d.enter("mig") }
func (d *fakeDevice) Margin() (int32, code) { return 40, d.enter("margin") }
func (d *fakeDevice) Persistent() (bool, code) {
	return !d.g.volatile, d.enter("persistent")
}

func (d *fakeDevice) Temperature() (int32, code) { return 55, d.enter("temperature") }

func (d *fakeDevice) Power() (uint32, code) { return uint32(d.g.watts * 1000), d.enter("power") }

func (d *fakeDevice) PowerLimits() (enforced, most uint32, c code) {
	return 700_000, 700_000, d.enter("limits")
}

func (d *fakeDevice) Memory() (used, total uint64, c code) {
	return 1 << 30, 80 << 30, d.enter("memory")
}

func (d *fakeDevice) Clocks() (sm, memory uint32, c code) { return 1980, 2619, d.enter("clocks") }

func (d *fakeDevice) Processes() ([]process, code) {
	c := d.enter("processes")
	d.g.lib.mu.Lock()
	defer d.g.lib.mu.Unlock()
	return d.g.processes, c
}

func (d *fakeDevice) ProcessUse(since uint64) ([]use, code) {
	c := d.enter("process_use")
	d.g.lib.mu.Lock()
	defer d.g.lib.mu.Unlock()
	d.g.asked = append(d.g.asked, since)
	if c == success && d.g.migOn {
		c = notSupported
	}
	if c == success && len(d.g.uses) == 0 {
		c = notFound
	}
	return d.g.uses, c
}

func (d *fakeDevice) SliceSlots() (int, code) { return len(d.g.mig), d.enter("slots") }
func (d *fakeDevice) SliceCount() (int, code) { return 7, d.enter("profile") }

func (d *fakeDevice) Energy() (uint64, code) {
	c := d.enter("energy")
	d.g.lib.mu.Lock()
	defer d.g.lib.mu.Unlock()
	return d.g.counter(scopeGPU, false), c
}

func (d *fakeDevice) Utilization() (uint32, code) {
	c := d.enter("utilization")
	d.g.lib.mu.Lock()
	defer d.g.lib.mu.Unlock()
	if c == success && d.g.migOn {
		c = notSupported
	}
	return d.g.percent, c
}

func (d *fakeDevice) Slice(i int) (Slice, code) {
	c := d.enter("slice")
	if c == success && d.g.mig[i] == nil {
		return Slice{}, notFound
	}
	if c != success {
		return Slice{}, c
	}
	return *d.g.mig[i], success
}

func (g *fakeGPU) counter(scope uint32, scoped bool) uint64 {
	if g.energyIs != nil {
		return *g.energyIs
	}
	if !scoped {
		scope = g.counterScope
	}
	if scope == scopeModule {
		return g.mj(g.moduleWatts)
	}
	return g.mj(g.watts)
}

func (d *fakeDevice) Fields(fields []field) code {
	c := d.enter("fields")
	d.g.lib.mu.Lock()
	defer d.g.lib.mu.Unlock()
	for i := range fields {
		d.g.answer(&fields[i])
	}
	return c
}

func (g *fakeGPU) answer(f *field) {
	if set, ok := g.fields[[2]uint32{f.ID, f.Scope}]; ok {
		f.Code, f.Type, f.Raw = set.Code, set.Type, set.Raw
		return
	}
	put := func(n uint64, kind uint32) { f.Code, f.Type, f.Raw, f.LatencyUS = success, kind, n, 5 }
	module := g.moduleWatts > 0
	switch {
	case f.ID == fieldEnergy:
		put(g.counter(0, false), typeUint64)
	case f.ID == fieldScopedEnergy && g.twoCounters:
		put(g.counter(f.Scope, true), typeUint64)
	case f.ID == fieldPowerAverage && f.Scope == scopeGPU, f.ID == fieldPowerInstant && f.Scope == scopeGPU:
		put(uint64(g.watts*1000), typeUint32)
	case f.ID == fieldPowerInstant && f.Scope == scopeModule && module:
		put(uint64(g.moduleWatts*1000), typeUint32)
	case f.ID == fieldMemoryTemp:
		put(61, typeUint32)
	case f.ID == fieldPowerLimit:
		put(700_000, typeUint32)
	case f.ID >= 74 && f.ID <= 81:
		put(uint64(f.ID)*1e9, typeUint64)
	case f.ID == fieldECCUncorrected, f.ID == fieldRecovery, f.ID == fieldRowsPending:
		put(0, typeUint64)
	default:
		f.Code, f.Type, f.Raw = notSupported, 0, 0
	}
}
