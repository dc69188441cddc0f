package redfish

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
)

// most that anything with one controller draws; what is above is no reading.
const maxWatts = 1e6

// meter is one value of the controller.
type meter struct {
	scope collector.Scope
	from  form
	path  string   // of the resource, for control and environment
	which string   // MemberId in PowerControl
	parts []string // PowerSupplyMetrics, all of which are needed
}

// form is the schema that holds the value.
type form uint8

const (
	environment form = iota // EnvironmentMetrics.PowerWatts
	control                 // Power.PowerControl[].PowerConsumedWatts
	supplies                // sum of PowerSupplyMetrics.InputPowerWatts
)

// excerpt is a value that may be null: no reading.
type excerpt struct{ Reading *float64 }

// environmentMetrics is DMTF EnvironmentMetrics as far as we use it. The
// library's own type has zero for null, and 32 bits.
type environmentMetrics struct {
	PowerWatts         excerpt
	EnergykWh          excerpt
	EnergyJoules       excerpt
	TemperatureCelsius excerpt
}

// powerControl is a member of DMTF Power, the older schema.
type powerControl struct {
	MemberID           any `json:"MemberId"` // a string; some vendors give a number
	Name               string
	PhysicalContext    string
	PowerConsumedWatts *float64
}

func (p powerControl) id() string { return fmt.Sprint(p.MemberID) }

type powerResource struct{ PowerControl []powerControl }

type supplyMetrics struct{ InputPowerWatts excerpt }

// read takes one reading.
func (m *meter) read(ctx context.Context, l *link, now func() time.Time) (collector.Reading, error) {
	began := now()
	watts, gauges, err := m.watts(ctx, l)
	if err != nil {
		return collector.Reading{}, err
	}
	power, err := microwatts(watts)
	if err != nil {
		return collector.Reading{}, &failure{kind: nonsense, text: m.where(), err: err}
	}
	at := now()
	gauges = append(gauges, collector.Gauge{Name: "bmc_response_seconds", Value: at.Sub(began).Seconds()})
	return collector.Reading{Scope: m.scope, At: at, Power: power, HasPower: true, Gauges: gauges}, nil
}

func (m *meter) where() string {
	switch m.from {
	case control:
		return m.path + " PowerControl " + m.which
	case supplies:
		return fmt.Sprintf("the %d power supplies", len(m.parts))
	default:
		return m.path
	}
}

func (m *meter) watts(ctx context.Context, l *link) (*float64, []collector.Gauge, error) {
	switch m.from {
	case control:
		var p powerResource
		if err := l.get(ctx, m.path, &p); err != nil {
			return nil, nil, err
		}
		for _, c := range p.PowerControl {
			if c.id() == m.which {
				return c.PowerConsumedWatts, nil, nil
			}
		}
		return nil, nil, &failure{kind: gone, text: m.where() + ": it is no longer there"}
	case supplies:
		w, err := m.sum(ctx, l)
		return w, nil, err
	default:
		var e environmentMetrics
		if err := l.get(ctx, m.path, &e); err != nil {
			return nil, nil, err
		}
		return e.PowerWatts.Reading, e.gauges(), nil
	}
}

// sum adds what the power supplies take. One without a value spoils the sum:
// the node would look cheaper than it is.
func (m *meter) sum(ctx context.Context, l *link) (*float64, error) {
	var sum float64
	for _, path := range m.parts {
		var s supplyMetrics
		if err := l.get(ctx, path, &s); err != nil {
			return nil, err
		}
		w := s.InputPowerWatts.Reading
		if w == nil || *w < 0 {
			return nil, &failure{kind: nonsense, text: path, err: errNull}
		}
		sum += *w
	}
	return &sum, nil
}

// gauges are values to look at. Cumulative energy is without an epoch, and in
// kWh too coarse to book.
func (e *environmentMetrics) gauges() []collector.Gauge {
	var out []collector.Gauge
	switch {
	case e.EnergyJoules.Reading != nil:
		out = append(out, collector.Gauge{Name: "energy_joules", Value: *e.EnergyJoules.Reading})
	case e.EnergykWh.Reading != nil:
		out = append(out, collector.Gauge{Name: "energy_joules", Value: *e.EnergykWh.Reading * 3.6e6})
	}
	if t := e.TemperatureCelsius.Reading; t != nil {
		out = append(out, collector.Gauge{Name: "temperature_celsius", Value: *t})
	}
	return out
}

var (
	errNull   = errors.New("the controller has no value (null or missing)")
	errZero   = errors.New("the controller reads 0 W, which is no measurement")
	errAbsurd = errors.New("the controller's value is no power of a node")
)

// microwatts is the value as a power, if it is one.
func microwatts(w *float64) (energy.Microwatts, error) {
	switch {
	case w == nil:
		return 0, errNull
	case *w == 0:
		return 0, errZero
	case !(*w > 0 && *w <= maxWatts):
		return 0, fmt.Errorf("%w: %g W", errAbsurd, *w)
	}
	return energy.Microwatts(math.Round(*w * 1e6)), nil
}
