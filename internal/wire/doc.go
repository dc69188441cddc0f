// Package wire is the language of the link between agent and aggregator: the
// bodies of its two requests, the records of an agent's spool, and the hash of a
// window by which the ledger knows it again. wire.proto is its grammar; the
// generated code in wirepb is used by nobody else.
//
// A spool record is a Fragment: whole windows and the catalogues they name. A
// request is a head and the fragments after it, byte for byte, so nothing is
// encoded twice. A receiver that has seen a catalogue need not be sent it again.
//
// What is decoded may come from anywhere: sizes are bounded before memory is
// taken for them, every number is checked before it changes its type, indexes
// point at what is there, names are text. Whether a window may be booked is not
// asked here (window.Check, and the ledger).
package wire

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/wattledger/wattledger/internal/window"
)

// Version of the format.
const Version = 1

// What one message may hold.
const (
	MaxBody       = 4 << 20 // bytes of a request, after decompression
	MaxWindows    = 8192    // of a batch
	MaxCatalogues = 256     // of a batch
	MaxJobs       = 4096    // of a window; so many holdings and events too
	MaxSeries     = 16_384  // of a window
	MaxDetail     = 4096    // bytes of an event's detail
	maxMS         = 253_402_300_800_000
)

// Paths of the two requests, and their content type.
const (
	PathOpen    = "/api/v1/open"
	PathWindows = "/api/v1/windows"
	ContentType = "application/x-protobuf"
)

// HeaderReason is the header in which the aggregator says, in one word, why it
// refuses a body; a refusal without it is somebody's on the way.
const (
	HeaderReason    = "Wattledger-Reason"
	ReasonMalformed = "malformed"
	ReasonVersion   = "version"
	ReasonTooLarge  = "too_large"
	ReasonEncoding  = "encoding"
	ReasonBody      = "body"
	ReasonFenced    = "fenced"
	ReasonForbidden = "forbidden"
	ReasonBusy      = "busy"
)

// What decoding may say, for errors.Is.
var (
	// ErrVersion: the message is of a version this program does not speak.
	ErrVersion = errors.New("unknown version")
	// ErrTooLarge: a limit of this package is exceeded.
	ErrTooLarge = errors.New("too large")
	// ErrMalformed: the bytes are cut off or are not what they should be.
	ErrMalformed = errors.New("malformed message")
)

// UnknownError lists the catalogues that windows name and nobody has sent.
type UnknownError struct{ IDs []uint64 }

// Error says how many there are and names the first.
func (e *UnknownError) Error() string {
	return fmt.Sprintf("%d unknown catalogues, the first is %016x", len(e.IDs), e.IDs[0])
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}

func tooMany(what string, n, most int) error {
	if n <= most {
		return nil
	}
	return fmt.Errorf("%w: %d %s, at most %d", ErrTooLarge, n, what, most)
}

// CheckName tells whether a name of a node, a job, a meter or a project may
// travel: text without control characters, of at most window.MaxName bytes.
// Whoever lets names in asks this, so that no window fails for one.
func CheckName(what, s string) error { return checkText(what, s, window.MaxName) }

func checkText(what, s string, most int) error {
	switch {
	case len(s) <= most && plain(s):
		return nil
	case len(s) > most:
		return malformed("%s has %d bytes, at most %d", what, len(s), most)
	case !utf8.ValidString(s):
		return malformed("%s %.40q is not UTF-8", what, s)
	case strings.ContainsFunc(s, unicode.IsControl):
		return malformed("%s %.40q holds a control character", what, s)
	}
	return nil
}

// plain tells whether s holds printable ASCII alone, as nearly all names do.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func checkNames(namesAndValues ...string) error {
	for i := 0; i+1 < len(namesAndValues); i += 2 {
		if err := CheckName(namesAndValues[i], namesAndValues[i+1]); err != nil {
			return err
		}
	}
	return nil
}
