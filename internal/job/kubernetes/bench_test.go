package kubernetes_test

import (
	"context"
	"fmt"
	"testing"

	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"

	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/job/kubernetes"
)

// BenchmarkPoll is one question on a node of 250 pods of which 16 hold GPUs, the
// kubelet's own work included.
func BenchmarkPoll(b *testing.B) {
	n := open(b, func(o *kubernetes.Options) {
		o.Tell = func(context.Context, job.Edge) job.Answer { return job.Answer{OK: true} }
	})
	var pods []*podresources.PodResources
	for i := range 250 {
		p := &podresources.PodResources{Name: fmt.Sprintf("pod-%d-7c9d8f6b5-x2x4z", i), Namespace: "a", Containers: []*podresources.ContainerResources{{Name: "main"}}}
		if i < 16 {
			p = pod(p.GetName(), "nvidia.com/gpu", fmt.Sprintf("GPU-%08x", i))
		}
		pods = append(pods, p)
	}
	n.list(pods...)
	b.ReportAllocs()
	for b.Loop() {
		if err := n.src.Poll(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}
