package redfish

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"
)

func (o *Options) fill() error {
	if o.Every == 0 {
		o.Every = max(DefaultEvery, MinEvery)
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Meter == "" {
		o.Meter = DefaultMeter
	}
	if o.Auth == "" {
		o.Auth = Session
	}
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(o.Now != nil, "a controller cannot be read without a clock")
	check(o.Every >= MinEvery, "every: %s is not %s or more", o.Every, MinEvery)
	check(o.Timeout > 0 && o.Timeout <= 5*time.Minute, "timeout: %s is not above 0 and at most 5m", o.Timeout)
	check(o.Auth == Session || o.Auth == Basic, "auth: %q is not session or basic", o.Auth)
	check(o.User == "" || o.PasswordFile != "", "password_file: an account needs one; there is no default")
	check(o.CAFile == "" || o.Fingerprint == "", "fingerprint: it takes the place of ca_file; give one of them")
	if o.Fingerprint != "" {
		_, err := fingerprint(o.Fingerprint)
		errs = append(errs, err)
	}
	u, err := url.Parse(o.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.User != nil:
		errs = append(errs, fmt.Errorf("url: %q is not the address of a controller, https://HOST", o.URL))
	case u.Scheme == "http" && !loopback(u.Hostname()):
		errs = append(errs, fmt.Errorf("url: %q sends the password for all to read; https is for any address but loopback", o.URL))
	}
	return errors.Join(errs...)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
