package sqlite

import (
	"fmt"

	"github.com/wattledger/wattledger/internal/ledger"
)

// booked is the result of a window that was booked: with the projects that its
// jobs were posted to.
func (t *tx) booked(err error) (ledger.Result, error) {
	r := ledger.Result{Status: ledger.Booked}
	if err != nil || len(t.posted) == 0 {
		return r, err
	}
	r.Projects = make([]string, len(t.posted))
	for i, id := range t.posted {
		if r.Projects[i], err = t.c.projectName(id); err != nil {
			return r, err
		}
	}
	return r, nil
}

// projectName finds the name of a project.
func (c *cache) projectName(id int64) (string, error) {
	if name, ok := c.names[id]; ok {
		return name, nil
	}
	row, err := c.w.first("SELECT name FROM project WHERE id = ?", id)
	if err != nil {
		return "", err
	}
	if row == nil {
		return "", fmt.Errorf("BUG: project %d is not there", id)
	}
	if c.names == nil {
		c.names = map[int64]string{}
	}
	c.names[id] = text(row[0])
	return c.names[id], nil
}
