package wire

import (
	"fmt"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/wire/wirepb"
)

// Response answers a batch.
type Response struct {
	// Results has one entry per window, in order; those after a refusal are absent.
	Results []ledger.Result
	Unknown []uint64 // catalogues to send along
	NowMS   int64    // the aggregator's clock
}

// EncodeOpenRequest encodes how an agent introduces itself.
func EncodeOpenRequest(r ledger.OpenRequest) ([]byte, error) {
	if err := checkOpen(r); err != nil {
		return nil, err
	}
	p := wirepb.OpenRequest{
		Version: Version, Cluster: r.Node.Cluster, Node: r.Node.Name, Incarnation: r.Incarnation,
		Nonce: r.Nonce, Session: r.Session, NowMs: r.NowMS,
	}
	return p.MarshalVT()
}

// DecodeOpenRequest reads what EncodeOpenRequest wrote.
func DecodeOpenRequest(b []byte) (ledger.OpenRequest, error) {
	var p wirepb.OpenRequest
	if err := p.UnmarshalVT(b); err != nil {
		return ledger.OpenRequest{}, malformed("%v", err)
	}
	if p.Version != Version {
		return ledger.OpenRequest{}, fmt.Errorf("%w %d: this is version %d", ErrVersion, p.Version, Version)
	}
	r := ledger.OpenRequest{
		Node: ledger.Node{Cluster: p.Cluster, Name: p.Node}, Incarnation: p.Incarnation,
		Nonce: p.Nonce, Session: p.Session, NowMS: p.NowMs,
	}
	return r, checkOpen(r)
}

func checkOpen(r ledger.OpenRequest) error {
	if r.Nonce == "" || r.Session == "" {
		return malformed("nonce or session is empty")
	}
	if err := CheckName("nonce", r.Nonce); err != nil {
		return err
	}
	return checkNode(r.Node, r.Session)
}

// EncodeOpening encodes where the books of a node stand.
func EncodeOpening(o ledger.Opening, nowMS int64) ([]byte, error) {
	p := wirepb.OpenResponse{Incarnation: o.Incarnation, Ends: encodeEnds(o.Ends), LastMs: o.LastMS, NowMs: nowMS}
	var err error
	if p.Jobs, err = encodeJobs(o.Jobs); err != nil {
		return nil, fmt.Errorf("cannot encode an opening: %w", err)
	}
	if p.Holdings, err = encodeHoldings(o.Holdings, len(o.Jobs), nil); err != nil {
		return nil, fmt.Errorf("cannot encode an opening: %w", err)
	}
	return p.MarshalVT()
}

// DecodeOpening reads what EncodeOpening wrote.
func DecodeOpening(b []byte) (o ledger.Opening, nowMS int64, err error) {
	var p wirepb.OpenResponse
	if err := p.UnmarshalVT(b); err != nil {
		return o, 0, malformed("%v", err)
	}
	o = ledger.Opening{Incarnation: p.Incarnation, Ends: decodeEnds(p.Ends), LastMS: p.LastMs}
	if o.Jobs, err = decodeJobs(p.Jobs); err != nil {
		return o, 0, err
	}
	o.Holdings, err = decodeHoldings(p.Holdings, len(o.Jobs), nil)
	return o, p.NowMs, err
}

// EncodeResponse encodes the answer to a batch.
func EncodeResponse(r Response) ([]byte, error) {
	p := wirepb.BatchResponse{UnknownCatalogues: r.Unknown, NowMs: r.NowMS}
	if n := len(r.Results); n > 0 {
		results := make([]wirepb.Result, n)
		p.Results = make([]*wirepb.Result, n)
		for i := range r.Results {
			x := &r.Results[i]
			results[i] = wirepb.Result{Status: uint32(x.Status), Reason: x.Reason, Ends: encodeEnds(x.Ends)}
			p.Results[i] = &results[i]
		}
	}
	return p.MarshalVT()
}

// DecodeResponse reads what EncodeResponse wrote.
func DecodeResponse(b []byte) (Response, error) {
	var p wirepb.BatchResponse
	if err := p.UnmarshalVT(b); err != nil {
		return Response{}, malformed("%v", err)
	}
	r := Response{Unknown: p.UnknownCatalogues, NowMS: p.NowMs}
	for i, x := range p.Results {
		if x.Status > uint32(ledger.Reopen) {
			return r, malformed("results[%d].status %d is unknown", i, x.Status)
		}
		r.Results = append(r.Results, ledger.Result{Status: ledger.Status(x.Status), Reason: x.Reason, Ends: decodeEnds(x.Ends)})
	}
	return r, nil
}

func encodeEnds(ends []ledger.End) []*wirepb.End {
	var out []*wirepb.End
	for _, e := range ends {
		out = append(out, &wirepb.End{
			Meter: e.Meter, Epoch: e.Epoch, Uj: uint64(e.UJ), Raw: uint64(e.Raw), Estimated: e.Estimated,
			AtMs: e.AtMS, Modulus: uint64(e.Modulus), Root: e.Root,
		})
	}
	return out
}

func decodeEnds(in []*wirepb.End) []ledger.End {
	var out []ledger.End
	for _, p := range in {
		out = append(out, ledger.End{
			Meter: p.Meter, Epoch: p.Epoch, UJ: energy.Microjoules(p.Uj), Raw: energy.Microjoules(p.Raw), Estimated: p.Estimated,
			AtMS: p.AtMs, Modulus: energy.Microjoules(p.Modulus), Root: p.Root,
		})
	}
	return out
}
