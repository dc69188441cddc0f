package kubernetes_test

import (
	"strings"
	"testing"

	"github.com/wattledger/wattledger/internal/job/kubernetes"
	"github.com/wattledger/wattledger/internal/sysfs/sysfstest"
)

func TestCgroupPaths(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	low := strings.ReplaceAll(uidA, "-", "_")
	c := kubernetes.NewCgroups(nil, nil)
	f := func(path, uid, container string) {
		t.Helper()
		if got, ok := c.OfPath(path); ok != (uid != "") || got.UID != uid || got.Container != container {
			t.Errorf("%s: %+v, %v; want %s %s", path, got, ok, uid, container)
		}
	}
	f("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod"+low+".slice/cri-containerd-"+id+".scope", uidA, id)
	f("/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod"+low+".slice/crio-"+id+".scope", uidA, id)
	f("/kubepods.slice/kubepods-pod"+low+".slice/docker-"+id+".scope", uidA, id) // guaranteed
	f("/kubepods.slice/kubepods-pod"+low+".slice", uidA, "")
	f("/kubepods.slice/kubepods-pod"+low+".slice/crio-conmon-"+id+".scope", uidA, "")
	f("/kubepods/burstable/pod"+uidA+"/"+id, uidA, id)
	f("/kubepods/pod"+uidA+"/"+id+"/init.scope", uidA, id)
	f("/kubepods/besteffort/pod0123456789abcdef0123456789abcdef/"+id, "0123456789abcdef0123456789abcdef", id) // of a file on the node
	f("/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod"+low+".slice/cri-containerd-"+id+".scope", uidA, id)
	f("/kubelet/kubepods/burstable/pod"+uidA+"/"+id, uidA, id)
	f("/system.slice/containerd.service/kubepods-burstable-pod"+low+".slice:cri-containerd:"+id, uidA, id)
	for _, path := range []string{
		"", "/", "/kubepods.slice", "/kubepods.slice/kubepods-burstable.slice", "/kubepods/burstable", "/system.slice/slurmstepd.scope/job_1/step_0",
		"/system.slice/kubelet.service", "/kubepods.slice/podxyz", "/kubepods/burstable/pod../" + id,
		// a user's own, named like a pod's
		"/user.slice/user-1000.slice/user@1000.service/kubepods.slice/kubepods-pod" + low + ".slice",
		"/user.slice/kubepods/pod" + uidA, "/user.slice/pod" + uidA, "/user.slice/burstable/pod" + uidA,
		"/system.slice/slurmstepd.scope/job_7/step_0/user/kubepods-pod" + low + ".slice",
		"/../kubepods/pod" + uidA, "/system.slice/containerd.service/kubepods-pod" + low + ".slice",
	} {
		f(path, "", "")
	}
	// within a container somebody makes another pod's: the outer one counts
	f("/kubepods.slice/kubepods-pod"+low+".slice/cri-containerd-"+id+".scope/kubepods.slice/kubepods-pod"+strings.ReplaceAll(uidB, "-", "_")+".slice", uidA, id)
}

func TestPodOfProcess(t *testing.T) {
	n := sysfstest.Parse(t, `-- proc/10/cgroup --
0::/kubepods.slice/kubepods-pod7f3c0f5e_8d1b_4f0e_9d55_6a2b1c3d4e5f.slice/x
-- proc/11/cgroup --
13:name=systemd:/user.slice/user-1000.slice
12:memory:/kubepods/burstable/pod0b6f2a11-1111-4222-8333-444455556666/x
11:devices:/kubepods/burstable/pod0b6f2a11-1111-4222-8333-444455556666/x
10:cpu,cpuacct:/
0::/system.slice/containerd.service
-- proc/12/cgroup --
1:name=systemd:/kubepods/pod0b6f2a11-1111-4222-8333-444455556666
0::/user.slice
-- proc/13/cgroup --
garbage
-- sys/x --
`)
	c := kubernetes.NewCgroups(n.Root("proc"), n.Root("sys"))
	f := func(pid int, uid string) {
		t.Helper()
		g, ok, err := c.OfPID(pid)
		if err != nil || ok != (uid != "") || g.UID != uid {
			t.Errorf("%d: %+v, %v, %v; want %q", pid, g, ok, err, uid)
		}
	}
	f(10, uidA)
	f(11, uidB)
	f(12, "") // systemd's own hierarchy of v1 can be a user's
	f(13, "")
	if _, ok, err := c.OfPID(14); ok || err == nil {
		t.Errorf("a process that is gone: %v, %v", ok, err)
	}
}
