package kubernetes

import (
	"regexp"
	"strings"
)

// device is what an id of a device plugin points at: a reference of
// collector.Locator, and whether others may hold the same.
type device struct {
	ref     string
	replica string // of a device that is cut in time: which
	shared  bool
}

// slice tells whether it is a MIG device: of its board it is a part.
func (d device) slice() bool {
	return strings.HasPrefix(d.ref, "MIG-") || strings.HasPrefix(d.ref, "gi:")
}

// dialects are the ids that device plugins hand out, without a replica's
// number.
type dialects struct {
	uuid, gke, index, pci, dra *regexp.Regexp
}

func newDialects() dialects {
	return dialects{
		// NVIDIA's device plugin; the strategy "uuid" is its default
		uuid: regexp.MustCompile(`^(?:GPU|MIG)-[0-9a-fA-F]+(?:-[0-9a-fA-F]+)*$`),
		// GKE's: the name of the device file, and of a MIG device its GPU instance
		gke: regexp.MustCompile(`^nvidia([0-9]{1,4})(?:/gi([0-9]{1,4}))?$`),
		// NVIDIA's with the strategy "index"
		index: regexp.MustCompile(`^(?:0|[1-9][0-9]{0,3})$`),
		// AMD's
		pci: regexp.MustCompile(`^[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7]$`),
		// the DRA driver gpu.nvidia.com: by minor number
		dra: regexp.MustCompile(`^gpu-([0-9]{1,4})$`),
	}
}

// isGPU tells whether a resource is GPUs by its name, so that even an id that
// says little means one.
func isGPU(resource string) bool {
	if name, ok := strings.CutPrefix(resource, "nvidia.com/"); ok {
		return name == "gpu" || strings.HasPrefix(name, "gpu.") || strings.HasPrefix(name, "mig-")
	}
	name, ok := strings.CutPrefix(resource, "amd.com/")
	return ok && (name == "gpu" || strings.Contains(name, "_nps"))
}

// outcome of looking at an id.
type outcome int

const (
	foreign  outcome = iota // no GPU
	placed                  // a reference
	unplaced                // a GPU, but nobody knows which
)

// of reads an id of a resource. Whatever its resource is called, the UUID of a
// GPU is one: sites rename resources.
func (x dialects) of(resource, id string) (device, outcome) {
	d := device{}
	base, replica, cut := strings.Cut(id, "::")
	if !cut {
		base, replica, cut = strings.Cut(id, "/vgpu")
	}
	if cut {
		if !x.index.MatchString(replica) {
			return d, gpuOr(resource)
		}
		d.replica, d.shared = replica, true
	}
	if x.uuid.MatchString(base) {
		d.ref = base
		return d, placed
	}
	if !isGPU(resource) {
		return d, foreign
	}
	if m := x.gke.FindStringSubmatch(base); m != nil {
		d.ref = "minor:" + m[1]
		if m[2] != "" {
			d.ref = "gi:" + m[1] + "/" + m[2]
		}
		return d, placed
	}
	if x.index.MatchString(base) {
		d.ref = "index:" + base
		return d, placed
	}
	if x.pci.MatchString(base) {
		d.ref = "pci:" + strings.ToLower(base)
		return d, placed
	}
	return d, unplaced
}

func gpuOr(resource string) outcome {
	if isGPU(resource) {
		return unplaced
	}
	return foreign
}

// ofClaim reads a device of a resource claim (DRA). A claim may be held by
// several pods.
func (x dialects) ofClaim(c claim) (device, outcome) {
	d := device{shared: true}
	for _, name := range c.cdi {
		if _, id, ok := strings.Cut(name, "="); ok && x.uuid.MatchString(id) {
			d.ref = id
			return d, placed
		}
	}
	if c.driver == "gpu.nvidia.com" {
		if m := x.dra.FindStringSubmatch(c.device); m != nil {
			d.ref = "minor:" + m[1]
			return d, placed
		}
	}
	if c.driver == "gpu.nvidia.com" && strings.HasPrefix(c.device, "gpu-") || c.driver == "gpu.amd.com" {
		return d, unplaced
	}
	return d, foreign
}
