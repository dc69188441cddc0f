//go:build cgo && linux

package nvml_test

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// lazy fails for a program that the linker binds at its start (-z now): go-nvml
// leaves entry points open that no library may ever have, and it would not start
// at all. Hardened distributions set it; mend it with
// -ldflags '-extldflags=-Wl,-z,lazy'.
func lazy(t *testing.T, path string) {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	has := func(tag elf.DynTag, bit uint64) bool {
		v, err := f.DynValue(tag)
		return err == nil && len(v) > 0 && v[0]&bit != 0
	}
	if has(elf.DT_FLAGS, uint64(elf.DF_BIND_NOW)) || has(elf.DT_FLAGS_1, uint64(elf.DF_1_NOW)) {
		t.Errorf("%s binds at its start (-z now): link it with -ldflags '-extldflags=-Wl,-z,lazy'", path)
	}
	if v, err := f.DynValue(elf.DT_BIND_NOW); err == nil && len(v) > 0 {
		t.Errorf("%s has DT_BIND_NOW", path)
	}
	symbols, err := f.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		if s.Name == "nvmlDeviceGetFieldValues" {
			return
		}
	}
	t.Errorf("%s does not leave nvmlDeviceGetFieldValues open: is NVML in it at all?", path)
}

func TestThisProgramBindsLazily(t *testing.T) {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	lazy(t, path)
}

// TestAgentBindsLazily looks at the agent as `go build` makes it, or at the one
// that WATTLEDGER_AGENT names (a release).
func TestAgentBindsLazily(t *testing.T) {
	if path := os.Getenv("WATTLEDGER_AGENT"); path != "" {
		lazy(t, path)
		return
	}
	const agent = "github.com/wattledger/wattledger/cmd/wattledger-agent"
	deps, err := exec.Command("go", "list", "-deps", agent).Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(deps), "NVIDIA/go-nvml/pkg/nvml\n") {
		t.Fatal("the agent is not linked with go-nvml: nothing was looked at")
	}
	path := filepath.Join(t.TempDir(), "agent")
	if out, err := exec.Command("go", "build", "-o", path, agent).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	lazy(t, path)
}
