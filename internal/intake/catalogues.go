package intake

import (
	"context"
	"sync"

	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

// maxCachedMeters bounds the cache: some 150 bytes each, and 25,000 nodes have
// half a million.
const maxCachedMeters = 2_000_000

// catalogues remembers what the ledger has stored, so that a window that names
// its catalogue costs no query.
type catalogues struct {
	ledger ledger.Ledger
	most   int

	mu     sync.Mutex
	meters int
	known  map[catalogueKey]*window.Catalogue
}

type catalogueKey struct {
	node ledger.Node
	id   uint64
}

func newCatalogues(l ledger.Ledger, most int) *catalogues {
	return &catalogues{ledger: l, most: most, known: map[catalogueKey]*window.Catalogue{}}
}

// cached gives a catalogue that is remembered, else nil.
func (c *catalogues) cached(n ledger.Node, id uint64) *window.Catalogue {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known[catalogueKey{n, id}]
}

// get gives a catalogue of a node, nil if the ledger has none of that id.
func (c *catalogues) get(ctx context.Context, n ledger.Node, id uint64) (*window.Catalogue, error) {
	if found := c.cached(n, id); found != nil {
		return found, nil
	}
	found, ok, err := c.ledger.Catalogue(ctx, n, id)
	if err != nil || !ok {
		return nil, err
	}
	c.put(n, found)
	return found, nil
}

// put remembers a catalogue that the ledger has stored. When there is no room,
// any others go: they can be asked for again.
func (c *catalogues) put(n ledger.Node, cat *window.Catalogue) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := catalogueKey{n, cat.ID}
	if c.known[key] != nil {
		return
	}
	cost := func(cat *window.Catalogue) int { return len(cat.Meters) + 1 }
	for old, cat2 := range c.known {
		if c.meters+cost(cat) <= c.most {
			break
		}
		c.meters -= cost(cat2)
		delete(c.known, old)
	}
	c.known[key] = cat
	c.meters += cost(cat)
}
