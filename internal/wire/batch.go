package wire

import (
	"bytes"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire/wirepb"
)

// Fields of Batch and Fragment.
const (
	fieldVersion     = 1
	fieldCluster     = 2
	fieldNode        = 3
	fieldIncarnation = 4
	fieldSession     = 5
	fieldNow         = 6
	fieldCatalogues  = 10
	fieldWindows     = 11
)

// Head says who sends a batch.
type Head struct {
	Node        ledger.Node
	Incarnation uint64
	Session     string
	NowMS       int64 // the sender's clock
}

// AppendHead begins a request: fragments, appended byte for byte, complete it.
func AppendHead(b []byte, h Head) ([]byte, error) {
	p := wirepb.Batch{
		Version: Version, Cluster: h.Node.Cluster, Node: h.Node.Name,
		Incarnation: h.Incarnation, Session: h.Session, NowMs: h.NowMS,
	}
	if err := checkNode(h.Node, h.Session); err != nil {
		return nil, err
	}
	head, err := p.MarshalVT()
	if err != nil {
		return nil, fmt.Errorf("cannot encode a batch: %w", err)
	}
	return append(b, head...), nil
}

func checkNode(n ledger.Node, session string) error {
	if n.Cluster == "" || n.Name == "" {
		return malformed("cluster or node is empty")
	}
	return checkNames("cluster", n.Cluster, "node", n.Name, "session", session)
}

// RawCatalogue is an encoded catalogue with its ID.
type RawCatalogue struct {
	ID uint64
	// Field is the catalogue as a fragment of its own.
	Field []byte
}

// Parts is a batch or a fragment taken apart, not yet decoded. It refers to the
// bytes it was made of.
type Parts struct {
	Head       Head
	Catalogues []RawCatalogue
	Windows    [][]byte // each as a fragment of its own
	// Telemetry is what Decode does with what is only to be looked at.
	Telemetry Telemetry
	version   uint64
	size      int // of what was taken apart
}

// Telemetry is what becomes of the telemetry of a window that is decoded.
type Telemetry int

// Unpacked is in Window.Telemetry; Packed is left in Window.Packed, which may refer
// to the body, for an Unpacker to read later; Dropped is not looked at.
const (
	Unpacked Telemetry = iota
	Packed
	Dropped
)

// SplitFragment takes a spool record apart.
func SplitFragment(b []byte) (*Parts, error) { return split(b) }

// SplitBatch takes a request apart and checks its version and sender.
func SplitBatch(body []byte) (*Parts, error) {
	if err := tooMany("bytes", len(body), MaxBody); err != nil {
		return nil, err
	}
	p, err := split(body)
	if err != nil {
		return nil, err
	}
	if p.version != Version {
		return nil, fmt.Errorf("%w %d: this is version %d", ErrVersion, p.version, Version)
	}
	return p, checkNode(p.Head.Node, p.Head.Session)
}

func split(b []byte) (*Parts, error) {
	p := &Parts{size: len(b)}
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, malformed("%v", protowire.ParseError(n))
		}
		m := protowire.ConsumeFieldValue(num, typ, b[n:])
		if m < 0 {
			return nil, malformed("field %d: %v", num, protowire.ParseError(m))
		}
		if err := p.take(num, typ, b[:n+m:n+m], b[n:n+m]); err != nil {
			return nil, err
		}
		b = b[n+m:]
	}
	return p, nil
}

// take keeps one field of a batch; one that is not known is of a later version
// and skipped.
func (p *Parts) take(num protowire.Number, typ protowire.Type, field, value []byte) error {
	want, known := wireType(num)
	if !known {
		return nil
	}
	if typ != want {
		return malformed("field %d is of wire type %d, not %d", num, typ, want)
	}
	switch int(num) {
	case fieldVersion:
		p.version, _ = protowire.ConsumeVarint(value)
	case fieldCluster:
		p.Head.Node.Cluster, _ = protowire.ConsumeString(value)
	case fieldNode:
		p.Head.Node.Name, _ = protowire.ConsumeString(value)
	case fieldIncarnation:
		p.Head.Incarnation, _ = protowire.ConsumeFixed64(value)
	case fieldSession:
		p.Head.Session, _ = protowire.ConsumeString(value)
	case fieldNow:
		v, _ := protowire.ConsumeVarint(value)
		p.Head.NowMS = int64(v)
	case fieldCatalogues:
		p.Catalogues = append(p.Catalogues, RawCatalogue{ID: catalogueOf(content(field)), Field: field})
		return tooMany("catalogues", len(p.Catalogues), MaxCatalogues)
	case fieldWindows:
		p.Windows = append(p.Windows, field)
		return tooMany("windows", len(p.Windows), MaxWindows)
	}
	return nil
}

// wireType is how a field of a batch is encoded.
func wireType(num protowire.Number) (t protowire.Type, known bool) {
	switch int(num) {
	case fieldVersion, fieldNow:
		return protowire.VarintType, true
	case fieldIncarnation:
		return protowire.Fixed64Type, true
	case fieldCluster, fieldNode, fieldSession, fieldCatalogues, fieldWindows:
		return protowire.BytesType, true
	}
	return 0, false
}

// content is the message in a field: what follows tag and length.
func content(field []byte) []byte {
	_, _, n := protowire.ConsumeTag(field)
	v, _ := protowire.ConsumeBytes(field[max(n, 0):])
	return v
}

// Batch is a decoded request or fragment.
type Batch struct {
	Head       Head
	Catalogues []*window.Catalogue // those that came along
	Windows    []*window.Window
	// Raw are the windows as they came, each a fragment of its own (without its
	// catalogue). They refer to the body.
	Raw [][]byte
}

// DecodeBatch decodes a request. A catalogue that is not in it is asked of
// known; if that gives nil for some, the error is an *UnknownError. Other errors
// wrap ErrVersion, ErrTooLarge or ErrMalformed and name the field.
func DecodeBatch(body []byte, known func(id uint64) *window.Catalogue) (*Batch, error) {
	p, err := SplitBatch(body)
	if err != nil {
		return nil, err
	}
	return p.Decode(known)
}

// DecodeFragment decodes a spool record. known may be nil.
func DecodeFragment(b []byte, known func(id uint64) *window.Catalogue) (*Batch, error) {
	p, err := SplitFragment(b)
	if err != nil {
		return nil, err
	}
	return p.Decode(known)
}

// Decode decodes the catalogues and windows; see DecodeBatch.
func (p *Parts) Decode(known func(id uint64) *window.Catalogue) (*Batch, error) {
	b := &Batch{Head: p.Head, Raw: p.Windows}
	resolved := make(map[uint64]*window.Catalogue, len(p.Catalogues)+1)
	for i, raw := range p.Catalogues {
		if resolved[raw.ID] != nil {
			continue // each record of a batch may bring it
		}
		c, err := decodeCatalogue(content(raw.Field))
		if err != nil {
			return nil, fmt.Errorf("catalogues[%d]: %w", i, err)
		}
		if c.ID != raw.ID {
			return nil, malformed("catalogues[%d] has two ids", i)
		}
		resolved[c.ID] = c
		b.Catalogues = append(b.Catalogues, c)
	}
	if err := p.resolve(resolved, known); err != nil {
		return nil, err
	}
	if len(p.Windows) > 0 {
		b.Windows = make([]*window.Window, len(p.Windows))
	}
	for i, raw := range p.Windows {
		message := content(raw)
		var packed []byte
		if p.Telemetry != Unpacked {
			message, packed = apart(message)
		}
		w, err := decodeWindow(message, resolved[catalogueOf(message)])
		if err != nil {
			return nil, fmt.Errorf("windows[%d]: %w", i, err)
		}
		if p.Telemetry == Packed {
			if len(packed) < p.size/2 {
				packed = bytes.Clone(packed) // it would keep all of the body
			}
			w.Packed = packed
		}
		b.Windows[i] = w
	}
	return b, nil
}

// resolve asks for the catalogues that did not come along.
func (p *Parts) resolve(resolved map[uint64]*window.Catalogue, known func(id uint64) *window.Catalogue) error {
	var unknown []uint64
	for _, raw := range p.Windows {
		id := catalogueOf(content(raw))
		if resolved[id] != nil || slices.Contains(unknown, id) {
			continue
		}
		var c *window.Catalogue
		if known != nil {
			c = known(id)
		}
		if c == nil {
			unknown = append(unknown, id)
			if len(unknown) >= MaxCatalogues {
				break
			}
			continue
		}
		resolved[id] = c
	}
	if len(unknown) > 0 {
		return &UnknownError{IDs: unknown}
	}
	return nil
}

// EncodeFragment encodes windows with the catalogues they name: a spool record.
func EncodeFragment(catalogues []*window.Catalogue, windows []*window.Window) ([]byte, error) {
	p := wirepb.Fragment{
		Catalogues: make([]*wirepb.Catalogue, len(catalogues)), Windows: make([]*wirepb.Window, len(windows)),
	}
	var err error
	for i, c := range catalogues {
		if p.Catalogues[i], err = encodeCatalogue(c); err != nil {
			return nil, fmt.Errorf("cannot encode catalogue %d: %w", i, err)
		}
	}
	for i, w := range windows {
		if p.Windows[i], err = encodeWindow(w); err != nil {
			return nil, fmt.Errorf("cannot encode window %d: %w", i, err)
		}
	}
	b, err := p.MarshalVT()
	if err != nil {
		return nil, fmt.Errorf("cannot encode windows: %w", err)
	}
	return b, nil
}
