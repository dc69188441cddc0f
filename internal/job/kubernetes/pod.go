package kubernetes

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/window"
)

// Bounds of what is followed.
const (
	maxPods     = 4096 // pods that hold devices
	maxUnplaced = 64   // ids of one pod that nobody understands
	uidRoom     = 37   // bytes of "/" and a UID
)

// holding is what a pod has of the node.
type holding struct {
	namespace, name string
	gpus            []window.Share // by reference, sorted
	sole            []string       // references that nobody else can hold, sorted
	unplaced        []string
	cpus            uint32
	memory          uint64
}

// any tells whether there is anything to book. A pod without devices and
// without CPUs of its own must not become a job: a job that names neither owns
// the node.
func (h *holding) any() bool { return len(h.gpus) > 0 || len(h.unplaced) > 0 || h.cpus > 0 }

// equal tells whether two holdings are of the same things. Weights may differ:
// they depend on what is known of replicas.
func (h *holding) equal(o *holding) bool {
	same := func(a, b window.Share) bool { return a.Device == b.Device }
	return h.cpus == o.cpus && slices.EqualFunc(h.gpus, o.gpus, same) && slices.Equal(h.unplaced, o.unplaced)
}

// key names a pod among those of the node: namespace/name, shortened where it
// would not fit into a job's id.
func key(namespace, name string) string {
	k := namespace + "/" + name
	if len(k) <= window.MaxName-uidRoom {
		return k
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(k))
	return fmt.Sprintf("%s~%016x", k[:window.MaxName-uidRoom-17], h.Sum64())
}

// jobID is a pod's: another one for each life of a pod of this name, where its
// UID is known.
func jobID(key, uid string) string {
	if uid == "" {
		return key
	}
	return key + "/" + uid
}

// pod of a job's id: the other way round.
func splitID(id string) (key, uid string) {
	if strings.Count(id, "/") < 2 {
		return id, ""
	}
	i := strings.LastIndexByte(id, '/')
	return id[:i], id[i+1:]
}

// plain tells whether a text may stand in the books.
func plain(s string) bool {
	return len(s) <= window.MaxName && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// named tells whether a pod has a name that can be one.
func named(p *podResources) bool {
	ok := func(s string, most int) bool {
		return s != "" && len(s) <= most && !strings.ContainsFunc(s, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '.'
		})
	}
	return ok(p.namespace, 63) && ok(p.name, 253) // RFC 1123, as Kubernetes has it
}

// reader turns what the kubelet says into holdings.
type reader struct {
	dialects dialects
	// replicas is into how many parts a MIG device is cut in time, by reference,
	// from the allocatable resources.
	replicas map[string]int
}

// read gives the holding of a pod.
func (r *reader) read(p *podResources) *holding {
	h := &holding{namespace: p.namespace, name: p.name}
	got := map[string]device{}
	parts := map[string]map[string]bool{} // replicas of MIG devices by reference
	take := func(d device, o outcome, id string) {
		switch {
		case o == placed && len(got) < window.MaxMeters:
			got[d.ref] = d
			if d.shared && d.slice() {
				if parts[d.ref] == nil {
					parts[d.ref] = map[string]bool{}
				}
				parts[d.ref][d.replica] = true
			}
		case o == foreign:
		case len(h.unplaced) < maxUnplaced:
			h.unplaced = append(h.unplaced, strings.ToValidUTF8(fmt.Sprintf("%.64s", strings.Map(visible, id)), "?"))
		}
	}
	cpus := slices.Clone(p.cpus)
	for _, c := range p.containers {
		for _, ds := range c.devices {
			for _, id := range ds.ids {
				d, o := r.dialects.of(ds.resource, id)
				take(d, o, ds.resource+"="+id)
			}
		}
		for _, cl := range c.claims {
			d, o := r.dialects.ofClaim(cl)
			take(d, o, cl.driver+"="+cl.device)
		}
		cpus = append(cpus, c.cpus...)
	}
	for ref, d := range got {
		h.gpus = append(h.gpus, window.Share{Device: ref, Weight: r.weight(ref, len(parts[ref]))})
		if !d.shared {
			h.sole = append(h.sole, ref)
		}
	}
	slices.SortFunc(h.gpus, func(a, b window.Share) int { return cmp.Compare(a.Device, b.Device) })
	slices.Sort(h.sole)
	slices.Sort(h.unplaced)
	h.unplaced = slices.Compact(h.unplaced)
	slices.Sort(cpus)
	h.cpus = uint32(len(slices.Compact(cpus)))
	h.memory = memoryOf(p)
	return h
}

func visible(r rune) rune {
	if unicode.IsControl(r) {
		return '?'
	}
	return r
}

// weight is what a pod claims of a device. Of a GPU that is cut in time each
// holder claims all of it: attribution scales claims that exceed a device down,
// so that at every instant those who hold it share it equally, without a new
// edge for all of them whenever one comes or goes. A MIG device is itself a
// part of a board whose other parts may be free, and claims would spill into
// those: of it a holder has its replicas, and the others are idle.
func (r *reader) weight(ref string, replicas int) uint32 {
	if replicas == 0 {
		return job.Whole
	}
	return uint32(job.Whole * replicas / max(r.replicas[ref], replicas))
}

// memoryOf is the memory that the memory manager has pinned for a pod; the
// pod's own figure, where there is one, holds its containers'.
func memoryOf(p *podResources) (sum uint64) {
	list := p.memory
	if len(list) == 0 {
		for _, c := range p.containers {
			list = append(list, c.memory...)
		}
	}
	for _, m := range list {
		if sum+m.size >= sum { // absurd sizes do not wrap
			sum += m.size
		}
	}
	return sum
}
