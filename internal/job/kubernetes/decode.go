package kubernetes

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// What is read of the pod-resources API v1; the numbers are those of its
// api.proto (k8s.io/kubelet/pkg/apis/podresources/v1). Fields that are not known
// are passed over. A test holds this against the API's own types.
type (
	podResources struct {
		name, namespace string
		containers      []container
		cpus            []int64
		memory          []memory
	}
	container struct {
		devices []devices
		cpus    []int64
		memory  []memory
		claims  []claim
	}
	devices struct {
		resource string
		ids      []string
	}
	memory struct {
		kind string
		size uint64
	}
	claim struct {
		driver, pool, device string
		cdi                  []string
	}
)

// decoder notes the first fault; what comes after it is not looked at.
type decoder struct{ err error }

// each calls f for every field of a message: strings and messages as b, numbers as
// v under their field number made negative, so that none is taken for the other.
func (d *decoder) each(m []byte, f func(n int, b []byte, v uint64)) {
	for len(m) > 0 && d.err == nil {
		number, kind, n := protowire.ConsumeTag(m)
		if n < 0 {
			d.err = protowire.ParseError(n)
			return
		}
		m = m[n:]
		num := int(number)
		var b []byte
		var v uint64
		switch kind {
		case protowire.BytesType:
			b, n = protowire.ConsumeBytes(m)
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(m)
			num = -num
		default:
			num, n = 0, protowire.ConsumeFieldValue(number, kind, m)
		}
		if n < 0 {
			d.err = protowire.ParseError(n)
			return
		}
		m = m[n:]
		f(num, b, v)
	}
}

// ints adds a repeated number: packed, as proto3 writes it, or one by one.
func (d *decoder) ints(to []int64, b []byte, v uint64) []int64 {
	if b == nil {
		return append(to, int64(v))
	}
	for len(b) > 0 && d.err == nil {
		v, n := protowire.ConsumeVarint(b)
		if n < 0 {
			d.err = protowire.ParseError(n)
			break
		}
		to, b = append(to, int64(v)), b[n:]
	}
	return to
}

// decodeList reads a ListPodResourcesResponse.
func decodeList(m []byte) ([]podResources, error) {
	var d decoder
	var out []podResources
	d.each(m, func(n int, b []byte, _ uint64) {
		if n == 1 {
			out = append(out, d.pod(b))
		}
	})
	if d.err != nil {
		return nil, fmt.Errorf("its list of pods cannot be read: %w", d.err)
	}
	return out, nil
}

// decodeAllocatable reads the devices of an AllocatableResourcesResponse.
func decodeAllocatable(m []byte) ([]devices, error) {
	var d decoder
	var out []devices
	d.each(m, func(n int, b []byte, _ uint64) {
		if n == 1 {
			out = append(out, d.devices(b))
		}
	})
	if d.err != nil {
		return nil, fmt.Errorf("its allocatable resources cannot be read: %w", d.err)
	}
	return out, nil
}

func (d *decoder) pod(m []byte) (p podResources) {
	d.each(m, func(n int, b []byte, v uint64) {
		switch n {
		case 1:
			p.name = string(b)
		case 2:
			p.namespace = string(b)
		case 3:
			p.containers = append(p.containers, d.container(b))
		case 4, -4:
			p.cpus = d.ints(p.cpus, b, v)
		case 5:
			p.memory = append(p.memory, d.memory(b))
		}
	})
	return p
}

func (d *decoder) container(m []byte) (c container) {
	d.each(m, func(n int, b []byte, v uint64) {
		switch n {
		case 2:
			c.devices = append(c.devices, d.devices(b))
		case 3, -3:
			c.cpus = d.ints(c.cpus, b, v)
		case 4:
			c.memory = append(c.memory, d.memory(b))
		case 5:
			d.each(b, func(n int, b []byte, _ uint64) { // DynamicResource
				if n == 4 {
					c.claims = append(c.claims, d.claim(b))
				}
			})
		}
	})
	return c
}

func (d *decoder) devices(m []byte) (x devices) {
	d.each(m, func(n int, b []byte, _ uint64) {
		switch n {
		case 1:
			x.resource = string(b)
		case 2:
			x.ids = append(x.ids, string(b))
		}
	})
	return x
}

func (d *decoder) memory(m []byte) (x memory) {
	d.each(m, func(n int, b []byte, v uint64) {
		switch n {
		case 1:
			x.kind = string(b)
		case -2:
			x.size = v
		}
	})
	return x
}

func (d *decoder) claim(m []byte) (x claim) {
	d.each(m, func(n int, b []byte, _ uint64) {
		switch n {
		case 1:
			d.each(b, func(n int, b []byte, _ uint64) { // CDIDevice
				if n == 1 {
					x.cdi = append(x.cdi, string(b))
				}
			})
		case 2:
			x.driver = string(b)
		case 3:
			x.pool = string(b)
		case 4:
			x.device = string(b)
		}
	})
	return x
}
