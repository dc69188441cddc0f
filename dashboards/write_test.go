package dashboards_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/wattledger/wattledger/dashboards"
)

// provisioned is what Grafana reads of a provisioning file.
type provisioned struct {
	APIVersion  int `yaml:"apiVersion"`
	Datasources []struct {
		Name, UID, Type, Access, URL string
		JSONData                     map[string]any    `yaml:"jsonData"`
		SecureJSONData               map[string]string `yaml:"secureJsonData"`
		IsDefault, Editable          bool
	}
	Providers []struct {
		Name, Folder, Type              string
		DisableDeletion, AllowUIUpdates bool
		UpdateIntervalSeconds           int
		Options                         struct{ Path string }
	}
}

func provisioning(t *testing.T, dir, name string) provisioned {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "provisioning", name, "wattledger.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var p provisioned
	if err := yaml.Unmarshal(text, &p); err != nil || p.APIVersion != 1 {
		t.Fatalf("%v:\n%s", err, text)
	}
	return p
}

func TestFilesAreWhatIsGenerated(t *testing.T) {
	got, err := dashboards.Files()
	if err != nil {
		t.Fatal(err)
	}
	want := generated(t)
	for name, text := range want {
		if !bytes.Equal(got[name], text) {
			t.Errorf("%s that is built in is not what the code says", name)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d files for %d dashboards", len(got), len(want))
	}
}

func TestWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "it's for $GRAFANA")
	for range 2 { // and over what is there
		written, err := dashboards.Write(dir, "https://aggregator.example:9440")
		if err != nil || len(written) != 10 {
			t.Fatalf("%v, %q", err, written)
		}
	}
	want, err := dashboards.Files()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range want {
		if got, err := os.ReadFile(filepath.Join(dir, "json", name)); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	source := provisioning(t, dir, "datasources").Datasources[0]
	if source.URL != "https://aggregator.example:9440" || source.Type != "prometheus" || source.UID != "wattledger" || source.JSONData["timeInterval"] != "15s" {
		t.Errorf("data source %+v", source)
	}
	provider := provisioning(t, dir, "dashboards").Providers[0]
	if want := strings.ReplaceAll(filepath.Join(dir, "json"), "$", "$$"); provider.Options.Path != want || provider.Type != "file" {
		t.Errorf("provider %+v; want the path %s", provider, want)
	}
}

// TestAddressFromTheEnvironment: what is packaged names no site's addresses.
func TestAddressFromTheEnvironment(t *testing.T) {
	dir := t.TempDir()
	if _, err := dashboards.Write(dir, ""); err != nil {
		t.Fatal(err)
	}
	source := provisioning(t, dir, "datasources").Datasources[0]
	if source.URL != "${WATTLEDGER_URL}" || source.SecureJSONData["httpHeaderValue1"] != "Bearer ${WATTLEDGER_TOKEN}" {
		t.Errorf("data source %+v", source)
	}
	if p := provisioning(t, ".", "dashboards").Providers[0]; p.Options.Path != "/usr/share/wattledger/dashboards" {
		t.Errorf("packages put the dashboards elsewhere than %s", p.Options.Path)
	}
}

func TestWriteRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f := func(dir, url, want string) {
		t.Helper()
		if _, err := dashboards.Write(dir, url); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s, %q: %v; want %q", dir, url, err, want)
		}
	}
	f(t.TempDir(), "aggregator:9440", "it is not an address such as")
	f(t.TempDir(), "ftp://aggregator", "it is not an address such as")
	f(t.TempDir(), "http://${HOME}", "it is not an address such as")
	f(file, "", "cannot write the dashboards to "+file)
}
