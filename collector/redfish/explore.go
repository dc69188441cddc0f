package redfish

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/stmcginnis/gofish/common"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
)

// NVIDIA's names (DGX user guides, "Redfish APIs"): GPU_SXM_1 on HGX H100,
// GPU_0 on B200 and GB200, HGX_ProcessorModule_0 for the modules of the latter.
var (
	gpuName    = regexp.MustCompile(`^(?:HGX_)?GPU(?:_SXM)?_?(\d+)$`)
	moduleName = regexp.MustCompile(`^(?:HGX_)?ProcessorModule_(\d+)$`)
)

const hgx = "HGX_" // how the ids of a baseboard's resources begin

// ref is a link to a resource.
type ref struct {
	ID string `json:"@odata.id"`
}

// computerSystem, chassis and processor are what we need of the DMTF schemas;
// a vendor's oddity elsewhere in a resource does no harm.
type computerSystem struct {
	ID         string `json:"Id"`
	Processors ref
	Links      struct{ Chassis []ref }
}

type chassis struct {
	EnvironmentMetrics, Power, PowerSubsystem ref
	Links                                     struct{ ComputerSystems []ref }
}

type processor struct {
	ID                 string `json:"Id"`
	ProcessorType      string
	UUID, SerialNumber string
	EnvironmentMetrics ref
}

type powerSubsystem struct{ PowerSupplies ref }

type powerSupply struct {
	Metrics ref
	Status  struct{ State string }
}

// problem is what was met on the way: not all meters could be found.
type problem struct {
	name string
	err  error
}

// explorer finds what there is to read. What fails costs its part, unless the
// controller cannot be reached.
type explorer struct {
	o        *Options
	link     *link
	meters   []meter
	problems []problem
}

func (e *explorer) add(name string, err error) {
	e.problems = append(e.problems, problem{name, err})
}

func (e *explorer) explore(ctx context.Context) ([]meter, error) {
	var root struct{ Systems, Chassis ref }
	if err := e.link.get(ctx, common.DefaultServiceRoot, &root); err != nil {
		return nil, err
	}
	systems, err := e.systems(ctx, root.Systems.ID)
	if err != nil {
		return nil, err
	}
	cases, err := e.members(ctx, root.Chassis.ID)
	if err != nil {
		return nil, err
	}
	if err := e.node(ctx, systems, cases); err != nil {
		return nil, err
	}
	if err := e.gpus(ctx, systems); err != nil {
		return nil, err
	}
	if err := e.modules(ctx, cases); err != nil {
		return nil, err
	}
	return e.meters, nil
}

// members are the paths in a collection, all pages of it, sorted as people do.
func (e *explorer) members(ctx context.Context, from string) ([]string, error) {
	var out []string
	for pages := 0; from != "" && pages < 100; pages++ {
		var c common.Collection
		if err := e.link.get(ctx, from, &c); err != nil {
			return nil, err
		}
		out = append(out, c.ItemLinks...)
		from = c.MembersNextLink
	}
	slices.SortFunc(out, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	return slices.Compact(out), nil
}

func (e *explorer) systems(ctx context.Context, from string) ([]computerSystem, error) {
	paths, err := e.members(ctx, from)
	if err != nil {
		return nil, err
	}
	var out []computerSystem
	for _, p := range paths {
		var s computerSystem
		if err := e.link.get(ctx, p, &s); err != nil {
			if fatal(err) {
				return nil, err
			}
			e.add(path.Base(p), err)
			continue
		}
		s.ID = cmp.Or(s.ID, path.Base(p))
		out = append(out, s)
	}
	return out, nil
}

// fatal tells whether an error ends the search instead of a part of it.
func fatal(err error) bool {
	k := kindOf(err)
	return k == unreachable || k == denied || k == distrusted
}

// within leaves the systems whose GPUs are this node's: the baseboard where there
// is one and it can belong to no other node, else the node's own system.
func (e *explorer) within(systems []computerSystem) []computerSystem {
	var boards, hosts []computerSystem
	for _, s := range systems {
		if strings.HasPrefix(s.ID, hgx) {
			boards = append(boards, s)
		} else {
			hosts = append(hosts, s)
		}
	}
	if len(boards) > 0 && len(hosts) <= 1 {
		return boards
	}
	if host, err := e.host(systems); err == nil && host != nil {
		return []computerSystem{*host}
	}
	return nil
}

// gpus finds the GPUs of the node.
func (e *explorer) gpus(ctx context.Context, systems []computerSystem) error {
	var found []processor
	for _, s := range e.within(systems) {
		paths, err := e.members(ctx, s.Processors.ID)
		if err != nil {
			if fatal(err) {
				return err
			}
			e.add(s.ID, err)
		}
		for _, p := range paths {
			var one processor
			if err := e.link.get(ctx, p, &one); err != nil {
				if fatal(err) {
					return err
				}
				e.add(path.Base(p), err)
				continue
			}
			one.ID = cmp.Or(one.ID, path.Base(p))
			if one.EnvironmentMetrics.ID != "" && (one.ProcessorType == "GPU" || gpuName.MatchString(one.ID)) {
				found = append(found, one)
			}
		}
	}
	e.number(found)
	return nil
}

// number names the GPUs after the controller's numbers, or where these are not
// there or not distinct, after their order.
func (e *explorer) number(found []processor) {
	numbers := map[int]bool{}
	number := func(i int) int {
		if m := gpuName.FindStringSubmatch(found[i].ID); m != nil {
			n, _ := strconv.Atoi(m[1])
			return n
		}
		return -1
	}
	for i := range found {
		numbers[number(i)] = true
	}
	byName := len(numbers) == len(found) && !numbers[-1]
	for i, p := range found {
		n := i
		if byName {
			n = number(i)
		}
		device := strings.TrimSpace(p.ID + " " + cmp.Or(p.UUID, p.SerialNumber))
		e.meters = append(e.meters, meter{from: environment, path: p.EnvironmentMetrics.ID, scope: collector.Scope{
			Name: fmt.Sprintf("gpu%d-redfish", n), Class: energy.GPU, Kind: collector.Power, Witness: true, Device: device,
		}})
	}
}

// modules finds the processor modules (CPU and GPUs on one board).
func (e *explorer) modules(ctx context.Context, cases []string) error {
	for _, p := range cases {
		m := moduleName.FindStringSubmatch(path.Base(p))
		if m == nil {
			continue
		}
		name := "module" + m[1] + "-redfish"
		var c chassis
		if err := e.link.get(ctx, p, &c); err != nil {
			if fatal(err) {
				return err
			}
			e.add(name, err)
			continue
		}
		if c.EnvironmentMetrics.ID == "" {
			continue
		}
		e.meters = append(e.meters, meter{from: environment, path: c.EnvironmentMetrics.ID, scope: collector.Scope{
			Name: name, Class: energy.GPU, Kind: collector.Power, Witness: true, Device: path.Base(p),
		}})
	}
	return nil
}
