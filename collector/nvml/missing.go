package nvml

import (
	"context"
	"errors"
	"fmt"

	"github.com/wattledger/wattledger/collector"
)

// Probe says what the source would read and cannot. It reads once where nothing
// was read yet.
func (s *Source) Probe(ctx context.Context) []collector.Missing {
	s.mu.Lock()
	begun := s.phase != unopened
	s.mu.Unlock()
	if !begun {
		if _, err := s.Read(ctx); errors.Is(err, errClosed) {
			return nil
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.phase {
	case failed, finished:
		return []collector.Missing{{Meter: "GPUs (nvml)", Why: s.err.Error(), Mend: s.advice}}
	case ready:
	default:
		return []collector.Missing{{Meter: "GPUs (nvml)", Why: "the driver has not answered yet", Mend: "nvidia-smi; dmesg | grep -i -e nvrm -e xid"}}
	}
	var out []collector.Missing
	if s.counted == 0 {
		out = append(out, collector.Missing{Meter: "GPUs (nvml)", Why: "the driver knows no GPU", Mend: "lspci -d 10de:; dmesg | grep -i nvrm"})
	}
	for _, a := range s.strangers() {
		out = append(out, collector.Missing{
			Meter: fmt.Sprintf("GPU of index %d", a.index), Why: "the driver does not open it: " + a.code.String(), Mend: a.code.mend("INDEX"),
		})
	}
	for _, b := range s.boards {
		out = append(out, b.missing()...)
	}
	return out
}

// missing says what one board lacks; s.mu is held.
func (b *board) missing() []collector.Missing {
	if b.down != nil {
		var c code
		errors.As(b.down, &c)
		return []collector.Missing{{Meter: b.name, Why: b.down.Error(), Mend: c.mend(b.id.pci)}}
	}
	if b.hung || b.late {
		return []collector.Missing{{
			Meter: b.name, Why: "a call of the driver does not return: " + function(b.call.Load()).String(), Mend: "nvidia-smi --gpu-reset -i " + b.id.pci + " (drain the node first)",
		}}
	}
	switch {
	case b.err != nil:
		return []collector.Missing{{Meter: b.name, Why: b.err.Error(), Mend: "nvidia-smi -q -d POWER -i " + b.id.pci}}
	case b.closed:
		return []collector.Missing{{Meter: b.name, Why: "some values: NO_PERMISSION", Mend: noPermission.mend("")}}
	}
	return nil
}

// mend is the command that helps against a code.
func (c code) mend(device string) string {
	switch c {
	case noPermission, operatingSystem:
		return "ls -l /dev/nvidia*; DeviceAllow= of the agent's unit"
	case insufficientPower:
		return "check the power cables of the GPU"
	case driverNotLoaded, uninitialized:
		return "modprobe nvidia"
	default:
		return "nvidia-smi --gpu-reset -i " + device + " (drain the node first; reboot if that fails)"
	}
}
