/* Emulated NVML: what its files share. The layouts are those of NVIDIA's
 * nvml.h (CUDA 13.3), declared here so that cc alone compiles this; a test
 * holds them against go-nvml's copy of that header. */
#ifndef EMULATED_H
#define EMULATED_H

#include <stddef.h>
#include <stdint.h>

#define NVML __attribute__((visibility("default")))

enum {
	OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
	DRIVER_NOT_LOADED = 9, TIMEOUT = 10, GPU_IS_LOST = 15, RESET_REQUIRED = 16,
	LIB_RM_VERSION_MISMATCH = 18, ARGUMENT_VERSION_MISMATCH = 25, UNKNOWN = 999,
};

enum { T_UINT = 1, T_ULL = 3, T_INT = 5 }; /* nvmlValueType_t */

#define VERSIONED(type, n) (uint32_t)(sizeof(type) | ((uint32_t)(n) << 24))

typedef struct {
	char bus_id_legacy[16];
	uint32_t domain, bus, device, pci_device_id, pci_subsystem_id;
	char bus_id[32];
} em_pci;

typedef union {
	double d;
	int32_t i;
	uint32_t u;
	uint64_t ull;
	int64_t ll;
} em_value;

typedef struct {
	uint32_t field, scope;
	int64_t timestamp, latency;
	int32_t type, ret;
	em_value value;
} em_field;

typedef struct { uint32_t gpu, memory; } em_utilization;
typedef struct { uint64_t total, free, used; } em_memory;
typedef struct { uint32_t version; uint64_t total, reserved, free, used; } em_memory_v2;
typedef struct { uint32_t version; int32_t sensor, temperature; } em_temperature;
typedef struct { uint32_t version; int32_t margin; } em_margin;
typedef struct { uint32_t pid; uint64_t memory; uint32_t gi, ci; } em_process;
typedef struct { uint32_t pid; uint64_t timestamp; uint32_t sm, memory, encoder, decoder; } em_use;
typedef struct { void *device; uint64_t type, data; uint32_t gi, ci; } em_event;
typedef struct {
	uint32_t multiprocessors, copy_engines, decoders, encoders, jpegs, ofas, gi_slices, ci_slices;
	uint64_t memory_mb;
} em_attributes;

/* The machine, read once per process from the emulator's folder. */

enum { MAX_GPUS = 16, MAX_SLICES = 8, MAX_FAULTS = 512, MAX_LAYOUTS = 32 };

enum kind {
	LOST, RESET, RELOAD, HANG, CALL, FIELD, MISMATCH, BLANK, BACKWARDS, STUCK, ABSURD, XID, RESTART, RECOVERY, PROCESS,
};

typedef struct {
	int64_t from, to; /* Unix ms, [from, to) */
	int kind, gpu;    /* gpu -1: all */
	uint32_t code;
	char name[64];
} fault;

typedef struct {
	int present;
	uint32_t gi, ci, gi_slices, ci_slices, memory_mb, multiprocessors;
	char uuid[96];
} slice;

typedef struct {
	int64_t from;
	int gpu;
	slice slices[MAX_SLICES];
} layout; /* of MIG, until the next of the same GPU */

typedef struct {
	char uuid[96], pci[32], serial[32];
	uint32_t minor, domain, bus;
	int energy, power, utilization, module; /* meters of the trace, -1 for none */
} gpu;

typedef struct {
	char profile[16], name[96], driver[80], version[80];
	int average, module_scope, scoped_energy, limits_tlimit;
	uint32_t architecture, major, limit_mw, min_mw, max_mw, memory_mb, multiprocessors;
	uint32_t pci_device_id;
	uint64_t seed;
	int gpus, faults, layouts;
	gpu gpu[MAX_GPUS];
	fault fault[MAX_FAULTS];
	layout layout[MAX_LAYOUTS];

	/* trace.bin, mapped */
	int64_t start, quantum;
	uint64_t quanta, meters;
	const char *names;      /* meters x 32 bytes */
	const uint64_t *offset; /* meters */
	const uint64_t *sum;    /* (quanta + 1) x meters, microjoules */
} machine;

machine *the_machine(void);         /* NULL: not readable */
int64_t now_ms(void);
void sleep_until_ms(int64_t);
uint64_t energy_uj(int meter, int64_t ms);  /* of the trace, since its start */
uint64_t counter_uj(int gpu, int meter, int64_t ms); /* what the counter shows; UINT64_MAX: blank */
uint32_t average_mw(int meter, int64_t ms, int64_t window);
uint32_t instant_mw(int meter, int64_t ms);
uint32_t power_mw(int gpu, int64_t ms);     /* nvmlDeviceGetPowerUsage of the profile */
const fault *active(int kind, int gpu, int64_t ms);
const layout *layout_of(int gpu, int64_t ms, int *number);

/* Handles carry the device, the MIG slot and the generation they were made in. */
typedef struct {
	machine *m;
	int gpu, slot; /* slot -1: the board */
	const gpu *g;
	const slice *s;
	int64_t now; /* ms */
} look;

void *handle_of(int gpu, int slot, int layout_number);
int enter(const char *call, look *l);                    /* a call without a device */
int enter_board(const char *call, void *device, look *l); /* MIG handles: NOT_SUPPORTED */
int enter_any(const char *call, void *device, look *l);

#endif
