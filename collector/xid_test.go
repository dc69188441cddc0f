package collector_test

import (
	"testing"

	"github.com/wattledger/wattledger/collector"
)

func TestXid(t *testing.T) {
	for x, want := range map[collector.Xid]string{13: "application", 79: "hardware", 119: "driver", 999: "other"} {
		number, class := collector.ParseXid(x.String() + ", GPU instance 3")
		if class != want || collector.Xid(0).String() != "Xid 0 (other)" || number == "" || x.String() != "Xid "+number+" ("+want+")" {
			t.Errorf("%s is read as %s, %s; want %s", x, number, class, want)
		}
	}
	if number, class := collector.ParseXid("a"); number != "a" || class != "" {
		t.Errorf("what is no Xid is read as %q, %q", number, class)
	}
}
