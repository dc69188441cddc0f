package slurm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// number is an integer in the ways that Slurm has written it: bare or null up to
// data parser 0.0.38, {"set","infinite","number"} since 0.0.39. It is not set
// where it is null, infinite, or anything but a number.
type number struct {
	value int64
	set   bool
}

func (n *number) UnmarshalJSON(b []byte) error {
	*n = number{}
	if len(b) > 0 && b[0] == '{' {
		var o struct {
			Set      bool        `json:"set"`
			Infinite bool        `json:"infinite"`
			Number   json.Number `json:"number"`
		}
		if err := json.Unmarshal(b, &o); err != nil {
			return err
		}
		if !o.Set || o.Infinite {
			return nil
		}
		b = []byte(o.Number)
	}
	if v, err := strconv.ParseInt(string(bytes.Trim(b, `"`)), 10, 64); err == nil {
		*n = number{v, true}
	} else if f, err := strconv.ParseFloat(string(b), 64); err == nil && f > -1e18 && f < 1e18 {
		*n = number{int64(f), true}
	}
	return nil
}

// words is one word or a list of words: states became lists in 0.0.40.
type words []string

func (w *words) UnmarshalJSON(b []byte) error {
	*w = nil
	switch {
	case len(b) == 0 || b[0] == 'n':
		return nil
	case b[0] == '[':
		return json.Unmarshal(b, (*[]string)(w))
	}
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	*w = words{s}
	return nil
}

// first is the first word: the state without its flags.
func (w words) first() string {
	if len(w) == 0 {
		return ""
	}
	s, _, _ := strings.Cut(w[0], " ") // "CANCELLED by 0"
	return s
}

// fault is an entry of "errors".
type fault struct {
	Number      number `json:"error_number"`
	Error       string `json:"error"`
	Description string `json:"description"`
	Source      string `json:"source"`
}

func (f fault) String() string {
	var parts []string
	for _, s := range []string{f.Description, f.Error} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	if f.Number.set {
		parts = append(parts, "error "+strconv.FormatInt(f.Number.value, 10))
	}
	if f.Source != "" {
		parts = append(parts, "from "+f.Source)
	}
	return strings.Join(parts, ", ")
}

// list reads an answer as it comes: an object with "errors" and one list, whose
// entries go to f one by one. An answer of a large site is never whole in memory.
// Entries that are no T are counted.
func list[T any](r io.Reader, name string, f func(*T)) (faults []fault, bad int, firstBad error, err error) {
	d := json.NewDecoder(r)
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, 0, nil, errors.Join(fmt.Errorf("it begins with %v, not with an object", t), err)
	}
	found := false
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return faults, bad, firstBad, err
		}
		switch key {
		case "errors":
			err = d.Decode(&faults)
		case name:
			found = true
			bad, firstBad, err = entries(d, f)
		default:
			err = d.Decode(new(json.RawMessage))
		}
		if err != nil {
			return faults, bad, firstBad, fmt.Errorf("%v: %w", key, err)
		}
	}
	if _, err := d.Token(); err != nil {
		return faults, bad, firstBad, err
	}
	if !found && len(faults) == 0 {
		return nil, bad, firstBad, fmt.Errorf("it has no %q", name)
	}
	return faults, bad, firstBad, nil
}

func entries[T any](d *json.Decoder, f func(*T)) (bad int, firstBad, err error) {
	t, err := d.Token()
	if err != nil || t == nil { // null: none
		return 0, nil, err
	}
	if t != json.Delim('[') {
		return 0, nil, fmt.Errorf("%v is no list", t)
	}
	for d.More() {
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return bad, firstBad, err
		}
		var v T
		if err := json.Unmarshal(raw, &v); err != nil {
			if bad++; firstBad == nil {
				firstBad = err
			}
			continue
		}
		f(&v)
	}
	_, err = d.Token()
	return bad, firstBad, err
}
