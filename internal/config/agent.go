package config

import (
	"os"
	"strconv"
	"time"
)

// slot is the ledger's grain, which a window divides.
const slot = 15 * time.Minute

// Agent is what wattledger-agent works with.
type Agent struct {
	Cluster       string
	Node          string
	AggregatorURL string
	TokenFile     string // "": no token is sent
	Token         string // what stands in it
	CAFile        string // "": the system's authorities
	StateDir      string
	Socket        string
	SocketGroup   string
	AllowUIDs     []uint32
	Listen        string // "": no page of metrics
	MetricsToken  string // "": none is asked for
	MetricsJobs   bool   // the page says which job holds which device
	Every         time.Duration
	Window        time.Duration
	MaxGap        time.Duration
	SpoolBytes    int64
	NodeCPUs      int // 0: count them
	Sysfs, Procfs string
	Host          bool
	NVML, RAPL    bool
	Cray, Hwmon   bool
	AMDGPU        bool
	NVMLLibrary   string // "": the usual places
	IPMI          IPMI
	Redfish       Redfish
	Simulated     Simulated
	Jobs          Jobs
	LogLevel      string
}

// Simulated are the settings of the source of invented meters.
type Simulated struct {
	Enabled bool
	Seed    uint64
	GPUs    int
	Start   time.Time // zero: when the agent starts
}

// AgentFlags override the file where they are not empty.
type AgentFlags struct{ Cluster, Node, AggregatorURL string }

// agentFile is the file as it is written.
type agentFile struct {
	Cluster    string `yaml:"cluster"`
	Node       string `yaml:"node"`
	Aggregator struct {
		URL       string `yaml:"url"`
		TokenFile string `yaml:"token_file"`
		CAFile    string `yaml:"ca_file"`
	} `yaml:"aggregator"`
	StateDir         string   `yaml:"state_dir"`
	Socket           string   `yaml:"socket"`
	SocketGroup      string   `yaml:"socket_group"`
	AllowUIDs        []string `yaml:"allow_uids"`
	Listen           string   `yaml:"listen"`
	MetricsTokenFile string   `yaml:"metrics_token_file"`
	MetricsJobs      string   `yaml:"metrics_jobs"`
	Sample           struct {
		Every string `yaml:"every"`
	} `yaml:"sample"`
	Window string `yaml:"window"`
	MaxGap string `yaml:"max_gap"`
	Spool  struct {
		MaxBytes string `yaml:"max_bytes"`
	} `yaml:"spool"`
	NodeCPUs string `yaml:"node_cpus"`
	Path     struct {
		Sysfs  string `yaml:"sysfs"`
		Procfs string `yaml:"procfs"`
	} `yaml:"path"`
	NVML struct {
		Library string `yaml:"library"`
	} `yaml:"nvml"`
	Sources struct {
		Host      enabled     `yaml:"host"`
		NVML      enabled     `yaml:"nvml"`
		RAPL      enabled     `yaml:"rapl"`
		Cray      enabled     `yaml:"cray"`
		Hwmon     enabled     `yaml:"hwmon"`
		AMDGPU    enabled     `yaml:"amdgpu"`
		IPMI      ipmiFile    `yaml:"ipmi"`
		Redfish   redfishFile `yaml:"redfish"`
		Simulated struct {
			Enabled string `yaml:"enabled"`
			Seed    string `yaml:"seed"`
			GPUs    string `yaml:"gpus"`
			Start   string `yaml:"start"`
		} `yaml:"simulated"`
	} `yaml:"sources"`
	Jobs jobsFile `yaml:"jobs"`
	Log  struct {
		Level string `yaml:"level"`
	} `yaml:"log"`
}

// enabled switches a source that has no other settings.
type enabled struct {
	Enabled string `yaml:"enabled"`
}

func agentDefaults() *agentFile {
	f := &agentFile{
		StateDir: "/var/lib/wattledger-agent", Socket: "/run/wattledger/agent.sock", SocketGroup: "wattledger",
		Listen: "127.0.0.1:9441", Window: "10s", MaxGap: "30s", NodeCPUs: "0", MetricsJobs: "false",
	}
	f.Aggregator.URL = "http://127.0.0.1:9440"
	f.Sample.Every, f.Spool.MaxBytes = "1s", "32MiB"
	f.Path.Sysfs, f.Path.Procfs = "/sys", "/proc"
	for _, e := range []*enabled{&f.Sources.Host, &f.Sources.NVML, &f.Sources.RAPL, &f.Sources.Cray, &f.Sources.Hwmon, &f.Sources.AMDGPU} {
		e.Enabled = "true"
	}
	f.Sources.IPMI, f.Sources.Redfish = ipmiDefaults(), redfishDefaults()
	s := &f.Sources.Simulated
	s.Enabled, s.Seed, s.GPUs = "false", "7", "4"
	f.Jobs = jobsDefaults()
	f.Log.Level = "info"
	return f
}

// LoadAgent reads a file ("" for none; the cluster must then be a flag). The
// error lists every fault.
func LoadAgent(path string, flags AgentFlags) (*Agent, error) {
	c, f := &checker{}, agentDefaults()
	if err := c.read(path, f); err != nil {
		return nil, err
	}
	for _, o := range []struct {
		to   *string
		flag string
	}{{&f.Cluster, flags.Cluster}, {&f.Node, flags.Node}, {&f.Aggregator.URL, flags.AggregatorURL}} {
		if o.flag != "" {
			*o.to = o.flag
		}
	}
	if f.Node == "" {
		host, err := os.Hostname()
		if err != nil {
			c.cannot("node", err)
		}
		f.Node = host
	}
	a := &Agent{
		Cluster: c.name("cluster", f.Cluster, "the machine this node is part of"), Node: c.name("node", f.Node, "this node"),
		AggregatorURL: c.url("aggregator.url", f.Aggregator.URL),
		TokenFile:     f.Aggregator.TokenFile, Token: c.secret("aggregator.token_file", f.Aggregator.TokenFile), CAFile: f.Aggregator.CAFile,
		StateDir: c.folder("state_dir", f.StateDir), Socket: f.Socket, SocketGroup: f.SocketGroup,
		Listen: f.Listen, MetricsToken: c.secret("metrics_token_file", f.MetricsTokenFile), MetricsJobs: c.truth("metrics_jobs", f.MetricsJobs),
		SpoolBytes: c.size("spool.max_bytes", f.Spool.MaxBytes, 8<<10),
		NodeCPUs:   int(c.integer("node_cpus", f.NodeCPUs, 0, 1<<16)),
		Sysfs:      c.tree("path.sysfs", f.Path.Sysfs), Procfs: c.tree("path.procfs", f.Path.Procfs),
		NVMLLibrary: f.NVML.Library, LogLevel: c.level("log.level", f.Log.Level),
	}
	c.file("aggregator.ca_file", f.Aggregator.CAFile)
	c.times(a, f)
	c.socket(a, f)
	c.meters(a, f)
	c.simulated(&a.Simulated, f)
	a.Jobs = c.jobs(&f.Jobs, f.Path.Sysfs, f.Node)
	if f.Listen != "" && !c.listen("listen", f.Listen) && f.MetricsTokenFile == "" {
		c.bad("metrics_token_file", "", "a file with a token: the listener "+f.Listen+" can be reached from elsewhere and needs one")
	}
	if err := c.err(); err != nil {
		return nil, err
	}
	return a, nil
}

// meters are the sources of energy.
func (c *checker) meters(a *Agent, f *agentFile) {
	s := &f.Sources
	a.Host = c.truth("sources.host.enabled", s.Host.Enabled)
	a.NVML = c.truth("sources.nvml.enabled", s.NVML.Enabled)
	a.RAPL = c.truth("sources.rapl.enabled", s.RAPL.Enabled)
	a.Cray = c.truth("sources.cray.enabled", s.Cray.Enabled)
	a.Hwmon = c.truth("sources.hwmon.enabled", s.Hwmon.Enabled)
	a.AMDGPU = c.truth("sources.amdgpu.enabled", s.AMDGPU.Enabled)
	a.IPMI, a.Redfish = c.ipmi(&s.IPMI), c.redfish(&s.Redfish)
	c.controllers(a)
}

func (c *checker) times(a *Agent, f *agentFile) {
	a.Every = c.duration("sample.every", f.Sample.Every, 100*time.Millisecond, time.Minute)
	a.MaxGap = c.duration("max_gap", f.MaxGap, time.Second, slot)
	a.Window = c.duration("window", f.Window, time.Second, slot)
	if a.Window >= time.Second && (slot%a.Window != 0 || a.Window%time.Second != 0) {
		c.bad("window", f.Window, "a number of seconds that divides 15 minutes, like 10s")
	}
	if a.Every > a.Window && a.Window >= time.Second {
		c.bad("sample.every", f.Sample.Every, "shorter than window ("+f.Window+")")
	}
	if a.MaxGap < a.Every && a.MaxGap >= time.Second {
		c.bad("max_gap", f.MaxGap, "at least sample.every ("+f.Sample.Every+")")
	}
}

func (c *checker) socket(a *Agent, f *agentFile) {
	const longest = 107 // bytes of a path in sockaddr_un
	if f.Socket == "" || len(f.Socket) > longest {
		c.bad("socket", f.Socket, "a path of 1 to 107 bytes")
	}
	for i, s := range f.AllowUIDs {
		uid, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			c.bad("allow_uids["+strconv.Itoa(i)+"]", s, "a numeric user id")
		}
		a.AllowUIDs = append(a.AllowUIDs, uint32(uid))
	}
}

// tree checks that a folder of the kernel's is there.
func (c *checker) tree(key, path string) string {
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		c.bad(key, path, "a folder")
	}
	return path
}

func (c *checker) simulated(s *Simulated, f *agentFile) {
	raw := &f.Sources.Simulated
	s.Enabled = c.truth("sources.simulated.enabled", raw.Enabled)
	s.GPUs = int(c.integer("sources.simulated.gpus", raw.GPUs, 0, 64))
	var err error
	if s.Seed, err = strconv.ParseUint(raw.Seed, 10, 64); err != nil {
		c.bad("sources.simulated.seed", raw.Seed, "a whole number")
	}
	if raw.Start == "" {
		return
	}
	if s.Start, err = time.Parse(time.RFC3339, raw.Start); err != nil {
		c.bad("sources.simulated.start", raw.Start, "a time like 2026-10-01T00:00:00Z")
	}
}
