package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wattledger/wattledger/internal/config"
)

func TestControllers(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "password")
	if err := os.WriteFile(secret, []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := func(sources string, ipmi config.IPMI, redfish config.Redfish) {
		t.Helper()
		path := filepath.Join(dir, "agent.yaml")
		if err := os.WriteFile(path, []byte("cluster: c\nstate_dir: "+dir+"\n"+sources), 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := config.LoadAgent(path, config.AgentFlags{Node: "n1"})
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(ipmi, a.IPMI); d != "" {
			t.Errorf("ipmi (-want +got):\n%s", d)
		}
		if d := cmp.Diff(redfish, a.Redfish); d != "" {
			t.Errorf("redfish (-want +got):\n%s", d)
		}
	}
	ipmi := config.IPMI{Port: 623, CipherSuite: 3, Privilege: "user", Every: 5 * time.Second, Timeout: 4 * time.Second}
	redfish := config.Redfish{Auth: "session", Every: 10 * time.Second, Timeout: 20 * time.Second}
	f("", ipmi, redfish)
	f(`sources:
  ipmi:
    {enabled: true, device: 1, host: "fd00::2", port: 6230, user: reader, password_file: `+secret+`, cipher_suite: 17,
     privilege: operator, every: 30s, timeout: 10s, max_watts: 6000, booked: true}
  redfish:
    {enabled: true, url: "https://[fe80::1%25usb0]/", user: reader, password_file: `+secret+`, auth: basic, ca_file: `+secret+`, server_name: bmc,
     system: "1", chassis: Chassis.1, every: 1m, timeout: 45s, max_watts: 11000}
`, config.IPMI{
		Enabled: true, Device: 1, Host: "fd00::2", Port: 6230, User: "reader", PasswordFile: secret, CipherSuite: 17,
		Privilege: "operator", Every: 30 * time.Second, Timeout: 10 * time.Second, MaxWatts: 6000, Booked: true,
	}, config.Redfish{
		Enabled: true, URL: "https://[fe80::1%25usb0]/", User: "reader", PasswordFile: secret, Auth: "basic", CAFile: secret, ServerName: "bmc",
		System: "1", Chassis: "Chassis.1", Every: time.Minute, Timeout: 45 * time.Second, MaxWatts: 11000,
	})
}

// TestControllersOfTheExample: every setting of the example is a key, and stands
// at its default.
func TestControllersOfTheExample(t *testing.T) {
	b, err := os.ReadFile("../../packaging/config/agent.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text, within, lines := "", false, 0
	for line := range strings.Lines(string(b)) {
		head := strings.HasPrefix(line, "  # ipmi:") || strings.HasPrefix(line, "  # redfish:")
		if within = head || within && strings.HasPrefix(line, "  #   "); within {
			line = "  " + strings.TrimPrefix(line, "  # ")
			lines++
		}
		text += line
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "agent.yaml")
	if err := os.WriteFile(file, []byte(text+"\nstate_dir: "+dir+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := config.LoadAgent(file, config.AgentFlags{Node: "n1"})
	if err != nil || lines != 28 {
		t.Fatalf("%d lines of settings (want 28: 2 controllers, 12 and 14 keys), %v", lines, err)
	}
	if err := os.WriteFile(file, []byte("cluster: demo\nstate_dir: "+dir+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	want, err := config.LoadAgent(file, config.AgentFlags{Node: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want.IPMI, got.IPMI) + cmp.Diff(want.Redfish, got.Redfish); d != "" {
		t.Errorf("the example does not stand at the defaults (-default +example):\n%s", d)
	}
}
