package wire

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire/wirepb"
)

// CatalogueID is the hash of everything in a catalogue but its ID. Equal
// catalogues have equal IDs on every machine and in every version.
func CatalogueID(c *window.Catalogue) uint64 {
	b := append(make([]byte, 0, 64+48*len(c.Meters)), "wattledger/catalogue/1"...)
	b = appendString(b, c.Policy)
	b = binary.AppendUvarint(b, uint64(len(c.Meters)))
	for i := range c.Meters {
		m := &c.Meters[i]
		b = appendString(appendString(appendString(b, m.Name), m.Epoch), m.Parent)
		b = append(b, byte(m.Class), bit(m.Root)|bit(m.Leaf)<<1|bit(m.Integrated)<<2)
		b = binary.AppendUvarint(b, uint64(m.Modulus))
	}
	return xxhash.Sum64(b)
}

func encodeCatalogue(c *window.Catalogue) (*wirepb.Catalogue, error) {
	if err := checkCatalogue(c); err != nil {
		return nil, err
	}
	p := &wirepb.Catalogue{Id: c.ID, Policy: c.Policy, Meters: make([]*wirepb.Meter, len(c.Meters))}
	for i, m := range c.Meters {
		p.Meters[i] = &wirepb.Meter{
			Name: m.Name, Epoch: m.Epoch, Parent: m.Parent, Class: uint32(m.Class),
			Root: m.Root, Leaf: m.Leaf, Integrated: m.Integrated, Modulus: uint64(m.Modulus),
		}
	}
	return p, nil
}

// decodeCatalogue reads the bytes of one Catalogue message.
func decodeCatalogue(b []byte) (*window.Catalogue, error) {
	counts, err := countFields(b)
	if err != nil {
		return nil, err
	}
	if err := tooMany("meters", counts[3], window.MaxMeters); err != nil {
		return nil, err
	}
	var p wirepb.Catalogue
	if err := p.UnmarshalVT(b); err != nil {
		return nil, malformed("%v", err)
	}
	c := &window.Catalogue{ID: p.Id, Policy: p.Policy}
	if n := len(p.Meters); n > 0 {
		c.Meters = make([]window.Meter, n)
	}
	for i, m := range p.Meters {
		if m.Class >= energy.NumClasses {
			return nil, malformed("meters[%d].class %d is unknown", i, m.Class)
		}
		c.Meters[i] = window.Meter{
			Name: m.Name, Epoch: m.Epoch, Parent: m.Parent, Class: energy.Class(m.Class),
			Root: m.Root, Leaf: m.Leaf, Integrated: m.Integrated, Modulus: energy.Microjoules(m.Modulus),
		}
	}
	return c, checkCatalogue(c)
}

func checkCatalogue(c *window.Catalogue) error {
	if err := tooMany("meters", len(c.Meters), window.MaxMeters); err != nil {
		return err
	}
	if err := CheckName("policy", c.Policy); err != nil {
		return err
	}
	type odometer struct{ name, epoch string }
	seen := make(map[odometer]bool, len(c.Meters))
	for i := range c.Meters {
		m := &c.Meters[i]
		if err := checkNames("meter", m.Name, "epoch", m.Epoch, "parent", m.Parent); err != nil {
			return err
		}
		switch {
		case m.Name == "":
			return malformed("meters[%d] has no name", i)
		case seen[odometer{m.Name, m.Epoch}]:
			return malformed("two meters are %s of epoch %.40q", m.Name, m.Epoch)
		case m.Class >= energy.NumClasses:
			return malformed("meters[%d].class %d is unknown", i, m.Class)
		}
		seen[odometer{m.Name, m.Epoch}] = true
	}
	if id := CatalogueID(c); id != c.ID {
		return malformed("catalogue %016x: its content gives %016x", c.ID, id)
	}
	return nil
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}
