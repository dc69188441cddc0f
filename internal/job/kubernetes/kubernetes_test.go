package kubernetes_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/attribution"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/job/kubernetes"
	"github.com/wattledger/wattledger/internal/meter"
	"github.com/wattledger/wattledger/internal/window"
)

const whole = job.Whole

// TestDialects: each id becomes the reference that the agent can resolve.
func TestDialects(t *testing.T) {
	f := func(resource, id, ref string, unplaced ...string) {
		t.Helper()
		n := open(t).list(pod("p", resource, id)).poll(1)
		if ref == "" && len(unplaced) == 0 {
			n.want(resource + " " + id)
			return
		}
		n.want(resource+" "+id, "begin a/p 0.0s")
		want := job.Spec{
			ID: "a/p", SubmitMS: start.UnixMilli(), Project: "a", User: "a", Partition: "kubernetes", Unplaced: unplaced,
		}
		if ref != "" {
			want.GPUs = []window.Share{{Device: ref, Weight: whole}}
		}
		if d := cmp.Diff(want, n.spec()); d != "" {
			t.Errorf("%s %s (-want +got):\n%s", resource, id, d)
		}
	}
	f("nvidia.com/gpu", gpuA, gpuA)
	f("nvidia.com/mig-1g.10gb", migA, migA)
	f("nvidia.com/gpu.shared", gpuA+"::3", gpuA)
	f("nvidia.com/gpu", "nvidia0", "minor:0")
	f("nvidia.com/gpu", "nvidia0/gi1", "gi:0/1")
	f("nvidia.com/gpu", "nvidia12/vgpu3", "minor:12")
	f("nvidia.com/gpu", "nvidia0/gi1/vgpu0", "gi:0/1")
	f("nvidia.com/gpu", "2", "index:2")
	f("nvidia.com/gpu", "2::0", "index:2")
	f("amd.com/gpu", "0000:C1:00.0", "pci:0000:c1:00.0")
	f("example.org/a100", gpuA, gpuA) // a site that renames its resources
	// no GPU
	f("rdma/hca", "mlx5_0", "")
	f("nvidia.com/hostdev", "0000:c1:00.2", "")
	f("nvidia.com/GA102GL_A10", "43", "") // a group of the IOMMU, handed to a virtual machine
	f("example.org/fpga", "0", "")
	// a GPU, but which?
	for _, id := range []string{
		"", "GPU-", "GPU-xyz", "gpu0", "-1", "00", "99999", "nvidia", "nvidia0/gi", "nvidia0/gi1/vgpu", gpuA + "::", gpuA + "::x",
		gpuA + "::1::2", "MIG-" + gpuA + "/1/0", "0:1", "../../x", "amdgpu_xcp_30",
	} {
		f("nvidia.com/gpu", id, "", "nvidia.com/gpu="+id)
	}
	f("nvidia.com/gpu", "a\nb\x00", "", "nvidia.com/gpu=a?b?")
	f("nvidia.com/gpu", strings.Repeat("x", 5000), "", "nvidia.com/gpu="+strings.Repeat("x", 49))
}

// TestClaims: devices by DRA, as far as the API names them.
func TestClaims(t *testing.T) {
	f := func(want job.Spec, driver, device string, cdi ...string) {
		t.Helper()
		res := &podresources.ClaimResource{DriverName: driver, PoolName: "n1", DeviceName: device}
		for _, name := range cdi {
			res.CdiDevices = append(res.CdiDevices, &podresources.CDIDevice{Name: name})
		}
		p := &podresources.PodResources{Name: "p", Namespace: "a", Containers: []*podresources.ContainerResources{{
			DynamicResources: []*podresources.DynamicResource{{ClaimName: "c", ClaimNamespace: "a", ClaimResources: []*podresources.ClaimResource{res}}},
		}}}
		n := open(t).list(p).poll(1)
		if len(want.GPUs)+len(want.Unplaced) == 0 {
			n.want(device)
			return
		}
		if got := n.spec(); !cmp.Equal(want.GPUs, got.GPUs) || !cmp.Equal(want.Unplaced, got.Unplaced) {
			t.Errorf("%s %s: %+v; want %+v", driver, device, got, want)
		}
	}
	gpu := func(ref string) job.Spec { return job.Spec{GPUs: []window.Share{{Device: ref, Weight: whole}}} }
	f(gpu("minor:3"), "gpu.nvidia.com", "gpu-3", "k8s.gpu.nvidia.com/claim=x-gpu-3")
	f(gpu(migA), "gpu.nvidia.com", "gpu-0-mig-9-4-1", "nvidia.com/gpu="+migA)
	f(gpu(gpuA), "gpu.example.org", "x", "example.org/gpu="+gpuA)
	f(job.Spec{Unplaced: []string{"gpu.nvidia.com=gpu-0-mig-9-4-1"}}, "gpu.nvidia.com", "gpu-0-mig-9-4-1")
	f(job.Spec{Unplaced: []string{"gpu.amd.com=gpu-1-129"}}, "gpu.amd.com", "gpu-1-129")
	f(job.Spec{}, "gpu.nvidia.com", "imex-0")
	f(job.Spec{}, "dra.net", "eth1")
}

// TestHoldings: what a pod holds beside GPUs, and what is no job.
func TestHoldings(t *testing.T) {
	n := open(t)
	p := &podresources.PodResources{
		Name: "p", Namespace: "a", CpuIds: []int64{0, 1, 2, 3}, // the containers' are among them
		Containers: []*podresources.ContainerResources{
			{
				Name: "x", CpuIds: []int64{0, 1},
				Devices: []*podresources.ContainerDevices{{ResourceName: "nvidia.com/gpu", DeviceIds: []string{gpuB, gpuA}}},
				Memory:  []*podresources.ContainerMemory{{MemoryType: "memory", Size: 1 << 30}, {MemoryType: "hugepages-2Mi", Size: 2 << 20}},
			},
			{Name: "y", CpuIds: []int64{2}, Devices: []*podresources.ContainerDevices{{ResourceName: "nvidia.com/gpu", DeviceIds: []string{gpuA}}}},
		},
	}
	cpus := &podresources.PodResources{Name: "cpus", Namespace: "a", Containers: []*podresources.ContainerResources{{CpuIds: []int64{7, 9}}}}
	n.list(p, cpus, &podresources.PodResources{Name: "coredns", Namespace: "kube-system", Containers: []*podresources.ContainerResources{{Name: "x"}}}).poll(1)
	n.want("a pod that holds nothing would own the node", "begin a/cpus 0.0s", "begin a/p 0.0s")
	want := job.Spec{
		ID: "a/p", SubmitMS: start.UnixMilli(), Project: "a", User: "a", Partition: "kubernetes", CPUs: 4, MemoryBytes: 1<<30 + 2<<20,
		GPUs: []window.Share{{Device: gpuB, Weight: whole}, {Device: gpuA, Weight: whole}},
	}
	if d := cmp.Diff(want, n.spec()); d != "" {
		t.Error(d)
	}
	if c := n.edges[0].Job.CPUs; c != 2 {
		t.Errorf("%d CPUs", c)
	}
	// the very same again: no edge; other devices: another run
	n.list(p, cpus).poll(3).want("nothing new")
	p2 := pod("p", "nvidia.com/gpu", gpuB)
	n.list(p2, cpus).poll(1).want("other devices", "begin a/p 4.0s restart 1")
	n.list(cpus).poll(40)
	n.want("the end", "end a/p 5.0s restart 1")
}

// TestPodOfThreeSeconds: it is seen, and its edges lie within a second of the
// truth; with /pods within half a second.
func TestPodOfThreeSeconds(t *testing.T) {
	for _, known := range []bool{false, true} {
		n := open(t)
		want := []string{"begin a/quick 40.0s", "end a/quick 43.0s"}
		if known {
			n.metadata()
			n.page = page()
			want = []string{"begin a/quick/" + uidA + " 39.5s", "end a/quick/" + uidA + " 42.5s"}
		}
		n.poll(40) // the connection has settled
		// it runs from 39.4 s to 42.4 s
		n.page = page(item("quick", uidA, "Running", 39, -1))
		n.list(pod("quick", "nvidia.com/gpu", gpuA)).poll(3)
		n.page = page(item("quick", uidA, "Succeeded", 39, 42))
		n.list().poll(2)
		n.want(fmt.Sprintf("/pods: %v", known), want...)
		if n.edges[0].AtNS == 0 == known || n.edges[1].AtNS == 0 == known {
			t.Errorf("edges that are told at once carry no time, others do: %+v", n.edges)
		}
	}
}

// TestTimeSlices: those who hold a GPU share it equally at every instant, as
// others come and go, and no edge is told for it.
func TestTimeSlices(t *testing.T) {
	n := open(t)
	names := []string{"w", "x", "y", "z"}
	var pods []*podresources.PodResources
	for i, name := range names { // one more each second
		pods = append(pods, pod(name, "nvidia.com/gpu.shared", fmt.Sprintf("%s::%d", gpuA, i)))
		n.list(pods...).poll(1)
	}
	n.list(pods[2:]...).poll(30) // until the connection has settled
	n.want("edges", "begin a/w 0.0s", "begin a/x 1.0s", "begin a/y 2.0s", "begin a/z 3.0s", "end a/w 4.0s", "end a/x 4.0s")

	tree, err := meter.New([]collector.Scope{{Name: "gpu0", Class: energy.GPU}})
	if err != nil {
		t.Fatal(err)
	}
	var table job.Table
	for i, e := range n.edges {
		at := start.Add(time.Duration(min(i, 4)) * time.Second).UnixNano()
		for g := range e.Job.GPUs {
			e.Job.GPUs[g].Device = "gpu0" // as the agent resolves it
		}
		if e.Op == "begin" {
			err = table.Begin(e.Job, at)
		} else {
			_, err = table.End(e.Job.ID, at)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	in := attribution.Input{Tree: tree, Energy: []energy.Millijoules{6000}, Allocations: table.During(start.UnixNano(), start.Add(time.Minute).UnixNano())}
	piece := make([]attribution.Piece, 5)
	for s := range piece { // 1200 mJ each second
		piece[s] = attribution.Piece{Hold: start.Add(time.Duration(s) * time.Second).UnixNano(), FromMS: int64(s) * 1000, ToMS: int64(s+1) * 1000, UJ: 1_200_000}
	}
	in.Pieces = [][]attribution.Piece{piece}
	got := map[string]energy.Millijoules{}
	for _, p := range attribution.Attribute(in).Postings {
		id := "nobody"
		if p.Job >= 0 {
			id = in.Allocations[p.Job].ID
		}
		got[id] += p.Energy
	}
	want := map[string]energy.Millijoules{
		"a/w": 1200 + 600 + 400 + 300, "a/x": 600 + 400 + 300, "a/y": 400 + 300 + 600, "a/z": 300 + 600,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestSlicesOfMIG: a MIG device is cut by its replicas, so that its holders never
// claim more of the board than the device is.
func TestSlicesOfMIG(t *testing.T) {
	n := open(t)
	ids := []string{migA + "::0", migA + "::1", migA + "::2", migA + "::3"}
	n.api.allocatable = &podresources.AllocatableResourcesResponse{Devices: []*podresources.ContainerDevices{
		{ResourceName: "nvidia.com/mig-1g.10gb.shared", DeviceIds: ids}, {ResourceName: "nvidia.com/mig-1g.10gb.shared", DeviceIds: ids[:1]},
	}}
	n.list(pod("x", "nvidia.com/mig-1g.10gb.shared", ids[3])).poll(1)
	if g := n.spec().GPUs; len(g) != 1 || g[0] != (window.Share{Device: migA, Weight: whole / 4}) {
		t.Errorf("%+v; want a quarter", g)
	}
	n.list(pod("y", "nvidia.com/mig-1g.10gb.shared", ids[:3]...)).poll(1)
	if g := n.edges[1].Job.GPUs; len(g) != 1 || g[0].Weight != whole*3/4 {
		t.Errorf("%+v; want three quarters", g)
	}
	// where the kubelet does not say, what is listed is all
	n = open(t).list(pod("x", "nvidia.com/gpu", "nvidia1/gi2/vgpu0")).poll(1)
	if g := n.spec().GPUs; len(g) != 1 || g[0] != (window.Share{Device: "gi:1/2", Weight: whole}) {
		t.Errorf("%+v", g)
	}
}

// TestOutage: a kubelet that is away ends nothing, nor does one that has just
// started and does not know its pods yet.
func TestOutage(t *testing.T) {
	n := open(t).list(pod("p", "nvidia.com/gpu", gpuA)).poll(40)
	n.want("begin", "begin a/p 0.0s")
	n.server.Stop()
	for range 100 {
		err := n.src.Poll(context.Background())
		if err == nil || !strings.Contains(err.Error(), "cannot ask the kubelet on "+n.socket()) {
			t.Fatalf("err = %v", err)
		}
		n.at = n.at.Add(time.Second)
	}
	n.list().serve()
	n.poll(10).want("not listed by a kubelet that starts")
	n.list(pod("p", "nvidia.com/gpu", gpuA)).poll(60).want("listed again")
	n.list().poll(1).want("gone", "end a/p 210.0s")
	if got := testutil.ToFloat64(gather(t, n, kubernetes.MetricPolls, "failed")); got != 100 {
		t.Errorf("%v failed polls", got)
	}

	// a pod that ended with the kubelet away is over when the kubelet knows its pods
	n = open(t).list(pod("p", "nvidia.com/gpu", gpuA)).poll(1)
	n.log = nil
	n.list().poll(29)
	n.want("wait")
	n.poll(1).want("the first list without it is the end", "end a/p 1.0s")
}

// TestStatus: what a kubelet refuses, and what is no kubelet, is told as such.
func TestStatus(t *testing.T) {
	n := open(t)
	n.api.err = fmt.Errorf("rate limit\nexceeded: 100%%")
	if err := n.src.Poll(context.Background()); err == nil || !strings.Contains(err.Error(), `gRPC status 2: "rate limit\nexceeded: 100%"`) {
		t.Errorf("err = %v", err)
	}
	n.opt.Socket = filepath.Join(n.dir, "nothing.sock")
	n.renew()
	if err := n.src.Poll(context.Background()); err == nil || !strings.Contains(err.Error(), "jobs.kubernetes.socket") {
		t.Errorf("err = %v", err)
	}
}

// TestControlGroups: where a pod's UID is known, its control group tells that it
// is over, and that it is not.
func TestControlGroups(t *testing.T) {
	n := open(t).cgroups()
	n.mkdir("logs/a_p_" + uidA)
	n.mkdir("logs/a_p_" + uidB) // an earlier one of this name
	n.mkdir("logs/a_p-2_" + uidB)
	n.group(uidA, "1")
	p := pod("p", "nvidia.com/gpu", gpuA)
	n.list(p).poll(40)
	n.want("UID from the logs", "begin a/p/"+uidA+" 0.0s")
	n.list().poll(100).want("not listed, but somebody is in there")
	n.group(uidA, "0")
	n.poll(1).want("nobody is in there any more", "end a/p/"+uidA+" 140.0s")

	// a kubelet before 1.34 lists it though it is over
	n = open(t).cgroups()
	n.mkdir("logs/a_p_" + uidA)
	n.group(uidA, "1")
	n.list(p).poll(40)
	n.group(uidA, "0")
	n.poll(2)
	n.group(uidA, "1") // a sandbox that was made anew
	n.poll(50).want("a moment without processes", "begin a/p/"+uidA+" 0.0s")
	n.group(uidA, "")
	n.poll(60).want("it is over", "end a/p/"+uidA+" 92.0s")
	n.group(uidA, "1") // it was not
	n.poll(2).want("it lives after all", "begin a/p/"+uidA+" 152.0s restart 1")
	n.group(uidA, "")
	n.list().poll(2).want("and ends once", "end a/p/"+uidA+" 154.0s restart 1")

	// the same name again before the list was ever without it
	n = open(t).cgroups()
	n.mkdir("logs/a_p_" + uidA)
	n.group(uidA, "1")
	n.list(p).poll(2)
	n.group(uidA, "")
	n.mkdir("logs/a_p_" + uidB)
	n.group(uidB, "1")
	n.poll(2)
	n.want("two pods", "begin a/p/"+uidA+" 0.0s", "end a/p/"+uidA+" 2.0s", "begin a/p/"+uidB+" 2.0s")

	// the UID is waited for, a little
	n = open(t).cgroups().list(p).poll(2)
	n.want("not yet")
	n.poll(3).want("without", "begin a/p 0.0s")
}

// TestDeviceTaken: where nothing else says that a pod is over, its device in
// other hands does.
func TestDeviceTaken(t *testing.T) {
	n := open(t).list(pod("old", "nvidia.com/gpu", gpuA), pod("s", "nvidia.com/gpu.shared", gpuB+"::0")).poll(3)
	n.list(pod("old", "nvidia.com/gpu", gpuA), pod("new", "nvidia.com/gpu", gpuA),
		pod("s", "nvidia.com/gpu.shared", gpuB+"::0"), pod("t", "nvidia.com/gpu.shared", gpuB+"::1")).poll(5)
	n.want("taken; shared ones are not", "begin a/old 0.0s", "begin a/s 0.0s", "end a/old 3.0s", "begin a/new 3.0s", "begin a/t 3.0s")
}

// TestAdopted: an agent that starts again goes on with what it holds open, and
// ends what is over.
func TestAdopted(t *testing.T) {
	held := func(id string, restart uint32) job.Allocation {
		return job.Allocation{From: start.Add(-time.Hour).UnixNano(), Spec: job.Spec{ID: id, Partition: "kubernetes", Restart: restart}}
	}
	n := open(t, func(o *kubernetes.Options) {
		o.Running = func() []job.Allocation {
			return []job.Allocation{
				held("a/p/"+uidA, 2), held("a/gone/"+uidB, 0), held("a/bare", 0), held("a/q/"+uidA, 0),
				{From: 1, To: 2, Spec: job.Spec{ID: "a/closed", Partition: "kubernetes"}},
				{From: 1, Spec: job.Spec{ID: "71001", Partition: "gpu"}},
			}
		}
	}).metadata()
	n.page = page(item("p", uidA, "Running", -3600, -1), item("bare", "beef0000", "Running", -3600, -1), item("q", uidB, "Running", -60, -1))
	n.list(pod("p", "nvidia.com/gpu", gpuA), pod("bare", "nvidia.com/gpu", "1"), pod("q", "nvidia.com/gpu", "2")).poll(1)
	n.want("another of the name is another", "end a/q/"+uidA+" -59.5s", "begin a/q/"+uidB+" -59.5s")
	n.poll(31).want("over", "end a/gone/"+uidB+" 0.0s")
	n.list(pod("p", "nvidia.com/gpu", gpuB), pod("bare", "nvidia.com/gpu", "1"), pod("q", "nvidia.com/gpu", "2")).poll(1)
	n.want("its run goes on counting", "begin a/p/"+uidA+" 32.0s restart 3")
}

// TestTenThousandPods: what is kept is bounded, and what is not followed is
// counted.
func TestTenThousandPods(t *testing.T) {
	var pods []*podresources.PodResources
	for i := range 10_000 {
		pods = append(pods, &podresources.PodResources{Name: fmt.Sprintf("p%05d", i), Namespace: "a"})
	}
	n := open(t).list(pods...).poll(2)
	n.want("pods without devices")
	for i, p := range pods {
		p.Containers = pod("", "nvidia.com/gpu", fmt.Sprintf("GPU-%08x", i)).GetContainers()
	}
	n.poll(1)
	if got := len(n.edges); got != 4096 {
		t.Errorf("%d pods are followed", got)
	}
	if got := testutil.ToFloat64(gather(t, n, kubernetes.MetricSkipped, "too_many")); got != 10_000-4096 {
		t.Errorf("%v are counted", got)
	}
	n.list().poll(40)
	if got := len(n.edges); got != 2*4096 {
		t.Errorf("%d edges after the end", got)
	}
	if got := testutil.ToFloat64(gather(t, n, kubernetes.MetricPods)); got != 0 {
		t.Errorf("%v pods hold something", got)
	}
}

// TestBadNames: what cannot be a pod's name is passed over and counted; long
// names are shortened and stay apart.
func TestBadNames(t *testing.T) {
	n := open(t)
	for _, name := range []string{"", "A", "a b", "a/b", "x_y", "é", strings.Repeat("x", 254)} {
		n.api.pods = append(n.api.pods, pod(name, "nvidia.com/gpu", gpuA))
	}
	long := strings.Repeat("x", 252)
	a, b := pod(long+"1", "nvidia.com/gpu", gpuA), pod(long+"2", "nvidia.com/gpu", gpuB)
	a.Namespace, b.Namespace = strings.Repeat("n", 63), strings.Repeat("n", 63)
	n.api.pods = append(n.api.pods, a, b)
	n.poll(1)
	if len(n.edges) != 2 || n.edges[0].Job.ID == n.edges[1].Job.ID {
		t.Fatalf("%+v", n.edges)
	}
	var table job.Table
	for _, e := range n.edges {
		if err := table.Begin(e.Job, 1); err != nil || len(e.Job.ID)+37 > window.MaxName {
			t.Errorf("%d bytes: %v", len(e.Job.ID), err)
		}
	}
	if got := testutil.ToFloat64(gather(t, n, kubernetes.MetricSkipped, "malformed")); got != 7 {
		t.Errorf("%v are counted", got)
	}
}

// TestRun: the loop itself, on the real clock.
func TestRun(t *testing.T) {
	told := make(chan job.Edge, 8)
	n := open(t, func(o *kubernetes.Options) {
		o.Every, o.Now = 5*time.Millisecond, time.Now
		o.Tell = func(_ context.Context, e job.Edge) job.Answer { told <- e; return job.Answer{OK: e.Op == "begin"} }
	}).cgroups()
	n.mkdir("logs/a_p_" + uidA)
	n.group(uidA, "1")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.src.Run(ctx) }()
	next := func(op string) {
		t.Helper()
		select {
		case e := <-told:
			if e.Op != op || e.Job.ID != "a/p/"+uidA || e.AtNS != 0 {
				t.Fatalf("%+v; want %s, now", e, op)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no %s", op)
		}
	}
	n.list(pod("p", "nvidia.com/gpu", gpuA))
	next("begin")
	n.group(uidA, "")
	n.list()
	next("end")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := testutil.ToFloat64(gather(t, n, kubernetes.MetricEdges, "end", "refused")); got != 1 {
		t.Errorf("%v ends refused", got)
	}
}
