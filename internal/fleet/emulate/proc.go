package emulate

import (
	"fmt"
	"strings"
	"time"
)

const (
	hz        = 100 // jiffies of a second
	memoryKiB = 512 << 20
)

// addProc adds what gopsutil and the agent read of /proc.
func (e *Emulator) addProc() {
	t, up := e.tree, func(at time.Time) time.Duration { return at.Sub(e.start) + time.Hour }
	boot := e.start.Add(-time.Hour)
	t.live("proc/stat", 0o444, func(at time.Time) string {
		all := uint64(up(at).Milliseconds()) * hz / 1000 // jiffies of one processor
		// utilcpu sums percents as watts: 1 % of a second is a joule
		busy := 3600*hz/5 + uint64(e.shown.energy(e.shown.index["utilcpu"], at))/1_000_000*hz/100
		line := func(name string, n uint64) string {
			return fmt.Sprintf("%s %d 0 %d %d %d 0 0 0 0 0\n", name, busy*n*9/10, busy*n/10, (all-busy)*n-all*n/100, all*n/100)
		}
		var b strings.Builder
		b.WriteString(line("cpu ", uint64(e.plan.cpus)))
		for i := range e.plan.cpus {
			b.WriteString(line(fmt.Sprintf("cpu%d", i), 1))
		}
		fmt.Fprintf(&b, "intr %d\nctxt %d\nbtime %d\nprocesses %d\nprocs_running %d\nprocs_blocked 0", all*90, all*140, boot.Unix(), 4000+all/50, 1+e.shown.used("utilcpu", at)/2)
		return b.String()
	})
	t.live("proc/meminfo", 0o444, func(at time.Time) string {
		free := memoryKiB / 100 * (95 - e.shown.used("utilcpu", at)/2)
		return fmt.Sprintf("MemTotal:       %d kB\nMemFree:        %d kB\nMemAvailable:   %d kB\nBuffers:        %d kB\nCached:         %d kB\nSwapCached:     0 kB\n"+
			"Active:         %d kB\nInactive:       %d kB\nSwapTotal:      0 kB\nSwapFree:       0 kB\nDirty:          0 kB\nWriteback:      0 kB\nSlab:           %d kB\nSReclaimable:   0 kB",
			memoryKiB, free, free, 1024, 1<<20, memoryKiB-free, 4096, 1<<18)
	})
	t.live("proc/loadavg", 0o444, func(at time.Time) string {
		load := float64(e.shown.used("utilcpu", at)) * float64(e.plan.cpus) / 100
		return fmt.Sprintf("%.2f %.2f %.2f %d/%d %d", load, load, load, 1+int(load), 1200, 40000+at.Unix()%10000)
	})
	t.live("proc/uptime", 0o444, func(at time.Time) string {
		return fmt.Sprintf("%.2f %.2f", up(at).Seconds(), up(at).Seconds()*float64(e.plan.cpus)/2)
	})
	t.static("proc/sys/kernel/random/boot_id", id(e.plan.name, e.seed, "boot", e.start.UnixMilli()))
	t.static("proc/sys/kernel/osrelease", "5.14.0-emulated")
	for i, g := range e.plan.boards(e.seed) {
		p := profileOf(e.plan.profile)
		dir := "proc/driver/nvidia/gpus/" + strings.ToLower(g.pci[4:])
		t.static(dir+"/information", lines("Model: \t\t "+p.name, fmt.Sprintf("IRQ:   \t\t %d", 120+i), "GPU UUID: \t "+g.uuid,
			"Bus Type: \t PCIe", "Bus Location: \t "+strings.ToLower(g.pci[4:]), fmt.Sprintf("Device Minor: \t %d", g.minor)))
	}
	if e.plan.gpus > 0 {
		t.static("proc/driver/nvidia-caps/mig-minors", migMinors(e.plan.gpus))
		t.static("proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  "+profileOf(e.plan.profile).driver+"  Emulated")
	}
}

// migMinors numbers the device files of every MIG device that there may be, as the
// driver does: fifteen GPU instances of eight compute instances each.
func migMinors(gpus int) string {
	out := []string{"config 1", "monitor 2"}
	n := 3
	for gpu := range gpus {
		for gi := range 15 {
			out = append(out, fmt.Sprintf("gpu%d/gi%d/access %d", gpu, gi, n))
			for ci := range 8 {
				out = append(out, fmt.Sprintf("gpu%d/gi%d/ci%d/access %d", gpu, gi, ci, n+1+ci))
			}
			n += 9
		}
	}
	return lines(out...)
}
