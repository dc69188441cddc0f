package kubernetes

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"
)

// list has every field of the API.
func list() *podresources.ListPodResourcesResponse {
	share := "s"
	numa := &podresources.TopologyInfo{Nodes: []*podresources.NUMANode{{ID: 1}}}
	return &podresources.ListPodResourcesResponse{PodResources: []*podresources.PodResources{
		{
			Name: "p", Namespace: "a", CpuIds: []int64{0, 300}, Memory: []*podresources.ContainerMemory{{MemoryType: "memory", Size: 1 << 40, Topology: numa}},
			Containers: []*podresources.ContainerResources{
				{
					Name: "c", CpuIds: []int64{1}, Memory: []*podresources.ContainerMemory{{MemoryType: "hugepages-1Gi", Size: 7}},
					Devices: []*podresources.ContainerDevices{{ResourceName: "nvidia.com/gpu", DeviceIds: []string{"0", "1"}, Topology: numa}, {ResourceName: "x"}},
					DynamicResources: []*podresources.DynamicResource{{ClaimName: "n", ClaimNamespace: "a", ClaimResources: []*podresources.ClaimResource{
						{CdiDevices: []*podresources.CDIDevice{{Name: "v/c=d"}}, DriverName: "dr", PoolName: "po", DeviceName: "de", ShareId: &share},
					}}},
				},
				{Name: "empty"},
			},
		},
		{Name: "q"},
	}}
}

// TestDecodeIsTheAPIs: what is read is what the API's own types wrote.
func TestDecodeIsTheAPIs(t *testing.T) {
	b, err := proto.Marshal(list())
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeList(b)
	if err != nil {
		t.Fatal(err)
	}
	want := []podResources{
		{
			name: "p", namespace: "a", cpus: []int64{0, 300}, memory: []memory{{"memory", 1 << 40}},
			containers: []container{
				{
					cpus: []int64{1}, memory: []memory{{"hugepages-1Gi", 7}},
					devices: []devices{{"nvidia.com/gpu", []string{"0", "1"}}, {resource: "x"}},
					claims:  []claim{{"dr", "po", "de", []string{"v/c=d"}}},
				},
				{},
			},
		},
		{name: "q"},
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(podResources{}, container{}, devices{}, memory{}, claim{})); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	all, err := proto.Marshal(&podresources.AllocatableResourcesResponse{
		Devices: []*podresources.ContainerDevices{{ResourceName: "r", DeviceIds: []string{"i"}}}, CpuIds: []int64{1, 2},
	})
	if err != nil {
		t.Fatal(err)
	}
	if ds, err := decodeAllocatable(all); err != nil || len(ds) != 1 || ds[0].resource != "r" || len(ds[0].ids) != 1 || ds[0].ids[0] != "i" {
		t.Errorf("%+v, %v", ds, err)
	}
}

// FuzzDecode: an answer of any bytes is read as the API's types read it, or
// refused; what is read makes a holding within its bounds.
func FuzzDecode(f *testing.F) {
	b, err := proto.Marshal(list())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)-3])
	f.Add([]byte{0x0a, 0x02, 0x20, 0x05}) // a number that is not packed
	r := reader{dialects: newDialects()}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := decodeList(b)
		var want podresources.ListPodResourcesResponse
		if perr := proto.Unmarshal(b, &want); perr != nil {
			return // it is stricter: of text and of what we pass over
		}
		if err != nil {
			t.Fatalf("the API reads it, we say %v", err)
		}
		if len(got) != len(want.GetPodResources()) {
			t.Fatalf("%d pods; want %d", len(got), len(want.GetPodResources()))
		}
		for i, p := range want.GetPodResources() {
			if got[i].name != p.GetName() || len(got[i].containers) != len(p.GetContainers()) || !cmp.Equal(got[i].cpus, p.GetCpuIds()) {
				t.Fatalf("%+v; want %v", got[i], p)
			}
			if h := r.read(&got[i]); len(h.unplaced) > maxUnplaced || len(h.gpus) > 1024 {
				t.Fatalf("%d devices", len(h.gpus))
			}
		}
	})
}

// TestSplitID: an id gives back what it was made of.
func TestSplitID(t *testing.T) {
	for _, c := range [][2]string{{"a/p", ""}, {"a/p", "7f3c"}} {
		if k, uid := splitID(jobID(c[0], c[1])); k != c[0] || uid != c[1] {
			t.Errorf("%s, %s; want %v", k, uid, c)
		}
	}
}
