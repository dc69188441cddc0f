//go:build !linux

package footprint

import (
	"errors"
	"time"
)

// Unhurried is for Linux.
func Unhurried(time.Duration) error { return errors.ErrUnsupported }
