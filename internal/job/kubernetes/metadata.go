package kubernetes

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// maxPage bounds the kubelet's /pods. Labels and annotations of a pod have at
// most 256 KiB, a usual pod 10.
const maxPage = 256 << 20

// pods is the kubelet's own list of its pods, with what pod-resources does not
// say: UID, labels, times. A v1.PodList (kubernetes.io, Pod API), of which a
// little is read. The kubelet asks for the permission to get nodes/pods (before
// 1.33 nodes/proxy), or nothing on its read-only port.
type pods struct {
	client    *http.Client
	url       string
	tokenFile string
	label     string // key of the label or annotation that names the project
	note      string
}

func newPods(o Options) (*pods, error) {
	p := &pods{
		url: strings.TrimSuffix(o.KubeletURL, "/") + "/pods", tokenFile: o.TokenFile,
		label: o.ProjectLabel, note: o.ProjectAnnotation,
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("cannot read the certificate authority of the kubelet: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("cannot use %s as the certificate authority of the kubelet: it holds no certificate", o.CAFile)
		}
	}
	p.client = &http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{TLSClientConfig: conf, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse // the token is the kubelet's alone
		},
	}
	return p, nil
}

// fact is what /pods says of a pod.
type fact struct {
	uid      string
	account  string
	project  string
	labelled bool  // the label or annotation is there
	created  int64 // Unix ns, 0 unknown; whole seconds like all its times
	started  int64 // the first container
	finished int64 // the last container
	over     bool  // its phase says that nothing of it runs or ever will
}

// podItem is the part of a v1.Pod that is read.
type podItem struct {
	Metadata struct {
		Name, Namespace, UID string
		CreationTimestamp    time.Time
		Labels, Annotations  map[string]string
	}
	Spec struct {
		ServiceAccountName string
	}
	Status struct {
		Phase                 string
		ContainerStatuses     []containerStatus
		InitContainerStatuses []containerStatus
	}
}

type containerStatus struct {
	State, LastState struct {
		Running    *struct{ StartedAt time.Time }
		Terminated *struct{ StartedAt, FinishedAt time.Time }
	}
}

// fetch gives the facts of the pods that are asked for.
func (p *pods) fetch(ctx context.Context, wanted func(key string) bool) (map[string]fact, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("cannot ask %s: %w", p.url, err)
	}
	if p.tokenFile != "" { // read each time: tokens of a pod are renewed
		b, err := os.ReadFile(p.tokenFile)
		if err != nil {
			return nil, fmt.Errorf("cannot read the token for %s: %w", p.url, err)
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(b)))
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("cannot ask the kubelet for its pods: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		hint := ""
		if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
			hint = "; the token's account needs the permission to get nodes/pods (before Kubernetes 1.33: nodes/proxy)"
		}
		return nil, fmt.Errorf("cannot ask %s: it answers %s%s", p.url, resp.Status, hint)
	}
	out, err := p.decode(io.LimitReader(resp.Body, maxPage), wanted)
	if err != nil {
		return nil, fmt.Errorf("cannot read the pods of %s: %w", p.url, err)
	}
	return out, nil
}

// decode reads a v1.PodList pod by pod: no more than one is in memory.
func (p *pods) decode(r io.Reader, wanted func(key string) bool) (map[string]fact, error) {
	dec := json.NewDecoder(r)
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.Join(errors.New("it is not a list of pods"), err)
	}
	out := map[string]fact{}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, err
		}
		if name != "items" {
			var skip json.RawMessage
			if err := dec.Decode(&skip); err != nil {
				return nil, err
			}
			continue
		}
		if t, err := dec.Token(); err != nil || (t != nil && t != json.Delim('[')) {
			return nil, errors.Join(errors.New("its items are no list"), err)
		} else if t == nil {
			continue
		}
		for dec.More() {
			var item podItem
			if err := dec.Decode(&item); err != nil {
				return nil, err
			}
			if k := key(item.Metadata.Namespace, item.Metadata.Name); wanted(k) {
				out[k] = p.fact(&item)
			}
		}
		if _, err := dec.Token(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (p *pods) fact(item *podItem) fact {
	f := fact{
		account: item.Spec.ServiceAccountName,
		created: nanos(item.Metadata.CreationTimestamp),
		over:    item.Status.Phase == "Succeeded" || item.Status.Phase == "Failed",
	}
	if isUID(item.Metadata.UID) {
		f.uid = item.Metadata.UID
	}
	switch {
	case p.label != "":
		f.project, f.labelled = item.Metadata.Labels[p.label]
	case p.note != "":
		f.project, f.labelled = item.Metadata.Annotations[p.note]
	}
	f.project = strings.Clone(f.project) // not the whole page with it
	for _, list := range [][]containerStatus{item.Status.InitContainerStatuses, item.Status.ContainerStatuses} {
		for _, c := range list {
			f.container(&c)
		}
	}
	return f
}

// container widens the span of the pod by one container's.
func (f *fact) container(c *containerStatus) {
	began := func(at time.Time) {
		if ns := nanos(at); ns != 0 && (f.started == 0 || ns < f.started) {
			f.started = ns
		}
	}
	if r := c.State.Running; r != nil {
		began(r.StartedAt)
	}
	if t := c.State.Terminated; t != nil {
		began(t.StartedAt)
		f.finished = max(f.finished, nanos(t.FinishedAt))
	}
	if t := c.LastState.Terminated; t != nil {
		began(t.StartedAt)
	}
}

// nanos is 0 for a time that is not given, or not one.
func nanos(t time.Time) int64 {
	if t.Year() < 2000 || t.Year() > 2200 {
		return 0
	}
	return t.UnixNano()
}

// isUID tells whether a text may be a pod's UID: a UUID, or for a pod of a file
// on the node a hash.
func isUID(s string) bool {
	return len(s) >= 8 && len(s) <= uidRoom-1 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'f') && r != '-'
	})
}
