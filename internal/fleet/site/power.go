package site

// mix makes a number of another that has nothing in common with it
// (splitmix64's finalizer).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// phaseSeconds is how long a job goes on in one way.
const phaseSeconds = 20

// level is how hard a job works in a second, 1 to 1000, or 0 where it rests.
// It is the same on all its nodes, so that a large job is seen in the power of
// the whole machine.
func (j *Job) level(second int64) int64 {
	if second*1000 < j.start+j.warm {
		return 0
	}
	h := mix(j.seed + uint64(second/phaseSeconds))
	if int64(h%1000) < j.rests {
		return 0
	}
	return min(1000, max(1, j.base+int64(h>>32%300)-150))
}

// draw gives the power of every meter for a second in milliwatts, given how
// hard each GPU works (0: it rests) and who holds how many of them.
func (m *machine) draw(out []int64, noise uint64, loads *[maxGPUs]load, held int64) {
	var work int64
	for g := range m.gpus {
		work += loads[g].level
	}
	work /= int64(m.gpus)
	var sum int64
	for i := len(m.defs) - 1; i >= 0; i-- { // children first where they come later
		d := &m.defs[i]
		n := int64(mix(noise+uint64(i))>>8) & 1023
		switch d.part {
		case ofGPU:
			out[i] = m.gpuPower(&loads[d.unit], n)
		case ofCPU:
			out[i] = m.cpu.of(held*350/int64(m.gpus)+work/2, n)
		case ofMemory:
			out[i] = m.memory.of(held*200/int64(m.gpus)+work*3/4, n)
		case ofModule, ofNode:
			continue
		}
		sum += out[i]
	}
	for i := range m.defs {
		d := &m.defs[i]
		n := int64(mix(noise+uint64(i))>>8) & 1023
		switch d.part {
		case ofNode:
			out[i] = sum*106/100 + m.other.of(work, n)
		case ofModule:
			out[i] = m.other.of(work, n) + m.gpuPower(&loads[d.unit], n)
			for _, c := range m.tree.Nodes[i].Children {
				out[i] += out[c]
			}
		default:
		}
	}
}

// of is the power at a load from 0 to 1000, with noise of 3 % of the span.
func (s span) of(load, noise int64) int64 {
	width := s.most - s.rest
	return s.rest + width*load/1100 + width*noise/34_000
}

// load is what a GPU does.
type load struct {
	level     int64
	held, hot bool
}

func (m *machine) gpuPower(l *load, noise int64) int64 {
	width := m.gpu.most - m.gpu.rest
	switch {
	case l.level > 0:
		p := m.gpu.rest + width*(400+l.level*55/100)/1000 + width*noise/25_000
		if l.hot {
			p -= p / 4
		}
		return p
	case l.held: // clocks are up, memory is taken
		return m.gpu.rest + width/25 + width*noise/60_000
	}
	return m.gpu.rest + width*noise/60_000
}
