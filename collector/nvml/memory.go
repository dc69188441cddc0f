package nvml

import (
	"encoding/json"
	"os"
	"path/filepath"
)

// memory is what must outlive the process and cannot be asked of the driver.
type memory struct {
	path  string
	Boot  string             `json:"boot"`
	Cards map[string]learned `json:"gpus"` // by UUID
}

// learned is what was found out about a board under one driver.
type learned struct {
	Driver     string `json:"driver"`
	Generation int    `json:"generation"`      // of the counter, since the boot
	Scope      string `json:"scope,omitempty"` // gpu, module, both
}

// recall reads the file; one that is not there or makes no sense is empty.
func recall(path string) memory {
	m := memory{path: path}
	if path != "" {
		if b, err := os.ReadFile(path); err == nil && json.Unmarshal(b, &m) != nil {
			m = memory{path: path}
		}
	}
	if m.Cards == nil {
		m.Cards = map[string]learned{}
	}
	return m
}

// of gives what is known of a board under this boot and driver. A scope outlives
// the boot; a generation does not.
func (m *memory) of(uuid, boot, driver string) learned {
	l := m.Cards[uuid]
	if l.Driver != driver {
		return learned{}
	}
	if m.Boot != boot {
		l.Generation = 0
	}
	return l
}

// keep writes what is known of a board. The file is made whole before it takes
// its name; a boot that is torn off loses nothing that the next would need.
func (m *memory) keep(uuid, boot string, l learned) error {
	if m.Boot != boot {
		for u, old := range m.Cards {
			old.Generation = 0
			m.Cards[u] = old
		}
		m.Boot = boot
	}
	m.Cards[uuid] = l
	if m.path == "" {
		return nil
	}
	b, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(m.path), ".nvml-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), m.path)
}

// remember keeps what is known of the board.
func (b *board) remember() {
	s := b.s
	s.mu.Lock()
	defer s.mu.Unlock()
	l := learned{Driver: s.driver, Generation: b.generation, Scope: map[scope]string{
		scopeOfGPU: "gpu", scopeOfModule: "module", scopeBoth: "both",
	}[b.scope]}
	if err := s.memory.keep(b.id.uuid, s.boot, l); err != nil {
		s.tell(s.o.Now(), "state_not_kept", b.name, err.Error())
	}
}
