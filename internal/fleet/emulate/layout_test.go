package emulate

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestLayoutsAreNVIDIAs holds the structures that the library declares itself
// against the header that go-nvml is made from.
func TestLayoutsAreNVIDIAs(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/NVIDIA/go-nvml").Output()
	if err != nil {
		t.Fatalf("cannot find go-nvml: %v", err)
	}
	pairs := map[string][]string{ // ours, theirs: members in pairs
		"em_pci nvmlPciInfo_t": {
			"bus_id_legacy busIdLegacy", "domain domain", "bus bus", "device device", "pci_device_id pciDeviceId",
			"pci_subsystem_id pciSubSystemId", "bus_id busId",
		},
		"em_field nvmlFieldValue_t": {
			"field fieldId", "scope scopeId", "timestamp timestamp", "latency latencyUsec", "type valueType", "ret nvmlReturn", "value value",
		},
		"em_utilization nvmlUtilization_t":  {"gpu gpu", "memory memory"},
		"em_memory nvmlMemory_t":            {"total total", "free free", "used used"},
		"em_memory_v2 nvmlMemory_v2_t":      {"version version", "total total", "reserved reserved", "free free", "used used"},
		"em_temperature nvmlTemperature_t":  {"version version", "sensor sensorType", "temperature temperature"},
		"em_margin nvmlMarginTemperature_t": {"version version", "margin marginTemperature"},
		"em_process nvmlProcessInfo_t":      {"pid pid", "memory usedGpuMemory", "gi gpuInstanceId", "ci computeInstanceId"},
		"em_use nvmlProcessUtilizationSample_t": {
			"pid pid", "timestamp timeStamp", "sm smUtil", "memory memUtil", "encoder encUtil", "decoder decUtil",
		},
		"em_event nvmlEventData_t": {
			"device device", "type eventType", "data eventData", "gi gpuInstanceId", "ci computeInstanceId",
		},
		"em_attributes nvmlDeviceAttributes_t": {
			"multiprocessors multiprocessorCount", "copy_engines sharedCopyEngineCount", "gi_slices gpuInstanceSliceCount",
			"ci_slices computeInstanceSliceCount", "memory_mb memorySizeMB",
		},
	}
	var c strings.Builder
	c.WriteString("#include \"emulated.h\"\n#include \"nvml.h\"\n")
	assert := func(a, b string) { c.WriteString("_Static_assert(" + a + " == " + b + ", \"" + a + "\");\n") }
	for types, members := range pairs {
		ours, theirs, _ := strings.Cut(types, " ")
		assert("sizeof("+ours+")", "sizeof("+theirs+")")
		for _, m := range members {
			a, b, _ := strings.Cut(m, " ")
			assert("offsetof("+ours+", "+a+")", "offsetof("+theirs+", "+b+")")
			assert("sizeof((("+ours+" *)0)->"+a+")", "sizeof((("+theirs+" *)0)->"+b+")")
		}
	}
	for ours, theirs := range map[string]string{
		"VERSIONED(em_memory_v2, 2)": "nvmlMemory_v2", "VERSIONED(em_temperature, 1)": "nvmlTemperature_v1",
		"VERSIONED(em_margin, 1)": "nvmlMarginTemperature_v1", "T_UINT": "NVML_VALUE_TYPE_UNSIGNED_INT",
		"T_ULL": "NVML_VALUE_TYPE_UNSIGNED_LONG_LONG", "T_INT": "NVML_VALUE_TYPE_SIGNED_INT", "GPU_IS_LOST": "NVML_ERROR_GPU_IS_LOST",
		"RESET_REQUIRED": "NVML_ERROR_RESET_REQUIRED", "NOT_SUPPORTED": "NVML_ERROR_NOT_SUPPORTED", "NOT_FOUND": "NVML_ERROR_NOT_FOUND",
		"LIB_RM_VERSION_MISMATCH": "NVML_ERROR_LIB_RM_VERSION_MISMATCH", "ARGUMENT_VERSION_MISMATCH": "NVML_ERROR_ARGUMENT_VERSION_MISMATCH",
		"DRIVER_NOT_LOADED": "NVML_ERROR_DRIVER_NOT_LOADED", "TIMEOUT": "NVML_ERROR_TIMEOUT", "sizeof(void *)": "sizeof(nvmlDevice_t)",
	} {
		assert("(unsigned)("+ours+")", "(unsigned)("+theirs+")")
	}
	dir := t.TempDir()
	source := filepath.Join(dir, "layout.c")
	if err := os.WriteFile(source, []byte(c.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	header := filepath.Join(strings.TrimSpace(string(out)), "pkg", "nvml")
	if out, err := exec.Command("cc", "-std=gnu11", "-fsyntax-only", "-Invml", "-I"+header, source).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestEveryCallIsNVMLs: each function of the library is one of NVML, with as many
// arguments.
func TestEveryCallIsNVMLs(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/NVIDIA/go-nvml").Output()
	if err != nil {
		t.Fatalf("cannot find go-nvml: %v", err)
	}
	header, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), "pkg", "nvml", "nvml.h"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.SplitSeq(sourceText(), "\n") {
		rest, ok := strings.CutPrefix(line, "NVML ")
		if !ok {
			continue
		}
		n++
		ours := strings.TrimSuffix(rest, " {")
		name := ours[strings.Index(ours, "nvml"):strings.Index(ours, "(")]
		theirs := regexp.MustCompile(`(?m)^[^*\n]*DECLDIR\b.*\b` + name + `\([^;]*;`).FindString(string(header))
		if theirs == "" {
			t.Errorf("NVML has no %s", name)
			continue
		}
		if a, b := strings.Count(ours, ","), strings.Count(theirs, ","); a != b {
			t.Errorf("%s has %d arguments; NVML's has %d", name, a+1, b+1)
		}
	}
	if n < 50 {
		t.Errorf("only %d calls were found", n)
	}
}
