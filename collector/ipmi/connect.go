package ipmi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/types"
)

const (
	defaultPort  = 623
	defaultSuite = 3
	maxPassword  = 20 // IPMI 2.0, 22.30
)

// CodeError is a completion code other than 0 (IPMI 2.0, table 5-2).
type CodeError struct {
	Code uint8
	Err  error
}

// Error names the code and what it means.
func (e *CodeError) Error() string {
	return fmt.Sprintf("completion code %02xh (%s)", e.Code, meaning(e.Code))
}

// Unwrap gives the library's error.
func (e *CodeError) Unwrap() error { return e.Err }

// Passing tells whether the same question may be answered a moment later, on
// the same connection.
func (e *CodeError) Passing() bool {
	switch types.CompletionCode(e.Code) {
	case types.CodeNodeBusy, types.CodeProcessTimeout, types.CodeOutOfSpace, types.CodeCannotProvideResponse,
		types.CodeCannotProvideResponseFirmwareUpdate, types.CodeCannotProvideResponseBMCInitialize:
		return true
	default:
		return false
	}
}

// unknown tells whether the controller does not have the command.
func (e *CodeError) unknown() bool {
	switch types.CompletionCode(e.Code) {
	case types.CodeInvalidCommand, types.CodeInvalidCommandForLUN, types.CodeRequestDataFieldInvalid,
		types.CodeIllegalCommand, types.CodeNotSupported, types.CodeSubFnDisabled:
		return true
	default:
		return false
	}
}

func meaning(code uint8) string {
	switch types.CompletionCode(code) {
	case types.CodeNodeBusy:
		return "node busy"
	case types.CodeProcessTimeout:
		return "timed out inside the controller"
	case types.CodeInsufficientPrivilege:
		return "insufficient privilege"
	case types.CodeInvalidCommand, types.CodeInvalidCommandForLUN:
		return "no such command"
	default:
		return strings.ToLower(types.StrCC(types.CommandGetDCMIPowerReading, code))
	}
}

func (o *Options) fillRemote() error {
	var errs []error
	if o.Port == 0 {
		o.Port = defaultPort
	}
	if o.CipherSuite == 0 {
		o.CipherSuite = defaultSuite
	}
	if o.Privilege == "" {
		o.Privilege = "user"
	}
	if o.Port < 1 || o.Port > 65535 {
		errs = append(errs, fmt.Errorf("port: %d is not a UDP port", o.Port))
	}
	if o.CipherSuite != 3 && o.CipherSuite != 17 {
		errs = append(errs, fmt.Errorf("cipher_suite: %d is not 3 or 17; others are not safe", o.CipherSuite))
	}
	if _, ok := privilege(o.Privilege); !ok {
		errs = append(errs, fmt.Errorf("privilege: %q is not user, operator or administrator", o.Privilege))
	}
	if o.User == "" || o.PasswordFile == "" {
		errs = append(errs, errors.New("user and password_file: a controller on the network needs both; there is no default"))
	}
	return errors.Join(errs...)
}

func privilege(name string) (types.PrivilegeLevel, bool) {
	switch name {
	case "user":
		return types.PrivilegeLevelUser, true
	case "operator":
		return types.PrivilegeLevelOperator, true
	case "administrator":
		return types.PrivilegeLevelAdministrator, true
	default:
		return 0, false
	}
}

// where names the controller for people.
func (o *Options) where() string {
	if o.Host != "" {
		return fmt.Sprintf("%s:%d", o.Host, o.Port)
	}
	return filepath.Join(o.DevDir, fmt.Sprintf("ipmi%d", o.Device))
}

// connect opens the controller.
func (o *Options) connect(ctx context.Context) (Controller, error) {
	c, err := o.client()
	if err != nil {
		return nil, err
	}
	conn := &connection{client: c}
	if err := c.Connect(ctx); err != nil {
		err = tidy(err)
		gone, cancel := context.WithCancel(ctx)
		cancel() // frees the socket and sends nothing
		_ = conn.Close(gone)
		return nil, fmt.Errorf("cannot open %s: %w", o.where(), err)
	}
	return conn, nil
}

// client makes the library's client, not yet connected.
func (o *Options) client() (*client.Client, error) {
	if o.Host == "" {
		if err := o.openable(); err != nil {
			return nil, err
		}
		c, err := client.NewOpenClient()
		if err != nil {
			return nil, err
		}
		return c.WithTimeout(o.Timeout), nil // the device knows no context
	}
	text, err := os.ReadFile(o.PasswordFile)
	if err != nil {
		return nil, fmt.Errorf("cannot read the controller's password: %w", err)
	}
	password := strings.TrimRight(string(text), "\r\n")
	if password == "" || len(password) > maxPassword {
		return nil, fmt.Errorf("%s: a password has 1 to %d bytes, alone on its line", o.PasswordFile, maxPassword)
	}
	host := o.Host
	if strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
		host = "[" + host + "]"
	}
	c, err := client.NewClient(host, o.Port, o.User, password)
	if err != nil {
		return nil, err
	}
	level, _ := privilege(o.Privilege)
	// One packet may be lost: each is sent twice within the poll.
	return c.WithInterface(client.InterfaceLanplus).WithCipherSuiteID(types.CipherSuiteID(o.CipherSuite)).
		WithMaxPrivilegeLevel(level).WithTimeout(max(o.Timeout/2, 100*time.Millisecond)).WithRetry(1), nil
}

// devices are the files that the library tries for one number, in that order.
func (o *Options) devices() []string {
	n := fmt.Sprint(o.Device)
	return []string{filepath.Join(o.DevDir, "ipmi"+n), filepath.Join(o.DevDir, "ipmi", n), filepath.Join(o.DevDir, "ipmidev", n)}
}

// openable tries the device files as the library will, which keeps no error
// that could be asked what it is.
func (o *Options) openable() error {
	var first error
	for _, path := range o.devices() {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err == nil {
			return f.Close()
		}
		if first == nil || errors.Is(first, fs.ErrNotExist) && !errors.Is(err, fs.ErrNotExist) {
			first = err
		}
	}
	return fmt.Errorf("cannot open the controller's device: %w", first)
}

// connection is a Controller by the library.
type connection struct {
	client *client.Client
	once   sync.Once // the library panics if it is closed twice
}

// Power sends Get Power Reading.
func (c *connection) Power(ctx context.Context) (Power, error) {
	r, err := c.client.GetDCMIPowerReading(ctx)
	if err != nil {
		return Power{}, tidy(err)
	}
	return Power{
		Current: r.CurrentPower, Minimum: r.MinimumPower, Maximum: r.MaximumPower, Average: r.AveragePower,
		Active: r.PowerMeasurementActive,
	}, nil
}

// Close ends the session and frees the socket or the file.
func (c *connection) Close(ctx context.Context) (err error) {
	c.once.Do(func() { err = c.client.Close(ctx) })
	return err
}

// tidy turns the library's error into one that can be asked, in words that are
// the same each time.
func tidy(err error) error {
	if res, ok := types.IsResponseError(err); ok && res.CompletionCode() != types.CodeOK {
		return &CodeError{Code: uint8(res.CompletionCode()), Err: err}
	}
	text := err.Error() // the library does not wrap all of its errors
	switch {
	case errors.Is(err, client.ErrRAKPAuthentication), strings.Contains(text, "RAKP"), strings.Contains(text, "unauthorized name"):
		return &failure{"user or password refused", err}
	case errors.Is(err, syscall.ECONNREFUSED), strings.Contains(text, "connection refused"):
		return &failure{"nobody listens at that port", err}
	case errors.Is(err, context.DeadlineExceeded), strings.Contains(text, "i/o timeout"), strings.Contains(text, "deadline"):
		return &failure{noAnswer, err}
	}
	return err
}

const noAnswer = "no answer in time"

// failure says in words of ours, the same each time, what the library says with
// ports, times and sequence numbers in it.
type failure struct {
	text string
	err  error
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.err }
