package kubernetes

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/wattledger/wattledger/internal/sysfs"
)

// Cgroup is a place in the kubelet's tree of control groups.
type Cgroup struct {
	UID       string // of the pod
	Container string // id at the runtime, "" for the pod itself
}

// Cgroups reads the tree that the kubelet and the runtimes make
// (kubernetes.io, "Node resource managers"; cgroups(7)). A process cannot leave
// its own, so this tells whose it is where its environment does not.
type Cgroups struct {
	Proc *sysfs.Root // /proc of the host, by a process in the host's own namespaces
	Sys  *sysfs.Root // /sys

	slice, uid, container *regexp.Regexp
}

// NewCgroups reads the trees of a host.
func NewCgroups(proc, sys *sysfs.Root) *Cgroups {
	return &Cgroups{
		Proc: proc, Sys: sys,
		// kubepods.slice, and under a slice of the kubelet's own, kubelet-kubepods.slice
		slice: regexp.MustCompile(`^(?:kubelet-)?kubepods(?:-besteffort|-burstable)?-pod([0-9a-f_]{32,36})\.slice$`),
		uid:   regexp.MustCompile(`^pod([0-9a-f-]{32,36})$`),
		// containerd, CRI-O, docker with cri-dockerd; cgroupfs has the bare id
		container: regexp.MustCompile(`^(?:(?:cri-containerd|crio|docker)-)?([0-9a-f]{64})(?:\.scope)?$`),
	}
}

// procSize is room for /proc/PID/cgroup: v1 has a line for each of a dozen
// hierarchies.
const procSize = 8 << 10

// OfPID tells in which pod a process is. It is false for a process of no pod.
func (c *Cgroups) OfPID(pid int) (Cgroup, bool, error) {
	f := c.Proc.Sized(fmt.Sprintf("%d/cgroup", pid), procSize)
	defer f.Close()
	text, err := f.Text()
	if err != nil {
		return Cgroup{}, false, fmt.Errorf("cannot tell the pod of process %d: %w", pid, err)
	}
	g, ok := c.OfProc(text)
	return g, ok, nil
}

// OfProc reads the content of /proc/PID/cgroup. Of v1's hierarchies those are
// looked at that only root can move a process in.
func (c *Cgroups) OfProc(text string) (Cgroup, bool) {
	byController := map[string]string{}
	for line := range strings.SplitSeq(text, "\n") {
		_, rest, _ := strings.Cut(line, ":")
		controllers, path, ok := strings.Cut(rest, ":")
		if !ok {
			continue
		}
		for name := range strings.SplitSeq(controllers, ",") {
			byController[name] = path
		}
	}
	for _, name := range []string{"", "devices", "memory", "pids", "cpu"} { // "": v2
		if g, ok := c.OfPath(byController[name]); ok {
			return g, true
		}
	}
	return Cgroup{}, false
}

// OfPath reads a path below the root of a hierarchy. The tree must be the
// kubelet's own: a folder of a pod's name that somebody made in a session or in
// a container of theirs is nobody's pod.
func (c *Cgroups) OfPath(path string) (Cgroup, bool) {
	if strings.Contains(path, "..") { // seen from another namespace
		return Cgroup{}, false
	}
	parts := strings.Split(strings.Trim(path, "/"), "/")
	if len(parts) > 0 && (parts[0] == "kubelet.slice" || parts[0] == "kubelet") {
		parts = parts[1:]
	}
	if g, ok := c.flat(parts); ok {
		return g, true
	}
	if len(parts) < 2 || !kubepods(parts[0]) {
		return Cgroup{}, false
	}
	parts = parts[1:]
	if qos(parts[0]) {
		parts = parts[1:]
	}
	if len(parts) == 0 {
		return Cgroup{}, false
	}
	uid := c.podOf(parts[0])
	if uid == "" {
		return Cgroup{}, false
	}
	g := Cgroup{UID: uid}
	if len(parts) > 1 {
		if m := c.container.FindStringSubmatch(parts[1]); m != nil {
			g.Container = m[1]
		}
	}
	return g, true
}

// flat reads what containerd makes where it believes in cgroupfs and the kubelet
// in systemd: system.slice/containerd.service/SLICE:cri-containerd:ID.
func (c *Cgroups) flat(parts []string) (Cgroup, bool) {
	if len(parts) < 3 || parts[0] != "system.slice" || parts[1] != "containerd.service" {
		return Cgroup{}, false
	}
	fields := strings.Split(parts[2], ":")
	if len(fields) != 3 {
		return Cgroup{}, false
	}
	uid := c.podOf(fields[0])
	return Cgroup{UID: uid, Container: fields[2]}, uid != ""
}

func (c *Cgroups) podOf(name string) string {
	if m := c.slice.FindStringSubmatch(name); m != nil {
		return strings.ReplaceAll(m[1], "_", "-")
	}
	if m := c.uid.FindStringSubmatch(name); m != nil {
		return m[1]
	}
	return ""
}

func kubepods(name string) bool {
	return name == "kubepods" || name == "kubepods.slice" || name == "kubelet-kubepods.slice"
}

func qos(name string) bool {
	name = strings.TrimPrefix(strings.TrimSuffix(name, ".slice"), "kubelet-")
	name = strings.TrimPrefix(name, "kubepods-")
	return name == "burstable" || name == "besteffort"
}

// life is what a pod's control group says of it.
type life int

const (
	unsaid life = iota // there is no tree to look at
	alive
	dead
)

// trees are where the kubelet's folder may be: v2, and of v1 a hierarchy that
// every kubelet uses; %s is the part of a class of service and a pod.
func trees() []string {
	var out []string
	for _, root := range []string{"fs/cgroup/", "fs/cgroup/memory/", "fs/cgroup/pids/"} {
		for _, top := range []string{"kubepods.slice", "kubepods", "kubelet.slice/kubelet-kubepods.slice", "kubelet/kubepods"} {
			out = append(out, root+top)
		}
	}
	return out
}

// life tells whether anybody lives in a pod. v2 counts processes; of v1 the
// folder says it, which the kubelet takes away soon after a pod's end.
func (c *Cgroups) life(uid string) life {
	said := unsaid
	for _, tree := range trees() {
		if !c.Sys.Has(tree) {
			continue
		}
		said = dead
		for _, place := range places(tree, uid) {
			if !c.Sys.Has(place) {
				continue
			}
			events, err := c.Sys.Text(place + "/cgroup.events")
			if err != nil || strings.Contains(events, "populated 1") {
				return alive
			}
		}
	}
	return said
}

// places are where a tree may have a pod.
func places(tree, uid string) []string {
	top := tree[strings.LastIndexByte(tree, '/')+1:]
	stem, systemd := strings.CutSuffix(top, ".slice")
	if !systemd {
		return []string{tree + "/pod" + uid, tree + "/burstable/pod" + uid, tree + "/besteffort/pod" + uid}
	}
	low := strings.ReplaceAll(uid, "-", "_")
	out := []string{tree + "/" + stem + "-pod" + low + ".slice"}
	for _, class := range []string{"burstable", "besteffort"} {
		out = append(out, tree+"/"+stem+"-"+class+".slice/"+stem+"-"+class+"-pod"+low+".slice")
	}
	return out
}

// there tells whether a tree of the kubelet's is to be seen.
func (c *Cgroups) there() bool { return slices.ContainsFunc(trees(), c.Sys.Has) }
