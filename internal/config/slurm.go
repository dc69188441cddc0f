package config

import (
	"os"
	"path/filepath"
)

// Slurm are the settings of Slurm's jobs on this node. Its prolog and epilog
// need none: they speak to the socket.
type Slurm struct {
	// HookDir is where prolog and epilog keep what no agent took.
	HookDir string
	// Cgroup: the cgroups of slurmd are followed, below CgroupRoot.
	Cgroup     bool
	CgroupRoot string
	// Node is the name of this node in Slurm.
	Node string
	// Scontrol is asked about jobs that no prolog told of; "": nobody is.
	Scontrol string
	// Conf is slurm.conf, where it is not in its usual place.
	Conf string
	// GPUIDs says what Slurm's numbers of GPUs are: minor or index.
	GPUIDs string
}

type slurmFile struct {
	HookDir    string `yaml:"hook_dir"`
	Cgroup     string `yaml:"cgroup"`
	CgroupRoot string `yaml:"cgroup_root"`
	Node       string `yaml:"node"`
	Scontrol   string `yaml:"scontrol"`
	Conf       string `yaml:"slurm_conf"`
	GPUIDs     string `yaml:"gpu_ids"`
}

func slurmDefaults() slurmFile {
	return slurmFile{HookDir: "/var/lib/wattledger-edges", Cgroup: "auto", GPUIDs: "minor"}
}

// slurm checks them; sysfs and node are the agent's own.
func (c *checker) slurm(f *slurmFile, sysfs, node string) Slurm {
	const at = "jobs.slurm."
	s := Slurm{HookDir: f.HookDir, Cgroup: f.Cgroup == "auto", CgroupRoot: f.CgroupRoot, Node: f.Node, Scontrol: f.Scontrol, Conf: f.Conf, GPUIDs: f.GPUIDs}
	if f.HookDir != "" && !filepath.IsAbs(f.HookDir) {
		c.bad(at+"hook_dir", f.HookDir, "an absolute path")
	}
	if f.Cgroup != "auto" && f.Cgroup != "off" {
		c.bad(at+"cgroup", f.Cgroup, "auto or off")
	}
	if f.CgroupRoot == "" {
		s.CgroupRoot = filepath.Join(sysfs, "fs/cgroup")
	} else {
		c.tree(at+"cgroup_root", f.CgroupRoot)
	}
	if f.Node == "" {
		s.Node = node
	} else {
		c.name(at+"node", f.Node, "this node in Slurm")
	}
	if f.Scontrol != "" {
		if st, err := os.Stat(f.Scontrol); err != nil || !filepath.IsAbs(f.Scontrol) || st.IsDir() || st.Mode()&0o111 == 0 {
			c.bad(at+"scontrol", f.Scontrol, "the absolute path of scontrol")
		}
	}
	c.file(at+"slurm_conf", f.Conf)
	if f.GPUIDs != "minor" && f.GPUIDs != "index" {
		c.bad(at+"gpu_ids", f.GPUIDs, "minor or index")
	}
	return s
}
