package config

import (
	"encoding/hex"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
)

// A management controller is slow and shared: it is asked at 0.2 Hz at most.
const (
	controllerEvery = 5 * time.Second
	controllerRests = time.Hour
)

// IPMI are the settings of the management controller's own power reading.
type IPMI struct {
	Enabled      bool
	Device       int    // N of /dev/ipmiN
	Host         string // a controller on the network instead
	Port         int
	User         string
	PasswordFile string
	CipherSuite  int    // 3 or 17
	Privilege    string // user, operator or administrator
	Every        time.Duration
	Timeout      time.Duration // of a poll
	MaxWatts     uint64        // the most that the node can draw, 0 for not known
	Booked       bool          // it is the node's meter, not a witness
}

// Redfish are the settings of the management controller's web service.
type Redfish struct {
	Enabled      bool
	URL          string
	User         string
	PasswordFile string
	Auth         string // session or basic
	CAFile       string
	ServerName   string // in the certificate; "" for the URL's
	Fingerprint  string
	System       string // id of the node's; "" where there is one
	Chassis      string
	Every        time.Duration
	Timeout      time.Duration // of a poll
	MaxWatts     uint64        // the most that the node can draw, 0 for not known
	Booked       bool          // it is the node's meter, not a witness
}

type ipmiFile struct {
	Enabled      string `yaml:"enabled"`
	Device       string `yaml:"device"`
	Host         string `yaml:"host"`
	Port         string `yaml:"port"`
	User         string `yaml:"user"`
	PasswordFile string `yaml:"password_file"`
	CipherSuite  string `yaml:"cipher_suite"`
	Privilege    string `yaml:"privilege"`
	Every        string `yaml:"every"`
	Timeout      string `yaml:"timeout"`
	MaxWatts     string `yaml:"max_watts"`
	Booked       string `yaml:"booked"`
}

type redfishFile struct {
	Enabled      string `yaml:"enabled"`
	URL          string `yaml:"url"`
	User         string `yaml:"user"`
	PasswordFile string `yaml:"password_file"`
	Auth         string `yaml:"auth"`
	CAFile       string `yaml:"ca_file"`
	ServerName   string `yaml:"server_name"`
	Fingerprint  string `yaml:"fingerprint"`
	System       string `yaml:"system"`
	Chassis      string `yaml:"chassis"`
	Every        string `yaml:"every"`
	Timeout      string `yaml:"timeout"`
	MaxWatts     string `yaml:"max_watts"`
	Booked       string `yaml:"booked"`
}

func ipmiDefaults() ipmiFile {
	return ipmiFile{
		Enabled: "false", Device: "0", Port: "623", CipherSuite: "3", Privilege: "user",
		Every: "5s", Timeout: "4s", MaxWatts: "0", Booked: "false",
	}
}

func redfishDefaults() redfishFile {
	return redfishFile{Enabled: "false", Auth: "session", Every: "10s", Timeout: "20s", MaxWatts: "0", Booked: "false"}
}

func (c *checker) ipmi(f *ipmiFile) IPMI {
	const key = "sources.ipmi."
	i := IPMI{
		Enabled: c.truth(key+"enabled", f.Enabled), Booked: c.truth(key+"booked", f.Booked),
		Device: int(c.integer(key+"device", f.Device, 0, 255)), Host: f.Host, Port: int(c.integer(key+"port", f.Port, 1, 65535)),
		User: f.User, PasswordFile: f.PasswordFile, Privilege: c.oneOf(key+"privilege", f.Privilege, "user", "operator", "administrator"),
		Every:    c.duration(key+"every", f.Every, controllerEvery, controllerRests),
		Timeout:  c.duration(key+"timeout", f.Timeout, 100*time.Millisecond, time.Minute),
		MaxWatts: c.watts(key+"max_watts", f.MaxWatts),
	}
	switch f.CipherSuite {
	case "3":
		i.CipherSuite = 3
	case "17":
		i.CipherSuite = 17
	default:
		c.bad(key+"cipher_suite", f.CipherSuite, "3 or 17: the others are not safe")
	}
	c.file(key+"password_file", f.PasswordFile)
	if i.Enabled && f.Host != "" {
		c.account(key, f.User, f.PasswordFile, "the controller "+f.Host+" is on the network, and there is no default account")
	}
	return i
}

func (c *checker) redfish(f *redfishFile) Redfish {
	const key = "sources.redfish."
	r := Redfish{
		Enabled: c.truth(key+"enabled", f.Enabled), Booked: c.truth(key+"booked", f.Booked), URL: f.URL,
		User: f.User, PasswordFile: f.PasswordFile, Auth: c.oneOf(key+"auth", f.Auth, "session", "basic"),
		CAFile: f.CAFile, ServerName: f.ServerName, Fingerprint: f.Fingerprint, System: f.System, Chassis: f.Chassis,
		Every:    c.duration(key+"every", f.Every, controllerEvery, controllerRests),
		Timeout:  c.duration(key+"timeout", f.Timeout, 100*time.Millisecond, 5*time.Minute),
		MaxWatts: c.watts(key+"max_watts", f.MaxWatts),
	}
	c.file(key+"password_file", f.PasswordFile)
	c.file(key+"ca_file", f.CAFile)
	if f.Fingerprint != "" {
		if sum, err := hex.DecodeString(strings.ReplaceAll(f.Fingerprint, ":", "")); err != nil || len(sum) != 32 {
			c.bad(key+"fingerprint", f.Fingerprint, "the SHA-256 of a certificate in hex, as openssl x509 -fingerprint -sha256 prints it")
		}
		if f.CAFile != "" {
			c.bad(key+"fingerprint", f.Fingerprint, "right together with "+key+"ca_file: it takes its place")
		}
	}
	if r.Enabled || f.URL != "" {
		c.controllerURL(key+"url", f.URL)
	}
	if f.User != "" {
		c.account(key, f.User, f.PasswordFile, "the account needs its password")
	}
	return r
}

// controllers are faults of both together. A node has one meter; what else reads
// it is a witness.
func (c *checker) controllers(a *Agent) {
	if a.IPMI.Booked && a.Redfish.Booked {
		c.bad("sources.redfish.booked", "true", "right together with sources.ipmi.booked: one meter of the node is booked, the others are witnesses")
	}
	often := func(key string, booked bool, every time.Duration) {
		if booked && every > a.MaxGap && a.MaxGap >= time.Second {
			c.bad(key, every, "at most max_gap ("+a.MaxGap.String()+"), which a meter that is booked needs: its readings would never be joined")
		}
	}
	often("sources.ipmi.every", a.IPMI.Enabled && a.IPMI.Booked, a.IPMI.Every)
	often("sources.redfish.every", a.Redfish.Enabled && a.Redfish.Booked, a.Redfish.Every)
}

func (c *checker) account(key, user, passwordFile, why string) {
	if user == "" {
		c.bad(key+"user", "", "an account of the controller: "+why)
	}
	if passwordFile == "" {
		c.bad(key+"password_file", "", "a file with a password alone on its line: "+why)
	}
}

func (c *checker) controllerURL(key, s string) {
	u, err := url.Parse(s)
	ok := err == nil && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == "" && strings.Trim(u.Path, "/") == ""
	if ok && u.Scheme == "http" {
		ok = u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback()
	}
	if !ok || u.Scheme != "https" && u.Scheme != "http" {
		c.bad(key, s, "the address of the controller, like https://169.254.0.17; http sends the password for all to read and is for this very host alone")
	}
}

// watts is the most that a node can draw; 0 is not known.
func (c *checker) watts(key, s string) uint64 {
	return uint64(max(0, c.integer(key, s, 0, 1_000_000)))
}

func (c *checker) oneOf(key, s string, words ...string) string {
	if !slices.Contains(words, s) {
		last := len(words) - 1
		c.bad(key, s, strings.Join(words[:last], ", ")+" or "+words[last])
	}
	return s
}
