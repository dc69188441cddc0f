package redfish

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"

	"github.com/stmcginnis/gofish/common"
)

// kind says what a failure means for what is done next.
type kind uint8

const (
	other       kind = iota
	unreachable      // no connection
	distrusted       // its certificate is not believed
	denied           // 401, 403: credentials, or a session that has ended
	gone             // 404, 405, 410: not where it was found
	refused          // any other status
	slow             // no answer in time
	nonsense         // an answer that cannot be understood or is no value
)

var (
	errNoMeters = errors.New("the controller has no power reading that we know")
	errScope    = errors.New("cannot tell which reading is the node's")
)

// failure is an error in words that are the same each time: without ports,
// times and the controller's own pages.
type failure struct {
	kind kind
	text string
	err  error
}

func (f *failure) Error() string {
	if f.err == nil {
		return f.text
	}
	return f.text + ": " + f.err.Error()
}
func (f *failure) Unwrap() error { return f.err }

func kindOf(err error) kind {
	if f, ok := errors.AsType[*failure](err); ok {
		return f.kind
	}
	return other
}

// answers tells whether a controller that gave err would hear a farewell.
func answers(err error) bool {
	switch kindOf(err) {
	case gone, refused, nonsense:
		return true
	default:
		return false
	}
}

// fault sorts an error of the library.
func fault(doing string, err error) error {
	if status, ok := errors.AsType[*common.Error](err); ok && status.HTTPReturnedStatusCode != 0 {
		return fromStatus(doing, status.HTTPReturnedStatusCode)
	}
	var timeout interface{ Timeout() bool }
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		return &failure{kind: slow, text: doing + ": no answer in time"}
	}
	if cert, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return &failure{kind: distrusted, text: doing, err: cert}
	}
	if errors.Is(err, errFingerprint) {
		return &failure{kind: distrusted, text: doing, err: cause(err)}
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return &failure{kind: unreachable, text: doing, err: op.Err}
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		return &failure{kind: unreachable, text: doing, err: u.Err}
	}
	return &failure{kind: nonsense, text: doing, err: err}
}

func fromStatus(doing string, code int) error {
	f := &failure{kind: refused, text: fmt.Sprintf("%s: HTTP %d (%s)", doing, code, http.StatusText(code))}
	switch code {
	case http.StatusUnauthorized, http.StatusForbidden:
		f.kind = denied
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusGone:
		f.kind = gone
	}
	return f
}

// cause is the error inside a url.Error, or err itself.
func cause(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// presented is the fingerprint of the certificate that was not believed, "" if
// the error does not have it.
func presented(err error) string {
	cert, ok := errors.AsType[*tls.CertificateVerificationError](err)
	if !ok || len(cert.UnverifiedCertificates) == 0 {
		return ""
	}
	sum := sha256.Sum256(cert.UnverifiedCertificates[0].Raw)
	return hex.EncodeToString(sum[:])
}
