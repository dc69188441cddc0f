package intake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/klauspost/compress/zstd"
	"go.uber.org/zap"

	"github.com/wattledger/wattledger/internal/auth"
	"github.com/wattledger/wattledger/internal/failpoint"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
)

// answer is what a handler says: a body in protobuf, or an error in one line.
type answer struct {
	code   int
	body   []byte
	err    error
	reason string // with err: one of wire.Reason
}

func refuse(code int, reason string, err error) answer {
	return answer{code: code, reason: reason, err: err}
}

// counted makes a handler of a function that answers.
func (in *Intake) counted(h func(w http.ResponseWriter, r *http.Request) answer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := h(w, r)
		in.metrics.request(a.code)
		if a.err != nil {
			w.Header().Set(wire.HeaderReason, a.reason)
			if a.code == http.StatusServiceUnavailable {
				w.Header().Set("Retry-After", "1")
			}
			if a.code == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", "Bearer")
			}
			http.Error(w, a.err.Error(), a.code)
			return
		}
		w.Header()["Content-Type"] = in.contentType
		w.WriteHeader(a.code)
		_, _ = w.Write(a.body) // an agent that is gone sends again
	})
}

// open answers POST /api/v1/open.
func (in *Intake) open(w http.ResponseWriter, r *http.Request) answer {
	id, err := in.opts.Guard.Identify(r)
	if err != nil {
		return refuse(http.StatusUnauthorized, wire.ReasonForbidden, err)
	}
	body, m, a := in.body(w, r)
	if a.code != 0 {
		return a
	}
	defer m.release()
	req, err := wire.DecodeOpenRequest(body)
	if err != nil {
		return in.undecodable(err)
	}
	if a := in.authorize(r, id, req.Node); a.code != 0 {
		return a
	}
	ctx, cancel := context.WithTimeout(r.Context(), in.opts.Patience)
	defer cancel()
	o, ok, err := in.opts.Ledger.Open(ctx, req)
	switch {
	case err != nil:
		in.opts.Log.Error("an agent cannot be opened for", zap.String("node", req.Node.Name), zap.Error(err))
		return refuse(http.StatusServiceUnavailable, wire.ReasonBusy, fmt.Errorf("cannot open: %w", err))
	case !ok:
		in.metrics.opens.WithLabelValues("fenced").Inc()
		return refuse(http.StatusGone, wire.ReasonFenced, errors.New("another agent has taken over this node"))
	}
	in.metrics.opens.WithLabelValues("opened").Inc()
	b, err := wire.EncodeOpening(o, in.opts.Now().UnixMilli())
	if err != nil {
		in.opts.Log.Error("BUG: an opening cannot be encoded", zap.String("node", req.Node.Name), zap.Error(err))
		return refuse(http.StatusServiceUnavailable, wire.ReasonBusy, err)
	}
	return answer{code: http.StatusOK, body: b}
}

// windows answers POST /api/v1/windows.
func (in *Intake) windows(w http.ResponseWriter, r *http.Request) answer {
	id, err := in.opts.Guard.Identify(r)
	if err != nil {
		return refuse(http.StatusUnauthorized, wire.ReasonForbidden, err)
	}
	body, m, a := in.body(w, r)
	if a.code != 0 {
		return a
	}
	defer m.release()
	parts, err := wire.SplitBatch(body)
	if err != nil {
		return in.undecodable(err)
	}
	if a := in.authorize(r, id, parts.Head.Node); a.code != 0 {
		return a
	}
	parts.Telemetry = in.opts.Telemetry
	var lookup error
	batch, err := parts.Decode(func(id uint64) *window.Catalogue {
		c, err := in.catalogue(r.Context(), parts.Head.Node, id)
		lookup = errors.Join(lookup, err)
		return c
	})
	if lookup != nil {
		return refuse(http.StatusServiceUnavailable, wire.ReasonBusy, fmt.Errorf("cannot look up catalogues: %w", lookup))
	}
	now := in.opts.Now().UnixMilli()
	if unknown, ok := errors.AsType[*wire.UnknownError](err); ok {
		return in.respond(http.StatusFailedDependency, wire.Response{Unknown: unknown.IDs, NowMS: now})
	}
	if err != nil {
		return in.undecodable(err)
	}
	failpoint.Hit(failpoint.IntakeAfterDecode)
	results, err := in.submit(r.Context(), submissions(batch, now))
	if err != nil {
		return refuse(http.StatusServiceUnavailable, wire.ReasonBusy, err)
	}
	return in.results(batch, results)
}

// catalogue looks one up, within the agent's patience.
func (in *Intake) catalogue(ctx context.Context, n ledger.Node, id uint64) (*window.Catalogue, error) {
	if c := in.catalogues.cached(n, id); c != nil {
		return c, nil
	}
	ctx, cancel := context.WithTimeout(ctx, in.opts.Patience)
	defer cancel()
	return in.catalogues.get(ctx, n, id)
}

func submissions(b *wire.Batch, nowMS int64) []ledger.Submission {
	out := make([]ledger.Submission, len(b.Windows))
	for i, w := range b.Windows {
		out[i] = ledger.Submission{
			Node: b.Head.Node, Incarnation: b.Head.Incarnation, Session: b.Head.Session,
			Window: w, Hash: wire.Hash(w), Raw: b.Raw[i], NowMS: nowMS,
		}
	}
	return out
}

// results turns what the ledger decided into an answer that ends with the first
// refusal.
func (in *Intake) results(b *wire.Batch, results []ledger.Result) answer {
	code := http.StatusOK
	for i := range results {
		in.metrics.window(results[i].Status)
	}
	for i := range results {
		if code = codeOf(results[i].Status); code != http.StatusOK {
			results = results[:i+1]
			break
		}
	}
	var stored *window.Catalogue
	for i := range results {
		if c := b.Windows[i].Catalogue; c != stored && codeOf(results[i].Status) == http.StatusOK {
			in.catalogues.put(b.Head.Node, c) // the ledger has it, too
			stored = c
		}
	}
	return in.respond(code, wire.Response{Results: results, NowMS: in.opts.Now().UnixMilli()})
}

func codeOf(s ledger.Status) int {
	switch s {
	case ledger.Booked, ledger.Duplicate, ledger.Quarantined:
		return http.StatusOK
	case ledger.Fenced:
		return http.StatusGone
	case ledger.Reopen:
		return http.StatusPreconditionRequired
	default: // Apart, Conflict
		return http.StatusConflict
	}
}

func (in *Intake) respond(code int, r wire.Response) answer {
	b, err := wire.EncodeResponse(r)
	if err != nil {
		return refuse(http.StatusServiceUnavailable, wire.ReasonBusy, err)
	}
	return answer{code: code, body: b}
}

// authorize tells whether the sender may write for a node; code 0 is yes.
func (in *Intake) authorize(r *http.Request, id *auth.Identity, n ledger.Node) answer {
	if id.MayWrite(n.Cluster, n.Name) {
		return answer{}
	}
	in.metrics.forbidden.Inc()
	if ok, skipped := in.forbidden.Allow(); ok {
		in.opts.Log.Warn("a token was used for a node that it is not for", zap.String("token", id.Name),
			zap.String("cluster", n.Cluster), zap.String("node", n.Name), zap.String("from", r.RemoteAddr), zap.Int("not_logged", skipped))
	}
	return refuse(http.StatusForbidden, wire.ReasonForbidden, fmt.Errorf("token %q is not for node %q of cluster %q", id.Name, n.Name, n.Cluster))
}

func (in *Intake) undecodable(err error) answer {
	switch {
	case errors.Is(err, wire.ErrVersion):
		return in.badBody(http.StatusBadRequest, wire.ReasonVersion, err)
	case errors.Is(err, wire.ErrTooLarge):
		return in.badBody(http.StatusRequestEntityTooLarge, wire.ReasonTooLarge, err)
	default:
		return in.badBody(http.StatusBadRequest, wire.ReasonMalformed, err)
	}
}

// body reads and unpacks a body of a sender that is known; code 0 is success, and
// the memory must be released when the body is done with.
func (in *Intake) body(w http.ResponseWriter, r *http.Request) (body []byte, m memory, a answer) {
	if !isOurs(r.Header.Get("Content-Type")) {
		return nil, m, in.badBody(http.StatusUnsupportedMediaType, wire.ReasonEncoding, fmt.Errorf("content type is not %s", wire.ContentType))
	}
	encoding := r.Header.Get("Content-Encoding")
	if encoding != "" && encoding != "identity" && encoding != "zstd" {
		return nil, m, in.badBody(http.StatusUnsupportedMediaType, wire.ReasonEncoding, fmt.Errorf("content encoding %q is not zstd or none", encoding))
	}
	size := r.ContentLength
	switch {
	case size > wire.MaxBody:
		return nil, m, in.badBody(http.StatusRequestEntityTooLarge, wire.ReasonTooLarge, fmt.Errorf("body of %d bytes, at most %d", size, wire.MaxBody))
	case size < 0 || encoding == "zstd" && size > smallBody/8:
		size = wire.MaxBody
	case encoding == "zstd":
		size = smallBody // what it takes is known when it is unpacked
	}
	if m = in.claim(size); m.of == nil {
		return nil, m, refuse(http.StatusServiceUnavailable, wire.ReasonBusy, errBusy)
	}
	body, a = in.read(w, r, encoding)
	if a.code == 0 && !m.resize(int64(len(body))) {
		a = refuse(http.StatusServiceUnavailable, wire.ReasonBusy, errBusy)
	}
	if a.code != 0 {
		m.release()
	}
	return body, m, a
}

// isOurs tells whether a content type is that of the link, as agents write it or
// with parameters.
func isOurs(contentType string) bool {
	if contentType == wire.ContentType {
		return true
	}
	t, _, err := mime.ParseMediaType(contentType)
	return err == nil && t == wire.ContentType
}

func (in *Intake) read(w http.ResponseWriter, r *http.Request, encoding string) ([]byte, answer) {
	var raw []byte
	var err error
	if r.ContentLength >= 0 { // and no more than is allowed: the server gives no more than that
		raw = make([]byte, r.ContentLength)
		_, err = io.ReadFull(r.Body, raw)
	} else {
		raw, err = io.ReadAll(http.MaxBytesReader(w, r.Body, wire.MaxBody))
	}
	in.metrics.bytes.Add(float64(len(raw)))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, in.badBody(http.StatusRequestEntityTooLarge, wire.ReasonTooLarge, fmt.Errorf("body of more than %d bytes", wire.MaxBody))
	}
	if err != nil {
		return nil, in.badBody(http.StatusBadRequest, wire.ReasonBody, fmt.Errorf("cannot read the body: %w", err))
	}
	if encoding != "zstd" {
		return raw, answer{}
	}
	body, err := in.unpack.DecodeAll(raw, nil)
	switch {
	case errors.Is(err, zstd.ErrDecoderSizeExceeded), errors.Is(err, zstd.ErrWindowSizeExceeded):
		return nil, in.badBody(http.StatusRequestEntityTooLarge, wire.ReasonTooLarge, fmt.Errorf("body unpacks to more than %d bytes", wire.MaxBody))
	case err != nil:
		return nil, in.badBody(http.StatusBadRequest, wire.ReasonEncoding, fmt.Errorf("cannot unpack the body: %w", err))
	}
	return body, answer{}
}

func (in *Intake) badBody(code int, reason string, err error) answer {
	in.metrics.decodeErrors.WithLabelValues(reason).Inc()
	return refuse(code, reason, err)
}
