package kept

import (
	"bytes"
	"net/http"
	"strconv"
)

// like is a request that net/http's parser has read and that was plain. An agent
// writes the same header each time, but for the length of the body: what is the same
// to the byte is not parsed again.
type like struct {
	before, after []byte // of the header; between them stands the length
	parsed        *http.Request
}

const lengthField = "\r\nContent-Length: "

// mostDigits of a length are read here.
const mostDigits = 15

// learn keeps a header and what it was parsed to. One that names the length twice, or
// writes it in another way, is left to the parser each time.
func (l *like) learn(header []byte, r *http.Request) {
	l.parsed = nil
	at := bytes.Index(header, []byte(lengthField)) + len(lengthField)
	if at < len(lengthField) || bytes.Count(bytes.ToLower(header), []byte("content-length")) != 1 {
		return
	}
	end := at
	for end < len(header) && isDigit(header[end]) {
		end++
	}
	if end == at || !bytes.HasPrefix(header[end:], []byte("\r\n")) {
		return
	}
	l.before, l.after = append(l.before[:0], header[:at]...), append(l.after[:0], header[end:]...)
	l.parsed = r
}

// request gives the request of a header that is the same but for the length; nil if
// it is not.
func (l *like) request(header []byte) *http.Request {
	digits := len(header) - len(l.before) - len(l.after)
	if l.parsed == nil || digits < 1 || digits > mostDigits || !bytes.HasPrefix(header, l.before) || !bytes.HasSuffix(header, l.after) {
		return nil
	}
	text := header[len(l.before) : len(l.before)+digits]
	var n int64
	for _, c := range text {
		if !isDigit(c) {
			return nil
		}
		n = 10*n + int64(c-'0')
	}
	if n != l.parsed.ContentLength {
		l.parsed.ContentLength = n
		l.parsed.Header["Content-Length"] = []string{strconv.FormatInt(n, 10)}
	}
	return l.parsed
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
