package main

import (
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/wattledger/wattledger/exporters"
	"github.com/wattledger/wattledger/internal/config"
	"github.com/wattledger/wattledger/internal/series"
)

const (
	// batchPoints is how many points a batch for the exporters has at most.
	batchPoints = 5000
	// bufferedWithin is how long the store of series waits, at most, until what
	// it hands out is in the exporters' buffers.
	bufferedWithin = time.Second
)

// handout gives what the store of series keeps to the exporters.
type handout struct {
	fan   *exporters.Fan
	wants exporters.Only
}

var _ series.Outlet = (*handout)(nil)

// handoutOf is nil where there are no exporters.
func handoutOf(fan *exporters.Fan, c config.Exporters) (series.Outlet, error) {
	if fan == nil {
		return nil, nil
	}
	var some []string
	for _, list := range [][]config.Receiver{c.RemoteWrite, c.InfluxDB} {
		for i := range list {
			if len(list[i].Only) == 0 {
				return &handout{fan: fan}, nil
			}
			some = append(some, list[i].Only...)
		}
	}
	wants, err := exporters.NewOnly(some)
	return &handout{fan: fan, wants: wants}, err
}

// Series gives the exporters' form of a series; nil where no receiver wants it.
func (h *handout) Series(l labels.Labels) any {
	s := &exporters.Series{Labels: make([]exporters.Label, 0, l.Len()-1)}
	l.Range(func(l labels.Label) {
		if l.Name == model.MetricNameLabel {
			s.Name = l.Value
			return
		}
		s.Labels = append(s.Labels, exporters.Label{Name: l.Name, Value: l.Value})
	})
	if !h.wants.Has(s.Name) {
		return nil
	}
	return s
}

// Take hands samples on in batches and waits a moment until they are buffered.
func (h *handout) Take(list []series.Handed) {
	for len(list) > 0 {
		n := min(len(list), batchPoints)
		h.fan.Offer(batchOf(list[:n]))
		list = list[n:]
	}
	h.fan.Buffered(bufferedWithin)
}

// batchOf puts what follows each other in one series together.
func batchOf(list []series.Handed) exporters.Batch {
	var b exporters.Batch
	points := make([]exporters.Point, len(list))
	for from, to := 0, 0; from < len(list); from = to {
		of := list[from].Of
		for ; to < len(list) && list[to].Of == of; to++ {
			points[to] = exporters.Point{MS: list[to].MS, V: list[to].V}
		}
		s := *of.(*exporters.Series)
		s.Points = points[from:to:to]
		b.Series = append(b.Series, s)
	}
	return b
}
