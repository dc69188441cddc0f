package dashboards

import (
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/units"
)

const (
	ofProjects = `project=~"$project", project!=""`
	ofJob      = `project=~"$project", job=~"$job"`
)

// heldByJob is what each job has burnt on devices that did nothing. Whoever
// stores the aggregator's page has a label job of its own; the job's number is
// then in exported_job.
func heldByJob() string {
	return `label_replace(` + of("wattledger_job_held_energy_joules", `project=~"$project"`, `exported_job=~"$job"`) + `, "job", "$1", "exported_job", "(.+)")`
}

const aboutJobs = `**What is here by job, and what is not.** Jobs come and go by the ten thousand, so by default no series is kept for each: what a job burnt is in the books and comes from
` + "`wattledger job 71001`" + `, ` + "`wattledger jobs --project P`" + ` or the aggregator's page, to the millijoule, for ten years.

* Always here: the running jobs whose devices did nothing and burnt most while they did (` + "`wattledger_job_held_energy_joules`" + `, at most 50 in each cluster, from 0.1 kWh on), and held energy by project.
* With ` + "`series.jobs.enabled: true`" + ` in aggregator.yaml: power and energy of each job (` + "`wattledger_job_power_watts`, `wattledger_job_energy_joules_total`" + `), up to the limit set there. The graph "Power by job" is empty without.`

func jobs() page {
	return page{
		uid: uidJobs, title: "jobs", since: "now-3h", refresh: "30s",
		description: "Jobs that hold devices and do nothing with them, held energy by project, and, where series of jobs are switched on, power and energy of each.",
		variables:   []cog.Builder[dashboard.VariableModel]{someClusters(), someProjects(), anyJob()},
		notes:       alertsAndEvents(""),
		sections: []section{
			{"Held, doing nothing", heldPanels()},
			{"Job by job", jobPanels()},
		},
	}
}

// anyJob is a field to type a job's number into; jobs are too many for a list.
func anyJob() cog.Builder[dashboard.VariableModel] {
	return dashboard.NewTextBoxVariableBuilder("job").Label("Job (a regular expression)").
		DefaultValue(dashboard.StringOrMap{String: new(".*")})
}

func toJob(of func(string) string) link {
	return to("This job alone", uidJobs, of, "cluster", "cluster", "project", "project", "job", "job")
}

func heldPanels() []cog.Builder[dashboard.Panel] {
	held, all := of("wattledger_project_held_energy_joules_total", ofProjects), of("wattledger_project_energy_joules_total", ofProjects)
	return []cog.Builder[dashboard.Panel]{
		panel{
			title: "Held energy in this range", unit: units.KiloWattHour, width: 6, height: 4,
			description: "Energy that the chosen projects' jobs burnt on devices they held while these did nothing, over the range of time that is shown. It is on the projects' account all the same.",
			queries:     []query{{expr: `sum(increase(` + held + `[$__range]))` + perKWh, legend: "held"}},
		}.number(),
		panel{
			title: "Part of their energy", unit: units.PercentUnit, width: 6, height: 4, levels: levels(0.10, 0.25),
			description: "Held energy as a part of all that the chosen projects burnt in the range. Above a tenth, look at the table: a few jobs that wait or hang are the usual reason.",
			queries:     []query{{expr: `sum(increase(` + held + `[$__range])) / sum(increase(` + all + `[$__range]))`, legend: "held"}},
		}.number(),
		panel{
			title: "Jobs that waste now", unit: units.Short, width: 6, height: 4, levels: levels(10, 40),
			description: "Running jobs that have burnt 0.1 kWh or more on devices that did nothing; at most 50 in each cluster are named. The table names them and their users: ask whether they still need the devices.",
			queries:     []query{{expr: `count(` + of("wattledger_job_held_energy_joules", `project=~"$project"`) + `) or vector(0)`, legend: "jobs"}},
		}.number(),
		panel{
			title: "Jobs of the workload manager", unit: units.Short, width: 6, height: 4,
			description: "Runs that the workload manager's accounting told of in the range, and jobs of the last 24 hours of which the books hold nothing. The second belongs at zero: their nodes sent nothing; wattledger jobs --missing lists them. No accounting configured: only zero runs.",
			queries: []query{
				{expr: `sum(increase(` + of("wattledger_accounting_jobs_total") + `[$__range])) or vector(0)`, legend: "told of"},
				{expr: `sum(` + of("wattledger_accounting_unmetered_jobs") + `)`, legend: "not in the books"},
			},
		}.number(),
		panel{
			title: "Power burnt on held devices, by project", unit: units.Watt, width: 12, height: 9,
			description: "Held energy per second, the fifteen projects with most. A step that stays is a job that hangs, or an interactive session somebody went home from.",
			queries:     []query{{expr: `topk(15, sum by (cluster, project) (rate(` + held + `[$__rate_interval])))`, legend: "{{project}} ({{cluster}})", step: "60s"}},
			links:       []link{toProject(label)},
		}.areas(),
		panel{
			title: "Held part by project", unit: units.PercentUnit, width: 12, height: 9, levels: levels(0.10, 0.25),
			description: "Held energy as a part of a project's energy in the range, the fifteen with the highest part. A project that is always here holds nodes for work that does not fill them: smaller jobs would cost it less.",
			queries: []query{{
				expr:   `sort_desc(topk(15, sum by (cluster, project) (increase(` + held + `[$__range])) / (sum by (cluster, project) (increase(` + all + `[$__range])) > 0)))`,
				legend: "{{project}} ({{cluster}})",
			}},
			links: []link{toProject(label)},
		}.bars(),
	}
}

func jobPanels() []cog.Builder[dashboard.Panel] {
	by := `max by (cluster, project, user, job) `
	return []cog.Builder[dashboard.Panel]{
		words("About jobs", "What is shown by job, what has to be switched on for more, and where the exact amounts are.", aboutJobs, 24, 5),
		panel{
			title: "Jobs by energy", unit: units.KiloWattHour, width: 12, height: 11,
			description: "Running jobs by what their devices burnt so far while they did nothing and, with series of jobs, by all they burnt in the range. From 10 kWh held on an alert fires: write to the user, who may not know that the job hangs; see the runbook held-idle.",
			queries: []query{
				{expr: by + `(` + heldByJob() + `)` + perKWh},
				{expr: `topk(50, sum by (cluster, project, job) (increase(` + of("wattledger_job_energy_joules_total", ofJob) + `[$__range])))` + perKWh},
			},
			columns: []column{{name: "held", levels: levels(1, 10)}, {name: "energy"}}, empty: "no job wastes 0.1 kWh",
			links: []link{toJob(field), toProject(field)},
		}.rows(),
		panel{
			title: "Power by job", unit: units.Watt, width: 12, height: 11,
			description: "Power of the fifteen jobs that draw most at each instant, from series of jobs: empty unless series.jobs.enabled is set. A job whose power falls to that of idle devices has come to a stop; ask its owner.",
			queries:     []query{{expr: `topk(15, sum by (cluster, project, job) (avg_over_time(` + of("wattledger_job_power_watts", ofJob) + `[$__interval])))`, legend: "{{job}}, {{project}}", step: "30s"}},
			empty:       "no series of jobs: series.jobs.enabled is not set",
			links:       []link{toJob(label), toProject(label)},
		}.areas(),
	}
}
