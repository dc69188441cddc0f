package emulate

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestScenario(t *testing.T) {
	start := time.UnixMilli(1_790_000_000_000)
	f := func(machine, text string, want Fault) {
		t.Helper()
		got, err := ParseScenario("s.txt", strings.NewReader(text), machine, start)
		if err != nil || len(got) != 1 {
			t.Errorf("%s: %v, %v", text, got, err)
			return
		}
		want.Line = strings.Count(text, "\n") + 1
		if want.From.IsZero() {
			want.From = start
		}
		if want.To.IsZero() {
			want.To = Forever()
		}
		if d := cmp.Diff(want, got[0]); d != "" {
			t.Errorf("%s: want (-), got (+)\n%s", text, d)
		}
	}
	at := start.Add(20 * time.Second)
	f("leonardo", "# first\n\nat 20s for 10s gpu 3 lost # off the bus", Fault{From: at, To: at.Add(10 * time.Second), Kind: "lost", GPU: 3})
	f("leonardo", "at 20s gpu 0 reset", Fault{From: at, To: at, Kind: "reset"})
	f("dgx-h100", "at 20s for 1m gpu 7 hang", Fault{From: at, To: at.Add(time.Minute), Kind: "hang", GPU: 7})
	f("leonardo", "at 20s gpu 1 xid 79", Fault{From: at, Kind: "xid", GPU: 1, Code: 79})
	f("leonardo", "at 20s for 9s gpu 1 process 4711", Fault{From: at, To: at.Add(9 * time.Second), Kind: "process", GPU: 1, Code: 4711})
	f("leonardo", "gpu 1 process 4711 sm 60", Fault{Kind: "process", GPU: 1, Code: 4711, Name: "60"})
	f("leonardo", "minors 2 0 3 1", Fault{Kind: "minors", GPU: -1, Minors: []int{2, 0, 3, 1}})
	f("leonardo", "at 20s driver_reload", Fault{From: at, To: at.Add(2 * time.Second), Kind: "driver_reload", GPU: -1})
	f("leonardo", "call nvmlDeviceGetPowerUsage returns 999", Fault{Kind: "call", GPU: -1, Name: "nvmlDeviceGetPowerUsage", Code: 999})
	f("jupiter", "field 191 returns 3 gpu 2", Fault{Kind: "field", GPU: 2, Field: 191, Code: 3})
	f("leonardo", "missing_symbol nvmlDeviceGetMemoryInfo_v2", Fault{Kind: "missing_symbol", GPU: -1, Name: "nvmlDeviceGetMemoryInfo_v2"})
	f("dgx-h100", "at 20s mig gpu 0 1g.10gb 2g.20gb@3 1g", Fault{
		From: at, Kind: "mig",
		Slices: []Slice{{0, 1, 9536}, {3, 2, 19073}, {5, 1, 10194}},
	})
	f("leonardo", "at 20s meter package0 reset", Fault{From: at, To: at, Kind: "reset", GPU: -1, Meter: "package0"})
	f("lumi", "at 20s startup", Fault{From: at, To: at, Kind: "startup", GPU: -1})
	f("lumi", "at 20s for 1s freshness stuck", Fault{From: at, To: at.Add(time.Second), Kind: "freshness", GPU: -1})
	f("lumi", "file sys/a is not a number", Fault{Kind: "is", GPU: -1, File: "sys/a", Name: "not a number"})
}

func TestBadScenario(t *testing.T) {
	f := func(machine, text string, want ...string) {
		t.Helper()
		_, err := ParseScenario("dir/bad.txt", strings.NewReader(text), machine, time.UnixMilli(0))
		if err == nil {
			t.Errorf("%q is accepted", text)
			return
		}
		if got := strings.Split(err.Error(), "\n"); cmp.Diff(want, got) != "" {
			t.Errorf("%q: want (-), got (+)\n%s", text, cmp.Diff(want, got))
		}
	}
	f("leonardo", "gpu 4 lost\n\nat x gpu 1 lost # 2\nat 3s\n",
		`dir/bad.txt:1: gpu: "4" is not a number from 0 to 3`,
		`dir/bad.txt:3: at: "x" is not a duration such as 20s`,
		`dir/bad.txt:4: what happens is missing`)
	f("leonardo", "gpu 1 hang", `dir/bad.txt:1: hang: say for how long`)
	f("leonardo", "gpu 1 explodes", `dir/bad.txt:1: "explodes" is not lost, reset, hang, blank, backwards, stuck, absurd, xid, recovery or process`)
	f("leonardo", "gpu 1 lost now", `dir/bad.txt:1: "now" is too much`)
	f("leonardo", "at", `dir/bad.txt:1: at what time? a duration such as 20s`)
	f("leonardo", "melt", `dir/bad.txt:1: "melt" is not gpu, driver_reload, version_mismatch, call, field, missing_symbol, minors, mig, meter, file, startup or freshness`)
	f("leonardo", "minors 2 0 3", `dir/bad.txt:1: minors: 3 of them for 4 GPUs`)
	f("leonardo", "minors 2 0 3 2", `dir/bad.txt:1: minors: 2 is there twice`)
	f("leonardo", "minors 2 0 3 4", `dir/bad.txt:1: minors: "4" is not a number from 0 to 3`)
	f("leonardo", "at 1s minors 2 0 3 1", `dir/bad.txt:1: minors: device files have them from the start and for ever`)
	f("leonardo", "gpu 1 process 7 sm 101", `dir/bad.txt:1: sm: "101" is not a number from 0 to 100`)
	f("leonardo", "at 3s missing_symbol nvmlInit_v2", `dir/bad.txt:1: missing_symbol: a library lacks it from the start and for ever`)
	f("leonardo", "missing_symbol -o", `dir/bad.txt:1: the name of an NVML function is missing`)
	f("leonardo", "call nvmlInit_v2 returns x", `dir/bad.txt:1: returns: "x" is not a number from 0 to 65535`)
	f("leonardo", "startup", `dir/bad.txt:1: startup: a leonardo node has no pm_counters`)
	f("lumi", "gpu 1 lost", `dir/bad.txt:1: gpu: a lumi node has no NVML; name a meter or a file`)
	f("lumi", "meter gpu4 stuck", `dir/bad.txt:1: a lumi node has no meter gpu4`)
	f("leonardo", "meter gpu1 stuck", `dir/bad.txt:1: gpu1 is in no tree; write gpu 1 stuck`)
	f("lumi", "file ../x vanish", `dir/bad.txt:1: ../x: a path below the root, such as sys/class/hwmon/hwmon1/name`)
	f("leonardo", "mig gpu 0 1g@3 2g@3", `dir/bad.txt:1: 2g@3: index 3 is taken or too high`)
	f("leonardo", "mig gpu 0 4g 4g@2", `dir/bad.txt:1: the slices are 8 sevenths of a GPU`)
	f("cray", "x", `there is no machine "cray": leonardo, lumi, jupiter, dgx-h100`)
}
