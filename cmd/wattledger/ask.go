package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// maxError is how much of an answer is read for its error.
const maxError = 64 << 10

// get asks for a path below the aggregator's address and hands the body on.
func (k *call) get(ctx context.Context, path string, q url.Values, use func(io.Reader) error) error {
	return k.ask(ctx, http.MethodGet, path, q, use)
}

func (k *call) ask(ctx context.Context, method, path string, q url.Values, use func(io.Reader) error) error {
	base, err := url.Parse(strings.TrimSuffix(k.base, "/"))
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" || base.User != nil {
		return misused("--url %q is not an address like https://aggregator.example.org:9440", k.base)
	}
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	target := strings.TrimSuffix(k.base, "/") + path
	if len(q) > 0 {
		target += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, nil)
	if err != nil {
		return misused("--url %q: %v", k.base, err)
	}
	if err := k.authorise(req); err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return k.unreachable(base, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return refused(base, res)
	}
	if err := use(res.Body); err != nil {
		return fmt.Errorf("the answer of %s did not come through: %w", base, err)
	}
	return nil
}

// authorise adds the token, which never travels unprotected.
func (k *call) authorise(req *http.Request) error {
	if k.tokenFile == "" {
		return nil
	}
	token, err := os.ReadFile(k.tokenFile)
	if err != nil {
		return fmt.Errorf("cannot read the token: %w", err)
	}
	text := strings.TrimSpace(string(token))
	if text == "" || strings.ContainsAny(text, "\r\n") {
		return fmt.Errorf("cannot use %s as a token: it must hold one line", k.tokenFile)
	}
	if req.URL.Scheme != "https" && !loopback(req.URL.Hostname()) {
		return misused("a token is not sent over plain http to %s; use https", req.URL.Host)
	}
	req.Header.Set("Authorization", "Bearer "+text)
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (k *call) unreachable(base *url.URL, err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the aggregator at %s did not answer within %s; --timeout gives it longer", base, k.timeout)
	}
	if asked, ok := errors.AsType[*url.Error](err); ok {
		err = asked.Err
	}
	return fmt.Errorf("cannot reach the aggregator at %s: %w\n"+
		"Is it running there? Say where it is with --url or WATTLEDGER_URL", base, err)
}

// refused turns an answer that is not 200 into an error: the asker's (400), or
// an answer no.
func refused(base *url.URL, res *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(res.Body, maxError))
	if err != nil {
		return fmt.Errorf("the answer of %s did not come through: %w", base, err)
	}
	var says struct{ Error, Status, Reason string }
	if json.Unmarshal(body, &says) != nil {
		says.Error = ""
	}
	switch {
	case res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden:
		if says.Error == "" {
			says.Error = "no"
		}
		return fmt.Errorf("the aggregator at %s does not let us ask this: %s (--token-file names the file with your token)", base, says.Error)
	case says.Status != "":
		return fmt.Errorf("the aggregator did not book it: %s: %s", says.Status, says.Reason)
	case says.Error == "":
		return fmt.Errorf("%s answered %s, which is no answer of an aggregator; is the address right?", base, res.Status)
	case res.StatusCode == http.StatusBadRequest:
		return &usageError{words: says.Error}
	}
	return errors.New(says.Error)
}

// decode reads a JSON answer to its end.
func decode(into any) func(io.Reader) error {
	return func(r io.Reader) error {
		body, err := io.ReadAll(r)
		return errors.Join(err, json.Unmarshal(body, into))
	}
}
