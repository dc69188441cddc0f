package series

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	dto "github.com/prometheus/client_model/go"

	"github.com/wattledger/wattledger/internal/series/metric"
)

// meta is what /metadata says of a family.
type meta struct {
	Type string `json:"type"`
	Help string `json:"help"`
	Unit string `json:"unit"`
}

// metadata answers from the list of metrics and from the aggregator's own page:
// Prometheus has it from its targets.
func (s *Store) metadata(w http.ResponseWriter, r *http.Request) {
	limit := -1
	if text := r.FormValue("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			answerError(w, http.StatusBadRequest, "bad_data", "limit must be a number")
			return
		}
		limit = n
	}
	data := map[string][]meta{}
	add := func(name string, m meta) {
		only := r.FormValue("metric")
		if data[name] == nil && (only == "" || only == name) && (limit < 0 || len(data) < limit) {
			data[name] = []meta{m}
		}
	}
	for _, m := range metric.All() {
		add(m.Name, meta{string(m.Type), m.Help, m.Unit})
	}
	if s.o.Own != nil {
		families, _ := s.o.Own.Gather() // what there is; the page itself tells of errors
		for _, f := range families {
			add(f.GetName(), meta{typeOf(f), f.GetHelp(), ""})
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": data})
}

func typeOf(f *dto.MetricFamily) string {
	if f.GetType() == dto.MetricType_UNTYPED {
		return "unknown"
	}
	return strings.ToLower(f.GetType().String())
}
