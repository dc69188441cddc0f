// Package obs is how the daemons show themselves: logs that do not repeat
// themselves a thousand times, a registry of metrics with its page, and what
// systemd wants to be told.
package obs

import (
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/wattledger/wattledger/internal/version"
)

// Names of the metrics.
const (
	MetricBuildInfo      = "wattledger_build_info"
	MetricLogsSuppressed = "wattledger_log_messages_suppressed_total"
)

// A message of one text is logged at most logFirst times in logTick.
const (
	logTick  = time.Minute
	logFirst = 10
	logTexts = 512 // so many different ones are counted in logTick
)

// NewLogger makes a logger that writes to out from level (debug, info, warn,
// error) on: for people on a terminal, JSON elsewhere. Of one message at most 10
// a minute are written; the rest is counted, if reg is not nil.
func NewLogger(level string, out *os.File, reg prometheus.Registerer) (*zap.Logger, error) {
	var l zapcore.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("cannot make a logger: %w", err)
	}
	enc := zap.NewProductionEncoderConfig()
	enc.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	encoder := zapcore.NewJSONEncoder(enc)
	if info, err := out.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		enc.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		encoder = zapcore.NewConsoleEncoder(enc)
	}
	suppressed := prometheus.NewCounter(prometheus.CounterOpts{
		Name: MetricLogsSuppressed, Help: "Log messages that were not written because the same text was, often, within a minute.",
	})
	if reg != nil {
		if err := reg.Register(suppressed); err != nil {
			return nil, fmt.Errorf("cannot register metrics of the log: %w", err)
		}
	}
	return zap.New(newSampler(zapcore.NewCore(encoder, zapcore.Lock(out), l), suppressed.Inc)), nil
}

// Limit lets a thing happen once in a span of time. The zero value with Every
// and Now set is ready; it may be used from any goroutine.
type Limit struct {
	Every time.Duration
	Now   func() time.Time

	mu      sync.Mutex
	last    time.Time
	skipped int
}

// Allow tells whether it may happen now, and how often it did not since it
// last did.
func (l *Limit) Allow() (ok bool, skipped int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.Now()
	if !l.last.IsZero() && now.Sub(l.last) < l.Every {
		l.skipped++
		return false, l.skipped
	}
	skipped, l.skipped, l.last = l.skipped, 0, now
	return true, skipped
}

// NewRegistry makes a registry that checks what is collected, with metrics of
// the process, the runtime and the build.
func NewRegistry(component string) *prometheus.Registry {
	reg := prometheus.NewPedanticRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: MetricBuildInfo, Help: "Always 1; the labels say what runs.",
		ConstLabels: prometheus.Labels{"version": version.String(), "component": component},
	})
	build.Set(1)
	reg.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

// Metrics is the page of a registry.
func Metrics(reg *prometheus.Registry, log *zap.Logger) http.Handler {
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{
		ErrorLog: zap.NewStdLog(log), ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 8,
	})
}

// Ready tells systemd that the service works. Elsewhere it does nothing.
func Ready(status string) { _, _ = daemon.SdNotify(false, daemon.SdNotifyReady+"\nSTATUS="+status) }

// Stopping tells systemd that the service ends.
func Stopping() { _, _ = daemon.SdNotify(false, daemon.SdNotifyStopping) }
