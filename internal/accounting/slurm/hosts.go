package slurm

import (
	"strings"

	"github.com/wattledger/wattledger/internal/hostlist"
)

// hosts writes a list of hosts out. What Slurm writes for no hosts gives none.
func hosts(s string) ([]string, error) {
	s = strings.TrimSpace(s)
	switch s {
	case "", "None assigned", "None", "(null)":
		return nil, nil
	}
	return hostlist.Expand(s)
}
