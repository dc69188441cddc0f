//go:build !cgo || !linux

package nvml

// load: this build has no binding.
func load(string) (library, error) { return nil, errNoBinding }
