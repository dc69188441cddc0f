package series

import (
	"log/slog" //nolint:depguard // what Prometheus' packages take

	"go.uber.org/zap"

	"github.com/wattledger/wattledger/internal/obs"
)

// bridge lets Prometheus' packages write to our log.
func bridge(log *zap.Logger) *slog.Logger { return obs.Slog(log, "series") }
