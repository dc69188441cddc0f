package peers

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long a server may take to be ready, to end or to answer. A
// machine that is busy with other tests is slow.
const patience = 90 * time.Second

// Peer is a server that runs, or ran.
type Peer struct {
	// URL is its address, like http://127.0.0.1:41234, without a slash at the end.
	URL string
	// Dir is the folder of its data, configuration and log.
	Dir string

	name  string
	spec  func(address string) (args []string, err error)
	ready string // path that answers 2xx when it is ready
	path  string // of the program

	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
}

// launch starts a server on a free port and waits until it is ready. spec gives
// its arguments, given the address that it must listen on.
func launch(t testing.TB, path, dir, ready string, spec func(address string) ([]string, error)) *Peer {
	t.Helper()
	p := &Peer{Dir: dir, name: filepath.Base(path), spec: spec, ready: ready, path: path}
	t.Cleanup(func() { p.Kill(t) })
	// Between the choice of a port and its use another program may take it.
	var err error
	for range 5 {
		p.URL = "http://" + FreeAddress(t)
		if err = p.start(); err == nil {
			return p
		}
		if !strings.Contains(p.Log(), "address already in use") {
			break
		}
	}
	t.Fatalf("cannot start %s: %v\n%s", p.name, err, p.tail())
	return nil
}

// FreeAddress gives an address of the loopback interface that nothing listens
// on, like 127.0.0.1:41234.
func FreeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// Pid is the process id of the server that was started last.
func (p *Peer) Pid() int { return p.cmd.Process.Pid }

// Kill ends the server at once, with SIGKILL, and waits until it is gone. It
// does nothing if the server has ended.
func (p *Peer) Kill(t testing.TB) { t.Helper(); p.end(t, syscall.SIGKILL) }

// Stop ends the server with SIGTERM and waits until it is gone.
func (p *Peer) Stop(t testing.TB) { t.Helper(); p.end(t, syscall.SIGTERM) }

// Freeze halts the server (SIGSTOP): connections are taken, nothing answers.
func (p *Peer) Freeze(t testing.TB) { t.Helper(); p.signal(t, syscall.SIGSTOP) }

// Thaw lets a frozen server go on.
func (p *Peer) Thaw(t testing.TB) { t.Helper(); p.signal(t, syscall.SIGCONT) }

// Restart starts the server again at the same address with the same data, after
// Kill or Stop, and waits until it is ready.
func (p *Peer) Restart(t testing.TB) {
	t.Helper()
	p.Kill(t)
	if err := p.start(); err != nil {
		t.Fatalf("cannot start %s again: %v\n%s", p.name, err, p.tail())
	}
}

// Log is what the server has written to its output, over all its starts.
func (p *Peer) Log() string {
	b, err := os.ReadFile(p.logFile())
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (p *Peer) logFile() string { return filepath.Join(p.Dir, p.name+".log") }

func (p *Peer) tail() string {
	lines := strings.Split(strings.TrimSpace(p.Log()), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

func (p *Peer) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Fatalf("cannot send %v to %s: %v", sig, p.name, err)
	}
}

func (p *Peer) end(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if p.cmd == nil {
		return
	}
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("cannot end %s: %v", p.name, err)
	}
	select {
	case <-p.done:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.done
		t.Errorf("%s did not end within %v of %v\n%s", p.name, patience, sig, p.tail())
	}
}

// start starts the process and polls until the server is ready.
func (p *Peer) start() error {
	args, err := p.spec(strings.TrimPrefix(p.URL, "http://"))
	if err != nil {
		return err
	}
	log, err := os.OpenFile(p.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(p.path, args...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, p.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.cmd, p.done = cmd, make(chan struct{})
	started := make(chan error)
	go func(done chan struct{}) {
		// The signal comes when the thread ends that started the process, so this
		// one stays until the process has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(done)
	}(p.done)
	if err := <-started; err != nil {
		p.cmd = nil
		return err
	}
	return p.await()
}

// await polls the path that tells whether the server is ready.
func (p *Peer) await() error {
	last := errors.New("it was not asked")
	for end := time.Now().Add(patience); time.Now().Before(end); {
		select {
		case <-p.done:
			return fmt.Errorf("it ended (%v) before it was ready", p.cmd.ProcessState)
		case <-time.After(20 * time.Millisecond):
		}
		if _, last = fetch(http.MethodGet, p.URL+p.ready, nil); last == nil {
			return nil
		}
	}
	return fmt.Errorf("not ready after %v: %w", patience, last)
}

// fetch asks a server and gives the body of an answer of 2xx.
func fetch(method, url string, body io.Reader) ([]byte, error) {
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode < 200 || resp.StatusCode > 299) {
		err = fmt.Errorf("%s %s: %s: %.500s", method, url, resp.Status, b)
	}
	return b, err
}
