// Package kept serves the requests that follow on a connection which a client
// keeps for one kind of request, at a good part less than net/http's server does.
//
// While a handler works, net/http's server looks whether the client has gone: a
// goroutine, two system calls and some timers a request. An aggregator with 25,000
// agents, each of which sends one small request every ten seconds and waits for its
// answer, pays that 2,500 times a second and learns nothing by it (docs/adr/0012).
//
// Here the first request is answered by net/http; then the connection is taken over,
// and while one request of the same line follows another, whole and plain, it stays.
// Requests are parsed by net/http's parser and answered by the same handler; a header
// that is the one before, but for the length of the body, is not parsed again.
// Anything else (another path, a header that has not come whole, chunks, Expect,
// "Connection: close", nonsense) goes back to net/http's server with not one byte
// taken, and is answered as if nobody had been between.
//
// What stands before the handler (a counter, a log of accesses) sees the first
// request alone. If it hands on a ResponseWriter of its own that cannot be taken
// over, it sees them all, at net/http's cost.
package kept
