package slurm

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/wattledger/wattledger/internal/accounting"
)

// Auth is how we show slurmrestd who asks. The zero value shows nothing, which is
// right where it runs with rest_auth/local on a unix socket.
type Auth struct {
	User string // X-SLURM-USER-NAME, "" for the one that the token names
	// TokenFile holds a JWT, bare or as scontrol token prints it. It is read with
	// every request, so that whoever renews it need tell nobody.
	TokenFile string
	// TokenCommand prints one; it is asked again a minute before the token ends.
	TokenCommand []string
	Now          func() time.Time

	held *heldToken
}

// heldToken is what the command said last.
type heldToken struct {
	mu    sync.Mutex
	token string
	until time.Time // zero: not known
}

// NewAuth makes an Auth that may be copied.
func NewAuth(user, tokenFile string, tokenCommand []string, now func() time.Time) Auth {
	return Auth{User: user, TokenFile: tokenFile, TokenCommand: tokenCommand, Now: now, held: &heldToken{}}
}

// sign puts name and token on a request.
func (a Auth) sign(ctx context.Context, req *http.Request) error {
	token, err := a.token(ctx)
	if err != nil || token == "" {
		return err
	}
	if a.User != "" {
		req.Header.Set("X-SLURM-USER-NAME", a.User)
	}
	req.Header.Set("X-SLURM-USER-TOKEN", token)
	return nil
}

func (a Auth) token(ctx context.Context) (string, error) {
	switch {
	case a.TokenFile != "":
		b, err := os.ReadFile(a.TokenFile)
		if err != nil {
			return "", fmt.Errorf("%w: cannot read the token: %w", accounting.ErrRefused, err)
		}
		return bare(b)
	case len(a.TokenCommand) > 0:
		return a.ask(ctx)
	}
	return "", nil
}

func (a Auth) ask(ctx context.Context) (string, error) {
	a.held.mu.Lock()
	defer a.held.mu.Unlock()
	if a.held.token != "" && a.Now().Before(a.held.until.Add(-time.Minute)) {
		return a.held.token, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, a.TokenCommand[0], a.TokenCommand[1:]...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%w: cannot get a token from %s: %w: %s", accounting.ErrRefused, a.TokenCommand[0], err, brief(stderr.Bytes()))
	}
	token, err := bare(out)
	if err != nil {
		return "", fmt.Errorf("%s: %w", a.TokenCommand[0], err)
	}
	a.held.token, a.held.until = token, expiry(token)
	return token, nil
}

var errNoToken = errors.New("it holds no token: one line is expected, bare or after SLURM_JWT=")

// bare takes the token out of what scontrol token prints.
func bare(b []byte) (string, error) {
	s := strings.TrimSpace(string(b))
	s = strings.TrimPrefix(s, "SLURM_JWT=")
	if s == "" || strings.ContainsAny(s, " \t\r\n") {
		return "", fmt.Errorf("%w: %w", accounting.ErrRefused, errNoToken)
	}
	return s, nil
}

// expiry is when a JWT says that it ends; zero: it does not say. It is not
// verified, which is the other side's to do.
func expiry(token string) time.Time {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return time.Time{}
	}
	var claims struct {
		Exp number `json:"exp"`
	}
	if json.Unmarshal(b, &claims) != nil || !claims.Exp.set {
		return time.Time{}
	}
	return time.Unix(claims.Exp.value, 0)
}

// mend says what to do about a token that was refused. It never shows it.
func (a Auth) mend() string {
	var where, token string
	switch {
	case a.TokenFile != "":
		where = "renew the one in " + a.TokenFile
		if b, err := os.ReadFile(a.TokenFile); err == nil {
			token, _ = bare(b) // "" says nothing of its end
		}
	case len(a.TokenCommand) > 0:
		a.held.mu.Lock()
		token = a.held.token
		a.held.token = "" // ask for another one next time
		a.held.mu.Unlock()
		where = "look at what " + a.TokenCommand[0] + " prints"
	default:
		return "none is configured: set token_file or token_command"
	}
	where += " (scontrol token username=USER lifespan=SECONDS prints one)"
	if end := expiry(token); !end.IsZero() && a.Now != nil && end.Before(a.Now()) {
		return "it expired at " + end.UTC().Format(time.RFC3339) + "; " + where
	}
	return where
}

// brief is the beginning of what a command complained.
func brief(b []byte) string {
	s := strings.Join(strings.Fields(string(b)), " ")
	return s[:min(len(s), 300)]
}
