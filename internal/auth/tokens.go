package auth

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"go.yaml.in/yaml/v3"
)

// entry is one line of a file of tokens:
//
//   - {name: lrdn0001, role: agent, cluster: leonardo, node: lrdn0001, sha256: 9f86d0...}
//   - {name: grafana, role: reader, token: "..."}
type entry struct {
	Name    string `yaml:"name"`
	Role    string `yaml:"role"`
	Cluster string `yaml:"cluster"`
	Node    names  `yaml:"node"`
	SHA256  string `yaml:"sha256"`
	Token   string `yaml:"token"`
}

// names is one name or a list of them.
type names []string

// UnmarshalYAML reads a scalar or a list.
func (n *names) UnmarshalYAML(value *yaml.Node) error {
	if value.Kind != yaml.ScalarNode {
		return value.Decode((*[]string)(n))
	}
	var one string
	err := value.Decode(&one)
	*n = names{one}
	return err
}

// minToken is the least length of a token: 16 bytes of a random hex token are
// 64 bits.
const minToken = 16

// readTokens reads the file and names every fault in it.
func readTokens(path string) (map[[sha256.Size]byte]*Identity, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read tokens: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read tokens: %w", err)
	}
	var entries []entry
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(&entries); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("cannot read tokens of %s: %w", path, err)
	}
	tokens := make(map[[sha256.Size]byte]*Identity, len(entries))
	var faults []error
	for i := range entries {
		e := &entries[i]
		id, err := e.identity()
		switch {
		case err == nil && tokens[id.digest] != nil:
			err = fmt.Errorf("the token of %q is also that of %q", tokens[id.digest].Name, e.Name)
		case err == nil && e.Token != "" && info.Mode().Perm()&0o004 != 0:
			err = errors.New("token: is written out in a file that everybody can read: chmod 0400, or give its sha256")
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%s[%d] %q: %w", path, i, e.Name, err))
			continue
		}
		tokens[id.digest] = id
	}
	if len(faults) == 0 && len(tokens) == 0 {
		faults = append(faults, fmt.Errorf("%s holds no token", path))
	}
	return tokens, errors.Join(faults...)
}

func (e *entry) identity() (*Identity, error) {
	var faults []error
	bad := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	id := &Identity{Name: e.Name, Role: Role(e.Role), Cluster: e.Cluster, Nodes: e.Node}
	if e.Name == "" {
		bad("name: is empty; logs need one")
	}
	switch id.Role {
	case Agent:
		if e.Cluster == "" || e.Cluster == AnyNode {
			bad("cluster: %q is not the name of one cluster", e.Cluster)
		}
		if len(e.Node) == 0 {
			bad("node: is empty; an agent's token is bound to its node, or to %q", AnyNode)
		}
		for _, n := range e.Node {
			if n == "" {
				bad("node: %q is not the name of a node", n)
			}
		}
	case Reader, Admin:
		if e.Cluster != "" || len(e.Node) > 0 {
			bad("cluster, node: mean nothing for a %s", id.Role)
		}
	default:
		bad("role: %q is not agent, reader or admin", e.Role)
	}
	switch {
	case (e.SHA256 == "") == (e.Token == ""):
		bad("sha256, token: exactly one of them is needed")
	case e.Token != "" && len(e.Token) < minToken:
		bad("token: has %d characters, not %d or more", len(e.Token), minToken)
	case e.Token != "":
		id.digest = sha256.Sum256([]byte(e.Token))
	default:
		d, err := hex.DecodeString(e.SHA256)
		if err != nil || len(d) != sha256.Size {
			bad("sha256: %.80q is not 64 hexadecimal digits", e.SHA256)
		}
		copy(id.digest[:], d)
	}
	return id, errors.Join(faults...)
}
