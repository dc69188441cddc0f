package agent

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/failpoint"
	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/sample"
	"github.com/wattledger/wattledger/internal/spool"
	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
)

// State is what an agent must remember over a restart. It is written before
// anything that rests on it is answered, as a whole, atomically.
type State struct {
	// Nonce names the state; it was drawn when the state was made.
	Nonce string `json:"nonce"`
	// Incarnation that the aggregator gave, 0 before the first answer.
	Incarnation uint64 `json:"incarnation"`
	// BootID is the life of the machine that Jobs belong to.
	BootID string `json:"boot_id,omitempty"`
	// Fenced: another agent took this node's name over; this one must not go on.
	Fenced bool       `json:"fenced,omitempty"`
	Jobs   *job.Table `json:"jobs"`
	// Starts is where the odometers stood at LastMS.
	Starts map[string]sample.Start `json:"starts,omitempty"`
	LastMS int64                   `json:"last_ms,omitempty"`
	// Births is where this state's own books of each meter began.
	Births  map[string]Birth `json:"births,omitempty"`
	Demoted []string         `json:"demoted,omitempty"`
	// Doubt lists devices whose holder the lost state may have known.
	Doubt []string `json:"doubt,omitempty"`
	// Catalogues by id that spooled windows may need are in the spool itself.
}

// catchUp moves the starts to the end of the newest window in the spool, which
// the state may be behind (Agent.saveAfter): windows that overlap it would be
// made otherwise.
func (s *State) catchUp(sp *spool.Spool) error {
	rec, _, err := sp.Last()
	if errors.Is(err, spool.ErrEmpty) {
		return nil
	}
	if err != nil {
		return err
	}
	f, err := wire.DecodeFragment(rec, nil)
	if err != nil {
		return fmt.Errorf("cannot read the newest spooled window: %w", err)
	}
	for _, w := range f.Windows {
		if sp.Len() == 0 && w.EndMS-s.LastMS >= savedEvery.Milliseconds() {
			continue // the state is never so far behind: the clock was put back since
		}
		s.advance(w)
	}
	return nil
}

// advance moves the starts to the end of a window, if it is newer.
func (s *State) advance(w *window.Window) {
	if w.EndMS <= s.LastMS || w.Bridge {
		return
	}
	s.LastMS = w.EndMS
	for _, r := range w.Ranges {
		m := w.Catalogue.Meters[r.Meter]
		if st, ok := s.Starts[m.Name]; ok && st.Epoch == m.Epoch && st.UJ >= r.To {
			continue
		}
		if s.Starts == nil {
			s.Starts = map[string]sample.Start{}
		}
		s.Starts[m.Name] = sample.Start{Epoch: m.Epoch, UJ: r.To, Raw: r.Raw, AtNS: r.ToMS * 1e6, Rate: drewIn(w, r)}
	}
}

// drewIn is what a meter drew at the end of a window: in its last second where
// the window tells, else in the mean of its range; 0 if it is not known.
func drewIn(w *window.Window, r window.Range) energy.Microwatts {
	for _, s := range w.Telemetry {
		if n := len(s.Milli); s.Meter == r.Meter && s.Name == powerSeries && n > 0 && s.Milli[n-1] > 0 {
			return energy.Microwatts(s.Milli[n-1]) * 1000
		}
	}
	if r.ToMS <= r.FromMS || r.To <= r.From {
		return 0
	}
	mean := uint64(r.To-r.From) / uint64(r.ToMS-r.FromMS) // uJ a ms are mW
	return energy.Microwatts(min(mean, math.MaxInt64/1000) * 1000)
}

// Birth is the first reading of a meter in this state.
type Birth struct {
	Epoch string `json:"epoch"` // of the source
	Raw   uint64 `json:"raw_uj"`
	AtMS  int64  `json:"at_ms"`
	// SkewMS is what was added to the node's clock in AtMS.
	SkewMS int64 `json:"skew_ms,omitempty"`
}

const stateFile = "state.json"

// LoadState reads the state, or makes a new one where there is none. A state
// that cannot be read is moved aside, never wiped, and fresh says so.
func LoadState(dir string) (s *State, fresh bool, err error) {
	name := filepath.Join(dir, stateFile)
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		s, err = newState()
		return s, true, err
	}
	if err != nil {
		return nil, false, fmt.Errorf("cannot read the agent's state %s: %w", name, err)
	}
	s = &State{}
	if jerr := json.Unmarshal(b, s); jerr != nil || s.Nonce == "" {
		aside := name + ".damaged"
		if err := os.Rename(name, aside); err != nil {
			return nil, false, fmt.Errorf("cannot move the damaged state %s aside: %w", name, err)
		}
		s, err = newState()
		return s, true, err
	}
	if s.Jobs == nil {
		s.Jobs = &job.Table{}
	}
	return s, false, nil
}

func newState() (*State, error) {
	n, err := NewSession()
	return &State{Nonce: n, Jobs: &job.Table{}}, err
}

// NewSession draws a name for a state or a session.
func NewSession() (string, error) {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("cannot draw a random name: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}

// Save writes the state: to a temporary file, synced, renamed, and the folder
// synced, so that either the old or the new one is there.
func (s *State) Save(dir string) error {
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("cannot encode the agent's state: %w", err)
	}
	name := filepath.Join(dir, stateFile)
	if err := writeSynced(name+".new", b); err != nil {
		return fmt.Errorf("cannot save the agent's state %s: %w", name, err)
	}
	failpoint.Hit(failpoint.StateBeforeRename)
	if err := os.Rename(name+".new", name); err != nil {
		return fmt.Errorf("cannot save the agent's state: %w", err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("cannot open %s to sync it: %w", dir, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("cannot sync %s: %w", dir, err)
	}
	failpoint.Hit(failpoint.StateAfterRename)
	return nil
}

func writeSynced(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}
