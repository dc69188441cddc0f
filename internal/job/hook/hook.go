// Package hook is how a workload manager tells the agent that a job begins or
// ends: one request a connection over a Unix socket, a line of JSON each way.
//
// Only root and the user ids that the agent's configuration lists may speak;
// the kernel says who is at the other end (SO_PEERCRED, unix(7)). An answer
// always comes, and soon: a prolog must never wait for us.
package hook

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/user"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wattledger/wattledger/internal/job"
)

// Limits of a request.
const (
	maxRequest = 64 << 10
	ioTimeout  = 2 * time.Second
)

// Request is what a client says.
type Request = job.Edge

// Answer is what the agent says.
type Answer = job.Answer

// Server answers requests on a socket.
type Server struct {
	// Allow lists the user ids that may speak besides root.
	Allow []uint32
	// Handle takes a request; it answers within a tenth of a second.
	Handle func(ctx context.Context, r Request) Answer
	// Refused is told of every peer that was turned away; it may be nil.
	Refused func(uid uint32, reason string)
}

// Listen makes the socket: mode 0660, owned by the group if it exists. A stale
// socket of a dead agent is replaced, a live one is not.
func Listen(path, group string) (net.Listener, error) {
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("cannot listen on %s: another agent answers there", path)
	}
	if st, err := os.Lstat(path); err == nil && st.Mode().Type() != os.ModeSocket {
		return nil, fmt.Errorf("cannot listen on %s: something that is no socket is there", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot replace the old socket %s: %w", path, err)
	}
	mask := unix.Umask(0o117)
	l, err := net.Listen("unix", path)
	unix.Umask(mask)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", path, err)
	}
	if err := give(path, group); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func give(path, group string) error {
	if err := os.Chmod(path, 0o660); err != nil {
		return fmt.Errorf("cannot set the mode of %s: %w", path, err)
	}
	if group == "" {
		return nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return nil // no such group: the socket stays the agent's own group's
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return fmt.Errorf("cannot read the id %q of group %s: %w", g.Gid, group, err)
	}
	if err := os.Chown(path, -1, gid); err != nil && !errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("cannot give %s to group %s: %w", path, group, err)
	}
	return nil
}

// Serve answers until the listener is closed.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	slots := make(chan struct{}, 64) // at most so many at once
	for {
		c, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("cannot accept on the job socket: %w", err)
		}
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			defer c.Close()
			s.one(ctx, c)
		}()
	}
}

func (s *Server) one(ctx context.Context, c net.Conn) {
	// the deadline is the kernel's business, not an account's: wall time will do
	if err := c.SetDeadline(deadline(ioTimeout)); err != nil {
		return
	}
	uid, err := peer(c)
	if err != nil || (uid != 0 && !slices.Contains(s.Allow, uid)) {
		reason := fmt.Sprintf("user id %d may not begin or end jobs: run as root, or list it under allow_uids in the agent's configuration", uid)
		if err != nil {
			reason = err.Error()
		}
		if s.Refused != nil {
			s.Refused(uid, reason)
		}
		reply(c, Answer{Message: reason})
		return
	}
	r, err := read(c)
	if err != nil {
		reply(c, Answer{Message: err.Error()})
		return
	}
	reply(c, s.Handle(ctx, r))
}

func read(c io.Reader) (Request, error) {
	var r Request
	line, err := bufio.NewReader(io.LimitReader(c, maxRequest)).ReadBytes('\n')
	if err != nil {
		return r, fmt.Errorf("cannot read the request: it must be one line of JSON of at most %d bytes", maxRequest)
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return r, fmt.Errorf("cannot understand the request: %w", err)
	}
	if r.Op != "begin" && r.Op != "end" {
		return r, fmt.Errorf("cannot do %q: begin and end are known", r.Op)
	}
	return r, nil
}

func reply(c io.Writer, a Answer) {
	b, err := json.Marshal(a)
	if err != nil {
		return
	}
	_, _ = c.Write(append(b, '\n')) // a client that left misses its answer, nothing else
}

// peer asks the kernel who is at the other end.
func peer(c net.Conn) (uint32, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return 0, errors.New("cannot tell who asks: not a Unix socket")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("cannot tell who asks: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, fmt.Errorf("cannot tell who asks: %w", err)
	}
	if credErr != nil {
		return 0, fmt.Errorf("cannot tell who asks: %w", credErr)
	}
	return cred.Uid, nil
}

// Ask sends one request and waits for the answer.
func Ask(path string, r Request) (Answer, error) { return AskWithin(path, r, ioTimeout) }

// AskWithin is Ask with a limit of its own: a prolog has little time.
func AskWithin(path string, r Request, limit time.Duration) (Answer, error) {
	c, err := net.DialTimeout("unix", path, limit)
	if err != nil {
		return Answer{}, fmt.Errorf("cannot reach the agent on %s: %w (is wattledger-agent running, and may this user open the socket?)", path, err)
	}
	defer c.Close()
	if err := c.SetDeadline(deadline(limit)); err != nil {
		return Answer{}, fmt.Errorf("cannot set a deadline on %s: %w", path, err)
	}
	b, err := json.Marshal(r)
	if err != nil {
		return Answer{}, fmt.Errorf("cannot encode the request: %w", err)
	}
	_, werr := c.Write(append(b, '\n'))
	var a Answer // an agent that turns us away may answer before it has read all
	if err := json.NewDecoder(io.LimitReader(c, maxRequest)).Decode(&a); err != nil {
		return Answer{}, fmt.Errorf("cannot read the agent's answer on %s: %w", path, errors.Join(werr, err))
	}
	return a, nil
}
