package main

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/wattledger/wattledger/collector/ipmi"
	"github.com/wattledger/wattledger/collector/redfish"
	"github.com/wattledger/wattledger/internal/config"
)

// TestControllersKeepTheirDefaults: what the configuration says where the file
// says nothing is what the sources have by themselves.
func TestControllersKeepTheirDefaults(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "agent.yaml")
	write(t, file, "state_dir: "+dir+"\n")
	cfg, err := config.LoadAgent(file, config.AgentFlags{Cluster: "c", Node: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	i := ipmiOptions(&cfg.IPMI)
	if i.Every != ipmi.MinEvery || i.Timeout != ipmi.DefaultTimeout || i.CipherSuite != 3 || i.Privilege != "user" || i.Booked || i.Limit != 0 {
		t.Errorf("ipmi: %+v", i)
	}
	r := redfishOptions(&cfg.Redfish)
	if r.Every != redfish.DefaultEvery || r.Timeout != redfish.DefaultTimeout || r.Auth != redfish.Session || r.Booked || r.Limit != 0 {
		t.Errorf("redfish: %+v", r)
	}
	if ipmi.DefaultMeter == redfish.DefaultMeter {
		t.Errorf("two witnesses of the node are called %s", ipmi.DefaultMeter)
	}
}

// TestControllersAreWired: no setting of a controller is forgotten on the way.
func TestControllersAreWired(t *testing.T) {
	f := func(got any, but ...string) {
		t.Helper()
		v := reflect.ValueOf(got)
		for n := range v.NumField() {
			name := v.Type().Field(n).Name
			wired := true
			for _, b := range but {
				wired = wired && name != b
			}
			if wired == v.Field(n).IsZero() {
				t.Errorf("%T.%s: set is %t; want %t", got, name, !v.Field(n).IsZero(), wired)
			}
		}
	}
	f(ipmiOptions(&config.IPMI{
		Device: 1, Host: "h", Port: 1, User: "u", PasswordFile: "p", CipherSuite: 17, Privilege: "operator", Every: 1, Timeout: 1, MaxWatts: 1, Booked: true,
	}), "DevDir", "Meter", "Dial")
	f(redfishOptions(&config.Redfish{
		URL: "u", User: "u", PasswordFile: "p", Auth: "basic", CAFile: "c", ServerName: "s", Fingerprint: "f", System: "s", Chassis: "c",
		Every: 1, Timeout: 1, MaxWatts: 1, Booked: true,
	}), "Meter")
	if w := ipmiOptions(&config.IPMI{MaxWatts: 6000}).Limit; w != 6_000_000_000 {
		t.Errorf("max_watts 6000 is %d uW", w)
	}
}

// TestOneMeterOfTheNode: where the blade has counters of its own, a controller
// cannot be booked beside them.
func TestOneMeterOfTheNode(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "cray/pm_counters/energy"), "0 J 1 us\n")
	cfg := &config.Agent{Cray: true, Sysfs: root, Procfs: root}
	if _, err := sourcesOf(cfg); err != nil {
		t.Fatal(err)
	}
	cfg.IPMI = config.IPMI{Enabled: true, Booked: true}
	if _, err := sourcesOf(cfg); err == nil {
		t.Error("two meters of the node are booked")
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
