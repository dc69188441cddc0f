package collector

import (
	"fmt"
	"slices"
	"strings"
)

// Xid is an error as NVIDIA's driver numbers them ("Xid Errors", docs.nvidia.com).
type Xid uint64

// Class says whose business it is: "application" (a job's own fault), "hardware"
// (drain the node), "driver" (what the driver did about it) or "other".
func (x Xid) Class() string {
	switch {
	case slices.Contains([]Xid{13, 31, 43, 45, 68, 69}, x):
		return "application"
	case slices.Contains([]Xid{48, 62, 64, 74, 79, 92, 94, 95, 140, 142}, x):
		return "hardware"
	case slices.Contains([]Xid{32, 38, 56, 57, 61, 63, 109, 119, 120}, x):
		return "driver"
	}
	return "other"
}

// String is how the detail of an event of kind "xid" begins: Xid 79 (hardware).
func (x Xid) String() string { return fmt.Sprintf("Xid %d (%s)", uint64(x), x.Class()) }

// ParseXid reads number and class from such a detail; what is not there is "".
func ParseXid(detail string) (number, class string) {
	number, rest, _ := strings.Cut(strings.TrimPrefix(detail, "Xid "), " ")
	class, _, _ = strings.Cut(strings.TrimPrefix(rest, "("), ")")
	return number, class
}
