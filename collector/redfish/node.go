package redfish

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
)

// node finds the meter of the node as a whole. A guess is not made: where it is
// not plain which value is this node's and nothing but this node's, there is none.
func (e *explorer) node(ctx context.Context, systems []computerSystem, cases []string) error {
	scope := e.nodeScope()
	system, err := e.host(systems)
	if err != nil {
		e.add(scope.Name, err)
		return nil
	}
	if system == nil { // a baseboard's own controller
		if e.o.Booked {
			e.add(scope.Name, fmt.Errorf("%w: it knows no system but the GPUs' baseboard", errScope))
		}
		return nil
	}
	in, err := e.housing(system, cases)
	if err != nil {
		e.add(scope.Name, err)
		return nil
	}
	var valued, empty []*meter // with a value now, and without
	var why error = &failure{kind: gone, text: "no chassis of " + system.ID + " has a power reading"}
	for _, p := range in {
		m, ok, err := e.chassis(ctx, p)
		switch {
		case err != nil && fatal(err):
			return err
		case err != nil:
			why = err
		case m != nil && ok:
			valued = append(valued, m)
		case m != nil:
			empty = append(empty, m)
		}
	}
	found := valued
	if len(found) == 0 {
		found = empty
	}
	switch len(found) {
	case 0:
		e.add(scope.Name, why)
	case 1:
		found[0].scope = scope
		e.meters = append(e.meters, *found[0])
	default:
		e.add(scope.Name, fmt.Errorf("%w: %s and %s have one each; set sources.redfish.chassis", errScope, found[0].where(), found[1].where()))
	}
	return nil
}

// housing are the paths of the chassis that the node may be metered by.
func (e *explorer) housing(system *computerSystem, cases []string) ([]string, error) {
	in := make([]string, 0, len(system.Links.Chassis))
	for _, r := range system.Links.Chassis {
		in = append(in, r.ID)
	}
	if e.o.Chassis != "" {
		for _, p := range cases {
			if path.Base(p) == e.o.Chassis {
				return []string{p}, nil
			}
		}
		return nil, fmt.Errorf("%w: there is no chassis %q", errScope, e.o.Chassis)
	}
	linked := len(in) > 0
	if !linked {
		in = slices.Clone(cases)
	}
	in = slices.DeleteFunc(in, func(p string) bool { return strings.HasPrefix(path.Base(p), hgx) })
	if !linked && len(in) > 1 {
		return nil, fmt.Errorf("%w: %s names no chassis and there are %d; set sources.redfish.chassis", errScope, system.ID, len(in))
	}
	return in, nil
}

func (e *explorer) nodeScope() collector.Scope {
	s := collector.Scope{
		Name: e.o.Meter, Class: energy.Node, Kind: collector.Power, Limit: e.o.Limit, Witness: !e.o.Booked, Device: e.o.URL,
	}
	if e.o.Booked {
		s.Name, s.Rest = bookedMeter, energy.Other
	}
	return s
}

// host is the system that the node is; nil where there are only baseboards.
func (e *explorer) host(systems []computerSystem) (*computerSystem, error) {
	var hosts []computerSystem
	var ids []string
	for _, s := range systems {
		if s.ID == e.o.System {
			return &s, nil
		}
		if !strings.HasPrefix(s.ID, hgx) {
			hosts, ids = append(hosts, s), append(ids, s.ID)
		}
	}
	switch {
	case e.o.System != "":
		return nil, fmt.Errorf("%w: there is no system %q, there is %s", errScope, e.o.System, strings.Join(ids, ", "))
	case len(hosts) > 1:
		return nil, fmt.Errorf("%w: there are the systems %s; set sources.redfish.system", errScope, strings.Join(ids, ", "))
	case len(hosts) == 0:
		return nil, nil
	}
	return &hosts[0], nil
}

// chassis finds the power reading of one chassis and tells whether it has a value
// now.
func (e *explorer) chassis(ctx context.Context, at string) (*meter, bool, error) {
	var c chassis
	if err := e.link.get(ctx, at, &c); err != nil {
		return nil, false, err
	}
	var others []string
	for _, r := range c.Links.ComputerSystems {
		if id := path.Base(r.ID); !strings.HasPrefix(id, hgx) {
			others = append(others, id)
		}
	}
	if len(others) > 1 && e.o.Chassis == "" {
		return nil, false, fmt.Errorf("%w: %s holds the systems %s", errScope, path.Base(at), strings.Join(others, ", "))
	}
	var spare *meter
	for _, look := range []func(context.Context, *chassis) (*meter, bool, error){e.fromEnvironment, e.fromControl, e.fromSupplies} {
		m, valued, err := look(ctx, &c)
		switch {
		case err != nil && fatal(err):
			return nil, false, err
		case err != nil: // a dangling link; the next may hold
		case valued:
			return m, true, nil
		case spare == nil:
			spare = m
		}
	}
	return spare, false, nil
}

func (e *explorer) fromEnvironment(ctx context.Context, c *chassis) (*meter, bool, error) {
	if c.EnvironmentMetrics.ID == "" {
		return nil, false, nil
	}
	m := &meter{from: environment, path: c.EnvironmentMetrics.ID}
	return e.try(ctx, m)
}

// fromControl takes the first PowerControl that is not of a part of the chassis:
// by convention the first is the whole, and vendors add CPUs and memory after it.
func (e *explorer) fromControl(ctx context.Context, c *chassis) (*meter, bool, error) {
	if c.Power.ID == "" {
		return nil, false, nil
	}
	var p powerResource
	if err := e.link.get(ctx, c.Power.ID, &p); err != nil {
		return nil, false, err
	}
	for _, one := range p.PowerControl {
		switch one.PhysicalContext {
		case "", "Chassis", "SystemBoard", "PowerSubsystem", "PowerSupply", "ComputeBay":
			m := &meter{from: control, path: c.Power.ID, which: one.id()}
			_, err := microwatts(one.PowerConsumedWatts)
			return m, err == nil, nil
		}
	}
	return nil, false, nil
}

func (e *explorer) fromSupplies(ctx context.Context, c *chassis) (*meter, bool, error) {
	if c.PowerSubsystem.ID == "" {
		return nil, false, nil
	}
	var sub powerSubsystem
	if err := e.link.get(ctx, c.PowerSubsystem.ID, &sub); err != nil {
		return nil, false, err
	}
	paths, err := e.members(ctx, sub.PowerSupplies.ID)
	if err != nil {
		return nil, false, err
	}
	m := &meter{from: supplies}
	for _, p := range paths {
		var s powerSupply
		if err := e.link.get(ctx, p, &s); err != nil {
			return nil, false, err
		}
		switch {
		case s.Status.State == "Absent":
		case s.Metrics.ID == "":
			return nil, false, nil // the sum would lack it
		default:
			m.parts = append(m.parts, s.Metrics.ID)
		}
	}
	if len(m.parts) == 0 {
		return nil, false, nil
	}
	return e.try(ctx, m)
}

// try reads a candidate once. One that is there and has no value is kept; one
// that is not there is not.
func (e *explorer) try(ctx context.Context, m *meter) (*meter, bool, error) {
	w, _, err := m.watts(ctx, e.link)
	if err != nil && kindOf(err) != nonsense {
		return nil, false, err
	}
	if _, bad := microwatts(w); err != nil || bad != nil {
		return m, false, nil
	}
	return m, true, nil
}
