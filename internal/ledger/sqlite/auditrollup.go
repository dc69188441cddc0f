package sqlite

import (
	"context"
	"fmt"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

// rollup reports where a roll-up differs from what it sums.
func (a *auditor) rollup(table, node string, slot int64, who string, have, want *sums) {
	if *have == *want {
		return
	}
	cell := 0 // the first that differs
	for cell < numCells-1 && have[cell] == want[cell] {
		cell++
	}
	detail := fmt.Sprintf("%s of %s holds %d mJ, its postings %d mJ; first %s: %d for %d",
		table, who, have.energy(), want.energy(), cellColumns()[cell], have[cell], want[cell])
	a.find(ledger.Finding{
		Kind: "rollup", Node: node, SlotMS: slot * window.SlotMS,
		Difference: energy.Millijoules(want.energy() - have.energy()), Detail: detail,
	})
}

// rows reads rows of sums by id and gives them with their names.
func (a *auditor) rows(ctx context.Context, query string, args ...any) (map[int64]*sums, map[int64]string, error) {
	out, names := map[int64]*sums{}, map[int64]string{}
	err := each(ctx, a.q, func(scan func(...any) error) error {
		var id int64
		var name string
		s := &sums{}
		err := scan(s.scan(&id, &name)...)
		out[id], names[id] = s, name
		return err
	}, query, args...)
	return out, names, err
}

// match compares two sets of rows both ways.
func (a *auditor) match(table string, slot int64, have, want map[int64]*sums, names map[int64]string) {
	for id, s := range have {
		w := want[id]
		if w == nil {
			w = &sums{}
		}
		a.rollup(table, "", slot, "project "+names[id], s, w)
	}
	for id, w := range want {
		if have[id] == nil {
			a.rollup(table, "", slot, fmt.Sprintf("project number %d", id), &sums{}, w)
		}
	}
}

func (a *auditor) checkSlotRollups(ctx context.Context, slot int64, projects map[int64]*sums, total clusterSums) error {
	have, names, err := a.rows(ctx, "SELECT p.id, p.name, "+cells("d.%")+` FROM project_slot d JOIN project p ON p.id = d.project_id
		WHERE d.slot = ? AND p.cluster_id = ? ORDER BY p.id`, slot, a.cluster)
	if err != nil {
		return err
	}
	a.match("project_slot", slot, have, projects, names)
	var s clusterSums
	err = each(ctx, a.q, func(scan func(...any) error) error {
		return scan(&s.metered, &s.unbooked, &s.device, &s.absent)
	}, "SELECT metered_mj, unbooked_mj, device_ms, absent_ms FROM cluster_slot WHERE slot = ? AND cluster_id = ?", slot, a.cluster)
	a.matchCluster("cluster_slot", slot, s, total)
	return err
}

func (a *auditor) matchCluster(table string, slot int64, have, want clusterSums) {
	if have != want {
		a.find(ledger.Finding{
			Kind: "rollup", SlotMS: slot * window.SlotMS,
			Difference: energy.Millijoules(want.metered + want.unbooked - have.metered - have.unbooked),
			Detail: fmt.Sprintf("%s holds metered %d mJ, unbooked %d mJ, device time %d ms, missing %d ms; ranges and holes give %d, %d, %d, %d",
				table, have.metered, have.unbooked, have.device, have.absent, want.metered, want.unbooked, want.device, want.absent),
		})
	}
}

// checkJobs compares job_node of jobs whose last posting is in the slot and
// whose first is in the period.
func (a *auditor) checkJobs(ctx context.Context, slot int64) error {
	done := map[int64]bool{}
	err := each(ctx, a.q, func(scan func(...any) error) error {
		var job, node int64
		var ext string
		s := &sums{}
		if err := scan(s.scan(&job, &ext, &node)...); err != nil {
			return err
		}
		done[job] = true
		want := a.jobs[job][node]
		if want == nil {
			want = &sums{}
		}
		a.rollup("job_node", a.nodes[node], slot, "job "+ext, s, want)
		delete(a.jobs[job], node)
		return nil
	}, "SELECT j.id, j.ext_id, k.node_id, "+cells("k.%")+` FROM job j JOIN job_node k ON k.job_id = j.id
		WHERE j.cluster_id = ? AND j.last_slot = ? AND j.first_slot >= ? AND j.first_slot <= j.last_slot AND j.ext_id <> ''`,
		a.cluster, slot, a.p.from)
	if err != nil {
		return err
	}
	for job := range done {
		for node, want := range a.jobs[job] {
			a.rollup("job_node", a.nodes[node], slot, fmt.Sprintf("job number %d", job), &sums{}, want)
		}
		delete(a.jobs, job)
	}
	return nil
}

// checkDays compares the days that lie whole in the period with their slots,
// which were compared with the postings.
func (a *auditor) checkDays(ctx context.Context) error {
	for d := a.p.firstDay; d < a.p.lastDay; d++ {
		var next int64
		err := a.q.QueryRowContext(ctx, `SELECT COALESCE(MIN(s), ?) FROM (SELECT MIN(slot) / ? AS s FROM cluster_slot WHERE slot >= ?
			UNION ALL SELECT MIN(day) FROM project_day WHERE day >= ? UNION ALL SELECT MIN(day) FROM cluster_day WHERE day >= ?) t`,
			a.p.lastDay, slotsPerDay, d*slotsPerDay, d, d).Scan(&next)
		if err != nil {
			return err
		}
		if d = max(d, next); d >= a.p.lastDay {
			return nil
		}
		if err := a.checkDay(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

func (a *auditor) checkDay(ctx context.Context, d int64) error {
	from, to := d*slotsPerDay, (d+1)*slotsPerDay
	want, _, err := a.rows(ctx, "SELECT p.id, p.name, "+cells("SUM(d.%)")+` FROM project_slot d JOIN project p ON p.id = d.project_id
		WHERE d.slot >= ? AND d.slot < ? AND p.cluster_id = ? GROUP BY p.id, p.name`, from, to, a.cluster)
	if err != nil {
		return err
	}
	have, names, err := a.rows(ctx, "SELECT p.id, p.name, "+cells("d.%")+` FROM project_day d JOIN project p ON p.id = d.project_id
		WHERE d.day = ? AND p.cluster_id = ?`, d, a.cluster)
	if err != nil {
		return err
	}
	a.match("project_day", from, have, want, names)
	var h, w clusterSums
	err = each(ctx, a.q, func(scan func(...any) error) error {
		return scan(&h.metered, &h.unbooked, &h.device, &h.absent)
	}, "SELECT metered_mj, unbooked_mj, device_ms, absent_ms FROM cluster_day WHERE day = ? AND cluster_id = ?", d, a.cluster)
	if err != nil {
		return err
	}
	err = a.q.QueryRowContext(ctx, `SELECT COALESCE(SUM(metered_mj), 0), COALESCE(SUM(unbooked_mj), 0), COALESCE(SUM(device_ms), 0),
		COALESCE(SUM(absent_ms), 0) FROM cluster_slot WHERE slot >= ? AND slot < ? AND cluster_id = ?`, from, to, a.cluster).
		Scan(&w.metered, &w.unbooked, &w.device, &w.absent)
	a.matchCluster("cluster_day", from, h, w)
	return err
}

// checkTotals compares what was ever posted to a project with all its days.
func (a *auditor) checkTotals(ctx context.Context) error {
	want, _, err := a.rows(ctx, "SELECT p.id, p.name, "+cells("SUM(d.%)")+` FROM project_day d JOIN project p ON p.id = d.project_id
		WHERE p.cluster_id = ? GROUP BY p.id, p.name`, a.cluster)
	if err != nil {
		return err
	}
	have, names, err := a.rows(ctx, "SELECT p.id, p.name, "+cells("d.%")+` FROM project_total d JOIN project p ON p.id = d.project_id
		WHERE p.cluster_id = ?`, a.cluster)
	if err != nil {
		return err
	}
	a.match("project_total", a.p.from, have, want, names)
	return nil
}
