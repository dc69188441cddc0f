package config

import (
	"errors"
	"net/url"
	"path/filepath"
	"time"
)

// Accounting is where a cluster's workload manager tells of its jobs. It is
// Slurm's; others come with their own keys.
type Accounting struct {
	// Address of a slurmrestd: http(s)://host:port or unix:/path; "" for none.
	Address      string
	User         string
	TokenFile    string
	TokenCommand []string
	// Sacct and Sacctmgr are paths of Slurm's commands, "" for none.
	Sacct, Sacctmgr string
	SlurmConf       string // SLURM_CONF of those commands, "" for theirs
	Cluster         string // Slurm's name of the cluster
	ProjectsFile    string // CSV, "" for none
	Every           time.Duration
	History         time.Duration // how far back the first reading reaches
}

type accountingFile struct {
	URL          string   `yaml:"url"`
	Socket       string   `yaml:"socket"`
	User         string   `yaml:"user"`
	TokenFile    string   `yaml:"token_file"`
	TokenCommand []string `yaml:"token_command"`
	Sacct        string   `yaml:"sacct"`
	Sacctmgr     string   `yaml:"sacctmgr"`
	SlurmConf    string   `yaml:"slurm_conf"`
	Cluster      string   `yaml:"cluster"`
	ProjectsFile string   `yaml:"projects_file"`
	Every        string   `yaml:"every"`
	History      string   `yaml:"history"`
}

// accounting checks what is said of one cluster's.
func (c *checker) accounting(key, cluster string, f *accountingFile) Accounting {
	or := func(s, other string) string {
		if s == "" {
			return other
		}
		return s
	}
	a := Accounting{
		User: f.User, TokenFile: f.TokenFile, TokenCommand: f.TokenCommand, Sacct: f.Sacct, Sacctmgr: f.Sacctmgr, SlurmConf: f.SlurmConf,
		Cluster: or(f.Cluster, cluster), ProjectsFile: f.ProjectsFile,
		Every:   c.duration(key+".every", or(f.Every, "1m"), 5*time.Second, 24*time.Hour),
		History: c.duration(key+".history", or(f.History, "168h"), time.Hour, 10*365*24*time.Hour),
	}
	switch {
	case f.URL != "" && f.Socket != "":
		c.cannot(key, errors.New("url and socket are two ways to one slurmrestd: keep one"))
	case f.Socket != "":
		c.absolute(key+".socket", f.Socket, "the path of slurmrestd's socket, e.g. /run/slurmrestd/slurmrestd.sock")
		a.Address = "unix:" + f.Socket
	case f.URL != "":
		if u, err := url.Parse(f.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Path != "" {
			c.bad(key+".url", f.URL, "the address of a slurmrestd like https://slurm:6820")
		}
		a.Address = f.URL
	case f.Sacct == "" && f.ProjectsFile == "":
		c.cannot(key, errors.New("one of url, socket, sacct and projects_file is needed"))
	}
	if len(f.TokenCommand) > 0 {
		c.absolute(key+".token_command", f.TokenCommand[0], "a command by its path, e.g. [/usr/bin/scontrol, token, lifespan=600]")
		if f.TokenFile != "" {
			c.cannot(key, errors.New("token_file and token_command both give the token: keep one"))
		}
	}
	// Whether these files are there is seen when they are read, again and again:
	// an absent token must not keep the books from starting.
	c.absolute(key+".token_file", f.TokenFile, "the path of a file with a token")
	c.absolute(key+".projects_file", f.ProjectsFile, "the path of a CSV of projects")
	c.absolute(key+".slurm_conf", f.SlurmConf, "the path of a slurm.conf")
	c.absolute(key+".sacct", f.Sacct, "the path of a command, e.g. /usr/bin/sacct")
	c.absolute(key+".sacctmgr", f.Sacctmgr, "the path of a command, e.g. /usr/bin/sacctmgr")
	return a
}

func (c *checker) absolute(key, path, want string) {
	if path != "" && !filepath.IsAbs(path) {
		c.bad(key, path, want)
	}
}
