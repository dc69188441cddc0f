package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/wattledger/wattledger/internal/report"
)

func runReport(ctx context.Context, k *call) error {
	k.text("month", "cluster", "project", "timezone")
	format := k.flags.String("format", "table", "")
	rest, err := k.parse()
	if err != nil {
		return err
	}
	if err := noMore(rest); err != nil {
		return err
	}
	if err := oneOf(*format, "table", "json", "csv", "html"); err != nil {
		return err
	}
	q := k.query("month", "cluster", "project", "timezone")
	q.Set("format", *format)
	return k.copy(ctx, "/api/v1/report", q)
}

// copy asks for a document and writes it as it came.
func (k *call) copy(ctx context.Context, path string, q url.Values) error {
	var body bytes.Buffer
	if err := k.get(ctx, path, q, func(r io.Reader) error { _, err := body.ReadFrom(r); return err }); err != nil {
		return err
	}
	return k.write(func(w io.Writer) error { _, err := body.WriteTo(w); return err })
}

// document asks for a JSON document and writes it as it came or as a table.
func document[T any](ctx context.Context, k *call, format, path string, q url.Values, table func(io.Writer, *T) error) (*T, error) {
	body, doc := bytes.Buffer{}, new(T)
	err := k.get(ctx, path, q, func(r io.Reader) error { return decode(doc)(io.TeeReader(r, &body)) })
	if err != nil {
		return nil, err
	}
	return doc, k.write(func(w io.Writer) error {
		if format == "json" {
			_, err := body.WriteTo(w)
			return err
		}
		return table(w, doc)
	})
}

func (k *call) tableOrJSON() *string { return k.flags.String("format", "table", "") }

func runAudit(ctx context.Context, k *call) error {
	filters := []string{"from", "to", "cluster", "timezone"}
	k.text(filters...)
	format := k.tableOrJSON()
	rest, err := k.parse()
	if err != nil {
		return err
	}
	if err := noMore(rest); err != nil {
		return err
	}
	if err := oneOf(*format, "table", "json"); err != nil {
		return err
	}
	audit, err := document(ctx, k, *format, "/api/v1/audit", k.query(filters...), report.WriteAuditText)
	if err == nil && !audit.Closes {
		return noError{}
	}
	return err
}

func runQuarantine(ctx context.Context, k *call) error {
	k.text("cluster")
	format := k.tableOrJSON()
	asUnknown := k.flags.Bool("as-unknown", false, "")
	rest, err := k.parse()
	if err != nil {
		return err
	}
	if err := oneOf(*format, "table", "json"); err != nil {
		return err
	}
	switch {
	case len(rest) == 0 || len(rest) == 1 && rest[0] == "list":
		_, err := document(ctx, k, *format, "/api/v1/quarantine", k.query("cluster"), report.WriteQuarantineText)
		return err
	case len(rest) == 2 && rest[0] == "repost":
		return repost(ctx, k, rest[1], *asUnknown)
	}
	return misused("say list, or repost and the id of one window")
}

func repost(ctx context.Context, k *call, id string, asUnknown bool) error {
	q := url.Values{}
	if asUnknown {
		q.Set("as", "unknown")
	}
	var answer report.RepostAnswer
	if err := k.ask(ctx, http.MethodPost, "/api/v1/quarantine/"+url.PathEscape(id)+"/repost", q, decode(&answer)); err != nil {
		return err
	}
	return k.write(func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "Window %d is %s.\n", answer.ID, answer.Status)
		return err
	})
}
