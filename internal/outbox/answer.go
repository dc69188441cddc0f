package outbox

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// Answer is what a receiver said that is not yes. Errors of Options.Send that
// hold none are failures of the connection.
type Answer struct {
	Code  int           // of HTTP
	After time.Duration // how long it asks to be left alone, 0 if it does not
	Text  string        // the beginning of what it said
}

// Error gives the code in words and what the receiver said.
func (a *Answer) Error() string {
	s := fmt.Sprintf("the receiver answers %d %s", a.Code, http.StatusText(a.Code))
	if text := strings.Join(strings.Fields(a.Text), " "); text != "" {
		s += fmt.Sprintf(": %.300s", text)
	}
	switch a.Code {
	case http.StatusUnauthorized, http.StatusForbidden:
		s += " (look at the token or password; nothing is given up while the buffer has room)"
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		s += " (look at the address; nothing is given up while the buffer has room)"
	}
	return s
}

// ErrUnready is within errors of Options.Send that are this side's own: the
// records wait, and nobody thinks that the connection broke.
var ErrUnready = errors.New("nothing was sent")

// longestAfter bounds what a receiver may ask for.
const longestAfter = 5 * time.Minute

// RetryAfter reads the header of that name: seconds or a date; 0 for neither.
func RetryAfter(header string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(header, 10, 32); err == nil {
		return min(time.Duration(n)*time.Second, longestAfter)
	}
	at, err := http.ParseTime(header)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), longestAfter)
}

// verdict is what an attempt means for the records.
type verdict int

const (
	taken   verdict = iota
	blamed          // the receiver finds fault with the data: the same again would end the same way
	tooMuch         // the same in smaller parts may pass
	later           // the receiver is well, and does not want it now or from us
	broken          // the connection failed, or the receiver behind a proxy
)

// judge tells data that is refused from a receiver that is not ready for it.
// Only codes that speak of the content give records up: a wrong token, path or
// proxy is mended by a person, and the records wait for that.
func judge(err error) (verdict, time.Duration) {
	a, answered := errors.AsType[*Answer](err)
	switch {
	case err == nil:
		return taken, 0
	case !answered && (errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, ErrUnready)):
		return later, 0 // slow is not dead
	case !answered:
		return broken, 0
	}
	switch a.Code {
	case http.StatusBadRequest, http.StatusConflict, http.StatusUnprocessableEntity:
		return blamed, 0
	case http.StatusRequestEntityTooLarge:
		return tooMuch, 0
	case http.StatusBadGateway:
		return broken, a.After
	}
	return later, a.After
}
