//go:build !linux

package footprint

import "errors"

func letGo(bounds) error { return errors.ErrUnsupported }
