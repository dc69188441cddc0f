package agent

import "github.com/wattledger/wattledger/internal/ledger"

// EndsOf keys ends as Realign and Anchor want them.
func EndsOf(list []ledger.End) map[odometer]ledger.End {
	m := map[odometer]ledger.End{}
	for _, e := range list {
		m[odometer{e.Meter, e.Epoch}] = e
	}
	return m
}
