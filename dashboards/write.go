package dashboards

import (
	"embed"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

//go:embed json/*.json provisioning
var content embed.FS

// What the provisioning files say, for Write to change.
const (
	packagedPath = "/usr/share/wattledger/dashboards"
	packagedURL  = "${WATTLEDGER_URL}"
)

// Files are the dashboards as they are in json/, by file name.
func Files() (map[string][]byte, error) {
	names, err := fs.Glob(content, "json/*.json")
	if err != nil {
		return nil, fmt.Errorf("cannot list the dashboards: %w", err)
	}
	out := map[string][]byte{}
	for _, name := range names {
		if out[filepath.Base(name)], err = content.ReadFile(name); err != nil {
			return nil, fmt.Errorf("cannot read dashboard %s: %w", name, err)
		}
	}
	return out, nil
}

// Write puts the dashboards and the files that provision them into dir, which is
// made if absent:
//
//	dir/json/*.json                                 the dashboards
//	dir/provisioning/datasources/wattledger.yaml    the aggregator as data source
//	dir/provisioning/dashboards/wattledger.yaml     where the dashboards are: dir/json
//
// aggregator is the address of the aggregator as Grafana reaches it; "" leaves
// it to WATTLEDGER_URL in Grafana's environment. Files that are there are
// overwritten. It returns the files, in the order in which they were written.
func Write(dir, aggregator string) ([]string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot find the folder %s: %w", dir, err)
	}
	if aggregator != "" {
		if u, err := url.Parse(aggregator); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || strings.ContainsAny(aggregator, "$\"'\n") {
			return nil, fmt.Errorf("cannot point the data source at %q: it is not an address such as http://127.0.0.1:9440", aggregator)
		}
	}
	var written []string
	err = fs.WalkDir(content, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := content.ReadFile(name)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(name, "json/") {
			text = []byte(settle(string(text), dir, aggregator))
		}
		to := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		written = append(written, to)
		return os.WriteFile(to, text, 0o644) //nolint:gosec // for Grafana to read; there are no secrets in it
	})
	if err != nil {
		return nil, fmt.Errorf("cannot write the dashboards to %s: %w", dir, err)
	}
	return written, nil
}

// settle names the folder and the address in a provisioning file. Grafana
// expands $ in it.
func settle(text, dir, aggregator string) string {
	text = strings.ReplaceAll(text, "path: "+packagedPath, "path: "+quoted(filepath.Join(dir, "json")))
	if aggregator != "" {
		text = strings.ReplaceAll(text, "url: "+packagedURL, "url: "+quoted(aggregator))
	}
	return text
}

// quoted is a YAML string in single quotes, with $ as Grafana wants it.
func quoted(s string) string {
	return "'" + strings.NewReplacer("'", "''", "$", "$$").Replace(s) + "'"
}
