// Package peers starts real servers for tests: Prometheus, Alertmanager,
// VictoriaMetrics and InfluxDB, and finds promtool.
//
//	vm := peers.VictoriaMetrics(t)
//	push(vm.URL + "/api/v1/write")
//	vm.Kill(t)    // SIGKILL, as a crash would
//	vm.Restart(t) // same address, same data
//
// Each listens on a free port of the loopback interface, keeps its data in a
// folder of the test and is ready when its starter returns. What a test starts
// ends with the test, by its process id, also if the test is killed.
//
// A killed Prometheus or InfluxDB has all that it had answered for. A killed
// VictoriaMetrics has forgotten the last seconds: it writes to disk each 5 s.
//
// Nothing is skipped. What is missing is installed: Debian packages by
// scripts/setup.sh peers (it needs root; a plain user is told the command),
// InfluxDB and promtool by the Go toolchain into the user's cache folder. Any
// number of test processes may do so at once.
//
// Tests that use this package carry the build tag peers, because of the time
// that a first installation takes: go test -tags peers ./...
package peers
