package report

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
)

// Schema names the JSON of a Report.
const Schema = "wattledger.report/v1"

// Report is the statement of one cluster for one month.
type Report struct {
	Schema  string `json:"schema"`
	Cluster string `json:"cluster"`
	Period  Span   `json:"period"`
	// ProjectFilter is set where Projects holds one project only; every other
	// number is still the cluster's.
	ProjectFilter string    `json:"project_filter,omitempty"`
	Totals        Totals    `json:"totals"`
	Uses          Uses      `json:"uses"`
	Classes       Classes   `json:"classes"`
	Grades        Grades    `json:"grades"`
	GPUHours      UseHours  `json:"gpu_hours"`
	Policies      []string  `json:"policies"`
	Projects      []Project `json:"projects"` // by name
}

// Span is the period of a report.
type Span struct {
	Start    string  `json:"start"`
	End      string  `json:"end"`
	Timezone string  `json:"timezone"`
	Month    string  `json:"month"`
	Hours    float64 `json:"hours"` // whole quarters, which a float64 holds exactly
}

// Totals are both sides of the books.
type Totals struct {
	Metered  energy.Millijoules `json:"metered_mj,string"`
	Booked   energy.Millijoules `json:"booked_mj,string"`
	Unbooked energy.Millijoules `json:"unbooked_mj,string"`
	// Difference = metered - booked - unbooked; anything but 0 is a fault.
	Difference energy.Millijoules `json:"difference_mj,string"`
	KWh        string             `json:"kwh"` // booked
}

// Uses are the booked energy by use.
type Uses struct {
	Busy    energy.Millijoules `json:"busy_mj,string"`
	Held    energy.Millijoules `json:"held_mj,string"`
	Idle    energy.Millijoules `json:"idle_mj,string"`
	System  energy.Millijoules `json:"system_mj,string"`
	Unknown energy.Millijoules `json:"unknown_mj,string"`
}

// UseHours is GPU time by use.
type UseHours struct {
	Busy    string `json:"busy"`
	Held    string `json:"held"`
	Idle    string `json:"idle"`
	System  string `json:"system"`
	Unknown string `json:"unknown"`
}

// Classes are the booked energy by class.
type Classes struct {
	GPU    energy.Millijoules `json:"gpu_mj,string"`
	CPU    energy.Millijoules `json:"cpu_mj,string"`
	Memory energy.Millijoules `json:"memory_mj,string"`
	Other  energy.Millijoules `json:"other_mj,string"`
	Node   energy.Millijoules `json:"node_mj,string"`
}

// PartGrades are booked energy by how well it is known.
type PartGrades struct {
	Counter  energy.Millijoules `json:"counter_mj,string"`
	Sampled  energy.Millijoules `json:"sampled_mj,string"`
	Bridged  energy.Millijoules `json:"bridged_mj,string"`
	Modelled energy.Millijoules `json:"modelled_mj,string"`
}

// Grades adds device time nobody metered, in seconds, rounded up: it reads 0
// only if nothing is missing.
type Grades struct {
	PartGrades
	MissingDeviceSeconds int64 `json:"missing_device_seconds"`
}

// Project is one project's line.
type Project struct {
	Name     string             `json:"project"`
	Energy   energy.Millijoules `json:"energy_mj,string"`
	KWh      string             `json:"kwh"`
	Busy     energy.Millijoules `json:"busy_mj,string"`
	Held     energy.Millijoules `json:"held_mj,string"`
	Jobs     int                `json:"jobs"`
	GPUHours string             `json:"gpu_hours"`
	Classes  Classes            `json:"classes"`
	Grades   PartGrades         `json:"grades"`
}

// NoEnergyError tells that a project has no line in a report.
type NoEnergyError struct {
	Cluster, Project, Month string
	Has                     []string // projects that do
}

// Error says what there is instead.
func (e *NoEnergyError) Error() string {
	const most = 20
	has := strings.Join(e.Has[:min(most, len(e.Has))], ", ")
	switch {
	case len(e.Has) == 0:
		has = "no project has"
	case len(e.Has) > most:
		has += fmt.Sprintf(" and %d more have", len(e.Has)-most)
	default:
		has += " have"
	}
	return fmt.Sprintf("project %q has nothing booked in %s on cluster %s; %s", e.Project, e.Month, e.Cluster, has)
}

// Build makes the report of a cluster. An empty project means all; now only
// bounds the device time that can be missing so far.
func Build(ctx context.Context, l ledger.Ledger, cluster string, p Period, project string, now time.Time) (Report, error) {
	b, err := l.Books(ctx, cluster, p.Start.UnixMilli(), p.End.UnixMilli(), now.UnixMilli())
	if err != nil {
		return Report{}, fmt.Errorf("cannot read the books of cluster %s for %s: %w", cluster, p, err)
	}
	r := ofBooks(&b)
	r.Cluster = cluster
	r.Period = Span{
		Start: p.Start.UTC().Format(time.RFC3339), End: p.End.UTC().Format(time.RFC3339),
		Timezone: p.Zone.String(), Month: p.String(), Hours: p.Hours(),
	}
	if project != "" {
		if err := r.only(project); err != nil {
			return Report{}, err
		}
	}
	return r, nil
}

func ofBooks(b *ledger.Books) Report {
	all := b.Nobody
	projects := make([]Project, 0, len(b.Projects))
	for i := range b.Projects {
		all.Add(&b.Projects[i].Amounts)
		projects = append(projects, projectLine(&b.Projects[i]))
	}
	booked := all.Total()
	return Report{
		Schema: Schema,
		Totals: Totals{
			Metered: b.Metered, Booked: booked, Unbooked: b.Unbooked,
			Difference: b.Metered - booked - b.Unbooked, KWh: booked.KWh(),
		},
		Uses: usesOf(&all), Classes: classesOf(&all),
		Grades:   Grades{PartGrades: gradesOf(&all), MissingDeviceSeconds: (b.MissingMS + 999) / 1000},
		GPUHours: useHoursOf(&all),
		Policies: append([]string{}, b.Policies...),
		Projects: projects,
	}
}

func projectLine(p *ledger.Project) Project {
	a := &p.Amounts
	return Project{
		Name: p.Name, Energy: a.Total(), KWh: a.Total().KWh(),
		Busy: a.Use(energy.Busy), Held: a.Use(energy.Held), Jobs: p.Jobs,
		GPUHours: gpuHours(a), Classes: classesOf(a), Grades: gradesOf(a),
	}
}

func (r *Report) only(project string) error {
	names := make([]string, 0, len(r.Projects))
	for i := range r.Projects {
		if r.Projects[i].Name == project {
			r.ProjectFilter, r.Projects = project, r.Projects[i:i+1:i+1]
			return nil
		}
		names = append(names, r.Projects[i].Name)
	}
	return &NoEnergyError{Cluster: r.Cluster, Project: project, Month: r.Period.Month, Has: names}
}

func usesOf(a *ledger.Amounts) Uses {
	return Uses{
		Busy: a.Use(energy.Busy), Held: a.Use(energy.Held), Idle: a.Use(energy.Idle),
		System: a.Use(energy.System), Unknown: a.Use(energy.Unknown),
	}
}

func useHoursOf(a *ledger.Amounts) UseHours {
	ms := &a.DeviceMS[energy.GPU]
	return UseHours{
		Busy: Hours(ms[energy.Busy]), Held: Hours(ms[energy.Held]), Idle: Hours(ms[energy.Idle]),
		System: Hours(ms[energy.System]), Unknown: Hours(ms[energy.Unknown]),
	}
}

func classesOf(a *ledger.Amounts) Classes {
	return Classes{
		GPU: a.Class(energy.GPU), CPU: a.Class(energy.CPU), Memory: a.Class(energy.Memory),
		Other: a.Class(energy.Other), Node: a.Class(energy.Node),
	}
}

func gradesOf(a *ledger.Amounts) PartGrades {
	return PartGrades{
		Counter: a.Grades[energy.Counter], Sampled: a.Grades[energy.Sampled],
		Bridged: a.Grades[energy.Bridged], Modelled: a.Grades[energy.Modelled],
	}
}

// gpuHours is the GPU time a project or job held.
func gpuHours(a *ledger.Amounts) string {
	return Hours(a.DeviceMS[energy.GPU][energy.Busy] + a.DeviceMS[energy.GPU][energy.Held])
}

// Hours writes device time in hours with two decimals, rounded half up, in
// integers only.
func Hours(ms int64) string {
	const perHundredth = 36_000
	n := (ms + perHundredth/2) / perHundredth
	return fmt.Sprintf("%d.%02d", n/100, n%100)
}
