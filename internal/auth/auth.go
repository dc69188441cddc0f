// Package auth says who is asking: agents, each bound to its nodes, readers of
// reports, and administrators. Tokens come from one file; only their SHA-256 is
// kept in memory, and a comparison takes the same time for every wrong token.
//
// Without a file everybody on the listener may do everything. That is for a
// loopback listener only; internal/config refuses it elsewhere.
package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
)

// Role is what a token is for.
type Role string

// Roles. An administrator may read, too; an agent may only write for its nodes.
const (
	Agent  Role = "agent"
	Reader Role = "reader"
	Admin  Role = "admin"
)

// AnyNode as the node of an agent's token is every node of its cluster.
const AnyNode = "*"

// What Identify may say.
var (
	// ErrNoToken: the request carries none.
	ErrNoToken = errors.New("no token: send Authorization: Bearer TOKEN")
	// ErrUnknown: nobody has this token.
	ErrUnknown = errors.New("unknown token")
)

// Identity is who a token belongs to.
type Identity struct {
	Name    string
	Role    Role
	Cluster string   // of an agent
	Nodes   []string // of an agent; AnyNode for all of the cluster
	digest  [sha256.Size]byte
	anybody bool
}

// MayWrite tells whether the bearer may send windows of a node.
func (id *Identity) MayWrite(cluster, node string) bool {
	if id.anybody {
		return true
	}
	return id.Role == Agent && id.Cluster == cluster &&
		(slices.Contains(id.Nodes, node) || slices.Contains(id.Nodes, AnyNode))
}

// MayRead tells whether the bearer may see reports, metrics and books.
func (id *Identity) MayRead() bool { return id.anybody || id.Role == Reader || id.Role == Admin }

// MayChange tells whether the bearer may close months, assign jobs, re-post.
func (id *Identity) MayChange() bool { return id.anybody || id.Role == Admin }

// Guard knows the tokens. Its methods may be called from any goroutine.
type Guard struct {
	path   string
	tokens atomic.Pointer[map[[sha256.Size]byte]*Identity]
}

// Everybody is a guard without tokens: all may do all.
func Everybody() *Guard { return &Guard{} }

// Load reads a file of tokens.
func Load(path string) (*Guard, error) {
	g := &Guard{path: path}
	return g, g.Reload()
}

// Reload reads the file again. After an error the old tokens stay in force.
func (g *Guard) Reload() error {
	if g.path == "" {
		return nil
	}
	tokens, err := readTokens(g.path)
	if err != nil {
		return err
	}
	g.tokens.Store(&tokens)
	return nil
}

// Open tells whether no token is needed.
func (g *Guard) Open() bool { return g.path == "" }

// Identify says who sent a request: ErrNoToken or ErrUnknown if nobody we know.
func (g *Guard) Identify(r *http.Request) (*Identity, error) {
	if g.Open() {
		return &Identity{Name: "anybody", anybody: true}, nil
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	token = strings.TrimSpace(token)
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return nil, ErrNoToken
	}
	// Looking up by digest tells a guesser nothing: whoever could choose digests
	// would not need to guess.
	digest := sha256.Sum256([]byte(token))
	id := (*g.tokens.Load())[digest]
	if id == nil || subtle.ConstantTimeCompare(digest[:], id.digest[:]) != 1 {
		return nil, ErrUnknown
	}
	return id, nil
}

// Reader lets through who may read.
func (g *Guard) Reader(h http.Handler) http.Handler { return g.only(h, (*Identity).MayRead, "reader") }

// Admin lets through who may change the books.
func (g *Guard) Admin(h http.Handler) http.Handler { return g.only(h, (*Identity).MayChange, "admin") }

func (g *Guard) only(h http.Handler, may func(*Identity) bool, role string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, err := g.Identify(r)
		switch {
		case err != nil:
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, err.Error(), http.StatusUnauthorized)
		case !may(id):
			http.Error(w, "this token is not a "+role+"'s", http.StatusForbidden)
		default:
			h.ServeHTTP(w, r)
		}
	})
}
