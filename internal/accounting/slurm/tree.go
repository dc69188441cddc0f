package slurm

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

// tree collects the accounts of one cluster.
type tree struct {
	cluster  string // "" for all
	clusters map[string]bool
	accounts map[string]*ledger.ProjectFacts
}

func newTree(cluster string) *tree {
	return &tree{cluster: cluster, clusters: map[string]bool{}, accounts: map[string]*ledger.ProjectFacts{}}
}

func (t *tree) of(name string) *ledger.ProjectFacts {
	if t.accounts[name] == nil {
		t.accounts[name] = &ledger.ProjectFacts{Name: name}
	}
	return t.accounts[name]
}

// account notes one. Slurm has no title: its description is one, unless it is the
// name again, which sacctmgr puts where none is given.
func (t *tree) account(name, description, organization string) {
	if name == "" || len(name) > window.MaxName {
		return
	}
	f := t.of(name)
	if description != name {
		f.Title = description
	}
	if organization != name {
		f.Organization = organization
	}
}

// association notes what lies above an account; those of users and of other
// clusters say nothing of that.
func (t *tree) association(cluster, account, parent, user string) {
	if cluster != "" {
		t.clusters[cluster] = true
	}
	if account == "" || len(account) > window.MaxName || user != "" || t.cluster != "" && cluster != "" && !strings.EqualFold(cluster, t.cluster) {
		return
	}
	if f := t.of(account); parent != account {
		f.Parent = parent
	}
}

// facts gives the accounts. A cluster that Slurm does not know is an error: it
// would have no jobs either, and nobody would know why.
func (t *tree) facts() ([]ledger.ProjectFacts, error) {
	known := slices.Sorted(maps.Keys(t.clusters))
	if t.cluster != "" && len(known) > 0 && !slices.ContainsFunc(known, func(c string) bool { return strings.EqualFold(c, t.cluster) }) {
		return nil, fmt.Errorf("slurm knows no cluster %q, but %s: set accounting.cluster to its name", t.cluster, strings.Join(known, ", "))
	}
	var out []ledger.ProjectFacts
	for _, name := range slices.Sorted(maps.Keys(t.accounts)) {
		out = append(out, *t.accounts[name])
	}
	return out, nil
}
