package collector

// Locator is a Source that knows its devices by other names than their meters':
// the names that workload managers use. A reference is one of
//
//	minor:2                    minor number of the device file (/dev/nvidia2), or for AMD of the render node's card: Slurm's global GPU id
//	index:2                    place in the vendor's own order: dcgm-exporter's and the device plugin's index
//	pci:0000:c1:00.0           PCI address of the function
//	GPU-8f3a...                UUID of a GPU
//	MIG-12ab...                UUID of a MIG device
//	gi:2/1                     MIG GPU instance 1 of the GPU of minor number 2
//	capability:102             minor number of /dev/nvidia-caps/nvidia-cap102: a MIG device as a device cgroup sees it
//
// A MIG device is a part of its board: the weight is its compute slices of the
// board's. Locate may be called from any goroutine and does not touch the
// hardware.
type Locator interface {
	Source
	Locate(ref string) (Place, bool)
}

// Place is where a reference points: a meter, and how much of it.
type Place struct {
	Meter  string
	Weight uint32 // millionths of the device, 1 000 000 for all of it
}

// Process is the use of a device by one process of the node.
type Process struct {
	PID int
	// Use is the part of the device's time it kept busy, in millionths.
	Use uint32
	// Memory it holds on the device.
	Memory uint64 // bytes
}

// ProcessSource is a Source that knows which processes use a device. It asks
// the driver at most once in ten seconds; what it gives is of the span that
// ended at At.
type ProcessSource interface {
	Source
	Processes() []DeviceProcesses
}

// DeviceProcesses are the processes of one meter's device, as last seen.
type DeviceProcesses struct {
	Meter     string
	At        int64 // Unix ns
	Processes []Process
	// HasUse: the driver gave utilisation, not merely the list.
	HasUse bool
}

// Whole is the weight of a whole device.
const Whole = 1_000_000
