package obs

import (
	"context"
	"log/slog" //nolint:depguard // what Prometheus' packages take

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Slog lets packages that want log/slog write to our log; part is put before
// their messages. What they call information is for debugging here: the
// operator's log has our own words.
func Slog(log *zap.Logger, part string) *slog.Logger {
	return slog.New(&slogHandler{log: log, part: part + ": "})
}

type slogHandler struct {
	log          *zap.Logger
	part, prefix string
}

func (h *slogHandler) Enabled(_ context.Context, l slog.Level) bool {
	return h.log.Core().Enabled(slogLevel(l))
}

func slogLevel(l slog.Level) zapcore.Level {
	switch {
	case l >= slog.LevelError:
		return zapcore.ErrorLevel
	case l >= slog.LevelWarn:
		return zapcore.WarnLevel
	}
	return zapcore.DebugLevel
}

func (h *slogHandler) Handle(_ context.Context, r slog.Record) error {
	if e := h.log.Check(slogLevel(r.Level), h.part+r.Message); e != nil {
		var fields []zap.Field
		r.Attrs(func(a slog.Attr) bool {
			fields = append(fields, h.field(a))
			return true
		})
		e.Write(fields...)
	}
	return nil
}

func (h *slogHandler) field(a slog.Attr) zap.Field { return zap.Any(h.prefix+a.Key, a.Value.Any()) }

func (h *slogHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	fields := make([]zap.Field, 0, len(attrs))
	for _, a := range attrs {
		fields = append(fields, h.field(a))
	}
	return &slogHandler{log: h.log.With(fields...), part: h.part, prefix: h.prefix}
}

func (h *slogHandler) WithGroup(name string) slog.Handler {
	return &slogHandler{log: h.log, part: h.part, prefix: h.prefix + name + "."}
}
