package nvml

// library is what the source needs of libnvidia-ml. An entry point that the
// loaded library lacks answers functionNotFound. The binding to the real one is
// binding.go; tests have a fake.
type library interface {
	Init() code
	Shutdown() code
	DriverVersion() (string, code)
	Count() (int, code)
	Device(index int) (device, code)
	// DeviceAt opens a device anew by its PCI address.
	DeviceAt(pci string) (device, code)
	EventSet() (eventSet, code)
}

// device is one physical GPU: a handle, valid until the library is shut down.
// One goroutine calls it at a time.
type device interface {
	// Key can be compared with event.Source.
	Key() any
	UUID() (string, code)
	Name() (string, code)
	Minor() (int, code)
	PCI() (string, code)
	Persistent() (bool, code)

	// Fields fills in the values of all fields in one call.
	Fields([]field) code
	Energy() (millijoules uint64, c code)
	Power() (milliwatts uint32, c code)
	PowerLimits() (enforced, most uint32, c code) // mW
	Utilization() (percent uint32, c code)
	Memory() (used, total uint64, c code)
	Temperature() (celsius int32, c code)
	Margin() (celsius int32, c code)
	Clocks() (sm, memory uint32, c code) // MHz
	// Processes lists compute processes, those under MPS where there are no others.
	Processes() ([]process, code)
	// ProcessUse gives what processes did since a stamp; notFound for nothing.
	ProcessUse(sinceUS uint64) ([]use, code)

	MIG() (enabled bool, c code)
	SliceSlots() (int, code)
	// Slice tells about the MIG device in a slot; notFound for an empty one.
	Slice(slot int) (Slice, code)
	// SliceCount is the number of compute slices the board is cut into.
	SliceCount() (int, code)
}

// eventSet waits for critical errors of devices.
type eventSet interface {
	Register(device) code
	Wait(ms uint32) (event, code)
	Free() code
}

type event struct {
	Source   any // Key of the device
	Critical bool
	Data     uint64 // the Xid
	Instance uint32 // GPU instance; all ones for none
}

// field is one value of a batch: what is asked, and what came back.
type field struct {
	ID    uint32
	Scope uint32

	Code      code
	Type      uint32
	Raw       uint64 // the value's bits, zero-extended
	LatencyUS int64  // what the driver says the value took
}
