package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// heapGrowth is how much the heap may grow between collections, in per cent. At
// 25,000 nodes a collection marks more than a GiB that stays; 60 instead of Go's
// 100 costs a hundredth of a core there and saves half a GiB.
const heapGrowth = 60

// leastGrowth is what a heap may grow in any case. Of a small site little stays,
// and its collections, which look at the stack of every connection, would come
// several times a second.
const leastGrowth = 64 << 20

// patient has the garbage collector come seldom; each collection sets when the
// next one comes.
func patient() {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	set := func() {
		metrics.Read(sample)
		debug.SetGCPercent(growth(sample[0].Value.Uint64()))
	}
	set()
	type token struct{ _ [64]byte }
	var again func(*token)
	again = func(*token) { // the token is collected with everything else
		set()
		runtime.SetFinalizer(&token{}, again)
	}
	runtime.SetFinalizer(&token{}, again)
}

// growth is how much a heap of which so much stays may grow, in per cent.
func growth(live uint64) int {
	return int(max(heapGrowth, leastGrowth*100/max(live, 4<<20)))
}
