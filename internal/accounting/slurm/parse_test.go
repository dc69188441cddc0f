package slurm

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestHosts(t *testing.T) {
	f := func(list, want string) {
		t.Helper()
		got, err := hosts(list)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q = %v, %v; want %s", list, got, err, want)
		}
	}
	f("", "")
	f("None assigned", "")
	f("(null)", "")
	f("node[1-3,7],b", "node1 node2 node3 node7 b")
	if got, err := hosts("a,,b"); err == nil {
		t.Errorf("a list without a name is %v", got)
	}
}

func TestNumbers(t *testing.T) {
	f := func(text string, want number) {
		t.Helper()
		var got number
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s = %+v, %v; want %+v", text, got, err, want)
		}
	}
	f(`7`, number{7, true})
	f(`-1`, number{-1, true})
	f(`0`, number{0, true})
	f(`null`, number{})
	f(`"12"`, number{12, true})
	f(`"INFINITE"`, number{})
	f(`1.5e3`, number{1500, true})
	f(`{"set":true,"infinite":false,"number":9}`, number{9, true})
	f(`{"set":true,"infinite":true,"number":9}`, number{})
	f(`{"set":false,"infinite":false,"number":0}`, number{})
	f(`{}`, number{})
	f(`true`, number{})
}

func TestSpans(t *testing.T) {
	f := func(text string, want time.Duration, ok bool) {
		t.Helper()
		if got, good := span(text); good != ok || ok && got != want {
			t.Errorf("%q = %s, %v; want %s, %v", text, got, good, want, ok)
		}
	}
	f("00:00:04", 4*time.Second, true)
	f("01:02:03", 3723*time.Second, true)
	f("2-00:00:01", 48*time.Hour+time.Second, true)
	f("05:06.789", 306*time.Second, true)
	f("", 0, false)
	f("INVALID", 0, false)
	f("1:2:3:4", 0, false)
	f("x-1", 0, false)
}

func TestTRES(t *testing.T) {
	list := parseTRES("billing=1,cpu=4,energy=3300,gres/gpu:a100=2,gres/gpu:h100=1,mem=100M,node=1,rubbish")
	cpus, gpus, joules := amounts(list)
	if cpus != 4 || gpus != 3 || joules != 3300 {
		t.Errorf("amounts = %d, %d, %d", cpus, gpus, joules)
	}
	if d := cmp.Diff("billing=1,cpu=4,gres/gpu:a100=2,gres/gpu:h100=1,node=1", tresText(list)); d != "" {
		t.Error(d)
	}
	for _, none := range []string{"", "energy=0", "energy=18446744073709551614", "energy=-2"} {
		if _, _, joules := amounts(parseTRES(none)); joules != -1 {
			t.Errorf("%q claims %d J; want none", none, joules)
		}
	}
}
