package nvml

import "fmt"

// code is what an entry point of the library returns (nvmlReturn_t).
type code uint32

// Codes that mean something to us. Newer drivers return numbers beyond these.
const (
	success           code = 0
	uninitialized     code = 1
	invalidArgument   code = 2
	notSupported      code = 3
	noPermission      code = 4
	notFound          code = 6
	insufficientPower code = 8
	driverNotLoaded   code = 9
	timedOut          code = 10
	libraryNotFound   code = 12
	functionNotFound  code = 13
	gpuIsLost         code = 15
	resetRequired     code = 16
	operatingSystem   code = 17
	versionMismatch   code = 18
	noData            code = 21
	structVersion     code = 25
	deprecated        code = 26
	gpuNotFound       code = 28
	unknownError      code = 999
)

// Error lets a code be an error; success is never used as one.
func (c code) Error() string { return c.String() }

// String is the name of the code in nvml.h without its prefix, and the number.
func (c code) String() string {
	if name := c.name(); name != "" {
		return fmt.Sprintf("%s (%d)", name, uint32(c))
	}
	return fmt.Sprintf("return code %d", uint32(c))
}

func (c code) name() string {
	if int(c) < len(codeNames()) {
		return codeNames()[c]
	}
	if c == unknownError {
		return "UNKNOWN"
	}
	return ""
}

func codeNames() []string {
	return []string{
		"SUCCESS", "UNINITIALIZED", "INVALID_ARGUMENT", "NOT_SUPPORTED", "NO_PERMISSION", "ALREADY_INITIALIZED", "NOT_FOUND",
		"INSUFFICIENT_SIZE", "INSUFFICIENT_POWER", "DRIVER_NOT_LOADED", "TIMEOUT", "IRQ_ISSUE", "LIBRARY_NOT_FOUND",
		"FUNCTION_NOT_FOUND", "CORRUPTED_INFOROM", "GPU_IS_LOST", "RESET_REQUIRED", "OPERATING_SYSTEM", "LIB_RM_VERSION_MISMATCH",
		"IN_USE", "MEMORY", "NO_DATA", "VGPU_ECC_NOT_SUPPORTED", "INSUFFICIENT_RESOURCES", "FREQ_NOT_SUPPORTED",
		"ARGUMENT_VERSION_MISMATCH", "DEPRECATED", "NOT_READY", "GPU_NOT_FOUND", "INVALID_STATE", "RESET_TYPE_NOT_SUPPORTED",
	}
}

// fate is what a code asks us to do.
type fate uint8

const (
	fine        fate = iota
	nothing          // no value this time
	unsupported      // not on this device or driver: ask no more in this epoch
	denied           // not for this user: ask no more in this epoch, and say so
	hiccup           // counted; in a row, the device is taken for lost
	lost             // no further calls to the device until it is opened anew
	gone             // the library has lost the driver: open it anew
	restart          // only a new process helps
)

// fate sorts the codes. One that nobody knows is a hiccup.
func (c code) fate() fate {
	switch c {
	case success:
		return fine
	case notFound, noData:
		return nothing
	case notSupported, functionNotFound, invalidArgument, structVersion, deprecated:
		return unsupported
	case noPermission:
		return denied
	case gpuIsLost, resetRequired, operatingSystem, insufficientPower, gpuNotFound:
		return lost
	case uninitialized, driverNotLoaded, libraryNotFound:
		return gone
	case versionMismatch:
		return restart
	default:
		return hiccup
	}
}

// dire tells whether the fate is more than the one call's.
func (f fate) dire() bool { return f >= lost }
