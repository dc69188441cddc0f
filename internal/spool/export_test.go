package spool

// ParseForTest returns what the reader of segments makes of data.
func ParseForTest(data []byte, first Seq, gen uint32) (seqs []Seq, payloads [][]byte) {
	for _, e := range parse(data, first, gen).recs {
		seqs = append(seqs, e.seq)
		payloads = append(payloads, data[e.off:e.off+e.n])
	}
	return seqs, payloads
}

// SegmentForTest returns the bytes of a segment.
func SegmentForTest(first, last Seq, gen uint32, seqs []Seq, payloads [][]byte) []byte {
	b := appendHeader(nil, first, last, gen)
	for i, p := range payloads {
		b = appendRecord(b, seqs[i], p)
	}
	return b
}
