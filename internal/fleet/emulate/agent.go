package emulate

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// writeConfig points a real agent at the node.
func (e *Emulator) writeConfig() error {
	// A free port: whoever takes it before the agent does gets a clear error there.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("cannot find a free port for the agent: %w", err)
	}
	listen := l.Addr().String()
	l.Close()
	at := func(name string) string { return fmt.Sprintf("%q", filepath.Join(e.root, name)) }
	var b strings.Builder
	fmt.Fprintf(&b, "# An agent for the emulated %s node in this folder (seed %d).\n", e.plan.name, e.seed)
	fmt.Fprintf(&b, "cluster: %s\nnode: %s-emulated\n", e.plan.name, e.plan.name)
	fmt.Fprintf(&b, "aggregator:\n  url: http://127.0.0.1:9440\n")
	fmt.Fprintf(&b, "state_dir: %s\nsocket: %s\nlisten: %s\n", at("state"), at("agent.sock"), listen)
	fmt.Fprintf(&b, "socket_group: \"\" # the socket is for who runs this, not for a group of the machine\n")
	if uid := os.Geteuid(); uid != 0 {
		fmt.Fprintf(&b, "allow_uids: [%d]\n", uid)
	}
	fmt.Fprintf(&b, "node_cpus: %d\n", e.plan.cpus)
	fmt.Fprintf(&b, "path:\n  sysfs: %s\n  procfs: %s\n", at("sys"), at("proc"))
	if e.plan.gpus > 0 {
		fmt.Fprintf(&b, "nvml:\n  library: %q\n", e.Library())
	}
	b.WriteString("sources:\n")
	for _, s := range []struct {
		name string
		on   bool
	}{
		{"host", true},
		{"nvml", e.plan.gpus > 0},
		{"rapl", e.plan.sockets > 0},
		{"amdgpu", e.plan.cray},
		{"cray", e.plan.cray},
		{"hwmon", e.plan.grace > 0},
	} {
		fmt.Fprintf(&b, "  %s:\n    enabled: %v\n", s.name, s.on)
	}
	made := filepath.Join(e.root, yamlFile)
	if err := os.WriteFile(made+".new", []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("cannot write %s: %w", made, err)
	}
	return os.Rename(made+".new", made)
}
