package simulated_test

import (
	"testing"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/collector/simulated"
)

func TestLocate(t *testing.T) {
	s, err := simulated.New(simulated.Options{GPUs: 2, Start: time.Unix(1, 0), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	for ref, want := range map[string]string{
		"minor:0": "gpu0", "index:1": "gpu1", "minor:01": "gpu1", "minor:2": "", "minor:-1": "", "minor:": "", "gpu0": "", "pci:0": "", "": "",
	} {
		got, ok := s.Locate(ref)
		if got.Meter != want || ok != (want != "") || (ok && got.Weight != collector.Whole) {
			t.Errorf("%q is at %+v (%v), want %q", ref, got, ok, want)
		}
	}
}
