package alerts

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	configutil "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/notifier"
	"github.com/prometheus/prometheus/rules"
	"go.uber.org/zap"

	"github.com/wattledger/wattledger/internal/obs"
)

const (
	// sendWithin bounds a request to an Alertmanager.
	sendWithin = 10 * time.Second
	// queued alerts wait for an Alertmanager; of more the oldest are dropped and
	// counted. An alert that lasts is sent again all the same.
	queued = 10_000
)

// Alertmanager takes alerts.
type Alertmanager struct {
	URL       string // without /api/v2/alerts
	TokenFile string // read with each request; "" for none
	CAFile    string // "" for the system's authorities
}

// openNotifier makes what sends alerts, and the targets it is to be given.
func openNotifier(o *Options, log *zap.Logger) (*notifier.Manager, map[string][]*targetgroup.Group, error) {
	n := notifier.NewManager(&notifier.Options{
		QueueCapacity: queued, DrainOnShutdown: true, Registerer: o.Registerer,
	}, model.UTF8Validation, obs.Slog(log, "alerts"))
	c := &config.Config{GlobalConfig: config.DefaultGlobalConfig}
	targets := map[string][]*targetgroup.Group{}
	for i, a := range o.Alertmanagers {
		ac, host, err := a.config()
		if err != nil {
			return nil, nil, err
		}
		c.AlertingConfig.AlertmanagerConfigs = append(c.AlertingConfig.AlertmanagerConfigs, ac)
		id := fmt.Sprintf("config-%d", i) // as AlertmanagerConfigs.ToMap counts
		targets[id] = []*targetgroup.Group{{Source: id, Targets: []model.LabelSet{{model.AddressLabel: model.LabelValue(host)}}}}
	}
	if err := n.ApplyConfig(c); err != nil {
		return nil, nil, fmt.Errorf("cannot send to Alertmanager: %w", err)
	}
	return n, targets, nil
}

// config is what the notifier calls it.
func (a *Alertmanager) config() (c *config.AlertmanagerConfig, host string, err error) {
	u, err := url.Parse(a.URL)
	if err == nil && (u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		err = errors.New("it is not an address like https://alertmanager:9093")
	}
	if err != nil {
		return nil, "", fmt.Errorf("cannot send to Alertmanager %q: %w", a.URL, err)
	}
	c = &config.AlertmanagerConfig{
		Scheme: u.Scheme, PathPrefix: u.Path, Timeout: model.Duration(sendWithin), APIVersion: config.AlertmanagerAPIVersionV2,
		HTTPClientConfig: configutil.HTTPClientConfig{TLSConfig: configutil.TLSConfig{CAFile: a.CAFile}},
	}
	if a.TokenFile != "" {
		c.HTTPClientConfig.Authorization = &configutil.Authorization{Type: "Bearer", CredentialsFile: a.TokenFile}
	}
	return c, u.Host, nil
}

// notify hands alerts to the notifier; it does not wait.
func (m *Manager) notify(_ context.Context, expr string, alerts ...*rules.Alert) {
	out := make([]*notifier.Alert, 0, len(alerts))
	for _, a := range alerts {
		n := &notifier.Alert{
			StartsAt: a.FiredAt, EndsAt: a.ValidUntil, Labels: a.Labels, Annotations: a.Annotations,
			GeneratorURL: m.link(expr),
		}
		if !a.ResolvedAt.IsZero() {
			n.EndsAt = a.ResolvedAt
		}
		out = append(out, n)
	}
	if len(out) > 0 {
		m.notifier.Send(out...)
	}
}

// link leads to what an expression gives now.
func (m *Manager) link(expr string) string {
	if m.o.ExternalURL == "" {
		return ""
	}
	return m.o.ExternalURL + "/prometheus/api/v1/query?" + url.Values{"query": {expr}}.Encode()
}
