package agent

import "time"

// containsRoot tells whether a root of the tree in use lies inside a meter.
func (p *Pipeline) containsRoot(name string) bool {
	if p.tree == nil {
		return false
	}
	for _, n := range p.tree.Nodes {
		up := n.Parent
		for hops := 0; n.Root() && up != "" && hops <= len(p.scopes); hops++ {
			if up == name {
				return true
			}
			up = p.scopes[up].Parent
		}
	}
	return false
}

// expects tells whether a meter of the books before is still to come: the tree
// is not made without it until the grace is over, since its children would be
// roots.
func (p *Pipeline) expects(now time.Time) bool {
	if p.awaited.IsZero() {
		p.awaited = now
	}
	for name := range p.starts {
		if p.spare[name] == nil && !p.demoted[name] {
			return now.Sub(p.awaited) < p.opt.Grace
		}
	}
	return false
}
