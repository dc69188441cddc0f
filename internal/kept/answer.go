package kept

import (
	"bytes"
	"net/http"
	"strconv"
)

// answer is an http.ResponseWriter that keeps what is written.
type answer struct {
	header http.Header
	code   int
	body   []byte
}

func (a *answer) reset() {
	if a.header == nil {
		a.header = http.Header{}
	}
	clear(a.header)
	a.code, a.body = 0, a.body[:0]
}

func (a *answer) Header() http.Header { return a.header }

// WriteHeader keeps the first code.
func (a *answer) WriteHeader(code int) {
	if a.code == 0 {
		a.code = code
	}
}

func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	a.body = append(a.body, p...)
	return len(p), nil
}

func (a *answer) status() int {
	if a.code == 0 {
		return http.StatusOK
	}
	return a.code
}

func (a *answer) setLength() {
	if a.header["Content-Length"] == nil {
		a.header["Content-Length"] = []string{strconv.Itoa(len(a.body))}
	}
}

// append adds the answer as HTTP/1.1 has it.
func (a *answer) append(b []byte, last bool) []byte {
	code := a.status()
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(code), 10)
	b = append(append(append(b, ' '), http.StatusText(code)...), "\r\nDate: "...)
	b = clock().UTC().AppendFormat(b, http.TimeFormat)
	b = append(b, "\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(a.body)), 10)
	b = append(b, "\r\n"...)
	if last {
		b = append(b, "Connection: close\r\n"...)
	}
	delete(a.header, "Content-Length")
	w := bytes.NewBuffer(b)
	_ = a.header.Write(w) // to memory; sorted, and no line break gets in
	_, _ = w.WriteString("\r\n")
	_, _ = w.Write(a.body)
	return w.Bytes()
}
