package config

import (
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Jobs says from whom the agent learns of jobs, besides its own socket.
type Jobs struct {
	// Utilisation: GPUs that jobs share are split by what each was measured to
	// do, else by what each reserved.
	Utilisation bool
	Kubernetes  Kubernetes
	Slurm       Slurm
	// MappingDir is a folder of dcgm-exporter's HPC job mapping; "": none.
	MappingDir string
}

// Kubernetes are the settings of the pods of this node.
type Kubernetes struct {
	Enabled bool
	Socket  string // pod-resources of the kubelet
	// A job's project: the value of this label, or of this annotation; where both
	// are "" the namespace.
	ProjectLabel, ProjectAnnotation string
	KubeletURL                      string // "": UIDs, labels and times are not asked for
	TokenFile, CAFile               string
	PodLogs                         string // "": not looked at
	Every                           time.Duration
}

type jobsFile struct {
	Sharing    string         `yaml:"sharing"`
	Kubernetes kubernetesFile `yaml:"kubernetes"`
	Slurm      slurmFile      `yaml:"slurm"`
	MappingDir string         `yaml:"mapping_dir"`
}

type kubernetesFile struct {
	Enabled    string `yaml:"enabled"`
	Socket     string `yaml:"socket"`
	Project    string `yaml:"project"`
	KubeletURL string `yaml:"kubelet_url"`
	TokenFile  string `yaml:"token_file"`
	CAFile     string `yaml:"ca_file"`
	PodLogs    string `yaml:"pod_logs"`
	Every      string `yaml:"every"`
}

func jobsDefaults() (f jobsFile) {
	f.Sharing = "declared"
	f.Kubernetes = kubernetesFile{
		Enabled: "false", Socket: "/var/lib/kubelet/pod-resources/kubelet.sock", Project: "namespace", PodLogs: "/var/log/pods", Every: "1s",
	}
	f.Slurm = slurmDefaults()
	return f
}

func (c *checker) jobs(f *jobsFile, sysfs, node string) Jobs {
	if f.Sharing != "declared" && f.Sharing != "utilisation" {
		c.bad("jobs.sharing", f.Sharing, "declared or utilisation")
	}
	if f.MappingDir != "" && !filepath.IsAbs(f.MappingDir) {
		c.bad("jobs.mapping_dir", f.MappingDir, "an absolute path")
	}
	return Jobs{
		Utilisation: f.Sharing == "utilisation", Kubernetes: c.kubernetes(&f.Kubernetes),
		Slurm: c.slurm(&f.Slurm, sysfs, node), MappingDir: f.MappingDir,
	}
}

// A pattern that counts to 253 is a third of a megabyte for as long as the agent
// lives: the lengths are counted beside these.
var (
	keyDomain = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`)
	keyName   = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`)
)

// qualified tells whether text is a key of a label or an annotation (kubernetes.io,
// "Labels and Selectors"): a name of at most 63 characters, before it a domain of
// at most 253 if need be.
func qualified(text string) bool {
	name := text
	if domain, rest, ok := strings.Cut(text, "/"); ok {
		if len(domain) > 253 || !keyDomain.MatchString(domain) {
			return false
		}
		name = rest
	}
	return len(name) <= 63 && keyName.MatchString(name)
}

func (c *checker) kubernetes(f *kubernetesFile) Kubernetes {
	const at = "jobs.kubernetes."
	k := Kubernetes{Enabled: c.truth(at+"enabled", f.Enabled), Socket: f.Socket, TokenFile: f.TokenFile, CAFile: f.CAFile, PodLogs: f.PodLogs}
	if f.Socket == "" || len(f.Socket) > 107 { // sockaddr_un
		c.bad(at+"socket", f.Socket, "a path of 1 to 107 bytes")
	}
	// the kubelet answers 100 questions a second, to all who ask
	k.Every = c.duration(at+"every", f.Every, 100*time.Millisecond, time.Minute)
	what, key, of := strings.Cut(f.Project, ":")
	switch {
	case what == "label" && qualified(key):
		k.ProjectLabel = key
	case what == "annotation" && qualified(key):
		k.ProjectAnnotation = key
	case what != "namespace" || of:
		c.bad(at+"project", f.Project, "namespace, label:KEY or annotation:KEY, like label:example.org/project")
	}
	if f.KubeletURL != "" {
		k.KubeletURL = c.url(at+"kubelet_url", f.KubeletURL)
	} else if k.ProjectLabel != "" || k.ProjectAnnotation != "" {
		c.bad(at+"kubelet_url", "", "the kubelet's address, like https://NODE:10250: labels and annotations are had from nowhere else")
	}
	if k.Enabled {
		c.secret(at+"token_file", f.TokenFile)
		c.file(at+"ca_file", f.CAFile)
	}
	return k
}
