package main

import (
	"context"
	"errors"
	"runtime"
	"runtime/debug"
	"time"

	"go.uber.org/zap"

	"github.com/wattledger/wattledger/internal/footprint"
)

// settleAfter is when an agent has done everything once that it does again and
// again: read, booked a window, sent it.
const settleAfter = 25 * time.Second

// lateBy is how late timers may be: what must be on time (job edges) comes by the
// socket, and a reading carries its own stamp.
const lateBy = 5 * time.Millisecond

// modest makes the process one that leaves the node's memory and its cores to its
// jobs: a small heap, one core at most, woken seldom. Call it before anything else
// is done.
func modest() (*footprint.Image, error) {
	debug.SetGCPercent(25)
	runtime.GOMAXPROCS(1)
	hasty := footprint.Unhurried(lateBy)
	image, err := footprint.Load()
	return image, errors.Join(hasty, err)
}

// settle gives back, once, what only the start needed.
func (d *daemon) settle(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(settleAfter):
	}
	debug.FreeOSMemory()
	if d.image == nil {
		return nil
	}
	freed, err := d.image.Release()
	if err != nil {
		d.log.Debug("the memory of the start was not given back", zap.Error(err))
		return nil
	}
	d.log.Debug("the memory of the start was given back", zap.Int64("program_bytes", freed))
	return nil
}
