package fleet

import (
	"cmp"
	"maps"
	"math/big"
	"slices"

	"github.com/wattledger/wattledger/internal/energy"
)

// books gathers what belongs to whom, in exact fractions of a microjoule.
type books struct {
	all   map[[2]string]*owed // by kind and id
	idle  *owed
	total *owed
}

type owed struct {
	energy, doubt, slack *big.Rat
}

func newBooks() *books {
	b := &books{all: map[[2]string]*owed{}}
	b.idle, b.total = b.row(KindIdle, ""), b.row(KindTotal, "")
	return b
}

func (b *books) row(kind, id string) *owed {
	key := [2]string{kind, id}
	if b.all[key] == nil {
		b.all[key] = &owed{new(big.Rat), new(big.Rat), new(big.Rat)}
	}
	return b.all[key]
}

// jobRow has its project in front of its id until the rows are made.
const jobRow = "job of "

// owner is the row of a run of a node, or that of nobody.
func (b *books) owner(n *simNode, who int) *owed {
	if who == nobody {
		return b.idle
	}
	s := n.runs[who].spec
	return b.row(jobRow+s.Project, s.ID)
}

// add a share of an amount in halves of a microjoule.
func (o *owed) add(to **big.Rat, share *big.Rat, halves int64) {
	amount := big.NewRat(halves, 2)
	(*to).Add(*to, amount.Mul(amount, share))
}

// rows in the order meter, missing, witness, job, project, idle, total, each by id.
func (b *books) rows() []TruthRow {
	for key, o := range maps.Clone(b.all) {
		if len(key[0]) <= len(jobRow) || key[0][:len(jobRow)] != jobRow {
			continue
		}
		delete(b.all, key)
		b.all[[2]string{KindJob, key[1]}] = o
		p := b.row(KindProject, key[0][len(jobRow):])
		p.energy.Add(p.energy, o.energy)
		p.doubt.Add(p.doubt, o.doubt)
		p.slack.Add(p.slack, o.slack)
	}
	var out []TruthRow
	for key, o := range b.all {
		out = append(out, TruthRow{
			Kind: key[0], ID: key[1], Energy: rounded(o.energy), Doubt: up(o.doubt), Tolerance: up(o.slack) + 1,
		})
	}
	order := []string{KindMeter, KindMissing, KindWitness, KindJob, KindProject, KindIdle, KindTotal}
	slices.SortFunc(out, func(a, b TruthRow) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.Kind), slices.Index(order, b.Kind)), cmp.Compare(a.ID, b.ID))
	})
	return out
}

func up(uj *big.Rat) energy.Millijoules {
	m := rounded(uj)
	if uj.Sign() > 0 {
		m++
	}
	return m
}
