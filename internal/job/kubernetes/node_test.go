package kubernetes_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"

	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/job/kubernetes"
	"github.com/wattledger/wattledger/internal/sysfs"
)

// Some ids as NVIDIA's driver makes them.
const (
	gpuA = "GPU-8f3a1c02-5b7e-4d1f-9a63-0c2d4e6f8a10"
	gpuB = "GPU-1d2c3b4a-0000-4000-8000-00000000000b"
	migA = "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f"
	uidA = "7f3c0f5e-8d1b-4f0e-9d55-6a2b1c3d4e5f"
	uidB = "0b6f2a11-1111-4222-8333-444455556666"
)

// api is a kubelet's pod-resources server, on the library the kubelet uses.
type api struct {
	podresources.UnimplementedPodResourcesListerServer
	mu          sync.Mutex
	pods        []*podresources.PodResources
	allocatable *podresources.AllocatableResourcesResponse
	lists       int
	err         error
}

func (a *api) List(context.Context, *podresources.ListPodResourcesRequest) (*podresources.ListPodResourcesResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lists++
	return &podresources.ListPodResourcesResponse{PodResources: a.pods}, a.err
}

func (a *api) GetAllocatableResources(context.Context, *podresources.AllocatableResourcesRequest) (*podresources.AllocatableResourcesResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.allocatable == nil {
		return nil, status.Error(codes.FailedPrecondition, "not now")
	}
	return a.allocatable, nil
}

// node is a machine with a kubelet and a clock of its own.
type node struct {
	t      testing.TB
	dir    string
	api    *api
	server *grpc.Server
	at     time.Time
	opt    kubernetes.Options
	src    *kubernetes.Source
	reg    *prometheus.Registry
	log    []string // edges as text
	edges  []job.Edge
	page   string // of /pods
	code   int
}

var start = time.Date(2026, 10, 1, 12, 0, 0, 0, time.UTC)

// open starts a kubelet and a source that has not asked yet.
func open(t testing.TB, change ...func(*kubernetes.Options)) *node {
	t.Helper()
	n := &node{t: t, dir: t.TempDir(), api: &api{}, at: start, code: http.StatusOK}
	n.serve()
	n.opt = kubernetes.Options{
		Socket: n.socket(), Every: time.Second,
		Now: func() time.Time { return n.at },
		Tell: func(_ context.Context, e job.Edge) job.Answer {
			n.edges = append(n.edges, e)
			at := n.at
			if e.AtNS != 0 {
				at = time.Unix(0, e.AtNS)
			}
			line := fmt.Sprintf("%s %s %.1fs", e.Op, e.Job.ID, at.Sub(start).Seconds())
			if e.Job.Restart != 0 {
				line += fmt.Sprintf(" restart %d", e.Job.Restart)
			}
			n.log = append(n.log, line)
			if e.Witness != "kubernetes" {
				t.Errorf("witness %q", e.Witness)
			}
			return job.Answer{OK: true}
		},
	}
	for _, c := range change {
		c(&n.opt)
	}
	n.renew()
	return n
}

// renew is an agent that starts.
func (n *node) renew() {
	n.t.Helper()
	n.reg = prometheus.NewPedanticRegistry()
	n.opt.Registerer = n.reg
	src, err := kubernetes.New(n.opt)
	if err != nil {
		n.t.Fatal(err)
	}
	n.src = src
}

func (n *node) socket() string { return filepath.Join(n.dir, "kubelet.sock") }

func (n *node) serve() {
	n.t.Helper()
	l, err := net.Listen("unix", n.socket())
	if err != nil {
		n.t.Fatal(err)
	}
	n.server = grpc.NewServer()
	podresources.RegisterPodResourcesListerServer(n.server, n.api)
	server := n.server
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	n.t.Cleanup(func() { server.Stop(); <-done })
}

// metadata gives the kubelet a /pods, which says n.page.
func (n *node) metadata(change ...func(*kubernetes.Options)) *node {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/pods" { // elsewhere is where a redirection leads
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(n.code)
		}
		_, _ = w.Write([]byte(n.page))
	}))
	n.t.Cleanup(srv.Close)
	n.opt.KubeletURL = srv.URL
	for _, c := range change {
		c(&n.opt)
	}
	n.renew()
	return n
}

// cgroups gives the machine a tree of control groups (v2), and folders of logs.
func (n *node) cgroups() *node {
	n.t.Helper()
	n.mkdir("sys/fs/cgroup/kubepods.slice/kubepods-burstable.slice")
	n.mkdir("logs")
	n.opt.Sys, n.opt.PodLogs = sysfs.Open(filepath.Join(n.dir, "sys")), filepath.Join(n.dir, "logs")
	n.renew()
	return n
}

func (n *node) mkdir(name string) {
	n.t.Helper()
	if err := os.MkdirAll(filepath.Join(n.dir, name), 0o755); err != nil {
		n.t.Fatal(err)
	}
}

// group sets how a pod's control group is populated; "" takes it away.
func (n *node) group(uid, populated string) {
	n.t.Helper()
	dir := "sys/fs/cgroup/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + strings.ReplaceAll(uid, "-", "_") + ".slice"
	if populated == "" {
		if err := os.RemoveAll(filepath.Join(n.dir, dir)); err != nil {
			n.t.Fatal(err)
		}
		return
	}
	n.mkdir(dir)
	if err := os.WriteFile(filepath.Join(n.dir, dir, "cgroup.events"), []byte("populated "+populated+"\nfrozen 0\n"), 0o644); err != nil {
		n.t.Fatal(err)
	}
}

// list sets what the kubelet lists.
func (n *node) list(pods ...*podresources.PodResources) *node {
	n.api.mu.Lock()
	defer n.api.mu.Unlock()
	n.api.pods = pods
	return n
}

// poll asks once a second for so many seconds.
func (n *node) poll(seconds int) *node {
	n.t.Helper()
	for range seconds {
		if err := n.src.Poll(context.Background()); err != nil {
			n.t.Fatal(err)
		}
		n.at = n.at.Add(time.Second)
	}
	return n
}

// want compares what the agent was told since the last want.
func (n *node) want(what string, lines ...string) {
	n.t.Helper()
	if d := cmp.Diff(strings.Join(lines, "\n"), strings.Join(n.log, "\n")); d != "" {
		n.t.Errorf("%s (-want +got):\n%s", what, d)
	}
	n.log = nil
}

// spec is the job of the last edge.
func (n *node) spec() job.Spec {
	n.t.Helper()
	if len(n.edges) == 0 {
		n.t.Fatal("the agent was told of no edge")
	}
	return n.edges[len(n.edges)-1].Job
}

// pod lists a pod of the namespace "a" that holds devices of a resource.
func pod(name, resource string, ids ...string) *podresources.PodResources {
	return &podresources.PodResources{Name: name, Namespace: "a", Containers: []*podresources.ContainerResources{{
		Name: "main", Devices: []*podresources.ContainerDevices{{ResourceName: resource, DeviceIds: ids}},
	}}}
}

// item is a pod of /pods. times are seconds after the start; a negative end
// means that it runs.
func item(name, uid, phase string, begin, end int) string {
	stamp := func(s int) string { return start.Add(time.Duration(s) * time.Second).Format(time.RFC3339) }
	state := fmt.Sprintf(`{"running":{"startedAt":%q}}`, stamp(begin))
	if end >= 0 {
		state = fmt.Sprintf(`{"terminated":{"exitCode":0,"startedAt":%q,"finishedAt":%q}}`, stamp(begin), stamp(end))
	}
	return fmt.Sprintf(`{"metadata":{"name":%q,"namespace":"a","uid":%q,"creationTimestamp":%q,`+
		`"labels":{"app":"x","project":"EUHPC_A01"},"annotations":{"example.org/grant":"GR \"1\""}},`+
		`"spec":{"serviceAccountName":"trainer"},"status":{"phase":%q,"containerStatuses":[{"name":"main","state":%s,"lastState":{}}]}}`,
		name, uid, stamp(begin-1), phase, state)
}

func page(items ...string) string {
	return `{"kind":"PodList","apiVersion":"v1","metadata":{},"items":[` + strings.Join(items, ",") + `]}`
}
