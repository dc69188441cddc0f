package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func slurmOf(t *testing.T, text string) (Slurm, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "agent.yaml")
	text = "cluster: c\nnode: n1\nstate_dir: " + t.TempDir() + "\njobs:\n  slurm:\n    hook_dir: /var/lib/wattledger-edges\n" + text
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := LoadAgent(file, AgentFlags{})
	if err != nil {
		return Slurm{}, err.Error()
	}
	return a.Jobs.Slurm, ""
}

func TestSlurm(t *testing.T) {
	f := func(text string, want Slurm) {
		t.Helper()
		got, fault := slurmOf(t, text)
		if d := cmp.Diff(want, got); d != "" || fault != "" {
			t.Errorf("%q: %s (-want +got):\n%s", text, fault, d)
		}
	}
	def := Slurm{HookDir: "/var/lib/wattledger-edges", Cgroup: true, CgroupRoot: "/sys/fs/cgroup", Node: "n1", GPUIDs: "minor"}
	f("", def)
	def.Cgroup, def.Node, def.GPUIDs, def.Scontrol, def.CgroupRoot = false, "gpu01", "index", "/bin/sh", "/sys"
	f("    cgroup: off\n    node: gpu01\n    gpu_ids: index\n    scontrol: /bin/sh\n    cgroup_root: /sys\n", def)

	bad := func(text, want string) {
		t.Helper()
		if _, fault := slurmOf(t, text); !strings.Contains(fault, want) {
			t.Errorf("%q: the fault is %q, want %q in it", text, fault, want)
		}
	}
	bad("    cgroup: v2\n", "jobs.slurm.cgroup: v2 is not auto or off")
	bad("    cgroup_root: /no/such\n", "jobs.slurm.cgroup_root: /no/such is not a folder")
	bad("    scontrol: /etc\n", "jobs.slurm.scontrol: /etc is not the absolute path of scontrol")
	bad("    scontrol: scontrol\n", "is not the absolute path of scontrol")
	bad("    gpu_ids: uuid\n", "jobs.slurm.gpu_ids: uuid is not minor or index")
	bad("    slurm_conf: /no/such\n", "jobs.slurm.slurm_conf")
	bad("    node: a b\n", "jobs.slurm.node: a b is not the name of this node in Slurm")
	bad("  mapping_dir: files\n", "jobs.mapping_dir: files is not an absolute path")
}
